"""How two measurements compare: float32 with batch first in, one value per item of the batch (B,) out.

Each is the report's absolute formula. Its `relative` form divides by the distance of the reference from nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def _sum_per_item(x: Tensor) -> Tensor:
    # Flattening would first copy what lies channels-last.
    return x.sum(tuple(range(1, x.dim())))


def mse(measured: Tensor, reference: Tensor) -> Tensor:
    """Half the sum of squares, 1/2 sum (F - P)^2: the content loss of the report and of Gatys et al. (2016).

    >>> import torch
    >>> mse(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
    2.0
    """
    return _sum_per_item((measured - reference).square()) / 2


def mae(measured: Tensor, reference: Tensor) -> Tensor:
    """Sum of absolute differences: the report's other content loss (its figure 8); total variation against 0.

    >>> import torch
    >>> mae(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]])).item()
    3.0
    """
    return _sum_per_item((measured - reference).abs())


def huber(measured: Tensor, reference: Tensor, delta: Tensor | None = None) -> Tensor:
    """Sum of Huber losses (1964), quadratic up to `delta` and linear beyond, of (B, ...): (B,).

    `delta` is the root mean square of the reference, unless given: that of the whole, where this is a part of it.

    >>> import torch
    >>> huber(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
    1.5
    """
    if delta is None:
        delta = reference.square().mean().sqrt()
    error = (measured - reference).abs()
    return _sum_per_item((error.square() / 2).where(error <= delta, delta * (error - delta / 2)))


def gram_mse(measured: Tensor, reference: Tensor) -> Tensor:
    """The report's style loss of one layer, 1/(4 N^2 M^2) sum (G - A)^2, from Gram matrices already over M.

    >>> import torch
    >>> gram_mse(torch.full((1, 2, 2), 3.0), torch.ones(1, 2, 2)).item()
    1.0
    """
    return _sum_per_item((measured - reference).square()) / (4 * measured.shape[-1] ** 2)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "gram_mse": gram_mse,
}
