"""One window of a slide from H&E to virtual IHC, and what is measured of the slide before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.staining.confidence import confidence, on_pixels, painted_share, typical_of
from chromogen.staining.confidence_map import levels_of as confidence_levels
from chromogen.staining.epithelium import epithelium, rule_of
from chromogen.staining.exemplar import QUANTILES, Exemplar, median_of, quantiles_of
from chromogen.staining.how import (
    Location,
    SlideLook,
    cytoplasm_stains,
    cytoplasm_texture,
    draws_of,
    glass,
    grain,
    levels_of,
    nuclear_stains,
    over_ground,
    rendered,
)
from chromogen.staining.maps import Array, smooth
from chromogen.staining.shares import ranks_nearby, shares_of
from chromogen.staining.tissue import (
    BANDS_UM,
    MPP,
    Detail,
    Tissue,
    detail_of,
    mean_density,
    tissue_of,
    tissue_part,
)
from chromogen.staining.where import Place, Where
from chromogen.staining.where_tissue import ByTissue
from chromogen.stains.deconvolution import H_E, densities_od10
from chromogen.stains.estimation import estimate_stains
from chromogen.stains.glass import white_level

INSIDE = 0.6  # of epithelium: surely inside
Maps: TypeAlias = tuple[Array, Array]

LEAST_INSIDE_PX = 500  # with less, all tissue says how texture varies


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
    where: Where = field(default_factory=ByTissue)
    fill: bool = False


def look_of(dials: Dials, sample: Image) -> SlideLook:
    """The statistics of a slide, from a sample of its tissue, uint8 (H, W, 3) at MPP."""
    white = white_level(sample, MPP)
    with ThreadPoolExecutor(2, "look") as pool:
        fitted = pool.submit(estimate_stains, sample, H_E, white)
        nuclei = nuclei_seen(sample, white, built_in(views=1))
        tissue = tissue_of(sample, nuclei, white, fitted.result().matrix)
        everywhere = pool.submit(_everywhere, tissue)
        rule = rule_of(tissue)
        where = epithelium(tissue, rule)
        texture = pool.submit(_texture_inside, tissue, where, dials.seed)
        over = over_ground(tissue, everywhere.result()[0])
        even = tuple(map(float, QUANTILES))  # of a sample without nuclei or tissue
        return SlideLook(
            tuple(map(float, white)),
            tuple(tuple(map(float, row)) for row in tissue.matrix),
            quantiles_of(tissue.of_nuclei(over)[1:], even),
            everywhere.result()[0],
            rule,
            quantiles_of(texture.result(), even),
            quantiles_of(draws_of(tissue, rule, where, (0, 0), dials.seed), even),
            everywhere.result()[1],
            typical_of(tissue),
            dials.where.measure(sample),
        )


def _everywhere(tissue: Tissue) -> tuple[float, Detail]:
    """Haematoxylin and detail of tissue without nuclei."""
    between = tissue.between * (tissue.distance_um > 1.5) > 0.5
    return median_of(tissue.hematoxylin[between], 0.1), detail_of(
        tissue, np.ones(len(tissue.nuclei), bool), between
    )


def _texture_inside(tissue: Tissue, where: Array, seed: int) -> Array:
    """The texture of epithelium's cytoplasm, or of all tissue where there is hardly any."""
    inside = where > INSIDE
    chosen = inside if np.count_nonzero(inside) >= LEAST_INSIDE_PX else tissue.there > 0.5
    return cytoplasm_texture(tissue, (0, 0), seed)[chosen]


def painted(exemplar: Exemplar, dials: Dials, image: Image, look: SlideLook, location: Location) -> Image:
    """A window of a slide, uint8 (H, W, 3) at MPP, as the exemplar's stain would show it, and its confidence.

    It is uint8 (H, W, 4): r, g, b and `Levels`. Tissue without confidence is only counterstained, unless filled.
    `location` (x, y) is where it lies on the slide, in its pixels. Beside tissue it is the exemplar's glass.
    """
    white = np.array(look.white)
    part = tissue_part(image, white)
    if part is not None and part.size == (image.shape[1], image.shape[0]):
        return _painted(exemplar, dials, image, look, location)
    made = _glass(exemplar, image, look)
    if part is None:
        return made
    at = location[0] + part.left, location[1] + part.top
    made[part.at] = _painted(exemplar, dials, image[part.at], look, at)
    return made


def _glass(exemplar: Exemplar, image: Image, look: SlideLook) -> Image:
    """The exemplar's glass with the grain of the image's."""
    total = mean_density(np.moveaxis(densities_od10(image, np.array(look.white)), 0, 2))
    fine = total - smooth(total, BANDS_UM[0] / MPP)
    made = np.zeros((*image.shape[:2], 4), np.uint8)
    made[..., :3] = glass(grain(fine, look, exemplar), exemplar)
    return made


def _painted(exemplar: Exemplar, dials: Dials, image: Image, look: SlideLook, location: Location) -> Image:
    tissue = seen(image, look)
    where = dials.where(Place(image, tissue, look, exemplar.site, location))
    sure = confidence(tissue, look.typical, exemplar.known)
    kept = on_pixels(np.ones_like(sure) if dials.fill else painted_share(sure), where.shape)
    if exemplar.site == "nuclear":
        levels = _levels_of_nuclei(tissue, look, exemplar, dials, (where, kept), location)
        stains = nuclear_stains(tissue, look, exemplar, where * kept, levels, location, dials.seed)
    else:
        stains = cytoplasm_stains(tissue, look, exemplar, where * kept, location, dials.seed)
    hematoxylin, second = stains[0] * np.float32(dials.counterstain), stains[1] * np.float32(dials.intensity)
    picture = rendered(hematoxylin, second, grain(tissue.pale_bands[0], look, exemplar), exemplar)
    return np.dstack([picture, confidence_levels(sure, tissue)])


def _levels_of_nuclei(
    tissue: Tissue,
    look: SlideLook,
    exemplar: Exemplar,
    dials: Dials,
    maps: tuple[Array, Array],
    location: Location,
) -> NDArray[np.float64]:
    """Mean DAB of each nucleus, (N,): by the local share that a map gives, or by the dial's over all the slide.

    `maps` are *where*, and how far tissue is stained at all.
    """
    where, kept = maps
    if dials.where.gives_shares:
        shares = shares_of(tissue, where * kept)
        return levels_of(ranks_nearby(tissue, look, shares, location, dials.seed), exemplar, shares)
    draws = draws_of(tissue, look.rule, where, location, dials.seed)
    shares = dials.share * tissue.of_nuclei(kept)[1:]
    return levels_of(np.interp(draws, look.draws, QUANTILES), exemplar, shares)


def seen(image: Image, look: SlideLook) -> Tissue:
    """What a window of a slide shows, by the slide's glass and stains."""
    white = np.array(look.white)
    return tissue_of(image, nuclei_seen(image, white, built_in(views=1)), white, np.array(look.matrix))
