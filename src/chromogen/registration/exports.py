"""A transform for other programs: an affine as text, and a displacement field for ITK or in OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chromogen.errors import expected
from chromogen.files import folder_written_beside, write_text, write_whole
from chromogen.image import PathLike
from chromogen.provenance import NOTICE
from chromogen.registration.transform import Transform
from chromogen.stains.deconvolution import Array

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
