"""Whether a picture looks like a real stain, and all scores of a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import chromogen.evaluation.nuclei as compartments
import chromogen.evaluation.nuclei as nuclei
import chromogen.evaluation.tissue_kept as borders
import chromogen.evaluation.tissue_kept as chromatin
from chromogen.compute.tiles import ALIGNED_PX, TileGrid
from chromogen.evaluation.metrics import (
    NUCLEI_MEASURES,
    PREDICTED_DAB,
    PREDICTED_NUCLEI,
    REAL_MEASURES,
    TISSUE_MEASURES,
    Measure,
    Value,
    score,
    style_measures,
)
from chromogen.evaluation.nuclei import COMPARTMENTS, FAR_UM, RING_UM
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.image import Image, shrunk
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.tissue import Background, background

if TYPE_CHECKING:
    from chromogen.style.encoder import Encoder


# The measures of what people see when they tell virtual from real IHC, as `metrics` has the others.

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


# Every measure over pictures of any size: tile by tile, each with a halo, so that no map of the whole is
# held.

Scores: TypeAlias = dict[str, float | str]  # a text says why there is no number

CORE_PX, OVERVIEW_PX = 1024, 1024
HALO_UM = 96.0
SHIFTED = "_shifted"  # ends the names of values that are measured after the best shift


class Measures:
    """The measures of a run by what they need, and every value's description by name."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.style, self.real = encoder, style_measures(encoder), REAL_MEASURES
        self.nuclei = NUCLEI_MEASURES
        self.anywhere = (*self.style, *CREDIBLE_BESIDE_REAL)  # need a real IHC, of whatever place
        alone = (*TISSUE_MEASURES, PREDICTED_DAB, PREDICTED_NUCLEI)
        credible = (*CREDIBLE_ALONE, *CREDIBLE_BESIDE_REAL)
        self.prediction = (*self.style, *alone, *self.nuclei, *self.real, *credible)
        values = [value for measure in self.prediction for value in measure.values]
        moved = [value for measure in self.real for value in measure.values if not value.name.startswith("real_")]
        shifted = [replace(v, name=v.name + SHIFTED, says=f"{v.says}, after the best shift") for v in moved]
        self.values = {value.name: value for value in (*values, *shifted, *SET_VALUES)}


def _undefined(_state: Any) -> float:
    raise UndefinedError("a value of sets, not of one image")


SET_VALUES = (
    Value("vgg19_fid", "", "0-", "lower", "Frechet distance of patches, on VGG19", _undefined),
    Value("vgg19_kid", "", "about 0-", "lower", "kernel distance of patches, on VGG19", _undefined),
    Value(
        PATCH_PRECISION,
        "",
        "0-1",
        "higher",
        "patches of 64 px that lie among the real ones / patches, by VGG19",
        _undefined,
    ),
)


def score_pictures(
    measures: Sequence[Measure], prediction: Image, he: Image | None, real: Image | None, mpp: float | None
) -> Scores:
    """Every value of these measures, over tiles of the pictures, uint8 (H, W, 3) of one size, at `mpp` um/px."""
    return score(measures, tiles(prediction, he, real, mpp))


def tiles(prediction: Image, he: Image | None, real: Image | None, mpp: float | None) -> Iterator[Tile]:
    """The images, uint8 (H, W, 3), in even tiles of at most `CORE_PX`, each with a halo of `HALO_UM`."""
    if not prediction.size:
        return
    halo_px = -(-round(Tile(prediction, mpp=mpp).px(HALO_UM)) // ALIGNED_PX) * ALIGNED_PX
    height, width = prediction.shape[:2]
    pictures = {"prediction": prediction, "he": he, "real": real}
    seen = {name: _background(image, mpp) for name, image in pictures.items() if image is not None}
    for tile in TileGrid((width, height), CORE_PX, halo_px):
        core, outer = tile.core, tile.outer
        he_there, real_there = (None if image is None else image[outer.at] for image in (he, real))
        halo = (core.left - outer.left, core.top - outer.top, outer.right - core.right, outer.bottom - core.bottom)
        part = outer.left / width, outer.top / height, outer.right / width, outer.bottom / height
        yield Tile(prediction[outer.at], he_there, real_there, mpp, (core.left, core.top), halo, seen, part)


def _background(image: Image, mpp: float | None) -> Background:
    overview = shrunk(image, OVERVIEW_PX)
    return background(overview, (mpp or ASSUMED_MPP) * max(image.shape) / max(overview.shape))
