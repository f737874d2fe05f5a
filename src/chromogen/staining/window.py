"""Paint a window of a slide in both stains."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window, whole
from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.staining.amounts import Texture, draws_of, texture_of, with_chance
from chromogen.staining.confidence import median_of, typical_of
from chromogen.staining.exemplar import QUANTILES, Exemplar, quantiles_of
from chromogen.staining.how import Location, SlideLook, glass, grain, over_ground, rendered_stains
from chromogen.staining.maps import Array, smooth
from chromogen.staining.ready import Amounts, ReadyWindow, amounts_of, cropped_window, ready_of, seen
from chromogen.staining.tissue import (
    BANDS_UM,
    MPP,
    Detail,
    Tissue,
    detail_of,
    epithelium,
    mean_density,
    nuclear_logit,
    rule_of,
    tissue_of,
    tissue_part,
)
from chromogen.staining.where import BY_TISSUE, Place, Where
from chromogen.stains.deconvolution import H_E, densities_od10, estimate_stains
from chromogen.stains.glass import white_level

# What is measured of a sample of a slide's tissue before any of it is stained.

INSIDE = 0.6  # of epithelium: surely inside
EVEN = tuple(map(float, QUANTILES))  # of a sample without nuclei or tissue
MIN_INSIDE_PX = 500  # with less, all tissue says how texture varies


@dataclass(frozen=True)
class MeasuredSample:
    """A slide's statistics but for chance, and what that is drawn for: textures of pixels, and nuclei (N)."""

    look: SlideLook
    texture: Texture
    textured: NDArray[np.bool_]
    centres_px: NDArray[np.float64]
    logits: NDArray[np.float64]
    where: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory of its maps."""
        return sum(one.nbytes for one in (*self.texture, self.textured))


def measured_sample(sample: Image) -> MeasuredSample:
    """What a sample of a slide's tissue, uint8 (H, W, 3) at MPP, shows."""
    white = white_level(sample, MPP)
    with ThreadPoolExecutor(2, "look") as pool:
        fitted = pool.submit(estimate_stains, sample, H_E, white)
        nuclei = nuclei_seen(sample, white, built_in(views=1))
        tissue = tissue_of(sample, nuclei, white, fitted.result().matrix)
        texture = pool.submit(texture_of, tissue)
        between = pool.submit(_everywhere, tissue)
        rule = rule_of(tissue)
        inside = epithelium(tissue, rule)
        everywhere_od10, detail = between.result()
        look = SlideLook(
            white=tuple(map(float, white)),
            matrix=tuple(tuple(map(float, row)) for row in tissue.matrix),
            blue_od10=quantiles_of(tissue.of_nuclei(over_ground(tissue, everywhere_od10))[1:], EVEN),
            everywhere_od10=everywhere_od10,
            rule=rule,
            texture=(),
            draws=(),
            detail=detail,
            typical=typical_of(tissue),
        )
        logits = nuclear_logit(nuclei, rule.large_um2)
        centres_px, where = nuclei.centres_px.astype(np.float64), tissue.of_nuclei(inside)[1:]
        return MeasuredSample(look, texture.result(), _textured(tissue, inside), centres_px, logits, where)


def look_by_chance(found: MeasuredSample, seed: int) -> SlideLook:
    """The slide's statistics, with those of what a seed draws; its source of *where* measures its own."""
    texture = with_chance(found.texture, (0, 0), seed)[found.textured]
    draws = draws_of(found.centres_px, found.logits, found.where, seed)
    return replace(found.look, texture=quantiles_of(texture, EVEN), draws=quantiles_of(draws, EVEN))


def _everywhere(tissue: Tissue) -> tuple[float, Detail]:
    """Haematoxylin and detail of tissue without nuclei."""
    between = tissue.between * (tissue.distance_um > 1.5) > 0.5
    return median_of(tissue.hematoxylin[between], 0.1), detail_of(
        tissue, np.ones(len(tissue.nuclei), bool), between
    )


def _textured(tissue: Tissue, inside: Array) -> NDArray[np.bool_]:
    """Where cytoplasm's texture is that of epithelium, or all tissue where there is hardly any."""
    surely = inside > INSIDE
    return surely if np.count_nonzero(surely) >= MIN_INSIDE_PX else tissue.there > 0.5


# One window of a slide from H&E to virtual IHC.

GLASS_PX = 8  # round glass: farther than its grain is smoothed


