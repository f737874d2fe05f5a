"""Whether two sections show the same nuclei: how many lie on each other, and how many would by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from chromogen.stains.deconvolution import Array

FARTHEST_UM = 24  # that a registration may be off
SHARP_UM, WIDE_UM = 1.5, 5.0  # how far one nucleus' two centres lie apart, and neighbours' do
BORDER_UM = 3 * int(WIDE_UM)
SURE = 6.0  # standard deviations: sections without a nucleus in common reach 4
APART_UM = 15.0  # a shift after which partners are there by chance alone


def common_shift_um(ours_um: Array, theirs_um: Array) -> tuple[Array, float]:
    """Where the nuclei of one section lie in another, both (N, 2) in um, (x, y), and how surely.

    The shift leads from ours to theirs. All vectors between both are counted: of nuclei in common, they pile up at
    one shift. How surely: the pile above its surroundings, in standard deviations of chance; above 6 it is sure.
    """
    reach = FARTHEST_UM + BORDER_UM
    counts = _vectors_counted(ours_um, theirs_um, reach)
    wide = ndimage.gaussian_filter(counts, WIDE_UM)
    area = 4 * np.pi * SHARP_UM**2  # of as many vectors the sharp filter's mean varies
    pile = (ndimage.gaussian_filter(counts, SHARP_UM) - wide) * np.sqrt(area / np.maximum(wide, 1 / area))
    inside = pile[BORDER_UM:-BORDER_UM, BORDER_UM:-BORDER_UM]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return np.array([column, row], float) - FARTHEST_UM, float(inside[row, column])


def _vectors_counted(ours_um: Array, theirs_um: Array, reach: int) -> Array:
    """How many vectors from ours to theirs end in each um, rows of y and columns of x from -reach to reach."""
    edges = np.arange(-reach, reach + 2) - 0.5
    if not (len(ours_um) and len(theirs_um)):
        return np.zeros((len(edges) - 1, len(edges) - 1))
    near = cKDTree(ours_um).sparse_distance_matrix(cKDTree(theirs_um), reach * 1.5, output_type="ndarray")
    x, y = (theirs_um[near["j"]] - ours_um[near["i"]]).T
    return np.asarray(np.histogram2d(y, x, [edges, edges])[0])


def partners(ours_um: Array, theirs_um: Array, within_um: float) -> tuple[NDArray[np.int64], Array]:
    """For each of our points (N, 2) the index of its partner among theirs, -1 without, and their distance in um.

    Partners are the nearest of each other, and no farther apart than `within_um`.
    """
    if not (len(ours_um) and len(theirs_um)):
        return np.full(len(ours_um), -1), np.full(len(ours_um), np.nan)
    away, nearest = cKDTree(theirs_um).query(ours_um)
    back = cKDTree(ours_um).query(theirs_um)[1]
    mutual = (back[nearest] == np.arange(len(ours_um))) & (away <= within_um)
    return np.where(mutual, nearest, -1), np.where(mutual, away, np.nan)


def by_chance(ours_um: Array, theirs_um: Array, within_um: float) -> float:
    """How many of our points would have a partner by chance: the mean after four shifts that undo any match."""
    shifts = APART_UM * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    return float(np.mean([(partners(ours_um, theirs_um + shift, within_um)[0] >= 0).sum() for shift in shifts]))
