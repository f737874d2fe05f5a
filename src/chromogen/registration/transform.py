"""A transform between two slides: for each piece of tissue an affine and a smooth displacement, both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from chromogen.registration.spline import Spline, fitted_spline, zero_spline
from chromogen.stains.deconvolution import Array

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
        moved = points_um @ self.affine[:, :2].T + self.affine[:, 2]
        return np.asarray(moved + self.spline(points_um) if self.spline else moved)

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
    linear = np.linalg.inv(piece.affine[:, :2])
    affine = np.column_stack([linear, -linear @ piece.affine[:, 2]])
    outline = moved_polygon(piece.outline, piece.forward)
    if piece.spline is None:
        return replace(piece, outline=outline, affine=affine)
    size = float(np.sqrt(abs(np.linalg.det(piece.affine[:, :2]))))
    return _piece_of(outline, affine, piece.backward, piece.spline.spacing_um * size / FINER, piece.doubt)


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
