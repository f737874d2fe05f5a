"""A window of a slide, or what is seen of it, ready to be stained: what neither chance nor a dial changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window, whole
from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.nuclei.outlines import Nuclei
from chromogen.staining import amounts
from chromogen.staining.amounts import (
    CytoplasmMaps,
    NuclearMaps,
    Texture,
    cytoplasm_maps,
    cytoplasm_stains,
    draws_of,
    nuclear_levels,
    nuclear_maps,
    nuclear_stains,
    texture_of,
)
from chromogen.staining.atlas import REACH
from chromogen.staining.confidence import SQUARE_PX, Levels, confidence, on_pixels, painted_share
from chromogen.staining.confidence import confidence_levels as confidence_levels
from chromogen.staining.exemplar import QUANTILES, Exemplar
from chromogen.staining.how import MIN_FULL, Base, Location, MapPart, SlideLook, base_of, grain
from chromogen.staining.maps import Array
from chromogen.staining.tissue import Tissue, nuclear_logit, tissue_of
from chromogen.staining.where import Place, Where, ranks_nearby, shares_of

MAX_KEPT_BYTES = 20_000_000  # nuclei of the last windows
MARGIN_PX = 32  # round a part: farther than any stain is blurred by
ALIGNED_PX = SQUARE_PX  # of a part's begin: whole squares of all coarse maps
T = TypeVar("T", bound=tuple[Any, ...])


class Candidates(NamedTuple):
    """Of nuclei (N,): how far shape and company speak for epithelium, *where*, how far that is stained at all.

    `shares` are those of positive nuclei near each, if *where* gives such.
    """

    logits: NDArray[np.float64]
    where: NDArray[np.float64]
    kept: NDArray[np.float64]
    shares: NDArray[np.float64] | None


class MarkedNuclei(NamedTuple):
    """Of a marker of nuclei."""

    maps: NuclearMaps
    candidates: Candidates


class MarkedCytoplasm(NamedTuple):
    """Of a marker of cytoplasm."""

    maps: CytoplasmMaps
    texture: Texture


@dataclass(frozen=True)
class ReadyWindow:
    """A part of a window of a slide, ready to be stained with any share, seed and strength.

    `nuclei` are all of the window's. `marked` is what a marker of nuclei needs, or one of cytoplasm. `grain` and
    `levels` are as in `Amounts`.
    """

    part: MapPart
    nuclei: Nuclei
    base: Base
    grain: Array
    levels: Levels
    marked: MarkedNuclei | MarkedCytoplasm

    @property
    def nbytes(self) -> int:
        """Memory of its maps."""
        texture = self.marked.texture if isinstance(self.marked, MarkedCytoplasm) else ()
        maps: list[NDArray[Any]] = [*self.base, *self.marked.maps, *texture, self.grain, self.levels]
        return sum({id(one): one.nbytes for one in maps}.values())


class Amounts(NamedTuple):
    """What a window is painted with, as the exemplar has it, each (H, W): both stains, grain, and confidence."""

    hematoxylin: Array
    second: Array
    grain: Array
    levels: Levels

    def cut(self, at: Window) -> Amounts:
        """A copy of a part."""
        hematoxylin, second, fine = (one[at.at].copy() for one in (self.hematoxylin, self.second, self.grain))
        return Amounts(hematoxylin, second, fine, self.levels[at.at].copy())


def seen(image: Image, look: SlideLook) -> Tissue:
    """What a window of a slide shows, by the slide's glass and stains."""
    white = np.array(look.white)
    key = (look.white, image.shape, blake2b(image.tobytes()).digest())
    nuclei = _nuclei_last().get(key, lambda: nuclei_seen(image, white, built_in(views=1)))
    return tissue_of(image, nuclei, white, np.array(look.matrix))


@cache
def _nuclei_last() -> LruCache[Nuclei]:
    """The nuclei of the last windows of this process."""
    return LruCache(MAX_KEPT_BYTES, lambda nuclei: nuclei.outlines_px.nbytes + nuclei.centres_px.nbytes)


def ready_of(
    exemplar: Exemplar, where: Where, fill: bool, image: Image, look: SlideLook, location: Location
) -> ReadyWindow:
    """A window of a slide, uint8 (H, W, 3) at MPP, which lies at `location` on it, ready to be stained.

    Tissue without confidence is only counterstained, unless `fill`.
    """
    tissue = seen(image, look)
    there = where(Place(image, tissue, look, exemplar.site, location))
    sure = confidence(tissue, look.typical, exemplar.known)
    kept = on_pixels(np.ones_like(sure) if fill else painted_share(sure), there.shape)
    centres_px = tissue.nuclei.centres_px.astype(np.float64) + location
    is_nuclear = exemplar.site == "nuclear"
    return ReadyWindow(
        MapPart(location, whole((image.shape[1], image.shape[0])), centres_px),
        tissue.nuclei,
        base_of(tissue, look, exemplar, MIN_FULL if is_nuclear else amounts.MIN_FULL),
        grain(tissue.pale_bands[0], look, exemplar),
        confidence_levels(sure, tissue),
        _marked_nuclei(tissue, look, where, there, kept)
        if is_nuclear
        else MarkedCytoplasm(cytoplasm_maps(tissue, there * kept), texture_of(tissue)),
    )


