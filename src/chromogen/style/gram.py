"""Gram matrices in the features' own precision, with a gradient of one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor

# Positions added up in bf16 before fp32 takes over: rounding errors of the parts average out.
POSITIONS_PER_PART = 1024


class MeanGram(torch.autograd.Function):
    """Mean over positions of f f^T: (B, C, H, W) -> (B, C, C) float32, products in the dtype of the features.

    Autograd alone would keep two copies of the features in fp32 and multiply twice on the way back.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, features: Tensor) -> Tensor:
        """Vectors of channels, part by part: sum of V^T V in fp32."""
        batch, channels, height, width = features.shape
        vectors = features.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        ctx.save_for_backward(vectors)
        ctx.shape = features.shape  # type: ignore[attr-defined]
        whole = vectors.shape[1] // POSITIONS_PER_PART * POSITIONS_PER_PART
        gram = _sum_of_products(vectors[:, whole:].unsqueeze(1))
        if whole:
            gram = gram + _sum_of_products(vectors[:, :whole].unflatten(1, (-1, POSITIONS_PER_PART)))
        return gram / vectors.shape[1]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        """The derivative of <g, V^T V> / M is V (g + g^T) / M."""
        (vectors,), (gradient,) = ctx.saved_tensors, gradients  # type: ignore[attr-defined]
        both = (gradient + gradient.transpose(1, 2)) / vectors.shape[1]
        batch, channels, height, width = ctx.shape  # type: ignore[attr-defined]
        back: Tensor = vectors @ both.to(vectors.dtype)
        return back.view(batch, height, width, channels).permute(0, 3, 1, 2)


def mean_gram(features: Tensor) -> Tensor:
    """`MeanGram` as a function."""
    gram: Tensor = MeanGram.apply(features)  # type: ignore[no-untyped-call]
    return gram


def _sum_of_products(parts: Tensor) -> Tensor:
    """Parts (B, P, K, C) -> sum over P and K of products, (B, C, C) float32."""
    return (parts.transpose(2, 3) @ parts).float().sum(1)
