"""The network of `train --paired`: where a marker lies in an H&E, as far as pairs of H&E and IHC taught it.

It sees amounts of stain around each place, over the slide's own strengths, and gives the coarse level of DAB.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.staining.maps import Array
from chromogen.stains.deconvolution import H_E, White, optical_density
from chromogen.stains.estimation import stain_strength
from chromogen.stains.glass import white_level
from chromogen.stains.light import blurred

CELL_PX = 4  # of a picture at MPP: a cell of features is 2 um wide
CELLS = 4  # of features along a side of a pixel of the map, which is 8 um wide
STRIDE_PX = CELL_PX * CELLS
AROUND_CELLS = (1.0, 2.0, 4.0, 8.0)  # sigmas of the Gaussians through which the surroundings are seen
MAPS = 4  # haematoxylin, eosin, mean density, grain of haematoxylin
FEATURES = MAPS * (1 + len(AROUND_CELLS))
UNMIXING = np.linalg.inv(H_E)
USUAL_STRENGTH = (1.5, 1.0)  # of haematoxylin and eosin, where a slide shows neither
MIN_VARIANCE = 1e-8  # whose root has a gradient


@dataclass(frozen=True)
class SlideStains:
    """What must be the same over a slide: its white (3,), 0 to 255, and both stains' strengths (2,), natural."""

    white: tuple[float, ...]
    strength: tuple[float, ...]


def slide_stains(sample: Image) -> SlideStains:
    """The stains of a slide, from uint8 (H, W, 3) of its tissue."""
    white = white_level(sample)
    strength = stain_strength(sample, H_E, white)
    found = np.where(strength > 0, strength, USUAL_STRENGTH)
    return SlideStains(tuple(map(float, white)), tuple(map(float, found)))


@dataclass(frozen=True)
class Architecture:
    """The network as data: `depth` layers of `width` channels."""

    width: int = 32
    depth: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 1024 and 1 <= self.depth <= 16):
            raise expected("network", "of 1 to 16 layers of 1 to 1024 channels", asdict(self))


class WhereNetwork(nn.Module):
    """Features (B, FEATURES, h, w) -> levels of DAB, 0 to 1, (B, 1, h / CELLS, w / CELLS).

    `mean` and `std` (1, FEATURES, 1, 1) standardize the features; they are those of the training's tissue.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("mean", torch.zeros(1, FEATURES, 1, 1))
        self.register_buffer("std", torch.ones(1, FEATURES, 1, 1))
        sizes = [FEATURES, *[architecture.width] * architecture.depth]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Conv2d(a, b, 1), nn.ReLU(inplace=True))]
        self.body = nn.Sequential(*hidden, nn.Conv2d(architecture.width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """The levels."""
        level: Tensor = self.body((features - self.mean) / self.std).sigmoid()
        return F.avg_pool2d(level, CELLS)


def features_of(density: Tensor, strength: Tensor) -> Tensor:
    """What the network sees, (B, FEATURES, H / 4, W / 4), of natural densities (B, 3, H, W).

    `strength` (2,) is that of the slide's haematoxylin and eosin.
    """
    hematoxylin, eosin = (_mixed(density, weights) / strength[i] for i, weights in enumerate(UNMIXING.T[:2]))
    mean, square = (F.avg_pool2d(x, CELL_PX) for x in (hematoxylin, hematoxylin.square()))
    grain = (square - mean.square()).clamp_min(MIN_VARIANCE).sqrt()
    others = (F.avg_pool2d(x, CELL_PX) for x in (eosin, density.mean(1, keepdim=True)))
    here = torch.cat([mean, *others, grain], 1)
    return torch.cat([here, *(blurred(here, sigma) for sigma in AROUND_CELLS)], 1)


def _mixed(density: Tensor, weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Tensor:
    red, green, blue = density.split(1, 1)
    amount: Tensor = red * float(weights[0]) + green * float(weights[1]) + blue * float(weights[2])
    return amount


def density_from(image: Image, white: White) -> Tensor:
    """Natural densities over white (1, 3, H, W) of uint8 (H, W, 3), by a table."""
    levels = optical_density(np.arange(256)[:, None], white).astype(np.float32).T
    density = np.empty((1, 3, *image.shape[:2]), np.float32)
    for channel, level in enumerate(levels):  # all are in the table: `clip` spares the question
        np.take(level, image[..., channel], out=density[0, channel], mode="clip")
    return torch.from_numpy(density)


@torch.inference_mode()
def level_map(network: WhereNetwork, image: Image, stains: SlideStains) -> Array:
    """Levels (H / 16, W / 16), 0 to 1, of an image at MPP, uint8 (H, W, 3) with sides in multiples of 16 px."""
    features = features_of(density_from(image, stains.white), torch.tensor(stains.strength))
    return np.asarray(network(features)[0, 0].numpy(), np.float32)
