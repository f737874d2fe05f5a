"""Gram matrices in the features' own precision, their gradient of one matrix product, and its preconditioner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

# Positions added up in bf16 before fp32 takes over: rounding errors of the parts average out.
POSITIONS_PER_PART = 2048
MIN_POSITIONS = 1e-6
VALUES_AT_ONCE = 2**22
# Added to the style's variances in the preconditioner, in units of their mean; 0.3 to 10 do about as well.
DAMPING = 3.0


def vectors_of(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H * W, C), one vector of channels a position; a view where the layout allows."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def mean_products(vectors: Tensor, shares: Tensor | None = None) -> Tensor:
    """Mean over positions of v v^T: (B, M, C) -> (B, C, C) float32, part by part.

    Each position counts by its share (1, M, 1), 0 to 1; where none counts, the mean is zero.
    """
    if shares is not None:
        bands = counting(vectors, shares)
        products = [mean_products(rows.mul_(c.sqrt().to(rows.dtype))) * rows.shape[1] for rows, c, _ in bands]
        return sum(products[1:], products[0]) / sum_of(shares)
    positions = vectors.shape[1]
    whole = positions // POSITIONS_PER_PART * POSITIONS_PER_PART
    sums = [_sum_of_products(vectors[:, :whole].unflatten(1, (-1, POSITIONS_PER_PART)))] if whole else []
    sums += [_sum_of_products(vectors[:, whole:].unsqueeze(1))] if whole < positions else []
    return sum(sums[1:], sums[0]) / positions


def _sum_of_products(parts: Tensor) -> Tensor:
    """Parts (B, P, K, C) -> sum over P and K of products, (B, C, C) float32."""
    return (parts.transpose(2, 3) @ parts).float().sum(1)


def counting(vectors: Tensor, shares: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Copies of those of (B, M, C) that count, (B, N, C), their shares (1, N, 1), and where they were, (N,).

    Some at a time, which stay near the processor. Where none counts it is the first, counting for nothing. To pick
    rows takes less than to multiply all.
    """
    at = shares.flatten().nonzero()[:, 0]
    for band in (at if len(at) else at.new_zeros(1)).split(VALUES_AT_ONCE // vectors.shape[2]):
        yield vectors.index_select(1, band), shares.index_select(1, band), band


def sum_of(shares: Tensor) -> Tensor:
    """How many positions count by their shares (1, M, 1), never quite zero."""
    return shares.sum().clamp_min(MIN_POSITIONS)


def add_products_gradient(
    flow: Tensor | None, vectors: Tensor, gradient: Tensor, shares: Tensor | None = None
) -> Tensor:
    """Add to `flow` (B, M, C), in place if there is one, the gradient of vectors by that of their mean products.

    From the gradient g (B, C, C) of that mean: d<g, V^T S V / M>/dV = S V (g + g^T) / M.
    """
    positions = vectors.shape[1] if shares is None else sum_of(shares)
    factor = ((gradient + gradient.transpose(1, 2)) / positions).to(vectors.dtype)
    if shares is None:
        return vectors @ factor if flow is None else flow.baddbmm_(vectors, factor)
    flow = torch.zeros_like(vectors) if flow is None else flow
    for rows, counts, at in counting(vectors, shares):
        flow.index_add_(1, at, rows.mul_(counts.to(rows.dtype)) @ factor)
    return flow


def position_shares(mask: Tensor, size: Sequence[int]) -> Tensor:
    """How far every position of a layer of `size` (h, w) counts by a mask (1, 1, H, W): (1, M, 1)."""
    step = 1 << ((mask.shape[3] // size[1]).bit_length() - 1)
    return avg_pool2d(mask, step)[..., : size[0], : size[1]].reshape(1, -1, 1)


def preconditioner(gram: Tensor, damping: float = DAMPING) -> Callable[[Tensor], Tensor]:
    """What divides a gradient with respect to a Gram matrix (1, C, C) by the variances that `gram` (1, C, C) has.

    The squared difference of Gram matrices weighs the entry of eigenvectors i and j as if both had variance 1; the
    Wasserstein distance of the features, near its minimum, divides it by v_i + v_j (Bures 1969). So do we, with
    `damping` mean variances added to both, and scaled to keep what happens along the strongest ones. The style
    itself stays the minimum, and is neared in about half of the steps; but its weak directions now outweigh a
    content term more than they should, so a descent that goes on like this ends beside the minimum of the whole.
    """
    variances, vectors = torch.linalg.eigh(gram[0].detach().cpu())
    variances = variances.clamp_min(torch.finfo(gram.dtype).tiny)
    added = damping * variances.mean()
    strongest = variances.square().sum() / variances.sum()
    weights = 2 * (strongest + added) / (variances[:, None] + variances[None, :] + 2 * added)
    vectors, weights = vectors.to(gram.device), weights.to(gram.device)

    def precondition(gradient: Tensor) -> Tensor:
        divided: Tensor = vectors @ (weights * (vectors.T @ gradient @ vectors)) @ vectors.T
        return divided

    return precondition
