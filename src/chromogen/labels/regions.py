"""Regions of an H&E by its IHC: tissue with DAB, and without, as polygons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry import Polygon

from chromogen.regions.polygons import polygons_in

NEGATIVE, POSITIVE = 1, 2  # of a map of classes, 0 where there is no tissue
CORNER = 0.75  # of a cell, that an outline may leave the steps of its cells

Mask = NDArray[np.bool_]
Classes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Region:
    """A region: its class, its polygon in cells (x, y) of the map, and its number in the map of regions."""

    positive: bool
    polygon: Polygon
    number: int


def classes_of(tissue: Mask, brown: Mask, gap: float, smallest: float) -> Classes:
    """The class of each cell (H, W): POSITIVE or NEGATIVE; 0 without tissue.

    Gaps between brown cells are closed up to a width of `gap`. Regions of less than `smallest` cells are 0.
    """
    positive = _closed(brown & tissue, gap / 2) & tissue
    negative = _without_small(tissue & ~positive, smallest)
    positive = _without_small(positive, smallest)
    return (POSITIVE * positive + NEGATIVE * negative).astype(np.uint8)


def _closed(mask: Mask, radius: float) -> Mask:
    """A mask with the gaps between closed: grown by a disc and shrunk again; its outer border stays."""
    if radius < 1 or not mask.any():
        return mask
    border = int(radius) + 2
    padded = np.pad(mask, border)
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    return np.asarray((closed | padded)[border:-border, border:-border])


def _without_small(mask: Mask, smallest: float) -> Mask:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(smallest, 1))[labels])


def regions_of(classes: Classes) -> tuple[list[Region], NDArray[np.int32]]:
    """The regions of a map of classes, and a map (H, W) of their numbers from 1 on, 0 for none."""
    numbers = np.zeros(classes.shape, np.int32)
    found: list[Region] = []
    for value in (NEGATIVE, POSITIVE):
        labels, _ = ndimage.label(classes == value)
        first = len(found) + 1
        numbers += np.where(labels > 0, labels + len(found), 0)
        for number, at in enumerate(ndimage.find_objects(labels), first):
            found.append(Region(value == POSITIVE, _outline(numbers[at] == number, at), number))
    return found, numbers


def _outline(cells: Mask, at: tuple[Any, ...]) -> Polygon:
    """Around connected cells of a part of a map: a polygon with holes."""
    whole = shapely.union_all(list(_runs(cells, at[0].start, at[1].start)))
    smooth = shapely.make_valid(whole.simplify(CORNER))
    return max(polygons_in(smooth), key=lambda part: float(part.area), default=whole)


def _runs(cells: Mask, top: int, left: int) -> Iterator[Polygon]:
    """Cells side by side, as rectangles."""
    steps = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return iter(shapely.box(left + starts, top + rows, left + ends, top + rows + 1))
