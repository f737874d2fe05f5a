"""A network that changes a stain by the tissue around a pixel and nothing else, fitted to one picture."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chromogen.grid import TileGrid, Window
from chromogen.image import Image, to_tensor
from chromogen.spill import InMemory, Spill, Store
from chromogen.stains.light import blurred, concentrations_of, density_of

SIGMAS_UM = (0.5, 1.0, 2.0, 4.0, 8.0)
# Texture of haematoxylin: what stands out between a fine and a coarse scale, averaged over a wide one.
TEXTURES_UM = ((0.5, 1.0, 2.0), (0.5, 1.5, 2.0), (0.5, 3.0, 6.0))

STAIN_SIGMAS_UM = (0.5, 1.5, 4.0)

FEATURES = 3 * (1 + len(SIGMAS_UM)) + 2 * len(TEXTURES_UM) + 2 * (1 + len(STAIN_SIGMAS_UM))
REACH_UM = 3 * max(*SIGMAS_UM, *(coarse + wide for _, coarse, wide in TEXTURES_UM))  # blurs end at three sigmas


def z_scored(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Features (1, N, H, W) by their means and standard deviations (1, N, 1, 1)."""
    return (features - mean) / (std + 1e-6)


def raw_features(picture: Tensor, matrix: NDArray[Any], amounts: Tensor, mpp: float) -> Tensor:
    """The features (1, N, H, W) of an H&E (1, 3, H, W) in [0, 1] and amounts (1, 2, H, W), not z-scored."""
    stains = concentrations_of(picture, matrix)[:, :2].clamp_min(0)
    basis = torch.cat([stains, density_of(picture).mean(1, keepdim=True)], 1)
    found = [basis] + [blurred(basis, sigma / mpp) for sigma in SIGMAS_UM]
    for fine_um, coarse_um, wide_um in TEXTURES_UM:
        detail = blurred(stains[:, :1], fine_um / mpp) - blurred(stains[:, :1], coarse_um / mpp)
        found += [detail, blurred(detail.clamp_min(0), wide_um / mpp)]
    found += [amounts] + [blurred(amounts, sigma / mpp) for sigma in STAIN_SIGMAS_UM]
    return torch.cat(found, 1)


class TissueFeatures:
    """What the tissue is like around every pixel of an H&E, window by window: (1, N, H, W), z-scored.

    Concentrations of both stains and their mean density, at five scales; how much nuclear texture there is; and
    the amounts of both stains that the picture starts from, at four scales. They reach 27 um at most: a function
    of them cannot know of more. Means and deviations are those of the whole. Features of a grid's tiles are
    computed once, in memory for one tile and else on disk: they take a sixth of a step's time, and 128 bytes a
    pixel.
    """

    def __init__(
        self, he: Image, matrix: NDArray[Any], amounts: Tensor, mpp: float, grid: TileGrid, like: Tensor
    ) -> None:
        """Of an H&E, uint8 (H, W, 3), with `amounts` (1, 2, H, W), in dtype and device of `like`."""
        self.he, self.matrix, self.amounts, self.mpp, self.like = he, matrix, amounts, mpp, like
        self._kept: dict[Window, int] = {}
        self._store: Store = InMemory() if len(grid) == 1 else Spill()
        sums = torch.zeros(2, FEATURES, dtype=torch.float64)
        for tile in grid:
            raw = self._raw(tile.core).double()
            sums += torch.stack([raw.sum((0, 2, 3)), raw.square().sum((0, 2, 3))]).cpu()
        count = he.shape[0] * he.shape[1]
        mean = sums[0] / count
        std = ((sums[1] - count * mean.square()) / (count - 1)).clamp_min(0).sqrt()
        self.mean, self.std = (moment.float().view(1, -1, 1, 1).to(like.device) for moment in (mean, std))
        for number, tile in enumerate(grid):
            self._store.keep(number, {"features": self(tile.outer)})
            self._kept[tile.outer] = number

    def __call__(self, window: Window) -> Tensor:
        """(1, N, h, w) of a window."""
        if window in self._kept:
            return self._store.of(self._kept[window])["features"].to(self.like.device)
        found = z_scored(self._raw(window), self.mean, self.std).to(self.like.dtype)
        return found.contiguous(memory_format=torch.channels_last)

    def _raw(self, window: Window) -> Tensor:
        height, width = self.he.shape[:2]
        around = window.grown(math.ceil(REACH_UM / self.mpp) + 3, (width, height))
        picture = to_tensor(np.ascontiguousarray(self.he[around.at])).to(self.like.device)
        found = raw_features(picture, self.matrix, self.amounts[..., *around.at], self.mpp)
        return found[..., *window.seen_from(around).at]


class LocalStain(nn.Module):
    """Features of the tissue (B, N, H, W) -> how far each pixel's stains change (B, 2, H, W): 1 x 1 convolutions.

    A stain that is a function of the tissue cannot invent glands. At first nothing changes.
    """

    def __init__(self, features: int, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        sizes = [features, *[width] * depth]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Conv2d(a, b, 1), nn.GELU())]
        self.body = nn.Sequential(*hidden)
        self.head = nn.Conv2d(width, 2, 1)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Per pixel two numbers of any sign."""
        stained: Tensor = self.head(self.body(features))
        return stained.float()