@dataclass(frozen=True)
class Dials:
    """What a user chooses: the share of positive nuclei, for a marker of nuclei; the seed of chance; *where*.

    `intensity` and `counterstain` say how strong the second stain and haematoxylin are: 1 is as in the exemplar.
    `fill` stains tissue that is unlike the exemplar's, too.
    """

    share: float
    seed: int = 0
    intensity: float = 1.0
    counterstain: float = 1.0
    where: Where = BY_TISSUE
    fill: bool = False


def look_of(dials: Dials, sample: Image) -> SlideLook:
    """The statistics of a slide, from a sample of its tissue, uint8 (H, W, 3) at MPP."""
    return replace(look_by_chance(measured_sample(sample), dials.seed), where=dials.where.measure(sample))


class Keep(NamedTuple):
    """Where `painted` keeps, for who turns dials, what is ready to be stained, and amounts of stains."""

    ready: LruCache[ReadyWindow]
    amounts: LruCache[Amounts]


def painted_window(
    exemplar: Exemplar,
    dials: Dials,
    image: Image,
    look: SlideLook,
    location: Location,
    shown: Window | None = None,
    keep: Keep | None = None,
) -> Image:
    """A window of a slide, uint8 (H, W, 3) at MPP, as the exemplar's stain would show it, and its confidence.

    It is uint8 (H, W, 4): r, g, b and `Levels`. Tissue without confidence is only counterstained, unless filled.
    `location` (x, y) is where it lies on the slide, in its pixels. Beside tissue it is the exemplar's glass.
    Only what lies in `shown`, a window of the slide, need be painted, as it would be without; the rest is black.
    """
    size = image.shape[1], image.shape[0]
    core = whole(size) if shown is None else whole(size).common(shown.seen_from(Window(*location, 0, 0)))
    part = tissue_part(image, np.array(look.white))
    made = np.zeros((*image.shape[:2], 4), np.uint8)
    if part is None or part.size != size:
        _paint_glass(made, core, exemplar, image, look)
    inside = core if part is None else core.common(part)
    if part is not None and inside.area_px:
        at = location[0] + part.left, location[1] + part.top
        found = _amounts(exemplar, dials, image[part.at], look, at, inside.seen_from(part), keep)
        stains = found.hematoxylin * np.float32(dials.counterstain), found.second * np.float32(dials.intensity)
        made[inside.at] = np.dstack([rendered_stains(*stains, found.grain, exemplar), found.levels])
    return made


def _amounts(
    exemplar: Exemplar,
    dials: Dials,
    image: Image,
    look: SlideLook,
    location: Location,
    core: Window,
    keep: Keep | None,
) -> Amounts:
    """What the core of an image of tissue is painted with, made or kept."""

    def ready() -> ReadyWindow:
        made = ready_of(exemplar, dials.where, dials.fill, image, look, location)
        return made if core.size == made.part.at.size else cropped_window(made, core)

    def amounts(ready: ReadyWindow) -> Amounts:
        made = amounts_of(ready, exemplar, look, dials.share, dials.seed)
        return made if core.size == ready.part.at.size else made.cut(core.seen_from(ready.part.at))

    if keep is None:
        return amounts(ready())
    without_chance = replace(look, texture=(), draws=())
    key = (exemplar, dials.where, dials.fill, without_chance, location, core, blake2b(image.tobytes()).digest())
    wanted = (*key, look, dials.share, dials.seed)
    return keep.amounts.get(wanted, lambda: amounts(keep.ready.get(key, ready)))


def where_map(site: str, where: Where, image: Image, look: SlideLook, location: Location) -> Image:
    """*Where* in a window of a slide, as `painted` uses it: grey, uint8 (H, W, 3), 255 for 1; 0 on glass."""
    made = np.zeros_like(image)
    part = tissue_part(image, np.array(look.white))
    if part is not None:
        shown, at = image[part.at], (location[0] + part.left, location[1] + part.top)
        values = where(Place(shown, seen(shown, look), look, site, at))
        made[part.at] = np.rint(255 * values)[..., None]
    return made


def _paint_glass(made: Image, core: Window, exemplar: Exemplar, image: Image, look: SlideLook) -> None:
    """Paint the core, uint8 (H, W, 4), as the exemplar's glass, with the grain of the image's."""
    seen_px = core.grown(GLASS_PX, (image.shape[1], image.shape[0]))
    total = mean_density(np.moveaxis(densities_od10(image[seen_px.at], np.array(look.white)), 0, 2))
    fine = total - smooth(total, BANDS_UM[0] / MPP)
    shown = fine[core.seen_from(seen_px).at]
    made[core.at][..., :3] = glass(grain(shown, look, exemplar), exemplar)
