"""Nuclei as GeoJSON: what QuPath makes of it, by a parser of its format that was written from QuPath's rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import Polygon, shape

from chromogen.nuclei.outlines import RAYS, Nuclei
from chromogen.nuclei.positivity import Measurements, Threshold, fixed_threshold
from chromogen.regions.geojson import read_features
from chromogen.whole_slide.nuclei import NucleiPart
from chromogen.whole_slide.nuclei_files import geojson_features, judged, write_geojson

# What QuPath 0.4 to 0.6 make objects of, by `objectType`; "unknown" becomes an annotation, with a warning.
OBJECT_TYPES = {"annotation", "detection", "cell", "tile", "tmaCore", "root"}


@dataclass(frozen=True)
class PathObject:
    """An object as QuPath imports it."""

    kind: str
    uuid: UUID
    roi: Polygon
    path_class: tuple[str, int] | None
    measurements: dict[str, float]


def imported(text: str) -> list[PathObject]:
    """What QuPath's PathObjectTypeAdapters, PathClassTypeAdapter and MeasurementListTypeAdapter read of a text."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"no JSON: {constant}")

    collection = json.loads(text, parse_constant=refuse)
    assert isinstance(collection["features"], list)
    return [path_object(feature) for feature in collection["features"]]


def path_object(feature: dict[str, Any]) -> PathObject:
    properties = feature["properties"]
    assert properties["objectType"] in OBJECT_TYPES
    measurements = properties.get("measurements", {})
    assert isinstance(measurements, dict)
    assert all(isinstance(value, float | int) for value in measurements.values())
    uuid = UUID(feature["id"])
    assert str(uuid) == feature["id"]
    return PathObject(
        properties["objectType"], uuid, roi_of(feature["geometry"]), class_of(properties), measurements
    )


def class_of(properties: dict[str, Any]) -> tuple[str, int] | None:
    """A class by its name and packed colour. QuPath refuses an object that lacks name or colour."""
    said = properties.get("classification")
    if said is None:
        return None
    assert {"name", "color"} <= said.keys()
    assert not {"colorRGB", "parentClass"} & said.keys(), "read as before 0.4"
    assert len(said["color"]) == 3
    assert all(type(level) is int and 0 <= level <= 255 for level in said["color"])
    red, green, blue = said["color"]
    return said["name"], red << 16 | green << 8 | blue


def roi_of(geometry: dict[str, Any]) -> Polygon:
    """A JTS polygon: rings are closed, of at least four positions, and valid."""
    assert geometry["type"] == "Polygon"
    (ring,) = geometry["coordinates"]
    assert len(ring) >= 4
    assert ring[0] == ring[-1]
    polygon = shape(geometry)
    assert isinstance(polygon, Polygon)
    assert polygon.is_valid
    assert polygon.area > 0
    return polygon


def part_of(centres: NDArray[Any], radii: NDArray[Any], dab: NDArray[Any], first: int = 0) -> NucleiPart:
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    rays = radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outlines = (centres[:, None] + rays).astype(np.float32)
    nuclei = Nuclei(centres.astype(np.float32), outlines, np.full(len(centres), 0.9, np.float32), 0.25)
    other = np.linspace(0, 0.5, len(centres))
    return NucleiPart(nuclei, Measurements(nuclei.areas_um2, other, dab.astype(float), other, other), first)


PARTS = [
    part_of(np.array([[20, 30], [50, 60]]), np.full((2, RAYS), 8.0), np.array([0.1, 0.9])),
    part_of(np.array([[100.5, 7.25]]), np.full((1, RAYS), 12.0), np.array([np.nan]), 2),
]


NO_DAB, HALF = Threshold(None, "none"), fixed_threshold(0.5)


def written(tmp_path: Path, parts: list[NucleiPart], threshold: Threshold = HALF) -> str:
    write_geojson(tmp_path / "a.geojson", (judged(part, "slide", threshold) for part in parts))
    return (tmp_path / "a.geojson").read_text(encoding="utf-8")


def test_qupath_imports_detections_with_classes_and_measurements(tmp_path: Path) -> None:
    first, second, third = imported(written(tmp_path, PARTS))
    assert {first.kind, second.kind, third.kind} == {"detection"}
    assert [found.path_class and found.path_class[0] for found in (first, second, third)] == [
        "Negative",
        "Positive",
        "Nucleus",
    ]
    assert second.measurements["Nucleus: DAB OD mean"] == 0.9
    assert second.measurements["Threshold: DAB OD"] == 0.5
    assert "Nucleus: DAB OD mean" not in third.measurements, "JSON has no NaN"
    assert first.roi.centroid.coords[0] == pytest.approx((20, 30), abs=0.01)
    assert first.measurements["Area um^2"] == pytest.approx(first.roi.area * 0.25**2, rel=0.01)
    assert second.roi.bounds == pytest.approx((42, 52, 58, 68), abs=0.01)


def test_an_he_has_one_class(tmp_path: Path) -> None:
    assert {found.path_class and found.path_class[0] for found in imported(written(tmp_path, PARTS, NO_DAB))} == {
        "Nucleus"
    }


def test_a_file_without_nuclei_is_whole(tmp_path: Path) -> None:
    assert imported(written(tmp_path, [])) == []
    assert read_features((tmp_path / "a.geojson").read_bytes()) == ([], 0)


def test_ids_are_those_of_slide_and_place(tmp_path: Path) -> None:
    ids = [found.uuid for found in imported(written(tmp_path, PARTS))]
    assert len(set(ids)) == 3
    assert ids == [found.uuid for found in imported(written(tmp_path, PARTS, fixed_threshold(0.2)))]
    (other,) = judged(PARTS[1], "another slide", NO_DAB).columns["id"]
    assert UUID(other) not in ids


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-4, 0.01, 0.3, 5.0, 60.0]))
def test_whatever_the_network_draws_polygons_are_valid(seed: int, size: float) -> None:
    """Also what crosses itself once cut off at the slide's border, is thinner than rounding, or has no area."""
    rng = np.random.default_rng(seed)
    part = part_of(rng.uniform(0, 100, (5, 2)), size * rng.random((5, RAYS)) ** 3, rng.random(5))
    clipped = part.nuclei.outlines_px.clip(0, 100)
    cut = NucleiPart(Nuclei(part.nuclei.centres_px, clipped, part.nuclei.confidence, 0.25), part.measured, 0)
    found = [path_object(feature) for feature in geojson_features(judged(cut, "slide", fixed_threshold(0.5)))]
    assert len(found) == 5
    for made, outline, area in zip(found, clipped, cut.nuclei.areas_um2, strict=True):
        if Polygon(outline.round(2)).is_valid:
            assert made.roi.area * 0.25**2 == pytest.approx(area, rel=0.1, abs=0.01)
