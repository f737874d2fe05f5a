"""Regions in GeoJSON (RFC 7946), as QuPath 0.2 to 0.6 and other tools write it, for commands and the page."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree, get_parts, get_rings, linearrings, linestrings, make_valid
from shapely.geometry import LinearRing, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from skimage.draw import polygon as draw_polygon

from chromogen.errors import short
from chromogen.files import canonical_name

MAX_CROSSINGS = 1000
MAX_SIDES = 500  # that are asked what they cross
SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".geojson.zip", ".json.zip")
MAX_BYTES = 200_000_000  # of text, unpacked
FARTHEST_PX = 1e9
MIN_POINTS = 3
RED = (200, 0, 0)  # of a class without a colour
NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
TYPES = ("Polygon", "MultiPolygon", "GeometryCollection", *NO_AREA)


def polygons_in(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons of a geometry, however nested, without points, lines, and what has no area or end."""
    if isinstance(geometry, Polygon):
        return [geometry] if geometry.area > 0 and np.isfinite(geometry.bounds).all() else []
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygons_in(part)]


def centres_inside(
    polygons: Iterable[Polygon], shape: tuple[int, int], location: tuple[int, int] = (0, 0), finer: int = 1
) -> NDArray[np.bool_]:
    """Which pixels (H, W), from `location` (x, y) on and 1 / `finer` wide, have their centre in any polygon.

    Holes are left out, but for what another polygon has in them.
    """
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        drawn = np.zeros(shape, bool)
        for ring, value in [(polygon.exterior, True), *((hole, False) for hole in polygon.interiors)]:
            # (x, y) is the corner of a pixel here, and its centre for skimage.
            columns, rows = ((np.asarray(ring.coords)[:, :2] - location) * finer - 0.5).T
            drawn[draw_polygon(rows, columns, shape)] = value
        inside |= drawn
    return inside


def made_valid(shapes: Sequence[BaseGeometry], crossings: int = 0) -> tuple[list[BaseGeometry], int]:
    """The shapes, of polygons that cross themselves what they go around; and the number of `crossings` by now.

    Raises: ValueError where they cross more often than anyone draws, which would take minutes.
    """
    broken = [not drawn.is_valid for drawn in shapes]
    for drawn in compress(shapes, broken):
        crossings += _crossings(drawn)
        if crossings > MAX_CROSSINGS:
            raise ValueError(
                f"polygons up to here cross themselves more than {MAX_CROSSINGS:,} times; simplify them"
            )
    valid = [make_valid(drawn) if crosses else drawn for drawn, crosses in zip(shapes, broken, strict=True)]
    return valid, crossings


