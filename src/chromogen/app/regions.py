"""Regions drawn on an H&E and an IHC: masks from image files, or from GeoJSON as QuPath exports it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from shapely import unary_union
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon, Polygon, shape

from chromogen.app.polygons import centres_inside, made_valid, polygons_in
from chromogen.errors import expected
from chromogen.image import Image, read_image
from chromogen.style.guides import Guides

Mask: TypeAlias = NDArray[np.float32]
Regions: TypeAlias = tuple[Guides, Guides]  # of the content and of the style

GEOJSON = (".geojson", ".json")
REST = "elsewhere"
FINER = 4  # polygons are drawn so many times finer, and averaged: their borders are soft
STRIP_PX = 512
LEAST_REST_PX = 64


def read_regions(content: tuple[Path, Sequence[Path]], style: tuple[Path, Sequence[Path]]) -> Regions:
    """Regions of an H&E and of an IHC, each an image file with its mask files; what none covers is a region too.

    Mask images go in pairs, the first with the first; the classes of GeoJSON go by name. Raises: ValueError where
    these do not match, a mask has another size than its image, or a file cannot be read.
    """
    if not (content[1] and style[1]):
        missing = "content_mask" if style[1] else "style_mask"
        raise expected(missing, "given with the other mask", "none", "draw the same regions on both images")
    sides = [_read(name, *side) for name, side in (("content", content), ("style", style))]
    if sides[0].keys() != sides[1].keys():
        named = [", ".join(sorted(side)) for side in sides]
        raise expected("style_mask", f"the regions {named[0]}", named[1], "give both images the same regions")
    rests = [1 - np.clip(sum(side.values(), np.float32(0)), 0, 1) for side in sides]
    if min(rest.sum() for rest in rests) >= LEAST_REST_PX:
        sides = [side | {REST: rest} for side, rest in zip(sides, rests, strict=True)]
    return _shared(sides[0]), _shared(sides[1])


def _shared(side: Mapping[str, Mask]) -> Guides:
    """Where regions overlap they share the pixels: together at most 1."""
    most = np.maximum(sum(side.values(), np.float32(0)), 1)
    return {name: np.asarray(mask / most, np.float32) for name, mask in side.items()}


def resized(guides: Guides, image: Image) -> Guides:
    """Regions, (H, W) and 0 to 1, at the size of an image."""
    size = image.shape[1], image.shape[0]
    return {name: _resized(mask, size) for name, mask in guides.items()}


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    if mask.shape == size[::-1]:
        return mask
    return np.asarray(Pillow.fromarray(mask).resize(size, Pillow.Resampling.BOX), np.float32)


def _read(side: str, image: Path, files: Sequence[Path]) -> dict[str, Mask]:
    height, width = read_image(image).shape[:2]
    found: dict[str, Mask] = {}
    for number, file in enumerate(files, 1):
        drawn = file.suffix.lower() in GEOJSON
        regions = read_geojson(file, (width, height)) if drawn else {str(number): _read_mask(file)}
        for name, mask in regions.items():
            if mask.shape != (height, width):
                got = f"{mask.shape[1]} x {mask.shape[0]} px in {file}"
                raise expected(f"{side}_mask", f"as large as its image, {width} x {height} px", got, "resample it")
            found[name] = np.maximum(found[name], mask) if name in found else mask
    return found


def _read_mask(file: Path) -> Mask:
    """An image as a mask: black 0, white 1; of values 0 and 1 alone, as labels are, 1 is 1."""
    gray = read_image(file).mean(axis=2, dtype=np.float32)
    return np.asarray(gray / (1 if 0 < gray.max() <= 1 else 255), np.float32)


def read_geojson(file: Path, size: tuple[int, int]) -> dict[str, Mask]:
    """Masks (h, w) by class of the polygons in a GeoJSON file, coordinates (x, y) in pixels of an image of `size`.

    Holes are left out, nested polygons of one class are one region, and one that crosses itself counts where it
    goes around. Points and lines are no regions. Raises: ValueError for a file that is no GeoJSON or has no
    polygon.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        features = found["features"] if isinstance(found, dict) and "features" in found else found
        features = features if isinstance(features, list) else [features]
        with np.errstate(invalid="ignore"):
            shapes = made_valid([shape(feature["geometry"]) for feature in features])
        drawn = [(_class_of(feature), found) for feature, found in zip(features, shapes, strict=True)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ShapelyError) as error:
        why = str(error).partition("\n")[0][:80]
        raise expected("mask", "GeoJSON features with polygons", file, f"it cannot be read: {why}") from error
    classes: dict[str, list[Polygon]] = {}
    for name, geometry in drawn:
        classes.setdefault(name, []).extend(polygons_in(geometry))
    masks = {name: drawn_polygons(unary_union(polygons), size) for name, polygons in classes.items() if polygons}
    if not masks:
        raise expected("mask", "GeoJSON with at least one polygon", f"none in {file}")
    return masks


def _class_of(feature: Mapping[str, Any]) -> str:
    """The name that QuPath gives a feature's class, or its own; "1" where it has none."""
    properties = feature.get("properties") or {}
    classified = properties.get("classification") or {}
    return str(classified.get("name") or properties.get("name") or "1")


def drawn_polygons(polygons: Polygon | MultiPolygon, size: tuple[int, int]) -> Mask:
    """How far pixels lie inside polygons: (h, w), 0 to 1; a pixel (x, y) reaches from (x, y) to (x + 1, y + 1)."""
    width, height = size
    mask = np.zeros((height, width), np.float32)
    for top in range(0, height, STRIP_PX):
        rows = min(STRIP_PX, height - top)
        strip = centres_inside(polygons_in(polygons), (rows * FINER, width * FINER), (0, top), FINER)
        mask[top : top + rows] = strip.reshape(rows, FINER, width, FINER).mean((1, 3))
    return mask
