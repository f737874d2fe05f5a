"""Polygons that people draw, and the pixels inside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree, get_parts, get_rings, linestrings, make_valid
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from skimage.draw import polygon as draw_polygon

MAX_CROSSINGS = 1000
MAX_SIDES = 500  # that are asked what they cross


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


def made_valid(shapes: Sequence[BaseGeometry], crossings: int = 0) -> tuple[list[BaseGeometry], int]:
    """The shapes, of polygons that cross themselves what they go around; and the number of `crossings` by now.

    Raises: ValueError where they cross more often than anyone draws, which would take minutes.
    """
    broken = [not drawn.is_valid for drawn in shapes]
    for drawn in compress(shapes, broken):
        crossings += _crossings(drawn)
        if crossings > MAX_CROSSINGS:
            raise ValueError(
                f"polygons up to here cross themselves more than {MAX_CROSSINGS:,} times; simplify them"
            )
    valid = [make_valid(drawn) if crosses else drawn for drawn, crosses in zip(shapes, broken, strict=True)]
    return valid, crossings


def _crossings(drawn: BaseGeometry) -> int:
    """About how often the sides of polygons cross, or meet otherwise than one the next; by a sample of them."""
    ends = [np.asarray(ring.coords)[:, :2] for ring in get_rings(get_parts(drawn))]
    sides = linestrings(np.concatenate([np.stack([line[:-1], line[1:]], 1) for line in ends]))
    sample = sides[:: -(-len(sides) // MAX_SIDES)]
    met: int = STRtree(sides).query(sample, predicate="intersects").shape[1] - 3 * len(sample)  # with neighbours
    return max(0, met) * len(sides) // len(sample) // 2
