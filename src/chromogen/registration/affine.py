"""An affine that brings a pose to where two slides fit best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chromogen.registration.likeness import covered, fit
from chromogen.registration.views import DensityView, pixel_centers_um
from chromogen.stains.deconvolution import Array

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 24
MIN_COVERED = 0.2  # of the H&E: less would compare corners
STRETCH = 2.0  # weight of how far an affine is from a similarity


@dataclass(frozen=True)
class Fitted:
    """An affine (2, 3) from um of the H&E to um of the IHC, its fit, and which share of the H&E is compared."""

    affine: Array
    fit: float
    covered: float

    @property
    def rank(self) -> float:
        """By which fits of different parts are compared: a good fit of much beats a better one of little."""
        return self.fit * float(np.sqrt(self.covered))


def refined(he: DensityView, ihc: DensityView, affine: Array, window_px: int, steps: int = STEPS) -> Fitted:
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
        return Fitted(found, float(fit(he, ihc, points, window_px)[0]), float(covered(he, ihc, points)[0]))


def _stretch(linear: Tensor) -> Tensor:
    """How far a linear map (2, 2) is from turning, mirroring and scaling alone; 0 where it is not at all."""
    gram = linear.T @ linear
    size = gram.diagonal().mean()
    return ((gram[0, 0] - gram[1, 1]).square() / 4 + gram[0, 1].square()) / size.square()
