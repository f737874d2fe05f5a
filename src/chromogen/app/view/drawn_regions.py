"""Regions that a user draws or imports: read as the command line reads them, and what is measured in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field
from shapely.affinity import affine_transform
from shapely.geometry import MultiPolygon, box, mapping

from chromogen.app.view.opened import Opened
from chromogen.app.view.pictures import read_tile
from chromogen.app.view.placement import Placement
from chromogen.compute.tiles import TileGrid, Window
from chromogen.errors import expected
from chromogen.evaluation.agreement import dab_od10, dab_positive_percent, dab_sums, miod, pixel_h_score
from chromogen.evaluation.tile import UndefinedError
from chromogen.files import write_text
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.regions.geojson import Drawn, GeoJsonError, centres_inside, polygons_of, read_features, without_area
from chromogen.stains.deconvolution import VECTORS, Array, separate_stains_od10

# Regions in GeoJSON.

MAX_REGIONS, LONGEST_NAME = 200, 200
MAX_GEOJSON_BYTES = 20_000_000


class ImportedRegion(BaseModel):
    """A region by name, GeoJSON geometry in level-0 pixels of the slide it was drawn on.

    A geometry that is none has no numbers; it does not stop those of others. `properties` are those of a file's
    that belong into an export: the class, as the file has it.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: str | None = ""
    geometry: Any = None
    properties: dict[str, Any] = Field(default_factory=dict)


class Imported(BaseModel):
    """The regions of a file, and a sentence for each kind of feature that was left out."""

    regions: list[ImportedRegion]
    left_out: list[str]


def import_regions(body: bytes) -> Imported:
    """The regions in the bytes of a file. Raises: ValueError where it is no GeoJSON, or has no polygon."""
    try:
        found, without = read_features(body, MAX_GEOJSON_BYTES)
    except GeoJsonError as error:
        raise expected("file", "GeoJSON with polygons", f"one that is not: {error}") from error
    if not found:
        raise expected("file", "GeoJSON with at least one polygon", "none")
    more = len(found) - MAX_REGIONS
    left_out = {
        without_area(without, len(found) + without): without > 0,
        f"Chromogen left out the last {more}: the page takes {MAX_REGIONS} regions.": more > 0,
    }
    return Imported(
        regions=[_imported_region(drawn) for drawn in found[:MAX_REGIONS]],
        left_out=[words for words, holds in left_out.items() if holds],
    )


def _imported_region(drawn: Drawn) -> ImportedRegion:
    return ImportedRegion(
        name=(drawn.name or drawn.path_class or f"Region {drawn.number}")[:LONGEST_NAME],
        geometry=mapping(drawn.geometry),
        properties={"classification": drawn.classification} if drawn.path_class else {},
    )


def feature_of(region: ImportedRegion, **more: object) -> dict[str, Any]:
    """A region as an annotation, as `read_regions` and QuPath read it, with more properties."""
    properties = {"objectType": "annotation", **region.properties, "name": region.name, **more}
    return {"type": "Feature", "geometry": region.geometry, "properties": properties}


def write_regions(file: Path, regions: Sequence[ImportedRegion]) -> None:
    """Write regions as GeoJSON. Raises: OSError."""
    features = [feature_of(region) for region in regions]
    write_text(file, json.dumps({"type": "FeatureCollection", "features": features}))


# Numbers of regions: how much is positive, and how strongly.

CORE_PX = 1024
MAX_PIXELS = 16_000_000  # of a region; a larger one is measured coarser
MAX_POINTS = 50_000
SIDES = 256  # at least, of a region that is bent
WHOLE_PERCENT = 99.5  # of a region: what rounding may take away


@dataclass(frozen=True)
class Numbers:
    """Of a region in one slide; what is None is not defined there, and `why` says why.

    Percents but the first are of the region's tissue; `mean_od10` and what is above the threshold are of the stain
    beside haematoxylin, eosin in an H&E; areas are those on the slide.
    """

    area_um2: float | None
    tissue_um2: float | None
    tissue_percent: float
    measured_mpp: float
    positive_percent: float | None
    above_threshold_percent: float | None
    mean_od10: float | None
    miod_od10: float | None
    pixel_h_score: float | None
    why: str = ""


