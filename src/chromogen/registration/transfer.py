"""Carry regions and points over a transform, and export it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.errors import expected
from chromogen.files import folder_written_beside, write_text, write_whole
from chromogen.image import PathLike
from chromogen.provenance import NOTICE
from chromogen.registration.transform import Transform
from chromogen.stains.deconvolution import Array

# Regions, detections and points from one slide to another: GeoJSON in level-0 pixels in and out.

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


# A transform for other programs: an affine as text, and a displacement field for ITK or in OME-Zarr.

NODES_A_CELL = 8  # of a displacement's control points: linear between nodes is then off by less than a hundredth
MAX_NODES = 4_000_000
FITTED = 40  # points a side that an affine is fitted to
MIN_NODES = 3
FIELD_SUFFIXES = (".mha", ".zarr")
NGFF = "0.6"
FIELD = "coordinateTransformations/displacements"  # where OME-Zarr keeps it


def nearest_affine_px(transform: Transform) -> tuple[Array, float]:
    """The affine (2, 3) nearest to a transform, source to target in level-0 px, and how far off it is, in um.

    Least squares over the pieces' outlines; the distance is the median. It leaves out what a displacement bends.
    """
    points = np.concatenate([_grid(np.reshape(piece.outline.bounds, (2, 2))) for piece in transform.pieces])
    ours = points / transform.source.mpp
    theirs = transform.forward_px(ours)
    columns = np.column_stack([ours, np.ones(len(ours))])
    affine = np.linalg.lstsq(columns, theirs, rcond=None)[0].T
    off = np.hypot(*(columns @ affine.T - theirs).T) * transform.target.mpp
    return np.asarray(affine), float(np.median(off))


def _grid(corners: Array) -> Array:
    xs, ys = (np.linspace(low, high, FITTED) for low, high in corners.T)
    return np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)


def write_affine(path: PathLike, transform: Transform) -> float:
    """Write `nearest_affine_px` as two lines "a, b, c": x' = ax + by + c, likewise y'; how far off it is, in um.

    QuPath's scripts make of it `new AffineTransform(a, d, b, e, c, f)`, where d, e, f are the second line.
    Raises: OSError.
    """
    affine, off_um = nearest_affine_px(transform)
    write_text(Path(path), "\n".join(", ".join(f"{value:.10g}" for value in row) for row in affine) + "\n")
    return off_um


def displacements_um(transform: Transform, spacing_um: float | None = None) -> tuple[Array, float]:
    """How far every node of a grid over the source moves: (H, W, 2), (x, y) in um, and the nodes' distance in um.

    Node [row, column] lies at (column, row) times the distance; its place on the target is that plus the value.
    The distance is an eighth of the control points', or more where that makes over 4 million nodes.
    Raises: ValueError for a distance that is not positive.
    """
    size = np.array(transform.source.size_um)
    if spacing_um is not None and not spacing_um > 0:
        raise expected("spacing_um", "above 0", spacing_um)
    cells = [piece.spline.spacing_um for piece in transform.pieces if piece.spline]
    wanted = spacing_um or min([*cells, float(size.max()) / 8]) / NODES_A_CELL
    step = max(wanted, float(np.sqrt(size.prod() / MAX_NODES)))
    columns, rows = np.maximum(np.ceil(size / step).astype(int) + 1, MIN_NODES)
    nodes = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * step
    return (transform.forward_um(nodes) - nodes).reshape(rows, columns, 2), step


def write_displacement_field(path: PathLike, transform: Transform, spacing_um: float | None = None) -> None:
    """Write `displacements_um` for other programs: MetaImage (.mha) for ITK, or OME-Zarr 0.6 (.zarr).

    Its lengths are um. The transform of a point of the H&E is its place on the IHC, so ITK resamples the IHC onto
    the H&E by it. Raises: ValueError for a file of another kind, or a folder that is there already; OSError.
    """
    path = Path(path)
    check_field(path)
    field, step = displacements_um(transform, spacing_um)
    if path.suffix.lower() == ".mha":
        _write_mha(path, field, step)
    else:
        _write_zarr(path, field, step)


def check_field(path: Path) -> None:
    """Raises: ValueError for a name that no field can be written to."""
    if path.suffix.lower() not in FIELD_SUFFIXES:
        raise expected("field", f"a file ending in {' or '.join(FIELD_SUFFIXES)}", path)
    if path.suffix.lower() == ".zarr" and path.exists():
        raise expected("field", "a new name", path, "remove what is there, or name another")


def _write_mha(path: Path, field: Array, step: float) -> None:
    header = {
        "ObjectType": "Image",
        "NDims": 2,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 1",
        "Offset": "0 0",
        "ElementSpacing": f"{step:.17g} {step:.17g}",
        "DimSize": f"{field.shape[1]} {field.shape[0]}",
        "ElementNumberOfChannels": 2,
        "ElementType": "MET_DOUBLE",
        "ElementDataFile": "LOCAL",
    }
    lines = "".join(f"{key} = {value}\n" for key, value in header.items())
    write_whole(path, lines.encode() + np.ascontiguousarray(field, "<f8").tobytes())


def _write_zarr(path: Path, field: Array, step: float) -> None:
    """The field as a coordinate transformation of OME-Zarr (RFC-5): components first, of y, then of x."""
    import zarr

    with folder_written_beside(path) as folder:
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        root.attrs.update({"ome": {"version": NGFF, "scene": _scene()}, "chromogen": {"notice": NOTICE}})
        group = root.create_group(FIELD)
        group.attrs["ome"] = {"version": NGFF, "multiscales": [_multiscale(step)]}
        components = np.ascontiguousarray(np.moveaxis(field[..., ::-1], 2, 0))
        chunks = (1, *(min(512, side) for side in field.shape[:2]))
        array = group.create_array(
            "s0", shape=components.shape, chunks=chunks, dtype=components.dtype, dimension_names=("d", "y", "x")
        )
        array[:] = components


def _scene() -> dict[str, Any]:
    """Both slides' frames, and that the field leads from the H&E's to the IHC's."""
    return {
        "coordinateSystems": [{"name": name, "axes": _axes_um()} for name in ("he", "ihc")],
        "coordinateTransformations": [
            {
                "type": "displacements",
                "name": "he to ihc",
                "input": {"name": "he"},
                "output": {"name": "ihc"},
                "path": FIELD,
                "interpolation": "linear",
            }
        ],
    }


def _multiscale(step: float) -> dict[str, Any]:
    """How the nodes of the field lie in the H&E's frame."""
    axes = [{"name": "d", "type": "displacement", "discrete": True}, *_axes_um()]
    scale = {
        "type": "scale",
        "scale": [1.0, step, step],
        "input": {"path": "s0"},
        "output": {"name": "he"},
    }
    datasets = [{"path": "s0", "coordinateTransformations": [scale]}]
    return {"name": "he to ihc", "coordinateSystems": [{"name": "he", "axes": axes}], "datasets": datasets}


def _axes_um() -> list[dict[str, str]]:
    return [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
