"""Fit maps between two frames: affine, thin-plate spline, displacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from chromogen.registration.search import DensityView, covered_share, fit, pixel_centers_um
from chromogen.stains.deconvolution import Array

if TYPE_CHECKING:
    from torch import Tensor


# Affines (2, 3) from um to um.


def moved(affine: Array, points: Array) -> Array:
    """Points (N, 2) by an affine (2, 3)."""
    return np.asarray(points @ affine[:, :2].T + affine[:, 2])


def inverted(affine: Array) -> Array:
    """The affine (2, 3) back."""
    linear = np.linalg.inv(affine[:, :2])
    return np.asarray(np.column_stack([linear, -linear @ affine[:, 2]]))


def scale_of(affine: Array) -> float:
    """How many um of the IHC an affine (2, 3) makes of a um of the H&E."""
    return float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))


# An affine that brings a pose to where two slides fit best.

AFFINE_STEPS = 24
MIN_COVERED = 0.2  # of the H&E: less would compare corners
STRETCH = 2.0  # weight of how far an affine is from a similarity


@dataclass(frozen=True)
class FittedTransform:
    """An affine (2, 3) from um of the H&E to um of the IHC, its fit, and which share of the H&E is compared."""

    affine: Array
    fit: float
    covered: float

    @property
    def rank(self) -> float:
        """By which fits of different parts are compared: a good fit of much beats a better one of little."""
        return self.fit * float(np.sqrt(self.covered))


def refined(
    he: DensityView, ihc: DensityView, affine: Array, window_px: int, steps: int = AFFINE_STEPS
) -> FittedTransform:
    """Follow the gradient of the `fit` from an affine, by L-BFGS (Liu & Nocedal 1989), at the view's pixels."""
    import torch

    centers = pixel_centers_um(he)
    middle = centers.mean((0, 1))
    radius = float(max(he.extent_um)) / 2
    start = torch.as_tensor(affine, dtype=torch.float32)
    change = torch.zeros(2, 3, requires_grad=True)  # in shares of the radius: alike in size

    def moved() -> Tensor:
        from_middle = (centers - middle) / radius
        delta = from_middle @ change[:, :2].T + change[:, 2]
        return (centers @ start[:, :2].T + start[:, 2] + radius * delta)[None]

    search = torch.optim.LBFGS([change], lr=0.5, max_iter=steps, history_size=8, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = -fit(he, ihc, moved(), window_px)[0] + STRETCH * _stretch(start[:, :2] + change[:, :2])
        torch.autograd.backward(value)
        return value

    search.step(loss)
    with torch.no_grad():
        points = moved()
        linear = start[:, :2] + change[:, :2]
        offset = start[:, 2] + radius * (change[:, 2] - change[:, :2] @ middle / radius)
        found = np.column_stack([linear.double().numpy(), offset.double().numpy()])
        return FittedTransform(
            found, float(fit(he, ihc, points, window_px)[0]), float(covered_share(he, ihc, points)[0])
        )


def _stretch(linear: Tensor) -> Tensor:
    """How far a linear map (2, 2) is from turning, mirroring and scaling alone; 0 where it is not at all."""
    gram = linear.T @ linear
    size = gram.diagonal().mean()
    return ((gram[0, 0] - gram[1, 1]).square() / 4 + gram[0, 1].square()) / size.square()


# A smooth displacement: a grid of control points, and cubic B-splines between (Rueckert et al. 1999).


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


# What is left after an affine: a smooth displacement, as strong as what is seen asks for, that never folds.

STEPS, LAST_STEPS = 30, 12  # and where a step takes long, of more than LAST_PX
LAST_PX = 300_000
BENDING = 10.0  # weight of bending
SHEAR = 0.3  # weight of any change of the displacement


@dataclass(frozen=True, eq=False)
class Level:
    """Both slides at one fineness, and the side of the windows in which they are compared."""

    he: DensityView
    ihc: DensityView
    window_px: int


def deformed(levels: Sequence[Level], affine: Array, spline: Spline, stiffness: float = 1.0) -> Spline:
    """The spline that follows the gradient of the `fit` from another, held by its bending.

    Fits of all levels are summed: what is only alike from afar goes on to count where details are compared.
    """
    import torch

    start = torch.as_tensor(affine, dtype=torch.float32)
    places = [_places(level.he, start, spline) for level in levels]
    spacing = spline.spacing_um
    steps = STEPS if levels[-1].he.seen.numel() < LAST_PX else LAST_STEPS
    values = torch.as_tensor(spline.coefficients / spacing, dtype=torch.float32).requires_grad_()
    search = torch.optim.LBFGS([values], lr=0.5, max_iter=steps, history_size=8, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = stiffness * _stiff(values)
        for level, (base, by, bx) in zip(levels, places, strict=True):
            shift = torch.stack([by @ plane @ bx.T for plane in values.unbind(2)], 2)
            value = value - fit(level.he, level.ihc, (base + spacing * shift)[None], level.window_px)[0]
        torch.autograd.backward(value)
        return value

    search.step(loss)
    return Spline(values.detach().double().numpy() * spacing, spline.origin_um, spacing)


def _places(view: DensityView, affine: Tensor, spline: Spline) -> tuple[Tensor, Tensor, Tensor]:
    """Where an affine brings the pixels of a view, and what makes displacements of a spline's values."""
    return (pixel_centers_um(view) @ affine[:, :2].T + affine[:, 2], *_matrices(view, spline))


def _matrices(view: DensityView, spline: Spline) -> tuple[Tensor, Tensor]:
    import torch

    rows, columns = spline.coefficients.shape[:2]
    found = []
    for low, extent, pixels, origin, count in (
        (view.origin_um[1], view.extent_um[1], view.shape[0], spline.origin_um[1], rows),
        (view.origin_um[0], view.extent_um[0], view.shape[1], spline.origin_um[0], columns),
    ):
        at = (low + extent * (np.arange(pixels) + 0.5) / pixels - origin) / spline.spacing_um
        found.append(torch.as_tensor(basis_matrix(at, count), dtype=torch.float32))
    return found[0], found[1]


def _stiff(values: Tensor) -> Tensor:
    """Mean squares of bending and stretching of displacements (rows, columns, 2) in control points' distances."""
    down, across = values.diff(dim=0), values.diff(dim=1)
    stretching = down.square().mean() + across.square().mean()
    bends = values.diff(n=2, dim=0).square().mean() + values.diff(n=2, dim=1).square().mean()
    return BENDING * (bends + 2 * down.diff(dim=1).square().mean()) + SHEAR * stretching


def least_jacobian(affine: Array, spline: Spline) -> float:
    """The least area, relative to the affine's, that the displacement leaves of a small square; folded below 0."""
    rows, columns = spline.coefficients.shape[:2]
    ys, xs = (np.arange(0, count - 1 + 1e-9, 0.25) for count in (rows, columns))
    by, bx = basis_matrix(ys, rows), basis_matrix(xs, columns)
    shift = np.stack([by @ x @ bx.T for x in np.moveaxis(spline.coefficients, 2, 0)], 2) / (
        0.25 * spline.spacing_um
    )
    across, down = np.diff(shift, axis=1)[:-1], np.diff(shift, axis=0)[:, :-1]
    linear = affine[:, :2]
    columns_of = np.stack([across + linear[:, 0], down + linear[:, 1]], -1)
    return float((np.linalg.det(columns_of) / np.linalg.det(linear)).min())
