"""A smooth displacement: a grid of control points, and cubic B-splines between (Rueckert et al. 1999)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from chromogen.stains.deconvolution import Array


@dataclass(frozen=True, eq=False)
class Spline:
    """Displacements over a plane: `coefficients` (rows, columns, 2), (x, y) in um, of uniform cubic B-splines.

    The control point [row, column] lies at `origin_um` + `spacing_um` * (column, row). Beyond the grid the
    displacement goes on as at its border.
    """

    coefficients: Array
    origin_um: tuple[float, float]
    spacing_um: float

    def __call__(self, points_um: Array) -> Array:
        """Displacements (N, 2) in um at points (N, 2) in um."""
        rows, columns = self.coefficients.shape[:2]
        at = (points_um - self.origin_um) / self.spacing_um
        (i, by), (j, bx) = basis(at[:, 1], rows), basis(at[:, 0], columns)
        around = self.coefficients[i[:, :, None], j[:, None, :]]
        return np.asarray(np.einsum("nr,nc,nrck->nk", by, bx, around))


def basis(at: Array, count: int) -> tuple[NDArray[np.int64], Array]:
    """Which four of `count` control points decide the value at places (N,), and their weights: both (N, 4)."""
    at = np.clip(at, 0, count - 1)
    first = np.floor(at)
    t = at - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    index = first.astype(np.int64)[:, None] + np.arange(-1, 3)
    return index.clip(0, count - 1), weights / 6


def basis_matrix(at: Array, count: int) -> Array:
    """The same as a matrix (N, count)."""
    index, weights = basis(at, count)
    rows = np.repeat(np.arange(len(at)), 4)
    return np.asarray(sparse.csr_array((weights.ravel(), (rows, index.ravel())), shape=(len(at), count)).toarray())


def zero_spline(low_um: Array, high_um: Array, spacing_um: float) -> Spline:
    """No displacement over a rectangle between two corners (x, y), which the grid covers with a point beyond."""
    counts = np.ceil((high_um - low_um) / spacing_um).astype(int) + 3
    origin = (low_um + high_um) / 2 - spacing_um * (counts - 1) / 2
    return Spline(np.zeros((counts[1], counts[0], 2)), (float(origin[0]), float(origin[1])), spacing_um)


def fitted_spline(grid: Spline, displacement: Callable[[Array], Array]) -> Spline:
    """The spline on a grid that is nearest to a displacement, points (N, 2) to (N, 2), at four points a cell."""
    rows, columns = grid.coefficients.shape[:2]
    ys, xs = (np.arange(0, count - 1 + 1e-9, 0.5) for count in (rows, columns))
    points = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2) * grid.spacing_um + grid.origin_um
    values = displacement(points).reshape(len(ys), len(xs), 2)
    by, bx = (np.linalg.pinv(basis_matrix(at, count)) for at, count in ((ys, rows), (xs, columns)))
    return Spline(np.stack([by @ x @ bx.T for x in np.moveaxis(values, 2, 0)], 2), grid.origin_um, grid.spacing_um)
