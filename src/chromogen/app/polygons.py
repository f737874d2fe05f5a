"""Polygons that people draw, and the pixels inside them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from skimage.draw import polygon as draw_polygon


def polygons_in(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons of a geometry, however nested, without points, lines, and what has no area or end."""
    if isinstance(geometry, Polygon):
        return [geometry] if geometry.area > 0 and np.isfinite(geometry.bounds).all() else []
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygons_in(part)]


def centres_inside(
    polygons: Iterable[Polygon], shape: tuple[int, int], location: tuple[int, int] = (0, 0), finer: int = 1
) -> NDArray[np.bool_]:
    """Which pixels (H, W), from `location` (x, y) on and 1 / `finer` wide, have their centre in any polygon.

    Holes are left out, but for what another polygon has in them.
    """
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        drawn = np.zeros(shape, bool)
        for ring, value in [(polygon.exterior, True), *((hole, False) for hole in polygon.interiors)]:
            # (x, y) is the corner of a pixel here, and its centre for skimage.
            columns, rows = ((np.asarray(ring.coords)[:, :2] - location) * finer - 0.5).T
            drawn[draw_polygon(rows, columns, shape)] = value
        inside |= drawn
    return inside
