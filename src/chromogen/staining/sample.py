"""What is measured of a sample of a slide's tissue before any of it is stained."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.staining.confidence import typical_of
from chromogen.staining.cytoplasm import Texture, texture_of, with_chance
from chromogen.staining.epithelium import epithelium, nuclear_logit, rule_of
from chromogen.staining.exemplar import QUANTILES, median_of, quantiles_of
from chromogen.staining.how import SlideLook, over_ground
from chromogen.staining.maps import Array
from chromogen.staining.nuclear import draws_of
from chromogen.staining.tissue import MPP, Detail, Tissue, detail_of, tissue_of
from chromogen.stains.deconvolution import H_E
from chromogen.stains.estimation import estimate_stains
from chromogen.stains.glass import white_level

INSIDE = 0.6  # of epithelium: surely inside
EVEN = tuple(map(float, QUANTILES))  # of a sample without nuclei or tissue
MIN_INSIDE_PX = 500  # with less, all tissue says how texture varies


@dataclass(frozen=True)
class Measured:
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


def measured(sample: Image) -> Measured:
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
        return Measured(look, texture.result(), _textured(tissue, inside), centres_px, logits, where)


def look_by_chance(found: Measured, seed: int) -> SlideLook:
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
