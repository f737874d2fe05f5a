"""The measures of what people see when they tell virtual from real IHC, as `metrics` has the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chromogen.evaluation.borders as borders
import chromogen.evaluation.chromatin as chromatin
import chromogen.evaluation.compartments as compartments
import chromogen.evaluation.nuclei as nuclei
from chromogen.evaluation.compartments import COMPARTMENTS, FAR_UM, RING_UM
from chromogen.evaluation.metrics import Measure, Value

PATCH_PRECISION = "patch_precision"  # of sets of pictures, not of one


def _far_values(side: str, placed_of: Callable[[Any], compartments.Placed]) -> tuple[Value, ...]:
    where = f"farther than {FAR_UM:g} um from any nucleus"
    return (
        Value(
            f"{side}_dab_far",
            "%",
            "0-100",
            "neither",
            f"DAB {where} / all DAB",
            lambda state: compartments.far_percent(placed_of(state)),
        ),
        Value(
            f"{side}_dab_far_od10",
            "OD",
            "0-",
            "neither",
            f"mean DAB of tissue {where}",
            lambda state: compartments.far_od10(placed_of(state)),
        ),
    )


def _itself(state: Any) -> Any:
    return state


def _spread_value(side: str, seen_of: Callable[[Any], nuclei.Seen]) -> Value:
    says = "standard deviation / mean of the DAB of stained cells"
    return Value(f"{side}_dab_spread", "", "0-", "neither", says, lambda state: nuclei.dab_spread(seen_of(state)))


def _bleed_value(side: str, row: int) -> Value:
    says = f"DAB within {borders.OUTSIDE_UM:g} um outside of stained glands / DAB inside"
    return Value(f"{side}_dab_bleed", "", "0-", "neither", says, lambda state: borders.bleed(state[row]))


_WHERE = ("in nuclei", f"within {RING_UM:g} um of nuclei", f"farther than {RING_UM:g} um from nuclei")

# What needs the prediction alone, or its H&E.
CREDIBLE_ALONE = (
    Measure(
        ("he",),
        chromatin.NO_CHROMATIN,
        chromatin.add_chromatin,
        (
            Value(
                "chromatin_kept",
                "",
                "0-",
                "higher",
                "contrast of density within nuclei / that of haematoxylin in the H&E",
                chromatin.contrast_kept,
            ),
            Value(
                "chromatin_r",
                "",
                "-1-1",
                "higher",
                "density within nuclei where the H&E has it",
                chromatin.pattern_kept,
            ),
        ),
    ),
    Measure(
        (), compartments.NOT_PLACED, compartments.add_predicted_compartments, _far_values("predicted", _itself)
    ),
    Measure((), nuclei.Seen(), nuclei.add_predicted_nuclei, (_spread_value("predicted", _itself),)),
    Measure((), borders.NO_BORDERS, borders.add_predicted_borders, (_bleed_value("predicted", 0),)),
)

# What compares with a real IHC, of the same place or of another.
CREDIBLE_BESIDE_REAL = (
    Measure(
        ("real",),
        compartments.PlacedPair(),
        compartments.add_compartments,
        (
            *(
                Value(
                    f"dab_distance_{name}_od10",
                    "OD",
                    "0-",
                    "lower",
                    f"Wasserstein distance of the DAB of pixels {where}",
                    partial(compartments.distance, compartment=index),
                )
                for index, (name, where) in enumerate(zip(COMPARTMENTS, _WHERE, strict=True))
            ),
            *_far_values("real", lambda pair: pair.real),
        ),
    ),
    Measure(("real",), nuclei.NucleiPair(), nuclei.add_nuclei, (_spread_value("real", lambda pair: pair.real),)),
    Measure(("real",), borders.NO_BORDERS, borders.add_borders, (_bleed_value("real", 1),)),
)


def _names() -> frozenset[str]:
    """The names of all values here, for a section of their own in reports."""
    measures = (*CREDIBLE_ALONE, *CREDIBLE_BESIDE_REAL)
    return frozenset({PATCH_PRECISION} | {value.name for measure in measures for value in measure.values})


CREDIBILITY = _names()
