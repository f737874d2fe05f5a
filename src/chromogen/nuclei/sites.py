"""Where in a cell a marker sits, guessed from an H&E: in nuclei, between them, or around them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import choose
from chromogen.image import Image
from chromogen.stains.deconvolution import H_E, separate_stains_od10

Mask: TypeAlias = NDArray[np.bool_]

SITES = ("any", "nuclear", "membrane", "cytoplasm")
ELSEWHERE = {"nuclear": 0.05, "membrane": 0.1, "cytoplasm": 0.1}  # stains are never clean
CELL_UM = 8.0  # from a nucleus to its membrane at most
MEMBRANE_UM = 0.75
EDGE_UM = 0.4
DENSE_PERCENT = 90
LEAST_DENSE_OD10 = 0.05


def site_share(he: Image, site: str, mpp: float) -> NDArray[np.float32]:
    """How much of the DAB a pixel of an H&E, uint8 (H, W, 3), may take by where in a cell its marker sits: 0 to 1.

    "nuclear" markers (ER, PR, Ki67) stain nuclei as haematoxylin shows them; "membrane" ones (HER2) the lines
    midway between neighbouring nuclei, at most 8 um away; "cytoplasm" ones (cytokeratins) all but nuclei; "any" is
    all of it. Ours (2026), from nuclei alone: an H&E hardly shows membranes. Raises: ValueError for another site,
    and for pixels too large to show nuclei.
    """
    choose("site", site, SITES)
    if site == "any":
        return np.ones(he.shape[:2], np.float32)
    from chromogen.nuclei.find import find_nuclei
    from chromogen.nuclei.outlines import labels_of

    labels = labels_of(find_nuclei(he, mpp), (he.shape[0], he.shape[1]))
    inside = _inside(site, he, labels, mpp)
    return np.asarray(ELSEWHERE[site] + (1 - ELSEWHERE[site]) * inside, np.float32)


def _inside(site: str, he: Image, labels: NDArray[np.int32], mpp: float) -> NDArray[np.float64]:
    from scipy import ndimage

    if site == "membrane":
        return _between(labels, mpp)
    nuclei = labels > 0
    soft = np.asarray(ndimage.gaussian_filter(nuclei.astype(np.float64), EDGE_UM / mpp))
    if site == "cytoplasm":
        return 1 - soft
    return soft * _chromatin(separate_stains_od10(he, H_E)[..., 0], nuclei)


def _chromatin(hematoxylin_od10: NDArray[np.float64], nuclei: Mask) -> NDArray[np.float64]:
    """How dense it is against that of dense nuclei, 0 to 1: what sits in nuclei sits where their chromatin is."""
    dense = np.percentile(hematoxylin_od10[nuclei], DENSE_PERCENT) if nuclei.any() else 1.0
    return np.clip(hematoxylin_od10 / max(float(dense), LEAST_DENSE_OD10), 0, 1)


def _between(labels: NDArray[np.int32], mpp: float) -> NDArray[np.float64]:
    """1 on the lines between neighbouring nuclei, falling off to both sides."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    if not labels.any():
        return np.zeros(labels.shape)
    away = np.asarray(ndimage.distance_transform_edt(labels == 0))
    near = away < CELL_UM / mpp
    lines = (watershed(away, labels, mask=near, watershed_line=True) == 0) & near & (labels == 0)
    band = ndimage.gaussian_filter(lines.astype(np.float64), MEMBRANE_UM / mpp)
    return np.asarray(np.minimum(band / max(np.percentile(band[lines], 50), 1e-6) if lines.any() else band, 1))
