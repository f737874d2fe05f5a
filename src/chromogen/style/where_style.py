"""*Where* by style transfer: where the report's optimization puts DAB in a tile, on a small scale and smoothed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from chromogen.errors import expected
from chromogen.image import Image, scaled
from chromogen.staining.exemplar import QUANTILES, Exemplar
from chromogen.staining.maps import Array, mean_over
from chromogen.staining.tissue import MPP
from chromogen.staining.where import Place, Where, along_edges, sampled_map
from chromogen.stains.deconvolution import optical_density_od10

CLAIM = "where style transfer put the colour of the reference IHC; it knows nothing of the marker"
STYLE_MPP = 1.0  # of the small scale
STEPS = 60
MAX_PX = 4_000_000  # of a tile: more is no tile, and takes memory and minutes
TISSUE_UM, NUCLEI_UM = 4.0, 15.0  # over which DAB is averaged: about a cell; about ten nuclei, for a share
PIXEL_OF_SIGMA = 2.5  # um of a pixel that resolves as much as a Gaussian of one um
LEVELS, MAX_OD10 = 255, 2.0  # of the kept map


@dataclass(frozen=True)
class StyleMap:
    """DAB of an optimized picture of one tile of `size_px` (w, h) at MPP: `dab` uint8 (h, w), as bytes.

    `full_od10` is the DAB of stained tissue in the reference IHC.
    """

    dab: bytes = field(repr=False)
    shape: tuple[int, int]
    size_px: tuple[int, int]
    full_od10: float

    def map_of(self, place: Place) -> Array:
        """DAB of the optimized tile over what stained tissue of the reference has."""
        values = np.frombuffer(self.dab, np.uint8).reshape(self.shape) * np.float32(MAX_OD10 / LEVELS)
        pixel_px = self.size_px[0] / self.shape[1], self.size_px[1] / self.shape[0]
        height, width = place.tissue.labels.shape
        return where_of_dab(sampled_map(values, pixel_px, place.location, (height, width)), self.full_od10, place)

    def source(self) -> Where:
        """The source that the map is."""
        sha256 = hashlib.sha256(self.dab).hexdigest()
        facts = json.dumps({"preset": "histology", "mpp": STYLE_MPP, "steps": STEPS, "sha256": sha256})
        identity = f"style {sha256}, {self.size_px}, full {self.full_od10:g}"
        return Where("style", CLAIM, identity, self.map_of, facts=facts)


def where_of_dab(dab_od10: Array, full_od10: float, place: Place) -> Array:
    """The map (H, W), 0 to 1, that predicted DAB (H, W) makes, which is 1 where DAB is `full_od10` on average.

    For a marker of nuclei the mean over nuclei counts: a prediction that is torn between brown and blue is half
    brown, and so becomes the share of brown ones. For other markers the mean over tissue counts.
    """
    nuclear = place.site == "nuclear"
    mask = place.tissue.labels > 0 if nuclear else place.tissue.there
    sigma_um = NUCLEI_UM if nuclear else TISSUE_UM
    level = (mean_over(dab_od10.clip(0), mask, sigma_um / MPP) / full_od10).clip(0, 1)
    return along_edges(np.asarray(level, np.float32), PIXEL_OF_SIGMA * sigma_um, place)


def style_map(he: Image, references: Sequence[Image], exemplar: Exemplar) -> Where:
    """The source that the optimization of a tile is: H&E and reference IHCs, uint8 (H, W, 3) at MPP.

    `exemplar` is what the references measure. It takes seconds to a minute. Raises: ValueError for a picture that
    is too large or too small; ArithmeticError where the loss is not finite.
    """
    from chromogen.style.encoder import Encoder
    from chromogen.style.measured_style import measure_style
    from chromogen.style.recipes import preset
    from chromogen.style.stylize import stylized

    height, width = he.shape[:2]
    if height * width > MAX_PX:
        got = f"{width} x {height} px at {MPP:g} um/px"
        raise expected("where", f"another source for more than {MAX_PX:,} px", got, "cut a tile, or use tissue")
    named = preset("nuclear" if exemplar.site == "nuclear" else "histology")
    recipe = replace(named, scales=(1.0,), steps=(STEPS,))
    encoder = Encoder()
    smaller = [scaled(reference, MPP / STYLE_MPP) for reference in references]
    style = measure_style(smaller, recipe, encoder, mpp=STYLE_MPP)
    made = stylized(scaled(he, MPP / STYLE_MPP), style, recipe, encoder=encoder).image
    density = optical_density_od10(made, np.array(exemplar.white))
    dab = (density @ np.linalg.inv(np.array(exemplar.matrix))[:, 1]).clip(0, MAX_OD10)
    kept = np.rint(dab * (LEVELS / MAX_OD10)).astype(np.uint8)
    full_od10 = float(np.interp(0.5, QUANTILES, exemplar.stained_od10))
    return StyleMap(kept.tobytes(), (kept.shape[0], kept.shape[1]), (width, height), full_od10).source()
