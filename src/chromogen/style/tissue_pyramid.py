"""What tissue is like around a pixel, in levels of half the resolution each; the same in tiles as in the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEATURES = 15
FAR = 11  # the feature that is haematoxylin of the coarsest level


def tissue_pyramid(basis: Tensor) -> Tensor:
    """What the tissue is like (B, 15, h, w), of both stains and their density (B, 3, h, w) in half resolution.

    They as they are (1 um a pixel) and smoothed at 2, 4 and 8 um; how haematoxylin stands out of 2 um, and how
    much of that there is at 4 and 8 um: nuclear texture.
    """
    second = F.avg_pool2d(basis, 2)
    near = smoothed(second)
    detail = basis[:, :1] - doubled(near[:, :1])
    third = F.avg_pool2d(torch.cat([second, F.avg_pool2d(detail.clamp_min(0), 2)], 1), 2)
    fourth = F.avg_pool2d(third, 2)
    wide = torch.cat([smoothed(third), doubled(smoothed(fourth))], 1)
    return torch.cat([basis, detail, doubled(torch.cat([near, doubled(wide)], 1))], 1)


def smoothed(x: Tensor) -> Tensor:
    """(B, C, H, W) of the same size, by 1, 2, 1 both ways; the border goes on outside."""
    x = F.pad(x, (1, 1, 1, 1), "replicate")
    x = x[..., :-2, :] + x[..., 2:, :] + 2 * x[..., 1:-1, :]
    return (x[..., :-2] + x[..., 2:] + 2 * x[..., 1:-1]) / 16


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) twice as large, linearly between the centres of pixels; the border goes on outside.

    torch's own `interpolate` rounds the last pixels of a row in another way than the rest.
    """
    return _doubled_along(_doubled_along(x, 3), 2)


def _doubled_along(x: Tensor, axis: int) -> Tensor:
    count = x.shape[axis]
    near, far = 0.75 * x, 0.25 * x
    around = torch.cat([far.narrow(axis, 0, 1), far, far.narrow(axis, count - 1, 1)], axis)
    halves = near + around.narrow(axis, 0, count), near + around.narrow(axis, 2, count)
    return torch.stack(halves, axis + 1).flatten(axis, axis + 1)


def halved(x: Tensor) -> Tensor:
    """(B, C, H, W), sides even, half as large, by means of 2 x 2 pixels; twice as quick as `avg_pool2d`."""
    rows = x[..., 0::2, :] + x[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * 0.25