def _marked_nuclei(tissue: Tissue, look: SlideLook, source: Where, where: Array, kept: Array) -> MarkedNuclei:
    candidates = Candidates(
        nuclear_logit(tissue.nuclei, look.rule.large_um2),
        tissue.of_nuclei(where)[1:],
        tissue.of_nuclei(kept)[1:],
        shares_of(tissue, where * kept) if source.gives_shares else None,
    )
    return MarkedNuclei(nuclear_maps(tissue, where * kept), candidates)


def cropped_window(ready: ReadyWindow, core: Window) -> ReadyWindow:
    """A copy of what a part of a window needs for every pixel of its `core` to be stained as in the whole.

    That is a margin, and all of each nucleus that shows in it: stains of a nucleus are means over it.
    """
    at = _with_nuclei(core.grown(MARGIN_PX, ready.part.at.size), ready)
    shape, marked = ready.base.labels.shape, ready.marked
    if isinstance(marked, MarkedNuclei):
        cut: MarkedNuclei | MarkedCytoplasm = marked._replace(maps=_cut(marked.maps, at, shape))
    else:
        cut = MarkedCytoplasm(_cut(marked.maps, at, shape), _cut(marked.texture, at, shape))
    return ReadyWindow(
        replace(ready.part, at=at),
        ready.nuclei,
        _cut(ready.base, at, shape),
        *_cut((ready.grain, ready.levels), at, shape),
        cut,
    )


def _with_nuclei(part: Window, ready: ReadyWindow) -> Window:
    """The part, with all of the nuclei that reach into it, as whole squares."""
    centres, outlines = ready.nuclei.centres_px, ready.nuclei.outlines_px
    reach = REACH * np.abs(outlines - centres[:, None]).max(axis=1, initial=0) + 8
    least, most = centres - reach, centres + reach
    begins, ends = np.array((part.left, part.top)), np.array((part.right, part.bottom))
    shown = (most > begins).all(axis=1) & (least < ends).all(axis=1)
    left, top = np.minimum(least[shown].min(axis=0, initial=np.inf), begins).clip(0)
    right, bottom = np.maximum(most[shown].max(axis=0, initial=0), ends)
    width, height = ready.part.at.size
    squares = (int(side // ALIGNED_PX) * ALIGNED_PX for side in (left, top))
    beyond = (int(-(-side // ALIGNED_PX)) * ALIGNED_PX for side in (right, bottom))
    return Window(*squares, *(min(side, most) for side, most in zip(beyond, (width, height), strict=True)))


def _cut(maps: T, at: Window, shape: tuple[int, ...]) -> T:
    """Copies of a part of maps of pixels, or of squares of 2 or 4 of them, of a window of `shape` (H, W)."""

    def of_one(one: NDArray[Any]) -> NDArray[Any]:
        by = next(by for by in (1, 2, 4) if one.shape == tuple(-(-side // by) for side in shape))
        return one[at.top // by : -(-at.bottom // by), at.left // by : -(-at.right // by)].copy()

    cut = [of_one(one) for one in maps]
    return type(maps)(*cut) if hasattr(maps, "_fields") else type(maps)(cut)


def amounts_of(ready: ReadyWindow, exemplar: Exemplar, look: SlideLook, share: float, seed: int) -> Amounts:
    """What tissue is painted with, by the share of positive nuclei, if it marks nuclei, and the seed of chance."""
    part, base, marked = ready.part, ready.base, ready.marked
    if isinstance(marked, MarkedNuclei):
        levels = _levels_of_nuclei(ready, marked.candidates, exemplar, look, share, seed)
        stains = nuclear_stains(part, ready.nuclei, base, marked.maps, exemplar, levels, seed)
    else:
        stains = cytoplasm_stains(part, base, marked.texture, marked.maps, exemplar, look.texture, seed)
    return Amounts(*stains, ready.grain, ready.levels)


def _levels_of_nuclei(
    ready: ReadyWindow, candidates: Candidates, exemplar: Exemplar, look: SlideLook, share: float, seed: int
) -> NDArray[np.float64]:
    """Mean DAB of each nucleus, (N,): by the local share that a map gives, or by `share` over all the slide."""
    centres_px = ready.part.centres_px
    if candidates.shares is not None:
        draws = draws_of(centres_px, candidates.logits, np.zeros(len(ready.nuclei)), seed)
        ranks = ranks_nearby(ready.nuclei, centres_px, draws, candidates.shares, seed)
        return nuclear_levels(ranks, exemplar, candidates.shares)
    draws = draws_of(centres_px, candidates.logits, candidates.where, seed)
    return nuclear_levels(np.interp(draws, look.draws, QUANTILES), exemplar, share * candidates.kept)
