"""Nuclei as GeoJSON (RFC 7946) that QuPath 0.4 and later import as detections. Written part by part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from shapely import make_valid, polygons
from shapely.geometry import Polygon

from chromogen.app.nuclei_tables import Judged
from chromogen.files import written_beside
from chromogen.nuclei.outlines import Nuclei
from chromogen.regions.polygons import polygons_in

# QuPath counts the classes of exactly these names in its positive percentages.
BLUE, BROWN_RED, GREEN = (38, 84, 188), (186, 58, 24), (24, 140, 72)
CLASSES: dict[bool | None, dict[str, Any]] = {
    False: {"name": "Negative", "color": list(BLUE)},
    True: {"name": "Positive", "color": list(BROWN_RED)},
    None: {"name": "Nucleus", "color": list(GREEN)},
}
# As QuPath shows them, and by which column.
MEASUREMENTS = {
    "Area um^2": "area_um2",
    "Confidence": "confidence",
    "Nucleus: Hematoxylin OD mean": "hematoxylin_od10",
    "Nucleus: DAB OD mean": "dab_od10",
    "Ring: Hematoxylin OD mean": "ring_hematoxylin_od10",
    "Ring: DAB OD mean": "ring_dab_od10",
    "Threshold: DAB OD": "threshold_od10",
}
DECIMALS = 2  # of a pixel of level 0
SPECK = np.array([(0, 0), (0.01, 0), (0.01, 0.01), (0, 0.01)])


def write_geojson(path: Path, parts: Iterable[Judged]) -> None:
    """A FeatureCollection of detections: closed polygons of (x, y) in level-0 pixels, class and measurements."""
    write_features(path, (feature for part in parts for feature in geojson_features(part)))


def write_features(
    path: Path, features: Iterable[Mapping[str, Any]], facts: Mapping[str, Any] | None = None
) -> None:
    """A FeatureCollection, feature by feature; `facts` are its member "chromogen", which others ignore."""
    with written_beside(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        known = f'"chromogen":{json.dumps(facts, allow_nan=False)},' if facts else ""
        file.write(f'{{"type":"FeatureCollection",{known}"features":[')
        between = "\n"
        for feature in features:
            file.write(between + json.dumps(feature, allow_nan=False, separators=(",", ":")))
            between = ",\n"
        file.write("\n]}\n")


def geojson_features(part: Judged) -> Iterator[dict[str, Any]]:
    """One feature a nucleus."""
    columns = part.columns
    for index, polygon in enumerate(simple_polygons(part.part.nuclei)):
        measured = {shown: columns[name][index] for shown, name in MEASUREMENTS.items()}
        yield {
            "type": "Feature",
            "id": columns["id"][index],
            "geometry": {"type": "Polygon", "coordinates": [list(map(list, polygon.exterior.coords))]},
            "properties": {
                "objectType": "detection",
                "classification": CLASSES[columns["positive"][index]],
                "measurements": {shown: value for shown, value in measured.items() if value is not None},
            },
        }


def simple_polygons(nuclei: Nuclei) -> list[Polygon]:
    """The outlines, rounded, as polygons that do not cross themselves; of what falls apart the largest piece.

    A nucleus that rounding leaves without an area is the square of a hundredth of a pixel around its centre.
    """
    rounded = np.round(nuclei.outlines_px.astype(np.float64), DECIMALS)
    shapes = make_valid(polygons(rounded)) if len(nuclei) else []
    return [_largest(shape, centre) for shape, centre in zip(shapes, nuclei.centres_px, strict=True)]


def _largest(shape: Any, centre: Any) -> Polygon:
    pieces = polygons_in(shape)
    if not pieces:
        return Polygon(np.round(np.asarray(centre, np.float64), DECIMALS) + SPECK)
    largest = max(pieces, key=lambda piece: float(piece.area))
    return Polygon(largest.exterior)
