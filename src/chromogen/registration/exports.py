"""A transform for other programs: an affine as text, and a displacement field that ITK reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chromogen.errors import expected
from chromogen.files import write_text, write_whole
from chromogen.image import PathLike
from chromogen.registration.transform import Transform
from chromogen.stains.deconvolution import Array

NODES_A_CELL = 8  # of a displacement's control points: linear between nodes is then off by less than a hundredth
MOST_NODES = 4_000_000
FITTED = 40  # points a side that an affine is fitted to
LEAST_NODES = 3


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
    step = max(wanted, float(np.sqrt(size.prod() / MOST_NODES)))
    columns, rows = np.maximum(np.ceil(size / step).astype(int) + 1, LEAST_NODES)
    nodes = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * step
    return (transform.forward_um(nodes) - nodes).reshape(rows, columns, 2), step


def write_displacement_field(path: PathLike, transform: Transform, spacing_um: float | None = None) -> None:
    """Write `displacements_um` as a MetaImage (.mha), the format of ITK's DisplacementFieldTransform.

    Its lengths are um. The transform of a point of the H&E is its place on the IHC, so ITK resamples the IHC onto
    the H&E by it. Raises: ValueError for a file of another kind; OSError.
    """
    if Path(path).suffix.lower() != ".mha":
        raise expected("field", "a file ending in .mha", path)
    field, step = displacements_um(transform, spacing_um)
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
    write_whole(Path(path), lines.encode() + np.ascontiguousarray(field, "<f8").tobytes())
