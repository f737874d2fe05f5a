"""The transform from H&E to IHC, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from chromogen.errors import expected, missing, short
from chromogen.files import write_text
from chromogen.image import PathLike
from chromogen.provenance import NOTICE, versions
from chromogen.registration.fitting import Spline, fitted_spline, inverted, moved, scale_of, zero_spline
from chromogen.stains.deconvolution import Array

# A transform between two slides: for each piece of tissue an affine and a smooth displacement, both ways.

Move: TypeAlias = Callable[[Array], Array]  # points (N, 2) to points (N, 2), in um

STEPS_BACK = 40
CLOSE_UM = 1e-3
FINER = 2  # control points of an inverse or composition for each of the transform's own


@dataclass(frozen=True)
class SlideFrame:
    """A slide that a transform leads from or to: `size_px` (w, h) and `mpp` at level 0, and its content's hash.

    `mpp_from`: "file" or "option", what is stated; "assumed"; or "estimated", from the other slide's.
    """

    size_px: tuple[int, int]
    mpp: float
    mpp_from: str
    quickhash: str

    @property
    def size_um(self) -> tuple[float, float]:
        """(w, h) in um."""
        return self.size_px[0] * self.mpp, self.size_px[1] * self.mpp


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of tissue of the source: its outline in um, and where it lies on the target.

    A point x of it, in um, lies at `affine` (2, 3) of x, plus `spline` at x, in um of the target. `doubt` says why
    this may be wrong, "" where nothing speaks against it.
    """

    outline: Polygon
    affine: Array
    spline: Spline | None = None
    doubt: str = ""

    def forward(self, points_um: Array) -> Array:
        """Points (N, 2) of the source on the target, in um."""
        by_affine = moved(self.affine, points_um)
        return np.asarray(by_affine + self.spline(points_um) if self.spline else by_affine)

    def backward(self, points_um: Array) -> Array:
        """Points (N, 2) of the target on the source, in um: the fixed point of a displacement without folds."""
        inverse = np.linalg.inv(self.affine[:, :2])
        start = (points_um - self.affine[:, 2]) @ inverse.T
        found = start
        for _ in range(STEPS_BACK if self.spline else 0):
            off = (self.forward(found) - points_um) @ inverse.T
            found = found - off
            if np.abs(off).max(initial=0) < CLOSE_UM:
                break
        return np.asarray(found)


@dataclass(frozen=True)
class DisplacementBlock:
    """A square of the source, by its middle (x, y) in um: how far its tissue still lies apart, and how surely."""

    center_um: tuple[float, float]
    residual_um: float
    confidence: float


@dataclass(frozen=True)
class Quality:
    """How good a registration is.

    `residual_um`: how far tissue still lies apart in the median, NaN where nothing shows it. `confidence`, 0 to 1:
    how far the best place is ahead of the next, which is turned, mirrored, or elsewhere. `fit_before`,
    `fit_after`: squares of local correlation by the affine, and with the displacement.
    """

    residual_um: float
    confidence: float
    fit_before: float
    fit_after: float
    blocks: tuple[DisplacementBlock, ...] = ()


@dataclass(frozen=True, eq=False)
class Transform:
    """Where the tissue of one slide, `source`, lies on another, `target`; a point belongs to the nearest piece."""

    source: SlideFrame
    target: SlideFrame
    pieces: tuple[Piece, ...]
    quality: Quality | None = None

    def forward_um(self, points_um: Array) -> Array:
        """Points (N, 2) of the source on the target, in um."""
        if len(self.pieces) == 1:
            return self.pieces[0].forward(points_um)
        return _each(points_um, nearest_piece(self.pieces, points_um), [piece.forward for piece in self.pieces])

    def backward_um(self, points_um: Array) -> Array:
        """Points (N, 2) of the target on the source, in um: by the piece nearest to where that brings them."""
        if len(self.pieces) == 1:
            return self.pieces[0].backward(points_um)
        found = np.stack([piece.backward(points_um) for piece in self.pieces])
        off = [shapely.distance(p.outline, shapely.points(x)) for p, x in zip(self.pieces, found, strict=True)]
        return np.asarray(found[np.argmin(off, axis=0), np.arange(len(points_um))])

    def forward_px(self, points_px: Array) -> Array:
        """Points (N, 2) of the source on the target, both in level-0 pixels (x, y)."""
        return self.forward_um(np.asarray(points_px, float) * self.source.mpp) / self.target.mpp

    def backward_px(self, points_px: Array) -> Array:
        """Points (N, 2) of the target on the source, both in level-0 pixels (x, y)."""
        return self.backward_um(np.asarray(points_px, float) * self.target.mpp) / self.source.mpp

    def residual_um_at(self, points_um: Array) -> Array:
        """How far tissue still lies apart near points (N, 2) of the source in um; NaN where nothing says so."""
        blocks = self.quality.blocks if self.quality else ()
        if not blocks:
            return np.full(len(points_um), np.nan)
        centers = np.array([block.center_um for block in blocks])
        nearest = np.hypot(*np.moveaxis(points_um[:, None] - centers, 2, 0)).argmin(1)
        return np.asarray(np.array([block.residual_um for block in blocks])[nearest])


