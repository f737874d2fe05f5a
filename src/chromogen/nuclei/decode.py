"""Outlines of nuclei from what the network predicts: candidates, and the best of those that overlap."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.nuclei.contract import Prediction
from chromogen.nuclei.outlines import RAYS, Nuclei, no_nuclei

Array: TypeAlias = NDArray[np.float32]

MIN_CONFIDENCE = 0.55
MAX_SHARED = 0.25  # of the smaller of two outlines: with more in common they are one nucleus
ANGLES = (2 * np.pi * np.arange(RAYS) / RAYS).astype(np.float32)
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)  # (x, y), clockwise from +x


def decoded(found: Prediction, stride_px: int, mpp: float) -> Nuclei:
    """Nuclei from what a network says of the middles of `stride_px` squares."""
    rows, columns = candidates(found.depth)
    if not len(rows):
        return no_nuclei(mpp)
    centres = np.stack([columns, rows], axis=1).astype(np.float32) * stride_px + np.float32(stride_px / 2)
    outlines = centres[:, None] + found.radii_px(rows, columns)[..., None] * DIRECTIONS
    nuclei = Nuclei(centres, outlines, found.depth[rows, columns], mpp)
    return nuclei.take(strongest(nuclei))


def candidates(depth: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the local maxima of depth that are confident enough."""
    smooth = ndimage.gaussian_filter(depth, 0.7)
    peak = (smooth == ndimage.maximum_filter(smooth, 3)) & (depth > MIN_CONFIDENCE)
    rows, columns = np.nonzero(peak)
    return rows, columns


def strongest(nuclei: Nuclei) -> NDArray[np.bool_]:
    """Which nuclei (N,) no more confident one overlaps by more than MAX_SHARED of the smaller of both.

    Each pair decides on its own, so what is far away never changes what is kept here.
    """
    import shapely

    shapes = shapely.make_valid(shapely.polygons(nuclei.outlines_px))
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    rank = np.lexsort((nuclei.centres_px[:, 0], nuclei.centres_px[:, 1], -nuclei.confidence)).argsort()
    better = rank[first] < rank[second]
    first, second = first[better], second[better]
    areas = shapely.area(shapes)
    shared = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    kept = np.ones(len(nuclei), np.bool_)
    kept[second[shared > MAX_SHARED * np.minimum(areas[first], areas[second])]] = False
    return kept
