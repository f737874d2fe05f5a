"""Regions that the page imports from files, read as the command line reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from shapely.geometry import mapping

from chromogen.errors import expected
from chromogen.files import write_text
from chromogen.regions.geojson import Drawn, GeoJsonError, read_features, without_area

MAX_REGIONS, LONGEST_NAME = 200, 200
MAX_GEOJSON_BYTES = 20_000_000


class Region(BaseModel):
    """A region by name, GeoJSON geometry in level-0 pixels of the slide it was drawn on.

    A geometry that is none has no numbers; it does not stop those of others.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    name: str | None = ""
    geometry: Any = None


class ImportedRegion(Region):
    """A region with what of its properties belongs into an export: the class, as its file has it."""

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
