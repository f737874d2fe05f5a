"""One window of a slide from H&E to virtual IHC, and what is measured of the slide before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.recent import Recent
from chromogen.staining.confidence import confidence, on_pixels, painted_share, typical_of
from chromogen.staining.confidence_map import levels_of
from chromogen.staining.epithelium import epithelium, rule_of
from chromogen.staining.exemplar import QUANTILES, Exemplar, median_of, quantiles_of
from chromogen.staining.how import (
    Location,
    SlideLook,
    counterstain,
    covered,
    cytoplasm_dab,
    cytoplasm_texture,
    draws_of,
    nuclear_dab,
    rendered,
)
from chromogen.staining.tissue import MPP, Tissue, tissue_of
from chromogen.stains.deconvolution import H_E
from chromogen.stains.estimation import estimate_stains
from chromogen.stains.glass import white_level

INSIDE = 0.6  # of epithelium: surely inside
LEAST_INSIDE_PX = 500  # with less, all tissue says how texture varies
MOST_BYTES = 120_000_000  # two dozen windows of 1280 px


@dataclass(frozen=True)
class Dials:
    """What a user chooses: the share of positive nuclei, for a marker of nuclei; the seed of all chance.

    `fill` stains tissue that is unlike the exemplar's, too.
    """

    share: float
    seed: int = 0
    fill: bool = False


def look_of(dials: Dials, sample: Image) -> SlideLook:
    """The statistics of a slide, from a sample of its tissue, uint8 (H, W, 3) at MPP."""
    white = white_level(sample, MPP)
    matrix = estimate_stains(sample, H_E, white).matrix
    tissue = tissue_of(sample, nuclei_seen(sample, white, built_in(views=1)), white, matrix)
    rule = rule_of(tissue)
    where = epithelium(tissue, rule)
    inside = where > INSIDE
    chosen = inside if np.count_nonzero(inside) >= LEAST_INSIDE_PX else tissue.there > 0.5
    matter = (tissue.second + 0.5 * tissue.hematoxylin)[tissue.there > 0.5]
    between = tissue.between * (tissue.distance_um > 1.5) > 0.5
    even = tuple(map(float, QUANTILES))  # of a sample without nuclei or tissue
    return SlideLook(
        tuple(map(float, white)),
        tuple(tuple(map(float, row)) for row in matrix),
        median_of(tissue.of_nuclei(tissue.hematoxylin)[1:], 0.5),
        median_of(tissue.around_od10[tissue.labels > 0], 0.1),
        median_of(tissue.hematoxylin[between], 0.1),
        median_of(matter, 0.1),
        rule,
        quantiles_of(cytoplasm_texture(tissue, (0, 0), dials.seed)[chosen], even),
        quantiles_of(draws_of(tissue, rule, where, (0, 0), dials.seed), even),
        typical_of(tissue),
    )


def painted(exemplar: Exemplar, dials: Dials, image: Image, look: SlideLook, location: Location) -> Image:
    """A window of a slide, uint8 (H, W, 3) at MPP, as the exemplar's stain would show it, and its confidence.

    It is uint8 (H, W, 4): r, g, b and `Levels`. Tissue without confidence is only counterstained, unless filled.
    `location` (x, y) is where it lies on the slide, in its pixels. Windows painted last are kept, for the blocks
    of a slide that share one.
    """
    key = (exemplar, dials, look, location, image.shape, hash(image.tobytes()))
    return _painted_last().get(key, lambda: _painted(exemplar, dials, image, look, location))


@lru_cache(maxsize=1)
def _painted_last() -> Recent[Image]:
    return Recent(MOST_BYTES, lambda image: image.nbytes)


def _painted(exemplar: Exemplar, dials: Dials, image: Image, look: SlideLook, location: Location) -> Image:
    tissue = seen(image, look)
    where = epithelium(tissue, look.rule)
    sure = confidence(tissue, look.typical, exemplar.known)
    kept = on_pixels(np.ones_like(sure) if dials.fill else painted_share(sure), where.shape)
    if exemplar.site == "nuclear":
        share = dials.share * tissue.of_nuclei(kept)[1:]
        dab = nuclear_dab(tissue, look, exemplar, where, location, share, dials.seed)
    else:
        dab = cytoplasm_dab(tissue, look, exemplar, where * kept, location, dials.seed)
    picture = rendered(covered(counterstain(tissue, look, exemplar), dab, exemplar), dab, tissue, exemplar)
    return np.dstack([picture, levels_of(sure, tissue)])


def seen(image: Image, look: SlideLook) -> Tissue:
    """What a window of a slide shows, by the slide's glass and stains."""
    white = np.array(look.white)
    return tissue_of(image, nuclei_seen(image, white, built_in(views=1)), white, np.array(look.matrix))
