"""What networks that stain take and give: densities over a slide's white, from images and back to images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chromogen.image import Image
from chromogen.stains.deconvolution import White, optical_density

STRIDE_PX = 16  # tiles begin at multiples of it, so that coarse levels have the same pixels everywhere


@dataclass(frozen=True)
class Target:
    """The IHC: rows of its stain matrix (3, 3), and the strongest haematoxylin and DAB, in natural density.

    `dab_offset` is DAB that a lab's tissue takes everywhere, or, below 0, does not take.
    """

    matrix: tuple[tuple[float, ...], ...]
    hematoxylin: float
    dab: float
    dab_offset: float = 0.0


def density_from(image: Image, white: White) -> Tensor:
    """Natural densities over white (1, 3, H, W) of uint8 (H, W, 3), by a table."""
    levels = optical_density(np.arange(256)[:, None], white).astype(np.float32).T
    density = np.empty((1, 3, *image.shape[:2]), np.float32)
    for channel, level in enumerate(levels):  # all are in the table: `clip` spares the question
        np.take(level, image[..., channel], out=density[0, channel], mode="clip")
    return torch.from_numpy(density)


def image_from(density: Tensor, white: tuple[float, ...]) -> Image:
    """uint8 (H, W, 3) of densities over white (1, 3, H, W)."""
    image = np.empty((*density.shape[2:], 3), np.uint8)
    for channel, level in enumerate(white):
        light = (-density[0, channel]).exp_().mul_(level + 1).sub_(1)
        image[..., channel] = light.round_().clamp_(0, 255).byte().numpy()
    return image


def padded(image: Image) -> Image:
    """(H, W, 3) with its border going on to the right and below, up to multiples of 16."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % STRIDE_PX), (0, -width % STRIDE_PX), (0, 0)), "edge")


def mixed(density: Tensor, matrix: Any) -> list[Tensor]:
    """Amounts (B, 1, H, W) of stains, by a matrix's columns: sums in an order that no picture's size changes."""
    red, green, blue = density.split(1, 1)
    return [red * float(r) + green * float(g) + blue * float(b) for r, g, b in np.asarray(matrix).T]
