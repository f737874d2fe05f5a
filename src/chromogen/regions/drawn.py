"""Polygons from GeoJSON files, as QuPath exports them, and masks of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from shapely import unary_union
from shapely.geometry import MultiPolygon, Polygon

from chromogen.errors import expected
from chromogen.regions.geojson import Drawn, GeoJsonError, read_features, without_area
from chromogen.regions.masks import Mask
from chromogen.regions.polygons import centres_inside, polygons_in

FINER = 4  # polygons are drawn so many times finer, and averaged: their borders are soft
STRIP_PX = 512


def read_drawn(file: Path, argument: str) -> list[Drawn]:
    """The features with an area in a GeoJSON file; errors name the `argument` that the file was given by.

    Features without an area are left out with a warning. Raises: ValueError for a file that is no GeoJSON or has
    no polygon; OSError.
    """
    try:
        features, left_out = read_features(file.read_bytes())
    except GeoJsonError as error:
        raise expected(argument, "GeoJSON with polygons", file, f"{error}") from error
    if not features:
        raise expected(argument, "GeoJSON with at least one polygon", f"none in {file}")
    if left_out:
        warnings.warn(f"{file}: {without_area(left_out, left_out + len(features))}", stacklevel=4)
    return features


def class_of(feature: Drawn) -> str:
    """A feature's class; its own name where it has none, and "1" where it has no name either."""
    return feature.path_class or feature.name or "1"


def read_geojson(file: Path, size: tuple[int, int]) -> dict[str, Mask]:
    """Masks (h, w) by class of the polygons in a GeoJSON file, coordinates (x, y) in pixels of an image of `size`.

    A feature without a class goes by its own name, and by "1" where it has none either. Holes are left out, nested
    polygons of one class are one region, and one that crosses itself counts where it goes around. Features without
    an area are left out with a warning. Raises: ValueError for a file that is no GeoJSON or has no polygon.
    """
    classes: dict[str, list[Polygon]] = {}
    for feature in read_drawn(file, "mask"):
        classes.setdefault(class_of(feature), []).extend(feature.polygons)
    return {name: drawn_polygons(unary_union(polygons), size) for name, polygons in classes.items()}


def drawn_polygons(polygons: Polygon | MultiPolygon, size: tuple[int, int]) -> Mask:
    """How far pixels lie inside polygons: (h, w), 0 to 1; a pixel (x, y) reaches from (x, y) to (x + 1, y + 1)."""
    width, height = size
    mask = np.zeros((height, width), np.float32)
    for top in range(0, height, STRIP_PX):
        rows = min(STRIP_PX, height - top)
        strip = centres_inside(polygons_in(polygons), (rows * FINER, width * FINER), (0, top), FINER)
        mask[top : top + rows] = strip.reshape(rows, FINER, width, FINER).mean((1, 3))
    return mask
