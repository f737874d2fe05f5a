"""Networks that stain: so far one that sees the tissue around a pixel and nothing else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chromogen.stains.light import blurred, concentrations_of, density_of

SIGMAS_UM = (0.5, 1.0, 2.0, 4.0, 8.0)
# Texture of haematoxylin: what stands out between a fine and a coarse scale, averaged over a wide one.
TEXTURES_UM = ((0.5, 1.0, 2.0), (0.5, 1.5, 2.0), (0.5, 3.0, 6.0))
SUPPOSED_MPP = 0.5


def tissue_features(picture: Tensor, matrix: NDArray[Any], mpp: float = SUPPOSED_MPP) -> Tensor:
    """What the tissue is like around every pixel of an H&E (1, 3, H, W) in [0, 1]: (1, N, H, W), z-scored.

    Concentrations of both stains by `matrix` and their mean density, at five scales, and how much nuclear texture
    there is. They reach 24 um at most: a function of them cannot know of more.
    """
    stains = concentrations_of(picture, matrix)[:, :2].clamp_min(0)
    basis = torch.cat([stains, density_of(picture).mean(1, keepdim=True)], 1)
    found = [basis] + [blurred(basis, sigma / mpp) for sigma in SIGMAS_UM]
    for fine_um, coarse_um, wide_um in TEXTURES_UM:
        detail = blurred(stains[:, :1], fine_um / mpp) - blurred(stains[:, :1], coarse_um / mpp)
        found += [detail, blurred(detail.clamp_min(0), wide_um / mpp)]
    features = torch.cat(found, 1)
    return (features - features.mean((2, 3), keepdim=True)) / (features.std((2, 3), keepdim=True) + 1e-6)


class LocalStain(nn.Module):
    """Features of the tissue (B, N, H, W) -> what each pixel is stained with (B, 2, H, W), by 1 x 1 convolutions.

    Trial (c) of the design: a stain that is a function of the tissue cannot invent glands. At first it stains
    everything palely alike.
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