def _crossings(drawn: BaseGeometry) -> int:
    """About how often the sides of polygons cross, or meet otherwise than one the next; by a sample of them."""
    ends = [np.asarray(ring.coords)[:, :2] for ring in get_rings(get_parts(drawn))]
    sides = linestrings(np.concatenate([np.stack([line[:-1], line[1:]], 1) for line in ends]))
    sample = sides[:: -(-len(sides) // MAX_SIDES)]
    met: int = STRtree(sides).query(sample, predicate="intersects").shape[1] - 3 * len(sample)  # with neighbours
    return max(0, met) * len(sides) // len(sample) // 2


class GeoJsonError(ValueError):
    """GeoJSON that is refused: which part of it, and why."""


@dataclass(frozen=True)
class Drawn:
    """A feature with an area: its number in the file, from 1, its class and its own name, either may be "".

    The class is written as QuPath shows it, "Tumor: Positive"; its colour is RGB. Polygons are in (x, y) pixels of
    level 0.
    """

    number: int
    path_class: str
    name: str
    polygons: tuple[Polygon, ...]
    color: tuple[int, int, int] = RED

    @property
    def classification(self) -> dict[str, object]:
        """The class as QuPath 0.2 to 0.6 all read it; since 0.4 it has to have a colour."""
        return {"name": self.path_class, "color": list(self.color)}

    @property
    def geometry(self) -> Polygon | MultiPolygon:
        """The polygon, or all of them as one geometry."""
        return self.polygons[0] if len(self.polygons) == 1 else MultiPolygon(self.polygons)


def read_features(data: bytes, most_bytes: int = MAX_BYTES) -> tuple[list[Drawn], int]:
    """The features that have an area, and how many have none: no geometry or an empty one, points, or lines.

    Read are collections, lists, single features and bare geometries, in UTF-8, UTF-16 or UTF-32, also packed with
    gzip or zip. Polygons that cross themselves count where they go around. Raises: GeoJsonError, which names the
    feature and says why.
    """
    try:
        features = list(_features(_parsed(_unpacked(data, most_bytes))))
        drawn, crossings = [], 0
        for number, feature in enumerate(features, 1):
            found, crossings = _drawn(number, feature, crossings)
            drawn += [found] if found.polygons else []
    except RecursionError as error:
        raise GeoJsonError("it is nested too deeply") from error
    return drawn, len(features) - len(drawn)


def parsed_geojson(data: bytes, most_bytes: int = MAX_BYTES) -> Any:
    """GeoJSON as plain values, every feature and geometry of it checked as `read_features` does.

    Raises: GeoJsonError, which names the feature and says why.
    """
    read_features(data, most_bytes)
    return _parsed(_unpacked(data, most_bytes))


def without_area(left_out: int, of: int) -> str:
    """What to say of features that have none.

    >>> without_area(1, 3)
    'Chromogen left out 1 of 3 features, without an area: no geometry, points or lines.'
    """
    return f"Chromogen left out {left_out} of {of} features, without an area: no geometry, points or lines."


def polygons_of(geometry: object, crossings: int = 0) -> tuple[list[Polygon], int]:
    """The polygons with an area in a GeoJSON geometry, none in null, points and lines; `crossings` with theirs.

    Raises: ValueError for what is no geometry, or crosses itself too often.
    """
    try:
        shapes = list(_polygons(geometry))
    except RecursionError as error:
        raise GeoJsonError("its geometry is nested too deeply") from error
    valid, crossings = made_valid(shapes, crossings)
    return [polygon for shape in valid for polygon in polygons_in(shape)], crossings


def _unpacked(data: bytes, most_bytes: int) -> bytes:
    """The text, of which there may be so much."""
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(most_bytes + 1)
        elif data[:4] == b"PK\x03\x04":
            data = _of_zip(data, most_bytes)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise GeoJsonError("it is packed, and cannot be unpacked; export it again") from error
    if len(data) > most_bytes:
        raise GeoJsonError(f"it has more than {most_bytes:,} bytes; export fewer objects")
    return data


def _of_zip(data: bytes, most_bytes: int) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        names = [name for name in packed.namelist() if name.lower().endswith(SUFFIXES[:2])]
        if len(names) != 1:
            raise GeoJsonError(f"its archive holds {len(names)} GeoJSON files instead of 1")
        with packed.open(names[0]) as file:
            return file.read(most_bytes + 1)


def _parsed(data: bytes) -> Any:
    if not data.strip():
        raise GeoJsonError("it is empty")
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise GeoJsonError(f"it is not whole JSON, from {where} on; export it again") from error
    except ValueError as error:  # of the encoding, or a number of too many digits
        raise GeoJsonError("it is not JSON in UTF-8 or UTF-16; export it again") from error


def _features(found: object) -> Iterator[Mapping[str, Any]]:
    """Features in their order, those in a feature's hierarchy after it; a bare geometry as a feature."""
    if isinstance(found, list):
        for part in found:
            yield from _features(part)
        return
    if not isinstance(found, dict):
        raise GeoJsonError(f"it holds {_shown(found)} where a feature or geometry belongs")
    if "features" in found:
        if not isinstance(found["features"], list):
            raise GeoJsonError(f"its features are {_shown(found['features'])} instead of a list")
        yield from _features(found["features"])
    elif found.get("type") == "Feature" or "geometry" in found:
        yield found
        yield from _features(_children(found))
    elif found.get("type") in TYPES:
        yield {"type": "Feature", "geometry": found}
    else:
        raise GeoJsonError(f"it is of type {_shown(found.get('type'))}, which GeoJSON does not have")


def _children(feature: Mapping[str, Any]) -> list[Any]:
    """What QuPath (0.4 and later) nests below an object where it exports a hierarchy."""
    properties = feature.get("properties")
    if not isinstance(properties, dict):
        return []
    children = properties.get("childObjects", properties.get("children"))
    return children if isinstance(children, list) else []


def _drawn(number: int, feature: Mapping[str, Any], crossings: int) -> tuple[Drawn, int]:
    """A feature, and how often polygons have crossed themselves so far."""
    properties = feature.get("properties") or {}
    named = {"class": "", "name": ""}
    try:
        if not isinstance(properties, dict):
            raise GeoJsonError(f"its properties are {_shown(properties)} instead of an object")
        named["name"] = canonical_name(_text(properties.get("name")))
        named["class"] = _class_of(properties.get("classification"))
        polygons, crossings = polygons_of(feature.get("geometry"), crossings)
    except ValueError as error:
        raise GeoJsonError(f"{_called(number, feature, named)}: {error}") from error
    color = _color_of(properties.get("classification"))
    return Drawn(number, named["class"], named["name"], tuple(polygons), color), crossings


def _called(number: int, feature: Mapping[str, Any], named: Mapping[str, str]) -> str:
    """A feature in messages: its number, and what it has of name, class and id."""
    ids = [f"id {_shown(feature['id'])}"] if "id" in feature else []
    details = ", ".join([f"{key} {_shown(value)}" for key, value in named.items() if value] + ids)
    return f"feature {number}" + (f" ({details})" if details else "")


def _class_of(classification: object) -> str:
    """A class as QuPath shows it, its parts with ": " between.

    QuPath writes {"name": ...}, since 0.4 {"names": [...]} for several parts, before 0.4 the last part with its
    "parentClass"; scripts write text, and tables the object as JSON text.
    """
    if isinstance(classification, str):
        return _class_of_text(classification)
    if isinstance(classification, list):
        return _joined(_text(part) for part in classification)
    if not isinstance(classification, dict):
        return _joined([_text(classification)])
    if isinstance(classification.get("names"), list) and classification["names"]:
        return _class_of(classification["names"])
    return _joined([_class_of(classification.get("parentClass")), _text(classification.get("name"))])


def _color_of(classification: object) -> tuple[int, int, int]:
    """The colour of a class: RGB in a list since QuPath 0.4, packed into a number before."""
    said = classification if isinstance(classification, dict) else {}
    color, packed = said.get("color"), said.get("colorRGB")
    if isinstance(color, list) and len(color) >= 3 and all(type(level) is int for level in color):
        red, green, blue = (min(max(level, 0), 255) for level in color[:3])
        return red, green, blue
    if type(packed) is int:
        return packed >> 16 & 255, packed >> 8 & 255, packed & 255
    return RED


def _class_of_text(text: str) -> str:
    """A class in text, or the JSON text of one."""
    try:
        parsed = json.loads(text) if text.lstrip()[:1] in ("{", "[") else None
    except ValueError:
        parsed = None
    return _joined([text]) if parsed is None else _class_of(parsed)


def _joined(names: Iterator[str] | Sequence[str]) -> str:
    parts = [part.strip() for name in names for part in name.split(":")]
    return canonical_name(": ".join(part for part in parts if part))


def _text(value: object) -> str:
    """Text, also of a number; "" for all else."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _polygons(geometry: object) -> Iterator[Polygon]:
    if geometry is None:
        return
    if not isinstance(geometry, dict):
        raise GeoJsonError(f"its geometry is {_shown(geometry)} instead of an object")
    kind = geometry.get("type")
    if kind not in TYPES:
        raise GeoJsonError(f"its geometry is of type {_shown(kind)}, which GeoJSON does not have")
    if kind in NO_AREA:
        return
    member = "geometries" if kind == "GeometryCollection" else "coordinates"
    if member not in geometry:
        raise GeoJsonError(f"its {kind} has no {member}")
    parts = geometry[member]
    if kind == "GeometryCollection":
        for part in _listed(parts, member):
            yield from _polygons(part)
        return
    for rings in [parts] if kind == "Polygon" else _listed(parts, member):
        yield from _polygon(_listed(rings, member))


def _listed(value: object, called: str) -> list[Any]:
    """A list, or what Python has for one; null is empty, as RFC 7946, 3.1, lets empty coordinates be null."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise GeoJsonError(f"its {called} have {_shown(value)} where a list belongs")
    return list(value)


def _polygon(rings: Sequence[object]) -> Iterator[Polygon]:
    """The polygon of an outer ring and holes; none where the outer ring has no area."""
    found = [_ring(_listed(ring, "coordinates")) for ring in rings]
    if found and found[0] is not None:
        yield Polygon(found[0], [hole for hole in found[1:] if hole is not None])


def _ring(positions: list[Any]) -> LinearRing | None:
    """A ring of positions (x, y, ...), closed where it is not; None for fewer than three."""
    try:
        points = np.array([(position[0], position[1]) for position in positions], np.float64).reshape(-1, 2)
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise GeoJsonError("a position in it is not two numbers (x, y)") from error
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > FARTHEST_PX:
        raise GeoJsonError(f"a coordinate in it is not a number within {FARTHEST_PX:.0e} px")
    return None if len(points) < MIN_POINTS else linearrings(points)


def _shown(value: object) -> str:
    """A value in a message: short, a list or object by its kind."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return short(json.dumps(value, ensure_ascii=False), 60)
