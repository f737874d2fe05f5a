"""Is the chromatin kept? Density within the nuclei of the H&E, in the H&E and in the prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.evaluation.sums import Array, UndefinedError
from chromogen.evaluation.tile import Tile, needed
from chromogen.nuclei.outlines import labels_of
from chromogen.stains.deconvolution import H_DAB, H_E, separate_stains_od10

RIM_UM = 0.75  # of a nucleus that does not count: an outline is never exact, and its edge is no chromatin
MIN_OD10 = 0.02  # mean density of nuclei that show anything
NO_CHROMATIN: Array = np.zeros(6)


def add_chromatin(sums: Array, tile: Tile) -> Array:
    """Sums (6,) over pixels within nuclei added: count, both densities, how both differ from the nucleus' mean.

    The density is haematoxylin in the H&E, and haematoxylin plus DAB in the prediction: chromatin shows in both,
    and in a brown nucleus mainly in the DAB. The last three sums are squares of the H&E, of the prediction,
    and products. A nucleus counts in the tile that has its centre in the core.
    """
    height, width = tile.prediction.shape[:2]
    inner = _without_rims(labels_of(tile.he_nuclei, (height, width)), max(1, round(tile.px(RIM_UM))))
    counts = np.concatenate([[False], tile.in_core(tile.he_nuclei)])
    within = counts[inner]
    owners = inner[within]
    he, prediction = needed(tile, "he"), tile.prediction
    before = separate_stains_od10(he[within], H_E, tile.white_of(he))[:, 0]
    after = separate_stains_od10(prediction[within], H_DAB, tile.white_of(prediction))[:, :2].sum(axis=1)
    a, b = (_from_means(density, owners) for density in (before, after))
    return np.asarray(sums + np.array([owners.size, before.sum(), after.sum(), a @ a, b @ b, a @ b]))


def _without_rims(labels: NDArray[np.int32], rim_px: int) -> NDArray[np.int32]:
    """A label image (H, W) with the pixels alone that are farther than `rim_px` from any other label."""
    side = 2 * rim_px + 1
    inner = ndimage.minimum_filter(labels, side) == ndimage.maximum_filter(labels, side)
    return np.where(inner, labels, 0).astype(np.int32)


def _from_means(density: Array, owners: NDArray[np.int32]) -> Array:
    """Densities (N,) less the mean of the nucleus that owns each."""
    pixels = np.maximum(np.bincount(owners), 1)
    return np.asarray(density - (np.bincount(owners, density) / pixels)[owners])


def contrast_kept(sums: Array) -> float:
    """Contrast within nuclei of the prediction over that in the H&E: 1 for chromatin as clear, 0 for flat nuclei.

    From the sums (6,) of `add_chromatin`.

    Contrast is the deviation from each nucleus' mean (root mean square) over the mean density of all nuclei, so
    that a paler stain alone changes nothing.
    """
    n, before, after, aa, bb, _ = _checked(sums)
    return float((np.sqrt(bb / n) / (after / n)) / (np.sqrt(aa / n) / (before / n)))


def pattern_kept(sums: Array) -> float:
    """Pearson's correlation of both densities within nuclei, -1 to 1, from sums (6,): the H&E's own?"""
    *_, aa, bb, ab = _checked(sums)
    if bb <= 0:
        raise UndefinedError("the nuclei of the prediction are flat")
    return float(ab / np.sqrt(aa * bb))


def _checked(sums: Array) -> Array:
    n, before, after, aa, *_ = sums
    if not n:
        raise UndefinedError("no nuclei in the H&E")
    if aa <= 0 or before / n < MIN_OD10:
        raise UndefinedError("the nuclei of the H&E show no chromatin")
    if after / n < MIN_OD10:
        raise UndefinedError("the prediction shows nothing where the H&E has nuclei")
    return sums
