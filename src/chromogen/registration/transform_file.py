"""A transform as a JSON file: affines and control points in um, hashes of both slides, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import Polygon

from chromogen.errors import expected, missing, short
from chromogen.files import write_text
from chromogen.image import PathLike
from chromogen.provenance import NOTICE, versions
from chromogen.registration.spline import Spline
from chromogen.registration.transform import DisplacementBlock, Piece, Quality, SlideFrame, Transform
from chromogen.stains.deconvolution import Array

FORMAT = "chromogen-transform-1"
MAX_BYTES = 50_000_000
DIGITS_UM = 3


def write_transform(path: PathLike, transform: Transform) -> None:
    """Write a transform as JSON, whole or not at all. Raises: OSError."""
    write_text(Path(path), json.dumps(transform_json(transform), separators=(",", ":"), allow_nan=False))


def transform_json(transform: Transform) -> dict[str, Any]:
    """A transform as plain values: points are (x, y) in um, rows of an affine [a, b, c] give ax + by + c."""
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "versions": versions(),
        "source": asdict(transform.source),
        "target": asdict(transform.target),
        "quality": _quality_as_json(transform.quality) if transform.quality else None,
        "pieces": [_piece_as_json(piece) for piece in transform.pieces],
    }


def _quality_as_json(quality: Quality) -> dict[str, Any]:
    """JSON has no NaN: a residual that no block measures is null."""
    known = np.isfinite(quality.residual_um)
    return {**asdict(quality), "residual_um": quality.residual_um if known else None}


def _piece_as_json(piece: Piece) -> dict[str, Any]:
    return {
        "outline_um": np.round(np.array(piece.outline.exterior.coords), 1).tolist(),
        "affine": piece.affine.tolist(),
        "spline": _spline_as_json(piece.spline) if piece.spline else None,
        "doubt": piece.doubt,
    }


def _spline_as_json(spline: Spline) -> dict[str, Any]:
    return {
        "kind": "uniform cubic B-spline",
        "origin_um": list(spline.origin_um),
        "spacing_um": spline.spacing_um,
        "coefficients_um": np.round(spline.coefficients, DIGITS_UM).tolist(),
    }


def read_transform(path: PathLike) -> Transform:
    """Read a transform. Raises: ValueError for a file that holds none; FileNotFoundError; OSError."""
    path = Path(path)
    if not path.exists():
        raise missing("transform", "an existing transform", path)
    advice = "make one by `chromogen register HE IHC -o FILE.json`"
    if path.is_dir() or path.stat().st_size > MAX_BYTES:
        raise expected("transform", "a JSON file by `chromogen register`", path, advice)
    found = _parsed(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        problem = f"{str(path)!r}, a file of another kind"
        raise expected("transform", "a JSON file by `chromogen register`", problem, advice)
    try:
        return from_json(found)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        problem = f"{str(path)!r}, which is damaged ({type(error).__name__}: {short(error, 80)})"
        raise expected("transform", "a JSON file by `chromogen register`", problem, advice) from error


def _parsed(path: Path) -> Any:
    """What a file holds as JSON; None for what is none."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def from_json(found: Mapping[str, Any]) -> Transform:
    """The transform of plain values. Raises: ValueError, TypeError or LookupError where they are none."""
    pieces = tuple(_piece(piece) for piece in found["pieces"])
    if not pieces:
        raise expected("pieces", "at least one", 0)
    quality = found["quality"] and _quality(found["quality"])
    return Transform(_frame(found["source"]), _frame(found["target"]), pieces, quality)


def _frame(found: Mapping[str, Any]) -> SlideFrame:
    width, height = (int(side) for side in found["size_px"])
    mpp = float(found["mpp"])
    if not (min(width, height) > 0 and 0 < mpp < np.inf):
        raise expected("size_px and mpp", "above 0", f"{width} x {height} px at {mpp:g}")
    return SlideFrame((width, height), mpp, str(found["mpp_from"]), str(found["quickhash"]))


def _quality(found: Mapping[str, Any]) -> Quality:
    blocks = [
        DisplacementBlock(
            (float(b["center_um"][0]), float(b["center_um"][1])), float(b["residual_um"]), float(b["confidence"])
        )
        for b in found["blocks"]
    ]
    residual = float("nan") if found["residual_um"] is None else float(found["residual_um"])
    sure, before, after = (float(found[name]) for name in ("confidence", "fit_before", "fit_after"))
    return Quality(residual, sure, before, after, tuple(blocks))


def _piece(found: Mapping[str, Any]) -> Piece:
    affine = _numbers(found["affine"], (2, 3))
    if abs(np.linalg.det(affine[:, :2])) < 1e-9:
        raise expected("affine", "one that can be undone", affine.tolist())
    outline = Polygon(_numbers(found["outline_um"], (-1, 2)))
    return Piece(outline, affine, found["spline"] and _spline(found["spline"]), str(found["doubt"]))


def _spline(found: Mapping[str, Any]) -> Spline:
    coefficients = _numbers(found["coefficients_um"], (len(found["coefficients_um"]), -1, 2))
    x, y = (float(at) for at in found["origin_um"])
    spacing = float(found["spacing_um"])
    if not spacing > 0 or min(coefficients.shape[:2]) < 1:
        raise expected("spline", "control points apart", f"{spacing:g} um")
    return Spline(coefficients, (x, y), spacing)


def _numbers(found: object, shape: tuple[int, ...]) -> Array:
    numbers = np.asarray(found, np.float64).reshape(shape)
    if not np.isfinite(numbers).all():
        raise expected("numbers", "finite", "NaN or infinity")
    return numbers
