import gzip
import io
import json
import zipfile
from typing import Any

import pytest

from chromogen.regions.geojson import Drawn, GeoJsonError, polygons_of, read_features, without_area

SQUARE = [[4, 2], [12, 2], [12, 10], [4, 10], [4, 2]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE]}


def feature(geometry: Any = POLYGON, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def read(found: Any) -> list[Drawn]:
    return read_features(json.dumps(found).encode())[0]


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),  # QuPath 0.2 and 0.3
        (
            {"parentClass": {"name": "Tumor", "colorRGB": -1}, "name": "Positive", "colorRGB": -1},
            "Tumor: Positive",
        ),
        (
            {"name": "c", "parentClass": {"name": "b", "parentClass": {"name": "a", "parentClass": None}}},
            "a: b: c",
        ),
        ({"name": "Tumor", "color": [200, 0, 0]}, "Tumor"),  # since 0.4
        ({"names": ["Tumor", "Positive"], "color": [200, 0, 0]}, "Tumor: Positive"),
        ({"names": ["Tumor", "Positive"], "name": "Tumor"}, "Tumor: Positive"),
        ({"name": "Tumor: Positive", "color": [200, 0, 0]}, "Tumor: Positive"),
        ("Tumor", "Tumor"),
        ("Tumor:Positive", "Tumor: Positive"),
        (json.dumps({"names": ["Tumor", "Positive"]}), "Tumor: Positive"),
        ("{not JSON", "{not JSON"),
        (["Tumor", "Positive"], "Tumor: Positive"),
        (3, "3"),
        ({}, ""),
        ({"colorRGB": -1}, ""),
        ({"name": None, "names": []}, ""),
        ({"names": [None, "Positive"]}, "Positive"),
        (None, ""),
    ],
)
def test_classes_as_qupath_and_others_write_them(classification: Any, name: str) -> None:
    (found,) = read(collection(feature(classification=classification, isLocked=True, objectType="annotation")))
    assert found.path_class == name


@pytest.mark.parametrize(
    ("classification", "color"),
    [
        ({"name": "a", "color": [1, 2, 3, 255]}, [1, 2, 3]),
        ({"name": "a", "colorRGB": -3670016}, [200, 0, 0]),
        ({"name": "a", "color": [1, "b", 3]}, [200, 0, 0]),
        ("a", [200, 0, 0]),
    ],
)
def test_a_class_is_given_back_as_qupath_reads_it(classification: Any, color: list[int]) -> None:
    """Since 0.4 QuPath refuses a file in which a class has no colour."""
    (found,) = read(feature(classification=classification))
    assert found.classification == {"name": "a", "color": color}


@pytest.mark.parametrize(
    "found",
    [
        collection(feature()),
        [feature()],
        feature(),
        POLYGON,
        [POLYGON],
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 1]}, POLYGON]},
        {"type": "MultiPolygon", "coordinates": [[SQUARE], []]},
        {"type": "Polygon", "coordinates": [SQUARE[:-1]]},  # not closed
        {"type": "Polygon", "coordinates": [[[x, y, 7] for x, y in SQUARE]]},
        {"type": "Polygon", "coordinates": [[*SQUARE[:3], [4, 10, 0]]]},
        {
            "type": "Polygon",
            "coordinates": [SQUARE, [[5, 5]]],
            "plane": {"c": -1, "z": 0, "t": 0},
            "isEllipse": True,
        },
        {"geometry": POLYGON},
        {"features": [feature()]},
        {"type": "Feature", "id": "PathAnnotationObject", "geometry": POLYGON, "properties": None},
        {**feature(), "nucleusGeometry": {"type": "Polygon", "coordinates": [SQUARE]}},
    ],
)
def test_forms_in_which_a_polygon_comes(found: Any) -> None:
    (drawn,) = read(found)
    assert drawn.geometry.equals(polygons_of(POLYGON)[0][0])
    assert drawn.number == 1


@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-32"),
        lambda text: text.replace(" ", "\r\n").encode(),
        lambda text: gzip.compress(text.encode()),
    ],
)
def test_encodings(encoded: Any) -> None:
    text = json.dumps(collection(feature(name="Drüse")), ensure_ascii=False)
    ((drawn,), left_out) = read_features(encoded(text))
    assert (drawn.name, left_out) == ("Drüse", 0)


