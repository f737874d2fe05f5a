"""What is measured of features: (B, C, H, W) in any float type in, a float32 tensor with batch first out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def activations(features: Tensor) -> Tensor:
    """The features themselves: what content losses compare (local)."""
    return features.float()


def gram_matrix(features: Tensor) -> Tensor:
    """Mean over positions of the products of channels, (B, C, C) (additive over tiles, weighted by area).

    The report's G = F F^T (Gatys et al. 2016) divided by the number of positions M, so that images of different
    size can be compared: the same as scaling the style's G by M_generated / M_style.

    >>> import torch
    >>> gram_matrix(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])).tolist()
    [[[2.5, 5.5], [5.5, 12.5]]]
    """
    from chromogen.style.gram import mean_gram

    return mean_gram(features)


def masked_gram_matrix(features: Tensor, mask: Tensor) -> Tensor:
    """The same mean weighted by a mask (1, 1, H, W) of the picture, 0 to 1; zero where the mask covers nothing.

    White counts as texture: over a picture that is half glass, a Gram matrix asks for holes in the tissue.
    """
    from chromogen.style.gram import mean_gram

    share = _shrunk(mask, features.shape).to(features.dtype)
    positions = features.shape[2] * features.shape[3]
    return mean_gram(features * share.sqrt()) * (positions / share.float().sum().clamp_min(1e-6))


def _shrunk(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """The mask by the area that each position of a layer stands for."""
    from torch.nn.functional import avg_pool2d

    step = 2 ** round(math.log2(mask.shape[3] / shape[3]))
    return avg_pool2d(mask, step)[..., : shape[2], : shape[3]]


def neighbor_differences(features: Tensor) -> Tensor:
    """Differences to the right and lower neighbour, (B, 2C, H, W), zero past the border (local, halo 1 px)."""
    import torch
    from torch.nn.functional import pad

    x = features.float()
    right = pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, down], dim=1)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "activations": activations,
    "gram": gram_matrix,
    "differences": neighbor_differences,
}
MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"gram": masked_gram_matrix}