def nearest_piece(pieces: Sequence[Piece], points_um: Array) -> NDArray[np.int64]:
    """To which of some pieces each of points (N, 2) in um is nearest: (N,)."""
    points = shapely.points(points_um)
    return np.asarray(np.argmin([shapely.distance(piece.outline, points) for piece in pieces], axis=0))


def _each(points: Array, piece: NDArray[np.int64], moves: Sequence[Move]) -> Array:
    found = np.empty_like(points, dtype=float)
    for index, move in enumerate(moves):
        found[piece == index] = move(points[piece == index])
    return found


def inverse(transform: Transform) -> Transform:
    """The transform back, on control points of its own, half as far apart; it agrees within a fraction of a um."""
    pieces = tuple(_inverse_piece(piece) for piece in transform.pieces)
    return Transform(transform.target, transform.source, pieces)


def _inverse_piece(piece: Piece) -> Piece:
    affine = inverted(piece.affine)
    outline = moved_polygon(piece.outline, piece.forward)
    if piece.spline is None:
        return replace(piece, outline=outline, affine=affine)
    spacing_um = piece.spline.spacing_um * scale_of(piece.affine) / FINER
    return _piece_of(outline, affine, piece.backward, spacing_um, piece.doubt)


def _piece_of(outline: Polygon, affine: Array, move: Move, spacing_um: float, doubt: str) -> Piece:
    """A piece that moves points as `move` does over its outline."""
    low, high = np.reshape(outline.bounds, (2, 2))
    grid = zero_spline(low, high, spacing_um)

    def rest(points: Array) -> Array:
        return np.asarray(move(points) - points @ affine[:, :2].T - affine[:, 2])

    return Piece(outline, affine, fitted_spline(grid, rest), doubt)


def composition(first: Transform, second: Transform) -> Transform:
    """From the source of the first to the target of the second, by way of the slide that both share.

    So two IHC that are registered to one H&E are registered to each other: `composition(inverse(a), b)`.
    """

    def composed(piece: Piece) -> Piece:
        middle = piece.forward(np.array([piece.outline.centroid.coords[0]]))
        other = second.pieces[int(nearest_piece(second.pieces, middle)[0])]
        linear = other.affine[:, :2] @ piece.affine[:, :2]
        affine = np.column_stack([linear, other.affine[:, :2] @ piece.affine[:, 2] + other.affine[:, 2]])
        spacings = [part.spline.spacing_um for part in (piece, other) if part.spline]
        if not spacings and len(second.pieces) == 1:
            return replace(piece, affine=affine)
        spacing = min(spacings, default=max(second.source.size_um) / 24) / FINER
        move = lambda points: second.forward_um(piece.forward(points))  # noqa: E731
        return _piece_of(piece.outline, affine, move, spacing, piece.doubt or other.doubt)

    return Transform(first.source, second.target, tuple(composed(piece) for piece in first.pieces))


def moved_polygon(polygon: Polygon, move: Move) -> Polygon:
    """A polygon whose corners are moved; long sides are given corners first, so that they bend."""
    longest = max(polygon.length / 64, 1e-9)
    bendable = shapely.segmentize(polygon, longest)
    return shapely.transform(bendable, move)


# A transform as a JSON file: affines and control points in um, hashes of both slides, and how good it is.

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
