"""What is left after an affine: a smooth displacement, as strong as what is seen asks for, that never folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chromogen.registration.likeness import fit
from chromogen.registration.spline import Spline, basis_matrix
from chromogen.registration.views import DensityView, pixel_centers_um
from chromogen.stains.deconvolution import Array

if TYPE_CHECKING:
    from torch import Tensor

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
