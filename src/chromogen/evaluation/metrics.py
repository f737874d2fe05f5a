"""Every metric by name: its definition, range and direction, and how it streams over tiles.

    state = measure.start
    for tile in tiles:
        state = measure.update(state, tile)
    value.compute(state)

Updates are pure, and states of the same tiles in another order are the same but for rounding. Where a picture
allows no value, update or compute raise UndefinedError, whose text says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import chromogen.evaluation.agreement as agreement
import chromogen.evaluation.feature_distances as style_distance
import chromogen.evaluation.nuclei as nuclei
import chromogen.evaluation.tissue_kept as tissue_kept
from chromogen.evaluation.agreement import THRESHOLDS_OD10
from chromogen.evaluation.tile import (
    CALLED,
    NO_OVERLAP,
    NO_PAIRS,
    NOTHING,
    Tile,
    UndefinedError,
    dice,
    mean,
    pearson,
    ratio,
)
from chromogen.nuclei.outlines import Agreement

if TYPE_CHECKING:
    from chromogen.style.encoder import Encoder

BLURS_UM = (0, 8, 32)
NO_NUCLEI = Agreement(0, 0, 0)


@dataclass(frozen=True)
class Value:
    """A number that a state gives: its name, unit, range, which way is better, and what it says in a sentence."""

    name: str
    unit: str
    extent: str
    better: str
    says: str
    compute: Callable[[Any], float]


@dataclass(frozen=True)
class Measure:
    """What is summed over tiles, which pictures it `needs` beside the prediction, and the values it gives."""

    needs: tuple[str, ...]
    start: Any
    update: Callable[[Any, Tile], Any]
    values: tuple[Value, ...]


def _dab_values(side: str, row: int) -> tuple[Value, ...]:
    def of(name: str, unit: str, extent: str, says: str, compute: Callable[[Any], float]) -> Value:
        return Value(f"{side}_{name}", unit, extent, "neither", says, lambda state: compute(state[row]))

    return (
        of("dab_od10", "OD", "0-", "mean DAB density over tissue", agreement.dab_od10),
        of("miod", "OD", "0.2-", f"mean DAB density where it is above {THRESHOLDS_OD10[0]}", agreement.miod),
        of("pixel_h_score", "", "0-300", "H-score counted over pixels", agreement.pixel_h_score),
        *(
            of(
                f"positive_{threshold}",
                "%",
                "0-100",
                f"share of tissue with DAB above {threshold}",
                partial(agreement.dab_positive_percent, level=level),
            )
            for level, threshold in enumerate(THRESHOLDS_OD10)
        ),
    )


def _gram_error_at(layer: str, grams: style_distance.Grams) -> float:
    return style_distance.gram_errors(grams)[layer]


def style_measures(encoder: Encoder) -> tuple[Measure, ...]:
    """Does it look like the stain? Against any real IHC of the stain; no registration needed."""
    layers = tuple(
        Value(
            f"gram_{layer}",
            "",
            "0-",
            "lower",
            f"relative Gram error at {layer}",
            partial(_gram_error_at, layer),
        )
        for layer in style_distance.GRAM_LAYERS
    )
    style = Value("style_error", "", "0-", "lower", "mean relative Gram error", style_distance.gram_error)
    colors = Value(
        "swd_od10",
        "OD",
        "0-",
        "lower",
        "sliced Wasserstein distance of colours",
        style_distance.sliced_wasserstein,
    )
    profile = Value("dab_profile", "", "0-2", "lower", "which tissue gets the brown", style_distance.profile_error)
    return (
        Measure(("real",), style_distance.Grams(), partial(style_distance.add_grams, encoder), (style, *layers)),
        Measure(("real",), style_distance.NO_COLORS, style_distance.add_colors, (colors,)),
        Measure(("he", "real"), style_distance.NO_PROFILES, style_distance.add_profiles, (profile,)),
    )


def _nuclei_values(side: str, seen_of: Callable[[Any], nuclei.Seen]) -> tuple[Value, ...]:
    def of(name: str, unit: str, extent: str, says: str, compute: Callable[[nuclei.Seen], float]) -> Value:
        return Value(f"{side}_{name}", unit, extent, "neither", says, lambda state: compute(seen_of(state)))

    return (
        of("nuclei_per_mm2", "/mm2", "0-", "nuclei / area of tissue", nuclei.per_mm2),
        of(
            "positive_nuclei",
            "%",
            "0-100",
            "nuclei with more DAB than the threshold / nuclei",
            nuclei.percent_above_threshold,
        ),
        of("nuclei_threshold_od10", "OD", "0-", "mean DAB that makes a nucleus positive", nuclei.threshold_od10),
    )


def _foreign_color(squares: Any) -> float:
    return float(ratio(squares, "no stain in the prediction") ** 0.5)


HEMATOXYLIN = Measure(
    ("he",),
    NO_PAIRS,
    tissue_kept.add_hematoxylin,
    (Value("hematoxylin_r", "", "-1-1", "higher", "haematoxylin where the H&E has it", pearson),),
)

TISSUE_MEASURES = (
    HEMATOXYLIN,
    Measure(
        ("he",),
        NO_PAIRS,
        tissue_kept.add_edges,
        (Value("edge_r", "", "-1-1", "higher", "edges where the H&E has them", pearson),),
    ),
    Measure(
        ("he",),
        tissue_kept.Samples(),
        tissue_kept.add_samples,
        (Value("dab_determined", "", "-1", "higher", "DAB that follows from the H&E", tissue_kept.determined),),
    ),
    Measure(
        ("he",),
        NO_NUCLEI,
        nuclei.add_kept,
        (
            Value(
                "nuclei_kept",
                "",
                "0-1",
                "higher",
                "nuclei of the H&E that match one of the prediction / nuclei of the H&E",
                nuclei.kept,
            ),
            Value(
                "nuclei_f1",
                "",
                "0-1",
                "higher",
                "2 matches / (nuclei of the H&E + nuclei of the prediction)",
                nuclei.f1,
            ),
        ),
    ),
    Measure(
        ("he",),
        NOTHING,
        tissue_kept.add_glass,
        (Value("background_whiteness", "", "0-1", "higher", "lightness where the H&E is bare glass", mean),),
    ),
    Measure(
        (),
        NOTHING,
        tissue_kept.add_foreign_color,
        (Value("foreign_color", "", "0-1", "lower", "share of colour that is no H-DAB", _foreign_color),),
    ),
)

PREDICTED_DAB = Measure((), agreement.NO_DAB, agreement.add_predicted_dab, _dab_values("predicted", 0))

PREDICTED_NUCLEI = Measure(
    (), nuclei.Seen(), nuclei.add_predicted_nuclei, _nuclei_values("predicted", lambda seen: seen)
)

NUCLEI_MEASURES = (
    Measure(
        ("real",),
        nuclei.NucleiPair(),
        nuclei.add_nuclei,
        (
            *_nuclei_values("real", lambda pair: pair.real),
            Value(
                "positive_nuclei_difference",
                "points",
                "0-100",
                "lower",
                "|predicted_positive_nuclei - real_positive_nuclei|",
                nuclei.positive_difference,
            ),
            Value(
                "nuclei_dab_distance_od10",
                "OD",
                "0-",
                "lower",
                "Wasserstein distance of the mean DAB of nuclei: integral of |F - G| of their distributions",
                nuclei.dab_distance,
            ),
        ),
    ),
)

REAL_MEASURES = (
    Measure(
        ("real",),
        NOTHING,
        agreement.add_squared_error,
        (Value("psnr", "dB", "0-", "higher", "peak signal-to-noise ratio", agreement.psnr),),
    ),
    Measure(
        ("real",),
        NOTHING,
        agreement.add_ssim,
        (Value("ssim", "", "-1-1", "higher", "structural similarity", mean),),
    ),
    Measure(
        ("real",),
        NOTHING,
        agreement.add_ms_ssim,
        (Value("ms_ssim", "", "0-1", "higher", "multi-scale structural similarity", mean),),
    ),
    Measure(("real",), agreement.NO_DAB, agreement.add_dab, (*_dab_values("real", 1),)),
    *(
        Measure(
            ("real",),
            NO_PAIRS,
            partial(agreement.add_dab_pairs, blur_um=blur_um),
            (
                Value(
                    f"dab_pearson_{blur_um}um", "", "-1-1", "higher", f"DAB maps blurred by {blur_um} um", pearson
                ),
            ),
        )
        for blur_um in BLURS_UM
    ),
    Measure(
        ("real",),
        NO_OVERLAP,
        agreement.add_dab_overlap,
        (Value("dab_dice", "", "0-1", "higher", f"areas with DAB above {THRESHOLDS_OD10[0]}", dice),),
    ),
)


def score(measures: Sequence[Measure], tiles: Iterable[Tile]) -> dict[str, float | str]:
    """Every value of these measures over the tiles of one picture, by name; a text says why there is none."""
    states: dict[int, Any] = {i: measure.start for i, measure in enumerate(measures)}
    for tile in tiles:
        states = {i: _updated(measures[i], state, tile) for i, state in states.items()}
    return {
        value.name: _computed(value, states[i]) for i, measure in enumerate(measures) for value in measure.values
    }


def _updated(measure: Measure, state: Any, tile: Tile) -> Any:
    missing = [name for name in measure.needs if getattr(tile, name) is None]
    if missing:
        return UndefinedError(" and ".join(f"no {CALLED[name]}" for name in missing))
    if isinstance(state, UndefinedError):
        return state
    try:
        return measure.update(state, tile)
    except UndefinedError as why:
        return why


def _computed(value: Value, state: Any) -> float | str:
    if isinstance(state, UndefinedError):
        return str(state)
    try:
        return value.compute(state)
    except UndefinedError as why:
        return str(why)
