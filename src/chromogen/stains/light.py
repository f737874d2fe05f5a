"""Beer-Lambert for gradients, and what of a picture is tissue or foreign: tensors (B, C, H, W)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chromogen.image import to_uint8
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.glass import white_level
from chromogen.stains.tissue import Background

if TYPE_CHECKING:
    from torch import Tensor


def density_of(picture: Tensor) -> Tensor:
    """Natural optical density -ln((255 x + 1) / 256) of a picture x in [0, 1]: as `optical_density` has it."""
    return -((255 * picture + 1) / 256).log()


def picture_from(density: Tensor, white: Tensor | float = 255.0) -> Tensor:
    """The picture (B, 3, H, W) in [0, 1], not rounded, of natural densities over a white level: undo `density_of`.

    `white` is 0 to 255, one or a tensor (1, 3, 1, 1).
    """
    return (((white + 1) * (-density).exp() - 1) / 255).clamp(0, 1)


def concentrations_of(picture: Tensor, matrix: NDArray[Any]) -> Tensor:
    """Concentrations (B, 3, H, W) of a picture (B, 3, H, W) in [0, 1], unclipped (Ruifrok & Johnston 2001)."""
    import torch

    inverse = torch.linalg.inv(_tensor(matrix, picture))
    return torch.einsum("bchw,cs->bshw", density_of(picture), inverse)


def rendered(concentrations: Tensor, matrix: NDArray[Any], white: Tensor | float = 255.0) -> Tensor:
    """The picture (B, 3, H, W) in [0, 1], not rounded, of concentrations of the first S stains (B, S, H, W).

    `white` is that of `picture_from`.
    """
    import torch

    rows = _tensor(matrix, concentrations)[: concentrations.shape[1]]
    return picture_from(torch.einsum("bshw,sc->bchw", concentrations, rows), white)


def blurred(x: Tensor, sigma_px: float) -> Tensor:
    """(B, C, H, W) by a Gaussian cut off at three sigmas; the border goes on outside, scipy's "nearest"."""
    import torch
    from torch.nn.functional import conv2d, pad

    reach = max(1, round(3 * sigma_px))
    at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = (-(at**2) / (2 * sigma_px**2)).exp()
    kernel = kernel / kernel.sum()
    planes = x.flatten(0, 1).unsqueeze(1)
    planes = conv2d(pad(planes, (reach, reach, 0, 0), "replicate"), kernel.view(1, 1, 1, -1))
    planes = conv2d(pad(planes, (0, 0, reach, reach), "replicate"), kernel.view(1, 1, -1, 1))
    return planes.view(x.shape)


OVERVIEW_PX = 2048  # of a side: enough to know a large picture's glass by


def tissue_share(picture: Tensor, mpp: float = ASSUMED_MPP) -> Tensor:
    """Which pixels of a picture (1, 3, H, W) in [0, 1] are tissue: (1, 1, H, W), 0 or 1.

    As `stains.tissue.tissue_mask` has it, but that ink counts.
    """
    import torch

    unmarked = Background(_white_of(picture, mpp), np.zeros((1, 1), np.bool_))
    return torch.from_numpy(unmarked.tissue(to_uint8(picture), mpp)).to(picture)[None, None]


def _white_of(picture: Tensor, mpp: float) -> NDArray[np.float64]:
    step = 1 + (max(picture.shape[2:]) - 1) // OVERVIEW_PX
    return white_level(to_uint8(picture[..., ::step, ::step]), mpp * step)


def _tensor(matrix: NDArray[Any], like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)
