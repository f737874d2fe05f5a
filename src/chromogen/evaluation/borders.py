"""Does the stain keep within its borders? DAB just outside stained glands against that inside."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chromogen.evaluation.sums import Array, ratio
from chromogen.evaluation.tile import Mask, Tile, blur, needed
from chromogen.nuclei.positivity import FIXED_OD10

OUTSIDE_UM = 3.0
SMOOTHING_UM = 2.0  # little enough to leave the border of a round gland where it is
HOLE_UM2 = 200.0  # as large as an unstained nucleus in a stained gland may be
LEVEL_UM = 16.0  # how far around a place its own strength of staining is taken
MIN_UM2 = 1500.0  # of a stained gland: less is a cell or two, or dirt
NO_BORDERS: Array = np.zeros((2, 4))


def add_predicted_borders(sums: Array, tile: Tile) -> Array:
    """The prediction's DAB and pixels outside borders, and inside, added to sums (2, 4); the other row stays."""
    return sums + np.stack([_sums_of(tile, tile.prediction_dab_od10), np.zeros(4)])


def add_borders(sums: Array, tile: Tile) -> Array:
    """The same of the prediction and of the real IHC, a row each of sums (2, 4)."""
    needed(tile, "real")
    return sums + np.stack([_sums_of(tile, dab) for dab in (tile.prediction_dab_od10, tile.real_dab_od10)])


def _sums_of(tile: Tile, dab_od10: Array) -> Array:
    inside = stained_glands(tile, dab_od10)
    outside = _just_outside(inside, tile.px(OUTSIDE_UM))
    dab, within, without = (tile.core(pixels) for pixels in (dab_od10, inside, outside))
    return np.array(
        [dab[without].sum(), np.count_nonzero(without), dab[within].sum(), np.count_nonzero(within)], np.float64
    )


def stained_glands(tile: Tile, dab_od10: Array) -> Mask:
    """Where smoothed DAB (H, W) is above half of the strength around it, bool (H, W), in areas of MIN_UM2.

    The strength is the mean DAB within LEVEL_UM, each pixel weighted by its own DAB, so that unstained tissue
    around does not lower it. Half of it is where a border lies, however sharp or soft. Strength below the lowest
    of FIXED_OD10 is no staining. Holes below HOLE_UM2 belong to the gland.
    """
    around, squares = (blur(density, tile.px(LEVEL_UM)) for density in (dab_od10, dab_od10**2))
    strength = np.divide(squares, around, out=np.zeros_like(squares), where=around > 0)
    stained = (blur(dab_od10, tile.px(SMOOTHING_UM)) > strength / 2) & (strength > FIXED_OD10[0])
    um2_px = tile.px(1.0) ** 2
    return _large(~_large(~stained, HOLE_UM2 * um2_px), MIN_UM2 * um2_px)


def _large(mask: Mask, least_px: float) -> Mask:
    labels, count = ndimage.label(mask)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= least_px
    kept[0] = False
    return np.asarray(kept[labels])


def _just_outside(mask: Mask, reach_px: float) -> Mask:
    if not mask.any():
        return mask
    away_px = ndimage.distance_transform_edt(~mask)
    return np.asarray((away_px > 0) & (away_px <= reach_px))


def bleed(row: Array) -> float:
    """Mean DAB within OUTSIDE_UM outside of borders over that inside, from sums (4,): 0 where nothing bleeds."""
    outside = ratio(row[[0, 1]], "no border of a stained gland")
    inside = ratio(row[[2, 3]], "no stained gland")
    return outside / inside
