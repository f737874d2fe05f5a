"""Annotations that move with a registration: geometry, classes, residuals; bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import shape

from chromogen.app.cli import main
from chromogen.registration.transfer import RESIDUAL, transferred
from chromogen.registration.transform import write_transform
from test_transform import transform

SQUARE = [[[400, 400], [1600, 400], [1600, 1600], [400, 1600], [400, 400]]]


def feature(geometry: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": "7", "geometry": geometry, "properties": properties}


REGION = feature({"type": "Polygon", "coordinates": SQUARE}, classification={"name": "Tumor"}, name="a")
POINT = feature({"type": "Point", "coordinates": [900.0, 700.0]})
CELL = feature({"type": "Polygon", "coordinates": SQUARE}, measurements=[{"name": "area", "value": 1}]) | {
    "nucleusGeometry": {"type": "Polygon", "coordinates": SQUARE}
}


def test_every_kind_of_object_moves() -> None:
    found, count = transferred({"type": "FeatureCollection", "features": [REGION, POINT, CELL]}, transform())
    region, point, cell = found["features"]
    assert count == 3
    assert region["properties"]["classification"] == {"name": "Tumor"}
    assert region["id"] == "7"
    expected = transform().forward_px(np.array([[900.0, 700.0]]))[0]
    np.testing.assert_allclose(point["geometry"]["coordinates"], expected, atol=0.01)
    assert cell["nucleusGeometry"]["coordinates"] == cell["geometry"]["coordinates"]


def test_sides_bend() -> None:
    region = transferred(REGION, transform())[0]
    ring = np.array(region["geometry"]["coordinates"][0])
    middle = transform().forward_px(np.array([[1000.0, 400.0]]))
    assert len(ring) > 60
    assert np.hypot(*(ring - middle).T).min() < 2 * 32


def test_there_and_back_is_the_same_region() -> None:
    there = transferred(REGION, transform())[0]
    back = shape(transferred(there, transform(), back=True)[0]["geometry"])
    square = shape(REGION["geometry"])
    assert back.intersection(square).area > 0.999 * back.union(square).area


def test_each_object_says_its_residual() -> None:
    """2 um near one block of the transform's quality, 9 um near the other; a list in old QuPath."""
    far = feature({"type": "Point", "coordinates": [3500.0, 3500.0]})
    near, far, cell = transferred([POINT, far, CELL], transform())[0]
    assert near["properties"]["measurements"] == {RESIDUAL: 2.0}
    assert far["properties"]["measurements"] == {RESIDUAL: 9.0}
    assert cell["properties"]["measurements"][1]["name"] == RESIDUAL


@pytest.mark.parametrize("geometry", [None, {"type": "MultiPolygon", "coordinates": [SQUARE]}])
def test_bare_empty_and_nested_objects(geometry: dict[str, Any] | None) -> None:
    child = feature({"type": "LineString", "coordinates": SQUARE[0]})
    parent = {"type": "Feature", "geometry": geometry, "properties": {"childObjects": [child]}}
    found, count = transferred(parent, transform())
    assert count == 2
    assert (found["geometry"] is None) == (geometry is None)
    assert found["properties"]["childObjects"][0]["geometry"]["coordinates"][0] != [400, 400]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    regions, file, out = tmp_path / "r.geojson", tmp_path / "t.json", tmp_path / "o.geojson"
    regions.write_text(json.dumps({"type": "FeatureCollection", "features": [REGION]}))
    write_transform(file, transform())
    with pytest.raises(SystemExit) as end:
        main(["transfer", str(regions), "--transform", str(file), "-o", str(out), "--json"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["objects"] == 1
    assert len(json.loads(out.read_text())["features"]) == 1


@pytest.mark.parametrize(
    "bad", ["", "{", '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [["x"]]}}']
)
def test_bad_regions_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str) -> None:
    regions, file = tmp_path / "r.geojson", tmp_path / "t.json"
    regions.write_text(bad)
    write_transform(file, transform())
    with pytest.raises(SystemExit) as end:
        main(["transfer", str(regions), "--transform", str(file), "-o", str(tmp_path / "o.geojson")])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_regions_of_another_slide_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All beyond the slide: the wrong transform, or the wrong way; some: a note."""
    far = feature({"type": "Point", "coordinates": [90_000.0, 10.0]})
    regions, file, out = tmp_path / "r.geojson", tmp_path / "t.json", tmp_path / "o.geojson"
    write_transform(file, transform())
    regions.write_text(json.dumps([far, far]))
    with pytest.raises(SystemExit) as end:
        main(["transfer", str(regions), "--transform", str(file), "-o", str(out)])
    assert end.value.code == 2
    assert "2 objects, all beyond it; check --to" in capsys.readouterr().err
    assert not out.exists()
    regions.write_text(json.dumps([far, POINT]))
    with pytest.raises(SystemExit):
        main(["transfer", str(regions), "--transform", str(file), "-o", str(out)])
    assert "1 of 2 objects lie beyond the slide" in capsys.readouterr().err
    assert out.exists()
