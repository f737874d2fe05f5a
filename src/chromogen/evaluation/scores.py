"""Every measure over pictures of any size: tile by tile, each with a halo, so that no map of the whole is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from chromogen.compute.tiles import ALIGNED_PX, TileGrid
from chromogen.evaluation.metrics import (
    CREDIBLE_ALONE,
    CREDIBLE_BESIDE_REAL,
    NUCLEI_MEASURES,
    PATCH_PRECISION,
    PREDICTED_DAB,
    PREDICTED_NUCLEI,
    REAL_MEASURES,
    TISSUE_MEASURES,
    Measure,
    Value,
    style_measures,
)
from chromogen.evaluation.tile import CALLED, Tile, UndefinedError
from chromogen.image import Image, shrunk
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.tissue import Background, background

if TYPE_CHECKING:
    from chromogen.style.encoder import Encoder

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
