"""Every metric by name: its definition, range and direction, and how it streams over tiles.

    state = measure.start
    for tile in tiles:
        state = measure.update(state, tile)
    value.compute(state)

Updates are pure, and states of the same tiles in another order are the same but for rounding. Where a picture
allows no value, update or compute raise UndefinedError, whose text says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import chromogen.evaluation.agreement as agreement
import chromogen.evaluation.feature_distances as distances
import chromogen.evaluation.nuclei as nuclei
import chromogen.evaluation.tissue_kept as kept
from chromogen.evaluation.agreement import THRESHOLDS_OD10
from chromogen.evaluation.nuclei import COMPARTMENTS, FAR_UM, NOT_PLACED, RING_UM, Seen
from chromogen.evaluation.tile import NO_OVERLAP, NO_PAIRS, NOTHING, Pair, Side, Tile, dice, mean, pearson, ratio
from chromogen.nuclei.outlines import Agreement

if TYPE_CHECKING:
    from chromogen.style.encoder import Encoder

BLURS_UM = (0, 8, 32)
PATCH_PRECISION = "patch_precision"  # of sets of pictures, not of one


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


def _of_sides(start: Any, add: Callable[[Any, Side], Any], *values: Value) -> tuple[Measure, Measure]:
    """What is measured alike of the prediction alone, and of the real IHC alone."""

    def of(side: str, called: str, *needs: str) -> Measure:
        named = tuple(replace(value, name=f"{called}_{value.name}") for value in values)
        return Measure(needs, start, lambda state, tile: add(state, tile.side(side)), named)

    return of("prediction", "predicted"), of("real", "real", "real")


def _of_both(add: Callable[[Any, Side], Any]) -> Callable[[Pair[Any], Tile], Pair[Any]]:
    """An update of two states: by the prediction, and by the real IHC."""
    return lambda pair, tile: (add(pair[0], tile.side("prediction")), add(pair[1], tile.side("real")))


def style_measures(encoder: Encoder) -> tuple[Measure, ...]:
    """Does it look like the stain? Against any real IHC of the stain; no registration needed."""
    layers = tuple(
        Value(
            f"gram_{layer}", "", "0-", "lower", f"relative Gram error at {layer}", partial(_gram_error_at, layer)
        )
        for layer in distances.GRAM_LAYERS
    )
    says = "sliced Wasserstein distance of colours"
    style = Value("style_error", "", "0-", "lower", "mean relative Gram error", distances.gram_error)
    colors = Value("swd_od10", "OD", "0-", "lower", says, distances.sliced_wasserstein)
    profile = Value("dab_profile", "", "0-2", "lower", "which tissue gets the brown", distances.profile_error)
    return (
        Measure(("real",), distances.Grams(), partial(distances.add_grams, encoder), (style, *layers)),
        Measure(("real",), distances.NO_COLORS, distances.add_colors, (colors,)),
        Measure(("he", "real"), distances.NO_PROFILES, distances.add_profiles, (profile,)),
    )


def _gram_error_at(layer: str, grams: distances.Grams) -> float:
    return distances.gram_errors(grams)[layer]


def _foreign_color(squares: Any) -> float:
    return float(ratio(squares, "no stain in the prediction") ** 0.5)


# Is the tissue where it was?

HEMATOXYLIN = Measure(
    ("he",),
    NO_PAIRS,
    kept.add_hematoxylin,
    (Value("hematoxylin_r", "", "-1-1", "higher", "haematoxylin where the H&E has it", pearson),),
)
_MATCHED = "nuclei of the H&E that match one of the prediction / nuclei of the H&E"
_EITHER = "2 matches / (nuclei of the H&E + nuclei of the prediction)"
_WHITENESS = "lightness where the H&E is bare glass"

TISSUE_MEASURES = (
    HEMATOXYLIN,
    Measure(
        ("he",),
        NO_PAIRS,
        kept.add_edges,
        (Value("edge_r", "", "-1-1", "higher", "edges where the H&E has them", pearson),),
    ),
    Measure(
        ("he",),
        kept.Samples(),
        kept.add_samples,
        (Value("dab_determined", "", "-1", "higher", "DAB that follows from the H&E", kept.determined),),
    ),
    Measure(
        ("he",),
        Agreement(0, 0, 0),
        nuclei.add_kept,
        (
            Value("nuclei_kept", "", "0-1", "higher", _MATCHED, nuclei.kept),
            Value("nuclei_f1", "", "0-1", "higher", _EITHER, nuclei.f1),
        ),
    ),
    Measure(
        ("he",), NOTHING, kept.add_glass, (Value("background_whiteness", "", "0-1", "higher", _WHITENESS, mean),)
    ),
    Measure(
        (),
        NOTHING,
        kept.add_foreign_color,
        (Value("foreign_color", "", "0-1", "lower", "share of colour that is no H-DAB", _foreign_color),),
    ),
)

# How much is brown, and how many nuclei are: of each picture alone, and how far apart both are.

PREDICTED_DAB, REAL_DAB = _of_sides(
    agreement.NO_DAB,
    agreement.add_dab,
    Value("dab_od10", "OD", "0-", "neither", "mean DAB density over tissue", agreement.dab_od10),
    Value(
        "miod", "OD", "0.2-", "neither", f"mean DAB density where it is above {THRESHOLDS_OD10[0]}", agreement.miod
    ),
    Value("pixel_h_score", "", "0-300", "neither", "H-score counted over pixels", agreement.pixel_h_score),
    *(
        Value(
            f"positive_{threshold}",
            "%",
            "0-100",
            "neither",
            f"share of tissue with DAB above {threshold}",
            partial(agreement.dab_positive_percent, level=level),
        )
        for level, threshold in enumerate(THRESHOLDS_OD10)
    ),
)

_POSITIVE = "nuclei with more DAB than the threshold / nuclei"
_BORDER = "mean DAB that makes a nucleus positive"
_APART = "|predicted_positive_nuclei - real_positive_nuclei|"
_MOVED = "Wasserstein distance of the mean DAB of nuclei: integral of |F - G| of their distributions"

PREDICTED_NUCLEI, REAL_NUCLEI = _of_sides(
    Seen(),
    nuclei.add_nuclei,
    Value("nuclei_per_mm2", "/mm2", "0-", "neither", "nuclei / area of tissue", nuclei.per_mm2),
    Value("positive_nuclei", "%", "0-100", "neither", _POSITIVE, nuclei.percent_above_threshold),
    Value("nuclei_threshold_od10", "OD", "0-", "neither", _BORDER, nuclei.threshold_od10),
)

NUCLEI_MEASURES = (
    REAL_NUCLEI,
    Measure(
        ("real",),
        (Seen(), Seen()),
        _of_both(nuclei.add_nuclei),
        (
            Value("positive_nuclei_difference", "points", "0-100", "lower", _APART, nuclei.positive_difference),
            Value("nuclei_dab_distance_od10", "OD", "0-", "lower", _MOVED, nuclei.dab_distance),
        ),
    ),
)


def _beside_real(start: Any, update: Callable[[Any, Tile], Any], value: Value) -> Measure:
    """A value of prediction and real IHC, place by place."""
    return Measure(("real",), start, update, (value,))


_NOISE = "peak signal-to-noise ratio"
_SCALES = "multi-scale structural similarity"
_OVERLAP = f"areas with DAB above {THRESHOLDS_OD10[0]}"

REAL_MEASURES = (
    _beside_real(
        NOTHING, agreement.add_squared_error, Value("psnr", "dB", "0-", "higher", _NOISE, agreement.psnr)
    ),
    _beside_real(NOTHING, agreement.add_ssim, Value("ssim", "", "-1-1", "higher", "structural similarity", mean)),
    _beside_real(NOTHING, agreement.add_ms_ssim, Value("ms_ssim", "", "0-1", "higher", _SCALES, mean)),
    REAL_DAB,
    *(
        _beside_real(
            NO_PAIRS,
            partial(agreement.add_dab_pairs, blur_um=um),
            Value(f"dab_pearson_{um}um", "", "-1-1", "higher", f"DAB maps blurred by {um} um", pearson),
        )
        for um in BLURS_UM
    ),
    _beside_real(NO_OVERLAP, agreement.add_dab_overlap, Value("dab_dice", "", "0-1", "higher", _OVERLAP, dice)),
)

# What people see when they tell virtual from real IHC: of the prediction alone or its H&E, and beside a real IHC.

_FAR = f"farther than {FAR_UM:g} um from any nucleus"
_WHERE = ("in nuclei", f"within {RING_UM:g} um of nuclei", f"farther than {RING_UM:g} um from nuclei")
_CONTRAST = "contrast of density within nuclei / that of haematoxylin in the H&E"
_SPREAD = "standard deviation / mean of the DAB of stained cells"
_BLEED = f"DAB within {kept.OUTSIDE_UM:g} um outside of stained glands / DAB inside"

_PREDICTED_FAR, _REAL_FAR = _of_sides(
    NOT_PLACED,
    nuclei.add_compartments,
    Value("dab_far", "%", "0-100", "neither", f"DAB {_FAR} / all DAB", nuclei.far_percent),
    Value("dab_far_od10", "OD", "0-", "neither", f"mean DAB of tissue {_FAR}", nuclei.far_od10),
)
_PREDICTED_SPREAD, _REAL_SPREAD = _of_sides(
    Seen(), nuclei.add_nuclei, Value("dab_spread", "", "0-", "neither", _SPREAD, nuclei.dab_spread)
)
_PREDICTED_BLEED, _REAL_BLEED = _of_sides(
    kept.NO_BORDERS, kept.add_borders, Value("dab_bleed", "", "0-", "neither", _BLEED, kept.bleed)
)

CREDIBLE_ALONE = (
    Measure(
        ("he",),
        kept.NO_CHROMATIN,
        kept.add_chromatin,
        (
            Value("chromatin_kept", "", "0-", "higher", _CONTRAST, kept.contrast_kept),
            Value(
                "chromatin_r",
                "",
                "-1-1",
                "higher",
                "density within nuclei where the H&E has it",
                kept.pattern_kept,
            ),
        ),
    ),
    _PREDICTED_FAR,
    _PREDICTED_SPREAD,
    _PREDICTED_BLEED,
)
CREDIBLE_BESIDE_REAL = (
    Measure(
        ("real",),
        (NOT_PLACED, NOT_PLACED),
        _of_both(nuclei.add_compartments),
        tuple(
            Value(
                f"dab_distance_{name}_od10",
                "OD",
                "0-",
                "lower",
                f"Wasserstein distance of the DAB of pixels {where}",
                partial(nuclei.distance, compartment=index),
            )
            for index, (name, where) in enumerate(zip(COMPARTMENTS, _WHERE, strict=True))
        ),
    ),
    _REAL_FAR,
    _REAL_SPREAD,
    _REAL_BLEED,
)
# The names of all these, for a section of their own in reports.
CREDIBILITY = frozenset(
    {PATCH_PRECISION}
    | {value.name for measure in (*CREDIBLE_ALONE, *CREDIBLE_BESIDE_REAL) for value in measure.values}
)
