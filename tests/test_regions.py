import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from shapely import make_valid
from shapely.geometry import Polygon, box

from chromogen.image import write_image
from chromogen.regions.guides import REST, read_region_masks, resized
from chromogen.regions.masks import drawn_polygons, read_geojson

SQUARE = [[4, 2], [12, 2], [12, 10], [4, 10], [4, 2]]
HOLE = [[6, 4], [8, 4], [8, 6], [6, 6], [6, 4]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def feature(name: str | None, geometry: dict[str, Any]) -> dict[str, Any]:
    properties = {"classification": {"name": name, "color": [200, 0, 0]}} if name else {}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def polygon(*rings: list[list[int]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


@pytest.fixture
def geojson(tmp_path: Path):
    def write(*features: dict[str, Any], name: str = "regions.geojson") -> Path:
        file = tmp_path / name
        file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return file

    return write


def image(folder: Path, name: str, size: tuple[int, int] = (20, 16)) -> Path:
    file = folder / name
    write_image(file, np.full((size[1], size[0], 3), 200, np.uint8), {})
    return file


def mask_image(
    folder: Path, name: str, columns: slice, size: tuple[int, int] = (20, 16), white: int = 255
) -> Path:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, columns] = white
    write_image(folder / name, pixels, {})
    return folder / name


def test_a_polygon_is_its_pixels(geojson) -> None:
    masks = read_geojson(geojson(feature("Tumor", polygon(SQUARE))), (20, 16))
    wanted = np.zeros((16, 20))
    wanted[2:10, 4:12] = 1
    np.testing.assert_array_equal(masks["Tumor"], wanted)


def test_holes_are_left_out_and_an_island_in_a_hole_is_not(geojson) -> None:
    island = feature("Tumor", polygon([[6, 4], [7, 4], [7, 5], [6, 5], [6, 4]]))
    (mask,) = read_geojson(geojson(feature("Tumor", polygon(SQUARE, HOLE)), island), (20, 16)).values()
    assert mask.sum() == 64 - 4 + 1
    assert mask[4, 6] == 1
    assert mask[5, 7] == 0


def test_nested_polygons_of_one_class_are_one_region_and_of_two_classes_two(geojson) -> None:
    inner = polygon(HOLE)
    (one,) = read_geojson(geojson(feature("A", polygon(SQUARE)), feature("A", inner)), (20, 16)).values()
    assert one.sum() == 64
    two = read_geojson(geojson(feature("A", polygon(SQUARE)), feature("B", inner)), (20, 16))
    assert {name: mask.sum() for name, mask in two.items()} == {"A": 64, "B": 4}


def test_one_that_crosses_itself_counts_where_it_goes_around(geojson) -> None:
    (mask,) = read_geojson(geojson(feature("A", polygon(BOW_TIE))), (20, 16)).values()
    assert mask.sum() == pytest.approx(50, abs=3)
    assert mask[1, 5] == 0
    assert mask[5, 1] == 1


def test_collections_multipolygons_and_what_is_no_area(geojson) -> None:
    multi = {"type": "MultiPolygon", "coordinates": [[SQUARE], [[[14, 2], [16, 2], [16, 4], [14, 4], [14, 2]]]]}
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}
    file = geojson(feature("A", multi), feature("B", line), feature(None, polygon(HOLE)))
    with pytest.warns(match=r"regions.geojson: Chromogen left out 1 of 3 features, without an area"):
        masks = read_geojson(file, (20, 16))
    assert {name: mask.sum() for name, mask in masks.items()} == {"A": 68, "1": 4}


@given(st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 35)), min_size=3, max_size=7))
def test_drawn_area_is_the_polygons(points: list[tuple[float, float]]) -> None:
    shape = make_valid(Polygon(points))
    inside = shape.intersection(box(0, 0, 40, 30)).area
    mask = drawn_polygons(shape, (40, 30))
    assert 0 <= mask.min() <= mask.max() <= 1
    assert mask.sum() == pytest.approx(inside, abs=0.3 * (1 + shape.length))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_what_is_nested_without_end_is_no_geojson(tmp_path: Path, text: str) -> None:
    (tmp_path / "deep.geojson").write_text(text)
    with pytest.raises(ValueError, match="it is nested too deeply"):
        read_geojson(tmp_path / "deep.geojson", (20, 20))


def test_a_scribble_is_refused_before_it_takes_minutes(geojson) -> None:
    """300 points at random cross 10 000 times: to make that valid takes 20 s, of 3000 points hours."""
    rng = np.random.default_rng(0)
    for points in (300, 3000):
        file = geojson(feature("a", polygon(rng.uniform(-50, 150, (points, 2)).tolist())))
        with pytest.raises(
            ValueError, match=r"feature 1 \(class \"a\"\): polygons up to here cross themselves more than 1,000"
        ):
            read_geojson(file, (20, 20))
    once = np.concatenate([np.linspace((0, 0), (100, 100), 2000), np.linspace((100, 0), (0, 100), 2000)])
    (mask,) = read_geojson(geojson(feature("a", polygon(once.tolist()))), (100, 100)).values()
    assert mask.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"features": 3}', '{"features": [{"geometry": null}]}'])
