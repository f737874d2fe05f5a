"""*Where* from DAB that a model or style transfer predicts: how much a place has, without the picture of it."""

from __future__ import annotations

import numpy as np

from chromogen.staining.edges import along_edges
from chromogen.staining.maps import Array, mean_over
from chromogen.staining.tissue import MPP
from chromogen.staining.where import Place

TISSUE_UM, NUCLEI_UM = 4.0, 15.0  # over which DAB is averaged: about a cell; about ten nuclei, for a share
PIXEL_OF_SIGMA = 2.5  # um of a pixel that resolves as much as a Gaussian of one um


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
