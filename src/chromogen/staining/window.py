"""One window of a slide from H&E to virtual IHC, and what is measured of the slide before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.nuclei.outlines import Nuclei
from chromogen.recent import Recent
from chromogen.staining.confidence import confidence, on_pixels, painted_share, typical_of
from chromogen.staining.confidence_map import Levels
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
MOST_KEPT_BYTES = 20_000_000  # nuclei of the last windows, for who turns a dial


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


class Amounts(NamedTuple):
    """What a window is painted with, as the exemplar has it, each (H, W): both stains, grain, and confidence."""

    hematoxylin: Array
    second: Array
    grain: Array
    levels: Levels


def painted(
    exemplar: Exemplar,
    dials: Dials,
    image: Image,
    look: SlideLook,
    location: Location,
    amounts_by: Callable[[Exemplar, Dials, Image, SlideLook, Location], Amounts] | None = None,
) -> Image:
    """A window of a slide, uint8 (H, W, 3) at MPP, as the exemplar's stain would show it, and its confidence.

    It is uint8 (H, W, 4): r, g, b and `Levels`. Tissue without confidence is only counterstained, unless filled.
    `location` (x, y) is where it lies on the slide, in its pixels. Beside tissue it is the exemplar's glass.
    `amounts_by` gives what `amounts_of` does, for who keeps it: it is the same at any strength of the stains.
    """
    part = tissue_part(image, np.array(look.white))
    if part is None:
        return _glass(exemplar, image, look)
    covers = part.size == (image.shape[1], image.shape[0])
    made = np.empty((*image.shape[:2], 4), np.uint8) if covers else _glass(exemplar, image, look)
    at = location[0] + part.left, location[1] + part.top
    found = (amounts_by or amounts_of)(exemplar, dials, image[part.at], look, at)
    stains = found.hematoxylin * np.float32(dials.counterstain), found.second * np.float32(dials.intensity)
    made[part.at] = np.dstack([rendered(*stains, found.grain, exemplar), found.levels])
    return made


def where_map(site: str, where: Where, image: Image, look: SlideLook, location: Location) -> Image:
    """*Where* in a window of a slide, as `painted` uses it: grey, uint8 (H, W, 3), 255 for 1; 0 on glass."""
    made = np.zeros_like(image)
    part = tissue_part(image, np.array(look.white))
    if part is not None:
        shown, at = image[part.at], (location[0] + part.left, location[1] + part.top)
        values = where(Place(shown, seen(shown, look), look, site, at))
        made[part.at] = np.rint(255 * values)[..., None]
    return made


def _glass(exemplar: Exemplar, image: Image, look: SlideLook) -> Image:
    """The exemplar's glass with the grain of the image's."""
    total = mean_density(np.moveaxis(densities_od10(image, np.array(look.white)), 0, 2))
    fine = total - smooth(total, BANDS_UM[0] / MPP)
    made = np.zeros((*image.shape[:2], 4), np.uint8)
    made[..., :3] = glass(grain(fine, look, exemplar), exemplar)
    return made


def amounts_of(exemplar: Exemplar, dials: Dials, image: Image, look: SlideLook, location: Location) -> Amounts:
    """What tissue is painted with; `intensity` and `counterstain` of the dials do not count."""
    tissue = seen(image, look)
    where = dials.where(Place(image, tissue, look, exemplar.site, location))
    sure = confidence(tissue, look.typical, exemplar.known)
    kept = on_pixels(np.ones_like(sure) if dials.fill else painted_share(sure), where.shape)
    if exemplar.site == "nuclear":
        levels = _levels_of_nuclei(tissue, look, exemplar, dials, (where, kept), location)
        stains = nuclear_stains(tissue, look, exemplar, where * kept, levels, location, dials.seed)
    else:
        stains = cytoplasm_stains(tissue, look, exemplar, where * kept, location, dials.seed)
    return Amounts(*stains, grain(tissue.pale_bands[0], look, exemplar), confidence_levels(sure, tissue))


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
    key = (look.white, image.shape, blake2b(image.tobytes()).digest())
    nuclei = _nuclei_last().get(key, lambda: nuclei_seen(image, white, built_in(views=1)))
    return tissue_of(image, nuclei, white, np.array(look.matrix))


@cache
def _nuclei_last() -> Recent[Nuclei]:
    """The nuclei of the last windows of this process."""
    return Recent(MOST_KEPT_BYTES, lambda nuclei: nuclei.outlines_px.nbytes + nuclei.centres_px.nbytes)