def parse_region(geometry: object) -> MultiPolygon:
    """The polygons of a GeoJSON geometry, (x, y) in level-0 pixels; ValueError where there are none."""
    try:
        polygons, _ = polygons_of(geometry)
    except ValueError as error:
        raise expected("geometry", "a GeoJSON polygon", f"one that is not ({error})") from error
    points = sum(len(ring.coords) for polygon in polygons for ring in (polygon.exterior, *polygon.interiors))
    if not polygons:
        kind = geometry.get("type") if isinstance(geometry, Mapping) else "none"
        raise expected("geometry", "a polygon with an area", kind, "points and lines have none")
    if points > MAX_POINTS:
        raise expected("geometry", f"at most {MAX_POINTS:,} points", f"{points:,}", "simplify it")
    return MultiPolygon(polygons)


def placed_region(region: MultiPolygon, placed: Placement) -> MultiPolygon:
    """The region of a first slide in another that lies on it so; long sides bend where the placement does."""
    bendable = shapely.segmentize(region, region.length / SIDES) if placed.bends else region
    return shapely.transform(bendable, placed.move)


def numbers_of(opened: Opened, region: MultiPolygon, stains: str, threshold_od10: float) -> Numbers:
    """What is measured in a region of a slide; ValueError where it lies outside.

    Tile by tile at full resolution, or so much coarser that it has at most `MAX_PIXELS`.
    """
    window = _bounds(region, opened.size)
    step = 1
    while window.size[0] * window.size[1] > MAX_PIXELS * step**2:
        step *= 2
    mpp = (opened.mpp or ASSUMED_MPP) * step
    parts = [_part(opened, region, part, step, stains, threshold_od10) for part in _parts(window, step)]
    sums = np.sum([part.sums for part in parts], axis=0)
    inside, tissue, above = (int(n) for n in np.sum([part.areas for part in parts], axis=0))
    is_he = stains.startswith("h-e")
    covered = 100 * region.intersection(box(0, 0, *opened.size)).area / region.area
    lacking = {
        f"only {covered:.0f} % of the region lies on this slide": covered < WHOLE_PERCENT,
        "no tissue in the region": not tissue,
        "no DAB in an H&E": is_he,
    }
    return Numbers(
        area_um2=inside * mpp**2 if opened.mpp else None,
        tissue_um2=tissue * mpp**2 if opened.mpp else None,
        tissue_percent=100 * tissue / max(inside, 1),
        measured_mpp=mpp,
        positive_percent=None if is_he else _defined(dab_positive_percent, sums),
        above_threshold_percent=100 * above / tissue if tissue else None,
        mean_od10=_defined(dab_od10, sums),
        miod_od10=None if is_he else _defined(miod, sums),
        pixel_h_score=None if is_he else _defined(pixel_h_score, sums),
        why="; ".join(why for why, holds in lacking.items() if holds),
    )


@dataclass(frozen=True)
class _Part:
    sums: Array
    areas: tuple[int, int, int]


def _bounds(region: MultiPolygon, size: tuple[int, int]) -> Window:
    """The window of whole pixels around what lies on the slide."""
    seen = region.intersection(box(0, 0, *size))
    if seen.is_empty or not seen.area:
        raise expected(
            "geometry", f"on the slide of {size[0]} x {size[1]} px", "one outside", "draw it on the slide"
        )
    left, top, right, bottom = seen.bounds
    return Window(int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom)))


def _parts(window: Window, step: int) -> Sequence[Window]:
    """The window in tiles whose sides are multiples of `step`, but for the last ones."""
    coarse = (-(-window.size[0] // step), -(-window.size[1] // step))
    return [
        Window(
            window.left + tile.core.left * step,
            window.top + tile.core.top * step,
            min(window.left + tile.core.right * step, window.right),
            min(window.top + tile.core.bottom * step, window.bottom),
        )
        for tile in TileGrid(coarse, CORE_PX, 0)
    ]


def _part(
    opened: Opened, region: MultiPolygon, window: Window, step: int, stains: str, threshold_od10: float
) -> _Part:
    tile = read_tile(opened, window, step)
    core = tile.core(tile.prediction)
    here = affine_transform(region, [1 / step, 0, 0, 1 / step, -window.left / step, -window.top / step])
    inside = centres_inside(here.geoms, core.shape[:2])
    densities = separate_stains_od10(tile.prediction, VECTORS[stains])
    tissue = tile.core(tile.tissue) & inside
    second = tile.core(densities)[..., 1][tissue]
    areas = int(inside.sum()), int(tissue.sum()), int(np.count_nonzero(second > threshold_od10))
    return _Part(dab_sums(second), areas)


def _defined(measure: Any, sums: Array) -> float | None:
    try:
        return float(measure(sums))
    except UndefinedError:
        return None
