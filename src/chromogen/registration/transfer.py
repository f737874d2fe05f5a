"""Regions, detections and points from one slide to another: GeoJSON in level-0 pixels in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from chromogen.registration.transform import Transform
from chromogen.stains.deconvolution import Array

Positions = list[Any]
FARTHEST_PX = 64.0  # between corners of a side before it is bent
GEOMETRIES = ("geometry", "nucleusGeometry")  # QuPath's, of an object and of a cell's nucleus
RESIDUAL = "Registration residual um"


def transferred(found: Any, transform: Transform, *, back: bool = False) -> tuple[Any, int]:
    """GeoJSON, parsed, with every position moved from the source to the target, and how many objects it holds.

    `back`: from the target to the source.
    Classes, names, ids and measurements are kept. Every object is given a measurement, `RESIDUAL`: how far tissue
    still lies apart there, in um. Raises: ValueError for a position that is no two numbers.
    """
    move = transform.backward_px if back else transform.forward_px
    moved = deepcopy(found)
    objects = list(_objects(moved))
    for part in objects:
        if part.get("type") == "Feature" or "geometry" in part:
            points = [at for name in GEOMETRIES for at in _positions_of(part.get(name))]
            for name in GEOMETRIES:
                _move_geometry(part.get(name), move)
            _note(part, _residual(points, transform, move if back else None))
        else:
            _move_geometry(part, move)
    return moved, len(objects)


def off_slide(found: Any, size_px: tuple[int, int]) -> int:
    """How many objects of GeoJSON, parsed, lie wholly beyond a slide of `size_px` (w, h): it is not theirs."""
    return sum(_is_off(part, size_px) for part in _objects(found))


def _is_off(part: Mapping[str, Any], size_px: tuple[int, int]) -> bool:
    geometry = part.get("geometry") if "geometry" in part or part.get("type") == "Feature" else part
    points = list(_positions_of(geometry))
    if not points:
        return False
    numbers = _numbers(points)
    return bool((numbers.max(0) < 0).any() or (numbers.min(0) > size_px).any())


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """Features, in collections and lists and below other features; bare geometries."""
    if isinstance(found, list):
        for part in found:
            yield from _objects(part)
    elif isinstance(found, dict) and isinstance(found.get("features"), list):
        yield from _objects(found["features"])
    elif isinstance(found, dict):
        yield found
        properties = found.get("properties")
        if isinstance(properties, dict):
            yield from _objects(properties.get("childObjects") or properties.get("children") or [])


def _move_geometry(geometry: Any, move: Callable[[Array], Array]) -> None:
    if not isinstance(geometry, dict):
        return
    for part in geometry.get("geometries") or []:
        _move_geometry(part, move)
    if geometry.get("coordinates"):
        bends = "Point" not in str(geometry.get("type"))
        geometry["coordinates"] = _moved(geometry["coordinates"], move, bends=bends)


def _moved(positions: Positions, move: Callable[[Array], Array], *, bends: bool) -> Positions:
    """Positions at any depth of lists, moved; long sides get corners first, so that they bend."""
    if _is_position(positions):
        return list(_rounded(move(_numbers([positions])))[0])
    if _is_position(positions[0]):
        points = _numbers(positions)
        return _rounded(move(_with_corners(points) if bends else points))
    return [_moved(part, move, bends=bends) if part else part for part in positions]


def _is_position(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float)


def _numbers(positions: Positions) -> Array:
    try:
        points = np.array([(at[0], at[1]) for at in positions], np.float64)
    except (TypeError, LookupError, ValueError) as error:
        raise ValueError("Expected every position to be two numbers (x, y); export the regions again.") from error
    if not np.isfinite(points).all():
        raise ValueError("Expected every coordinate to be finite; export the regions again.")
    return points


def _with_corners(points: Array) -> Array:
    """The points of a line, with more between those that are far apart."""
    steps = np.maximum(1, np.ceil(np.hypot(*np.diff(points, axis=0).T) / FARTHEST_PX)).astype(int)
    parts = [
        start + (stop - start) * (np.arange(count) / count)[:, None]
        for start, stop, count in zip(points[:-1], points[1:], steps, strict=True)
    ]
    return np.concatenate([*parts, points[-1:]])


def _rounded(points: Array) -> Positions:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in points]


def _positions_of(geometry: Any) -> Iterator[list[float]]:
    """Every position of a geometry."""
    if isinstance(geometry, dict):
        for part in geometry.get("geometries") or []:
            yield from _positions_of(part)
        yield from _flat(geometry.get("coordinates"))


def _flat(value: Any) -> Iterator[list[float]]:
    if _is_position(value):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _flat(part)


def _residual(
    points: list[list[float]], transform: Transform, to_source: Callable[[Array], Array] | None
) -> float:
    """How far tissue still lies apart at the middle of points in pixels, in um; NaN where that is not known."""
    if not points:
        return float("nan")
    middle = _numbers(points).mean(0, keepdims=True)
    on_source = to_source(middle) if to_source else middle
    return float(transform.residual_um_at(on_source * transform.source.mpp)[0])


def _note(feature: Mapping[str, Any], residual_um: float) -> None:
    """Put the residual among an object's measurements: an object since QuPath 0.4, a list before."""
    if not np.isfinite(residual_um) or not isinstance(feature, dict):
        return
    properties = feature.get("properties")
    if not isinstance(properties, dict):
        properties = feature["properties"] = {}
    measurements = properties.get("measurements")
    if isinstance(measurements, list):
        measurements.append({"name": RESIDUAL, "value": round(residual_um, 1)})
    else:
        properties["measurements"] = {**(measurements or {}), RESIDUAL: round(residual_um, 1)}