def test_what_is_no_geojson_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.geojson"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"Expected `mask` to be GeoJSON"):
        read_geojson(file, (20, 16))


def test_regions_and_the_rest_leave_no_gap(tmp_path: Path, geojson) -> None:
    he, ihc = image(tmp_path, "he.png"), image(tmp_path, "ihc.png")
    file = geojson(feature("A", polygon(SQUARE)), feature("B", polygon(BOW_TIE)))
    for side in read_region_masks((he, [file]), (ihc, [file])):
        assert set(side) == {"A", "B", REST}
        np.testing.assert_allclose(sum(side.values()), 1, atol=1e-6)


def test_mask_images_go_in_pairs_and_labels_count(tmp_path: Path) -> None:
    he, ihc = image(tmp_path, "he.png"), image(tmp_path, "ihc.png", (12, 16))
    ours = [mask_image(tmp_path, "a.png", np.s_[:5]), mask_image(tmp_path, "b.png", np.s_[10:], white=1)]
    theirs = [
        mask_image(tmp_path, "c.png", np.s_[:6], (12, 16)),
        mask_image(tmp_path, "d.png", np.s_[6:], (12, 16)),
    ]
    content, style = read_region_masks((he, ours), (ihc, theirs))
    assert set(content) == set(style) == {"1", "2"}  # the style has no rest
    assert content["2"][:, 10:].min() == 1
    assert style["1"].sum() == 6 * 16


def test_labels_go_by_number_and_those_of_several_masks_with_their_place(tmp_path: Path) -> None:
    he = image(tmp_path, "he.png")
    labels = np.zeros((16, 20), np.uint8)
    labels[:, :8], labels[:, 8:12] = 1, 3
    Pillow.fromarray(labels).save(tmp_path / "labels.png")
    tifffile.imwrite(tmp_path / "labels.tif", labels.astype(np.int32))
    one, other = tmp_path / "labels.png", tmp_path / "labels.tif"
    content, style = read_region_masks((he, [one]), (he, [other]))
    assert {name: mask.sum() for name, mask in content.items()} == {"1": 128, "3": 64, REST: 128}
    assert style.keys() == content.keys()
    binary = mask_image(tmp_path, "m.png", np.s_[12:])
    content, style = read_region_masks((he, [one, binary]), (he, [other, binary]))
    assert set(content) == set(style) == {"1: 1", "1: 3", "2"}
    three = [mask_image(tmp_path, f"{n}.png", np.s_[n * 5 : n * 5 + 4]) for n in range(3)]
    with pytest.raises(ValueError, match="the regions 1, 3, got 1, 2, 3"):
        read_region_masks((he, [one]), (he, three))


def test_a_class_called_as_the_rest_keeps_its_pixels(tmp_path: Path, geojson) -> None:
    he = image(tmp_path, "he.png")
    file = geojson(feature("A", polygon(SQUARE)), feature(REST, polygon([[0, 0], [4, 0], [4, 2], [0, 2]])))
    content, _ = read_region_masks((he, [file]), (he, [file]))
    assert {name: mask.sum() for name, mask in content.items()} == {"A": 64, REST: 320 - 64}


def test_classes_are_one_in_nfc_and_nfd(tmp_path: Path, geojson) -> None:
    he = image(tmp_path, "he.png")
    files = [
        geojson(feature(unicodedata.normalize(form, "Drüse"), polygon(SQUARE)), name=f"{form}.json")
        for form in ("NFC", "NFD")
    ]
    content, style = read_region_masks((he, files[:1]), (he, files[1:]))
    assert content.keys() == style.keys() == {"Drüse", REST}


def test_what_does_not_fit_is_said(tmp_path: Path, geojson) -> None:
    he, mask = image(tmp_path, "he.png"), mask_image(tmp_path, "m.png", np.s_[:5])
    small = mask_image(tmp_path, "small.png", np.s_[:5], (10, 8))
    with pytest.raises(ValueError, match="`style_mask` to be given with the other mask"):
        read_region_masks((he, [mask]), (he, []))
    with pytest.raises(ValueError, match=r"as large as its image, 20 x 16 px, got 10 x 8 px"):
        read_region_masks((he, [small]), (he, [mask]))
    with pytest.raises(ValueError, match="the regions 1, got 1, 2"):
        read_region_masks((he, [mask]), (he, [mask, mask]))
    with pytest.raises(ValueError, match="the regions A, got B"):
        read_region_masks(
            (he, [geojson(feature("A", polygon(SQUARE)), name="a.json")]),
            (he, [geojson(feature("B", polygon(SQUARE)), name="b.json")]),
        )


def test_resized_regions_keep_their_share() -> None:
    mask = np.zeros((16, 20), np.float32)
    mask[:, :10] = 1
    found = resized({"1": mask}, np.zeros((8, 10, 3), np.uint8))["1"]
    assert found.shape == (8, 10)
    assert found.mean() == pytest.approx(0.5)
