"""What of a window of a slide neither chance nor a dial changes: for who turns dials, also of the part they see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from chromogen.grid import Window, whole
from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.nuclei.outlines import Nuclei
from chromogen.recent import Recent
from chromogen.staining import cytoplasm
from chromogen.staining.atlas import REACH
from chromogen.staining.confidence import SQUARE_PX, confidence, on_pixels, painted_share
from chromogen.staining.confidence_map import Levels
from chromogen.staining.confidence_map import levels_of as confidence_levels
from chromogen.staining.cytoplasm import CytoplasmMaps, Texture, cytoplasm_maps, cytoplasm_stains, texture_of
from chromogen.staining.epithelium import nuclear_logit
from chromogen.staining.exemplar import QUANTILES, Exemplar
from chromogen.staining.how import LEAST_FULL, Base, Location, Part, SlideLook, base_of, grain
from chromogen.staining.maps import Array
from chromogen.staining.nuclear import NuclearMaps, draws_of, levels_of, nuclear_maps, nuclear_stains
from chromogen.staining.shares import ranks_nearby, shares_of
from chromogen.staining.tissue import Tissue, tissue_of
from chromogen.staining.where import Place, Where

MOST_KEPT_BYTES = 20_000_000  # nuclei of the last windows
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


@dataclass(frozen=True)
class Ready:
    """A part of a window of a slide, ready to be stained with any share, seed and strength.

    `nuclei` are all of the window's. Of a marker of nuclei there are `nuclear` and `candidates`, of one of cytoplasm
    `texture` and `cytoplasm`. `grain` and `levels` are as in `Amounts`.
    """

    part: Part
    nuclei: Nuclei
    base: Base
    grain: Array
    levels: Levels
    nuclear: NuclearMaps | None = None
    candidates: Candidates | None = None
    texture: Texture | None = None
    cytoplasm: CytoplasmMaps | None = None

    @property
    def nbytes(self) -> int:
        """Memory of its maps."""
        maps = {id(one): one.nbytes for group in self.groups().values() for one in group}
        return sum(maps.values()) + self.grain.nbytes + self.levels.nbytes

    def groups(self) -> dict[str, Any]:
        """Those of its maps that come in groups, by their names here."""
        names = ("base", "nuclear", "texture", "cytoplasm")
        return {name: group for name in names if (group := getattr(self, name)) is not None}


class Amounts(NamedTuple):
    """What a part of a window is painted with, as the exemplar has it, each (H, W): both stains, grain, confidence."""

    hematoxylin: Array
    second: Array
    grain: Array
    levels: Levels


def seen(image: Image, look: SlideLook) -> Tissue:
    """What a window of a slide shows, by the slide's glass and stains."""
    white = np.array(look.white)
    key = (look.white, image.shape, blake2b(image.tobytes()).digest())
    nuclei = _nuclei_last().get(key, lambda: nuclei_seen(image, white, built_in(views=1)))
    return tissue_of(image, nuclei, white, np.array(look.matrix))


@cache
def _nuclei_last() -> Recent[Nuclei]:
    """The nuclei of the last windows of this process."""
    return Recent(MOST_KEPT_BYTES, lambda nuclei: nuclei.outlines_px.nbytes + nuclei.centres_px.nbytes)


def ready_of(
    exemplar: Exemplar, where: Where, fill: bool, image: Image, look: SlideLook, location: Location
) -> Ready:
    """A window of a slide, uint8 (H, W, 3) at MPP, which lies at `location` on it, ready to be stained.

    Tissue without confidence is only counterstained, unless `fill`.
    """
    tissue = seen(image, look)
    there = where(Place(image, tissue, look, exemplar.site, location))
    sure = confidence(tissue, look.typical, exemplar.known)
    kept = on_pixels(np.ones_like(sure) if fill else painted_share(sure), there.shape)
    is_nuclear = exemplar.site == "nuclear"
    common = Ready(
        Part(location, whole((image.shape[1], image.shape[0])), tissue.nuclei.centres_px + np.asarray(location, np.float64)),
        tissue.nuclei,
        base_of(tissue, look, exemplar, LEAST_FULL if is_nuclear else cytoplasm.LEAST_FULL),
        grain(tissue.pale_bands[0], look, exemplar),
        confidence_levels(sure, tissue),
    )
    if not is_nuclear:
        maps = cytoplasm_maps(tissue, there * kept)
        return replace(common, texture=texture_of(tissue), cytoplasm=maps)
    candidates = Candidates(
        nuclear_logit(tissue.nuclei, look.rule.large_um2),
        tissue.of_nuclei(there)[1:],
        tissue.of_nuclei(kept)[1:],
        shares_of(tissue, there * kept) if where.gives_shares else None,
    )
    return replace(common, nuclear=nuclear_maps(tissue, there * kept), candidates=candidates)


def part_of(ready: Ready, core: Window) -> Ready:
    """A copy of what a part of a window needs for every pixel of its `core` to be stained as in the whole.

    That is a margin, and all of each nucleus that shows in it: stains of a nucleus are means over it.
    """
    at = _with_nuclei(core.grown(MARGIN_PX, ready.part.at.size), ready)
    shape = ready.base.labels.shape
    groups = {name: _cut(group, at, shape) for name, group in ready.groups().items()}
    maps = _cut((ready.grain, ready.levels), at, shape)
    return replace(ready, part=replace(ready.part, at=at), grain=maps[0], levels=maps[1], **groups)


def _with_nuclei(part: Window, ready: Ready) -> Window:
    """The part, with all of the nuclei that reach into it, as whole squares."""
    centres, outlines = ready.nuclei.centres_px, ready.nuclei.outlines_px
    reach = REACH * np.abs(outlines - centres[:, None]).max(axis=1, initial=0) + 8
    least, most = centres - reach, centres + reach
    ends = np.array(part.size) + (part.left, part.top)
    shown = (most > (part.left, part.top)).all(axis=1) & (least < ends).all(axis=1)
    left, top = np.minimum(least[shown].min(axis=0, initial=np.inf), (part.left, part.top)).clip(0)
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


def amounts_of(ready: Ready, exemplar: Exemplar, look: SlideLook, share: float, seed: int) -> Amounts:
    """What tissue is painted with, by the share of positive nuclei, for a marker of nuclei, and the seed of chance."""
    part, base = ready.part, ready.base
    if ready.nuclear is not None and ready.candidates is not None:
        levels = _levels_of_nuclei(ready, ready.candidates, exemplar, look, share, seed)
        stains = nuclear_stains(part, ready.nuclei, base, ready.nuclear, exemplar, levels, seed)
    else:
        assert ready.texture is not None and ready.cytoplasm is not None
        stains = cytoplasm_stains(part, base, ready.texture, ready.cytoplasm, exemplar, look.texture, seed)
    return Amounts(*stains, ready.grain, ready.levels)


def _levels_of_nuclei(
    ready: Ready, candidates: Candidates, exemplar: Exemplar, look: SlideLook, share: float, seed: int
) -> NDArray[np.float64]:
    """Mean DAB of each nucleus, (N,): by the local share that a map gives, or by `share` over all the slide."""
    centres_px = ready.part.centres_px
    if candidates.shares is not None:
        draws = draws_of(centres_px, candidates.logits, np.zeros(len(ready.nuclei)), seed)
        ranks = ranks_nearby(ready.nuclei, centres_px, draws, candidates.shares, seed)
        return levels_of(ranks, exemplar, candidates.shares)
    draws = draws_of(centres_px, candidates.logits, candidates.where, seed)
    return levels_of(np.interp(draws, look.draws, QUANTILES), exemplar, share * candidates.kept)