def zipped(**texts: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, text in texts.items():
            file.writestr(f"{name}.geojson", text)
    return packed.getvalue()


def test_an_archive_as_qupath_writes_it() -> None:
    ((drawn,), _) = read_features(zipped(a=json.dumps([feature(name="a")])))
    assert drawn.name == "a"
    with pytest.raises(GeoJsonError, match="its archive holds 2 GeoJSON files instead of 1"):
        read_features(zipped(a="{}", b="{}"))


def test_what_is_packed_ends_somewhere() -> None:
    for bomb in (gzip.compress(b" " * 10_000_000), zipped(a=" " * 10_000)):
        with pytest.raises(GeoJsonError, match="it has more than 1,000 bytes"):
            read_features(bomb, 1000)
    with pytest.raises(GeoJsonError, match="it is packed, and cannot be unpacked"):
        read_features(gzip.compress(b"{}" * 99)[:20])


def test_what_has_no_area_is_counted() -> None:
    features = [
        feature(None),
        feature({"type": "Polygon", "coordinates": []}),
        feature({"type": "Polygon", "coordinates": None}),
        feature({"type": "Polygon", "coordinates": [[]]}),
        feature({"type": "Polygon", "coordinates": [[[0, 0], [9, 9]]]}),
        feature({"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [0, 0]]]}),
        feature({"type": "Point", "coordinates": [1, 1]}),
        {"type": "Feature", "properties": {}},
        feature(name="seen"),
    ]
    found, left_out = read_features(json.dumps(collection(*features)).encode())
    assert [(drawn.number, drawn.name) for drawn in found] == [(9, "seen")]
    assert left_out == 8
    assert "8 of 9 features" in without_area(8, 9)


def test_numbers_that_are_none_matter_in_coordinates_alone() -> None:
    text = json.dumps(feature(measurements={"a": float("nan"), "b": float("-inf")}))
    assert "NaN" in text
    assert len(read_features(text.encode())[0]) == 1
    with pytest.raises(GeoJsonError, match=r"feature 1: a coordinate in it is not a number within"):
        read(feature({"type": "Polygon", "coordinates": [[[0, 0], [float("nan"), 2], [3, 3]]]}))


def test_a_hierarchy_is_flattened() -> None:
    for key in ("childObjects", "children"):
        child = feature(name="child", classification={"name": "Tumor"})
        found = read(collection(feature(name="parent", **{key: [child]}), feature(name="last")))
        assert [(drawn.number, drawn.name) for drawn in found] == [(1, "parent"), (2, "child"), (3, "last")]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"type": "Polygon"}, "its Polygon has no coordinates"),
        (
            {"type": "polygon", "coordinates": [SQUARE]},
            'its geometry is of type "polygon", which GeoJSON does not',
        ),
        ({"coordinates": [SQUARE]}, "its geometry is of type null"),
        ("POLYGON ((0 0, 1 1))", 'its geometry is "POLYGON'),
        ({"type": "Polygon", "coordinates": SQUARE}, "a position in it is not two numbers"),
        ({"type": "Polygon", "coordinates": [4, 5]}, "its coordinates have 4 where a list belongs"),
        ({"type": "Polygon", "coordinates": [[[1], [2], [3]]]}, "a position in it is not two numbers"),
        ({"type": "Polygon", "coordinates": [[[1, "a"], [2, 2], [3, 3]]]}, "a position in it is not two numbers"),
        ({"type": "Polygon", "coordinates": [[{"x": 1}, [2, 2], [3, 3]]]}, "a position in it is not two numbers"),
        (
            {"type": "Polygon", "coordinates": [[[10**400, 1], [2, 2], [3, 3]]]},
            "a position in it is not two numbers",
        ),
        ({"type": "Polygon", "coordinates": [[[1e12, 1], [2, 2], [3, 3]]]}, "a number within 1e"),
        ({"type": "GeometryCollection"}, "its GeometryCollection has no geometries"),
        ({"type": "GeometryCollection", "geometries": 3}, "its geometries have 3"),
    ],
)
def test_what_is_refused_names_the_feature_and_says_why(bad: Any, why: str) -> None:
    refused = {**feature(bad, name="mine", classification="Tumor"), "id": 17}
    with pytest.raises(GeoJsonError) as error:
        read(collection(feature(), refused))
    assert 'feature 2 (class "Tumor", name "mine", id 17): ' in str(error.value)
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b'{"type": "FeatureColl', "it is not whole JSON, from line 1, column 10 on"),
        ("{'a'}".encode("latin-1"), "it is not whole JSON"),
        ('{"a": "ü"}'.encode("latin-1"), "it is not JSON in UTF-8 or UTF-16"),
        (b"3", "it holds 3 where a feature or geometry belongs"),
        (b"[3]", "it holds 3 where"),
        (b'{"features": {}}', "its features are an object instead of a list"),
        (b'{"type": "Topology"}', 'it is of type "Topology", which GeoJSON does not have'),
        (b"{}", "it is of type null"),
        (b"\xac\xed\x00\x05sr", "it is not JSON"),  # .qpdata
        (b'[{"type": "Feature", "geometry": null, "properties": 3}]', "feature 1: its properties are 3"),
        (b'{"type": "Polygon", "coordinates": ' + b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_what_is_no_geojson_is_refused_in_our_words(data: bytes, why: str) -> None:
    with pytest.raises(GeoJsonError) as error:
        read_features(data)
    assert why in str(error.value)


@pytest.mark.parametrize("deep", [400, 5000])
def test_collections_nested_in_themselves_end(deep: int) -> None:
    nested: Any = POLYGON
    for _ in range(deep):
        nested = {"type": "GeometryCollection", "geometries": [nested]}
    if deep < 1000:
        assert len(polygons_of(nested)[0]) == 1
    else:
        with pytest.raises(GeoJsonError, match="nested too deeply"):
            polygons_of(nested)
