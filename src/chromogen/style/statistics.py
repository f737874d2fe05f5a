"""Statistics of features and the distances between them.

Features are (B, C, H, W) in any float type; a statistic is float32 with batch first, a distance one value (B,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chromogen.stains.deconvolution import H_DAB, blurred, concentrations_of

if TYPE_CHECKING:
    from torch import Tensor


# What is measured of features: (B, C, H, W) in any float type in, a float32 tensor with batch first out.


def activations(features: Tensor) -> Tensor:
    """The features themselves: what content losses compare (local)."""
    return features.float()


def gram_matrix(features: Tensor) -> Tensor:
    """Mean over positions of the products of channels, (B, C, C) (a picture's is the mean of its tiles').

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
    from chromogen.style.gram import mean_gram, position_shares

    return mean_gram(features, position_shares(mask, features.shape[2:]))


def neighbor_differences(features: Tensor) -> Tensor:
    """Differences to the right and lower neighbour, (B, 2C, H, W), zero past the border (local, halo 1 px)."""
    import torch
    from torch.nn.functional import pad

    x = features.float()
    right = pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, down], dim=1)


def laplacian(features: Tensor) -> Tensor:
    """Four times each value minus its four neighbours, the border going on outside (local, halo 1 px).

    Content by edges, whatever their colours (Li et al. 2017, who pool first; a term's layer decides that here).
    """
    from torch.nn.functional import pad

    x = features.float()
    around = pad(x, (1, 1, 1, 1), "replicate")
    sides = (around[..., 1:-1, :-2], around[..., 1:-1, 2:], around[..., :-2, 1:-1], around[..., 2:, 1:-1])
    return 4 * x - sum(sides[1:], sides[0])


HEMATOXYLIN_SMOOTHING_PX = 1.5


def hematoxylin_density(picture: Tensor) -> Tensor:
    """Blurred haematoxylin of a picture (B, 3, H, W) in [0, 1], by H-DAB vectors (local, halo 5 px)."""
    density = concentrations_of(picture.float(), H_DAB)[:, :1]
    return blurred(density, HEMATOXYLIN_SMOOTHING_PX)


MAX_PATCHES = 24  # along a side: all are compared with all


def self_similarity(features: Tensor) -> Tensor:
    """Cosines between the features of all patches and all others, (B, P, P) (global: patches are compared across).

    Content as which places look alike, whatever they look like (Kolkin et al. 2019, who sample positions; we
    average over at most 24 x 24 patches).
    """
    from torch.nn.functional import adaptive_avg_pool2d, normalize

    height, width = (min(side, MAX_PATCHES) for side in features.shape[2:])
    patches = adaptive_avg_pool2d(features.float(), (height, width)).flatten(2)
    centred = normalize(patches - patches.mean(2, keepdim=True), dim=1)
    return centred.transpose(1, 2) @ centred


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "activations": activations,
    "gram": gram_matrix,
    "differences": neighbor_differences,
    "laplacian": laplacian,
    "self_similarity": self_similarity,
    "hematoxylin": hematoxylin_density,
}
MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"gram": masked_gram_matrix}
MEANS = ("gram",)  # over positions: that of a picture is the mean of its tiles'
# Values at every position, by how many positions around it they depend on.
LOCAL = {
    "activations": 0,
    "differences": 1,
    "laplacian": 1,
    "hematoxylin": 5,
}
OF_LIGHT = ("hematoxylin",)  # only a picture in [0, 1] has it


# How two measurements compare: float32 with batch first in, one value per item of the batch (B,) out.


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
