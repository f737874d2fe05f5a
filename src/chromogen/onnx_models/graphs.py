"""What an exported model computes, by kind of network: sRGB in and out, by the look of a slide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chromogen.onnx_models.onnx_file import MOMENTS, MOMENTS_USED
from chromogen.style.kinds import PlainNetwork
from chromogen.style.rgb_network import RGB_HALO_PX, RgbNetwork
from chromogen.style.slide_densities import STRIDE_PX
from chromogen.style.stainer_network import HALO_PX, USUAL_STRENGTH, StainerNetwork

IMAGES = (
    "image and stained: sRGB uint8 [batch, height, width, 3], any size, at mpp um/px. What is further than "
    "halo_px from a pixel does not change it, by one look; tiles begin at multiples of stride_px. "
)
STAIN_LOOK = (
    "white [3], strength [2] and residue [1], float32, are the slide's look; what is left out has a usual value."
)
RGB_LOOK = (
    "white [3] and moments [2, N], float32, are the slide's look; white left out is 255. Moments left out, or 0, "
    "are each picture's own, and come out as [batch, 2, N]: those of a sample of the tissue serve all tiles of "
    "its slide."
)
USUAL_WHITE = (255.0, 255.0, 255.0)


@dataclass(frozen=True)
class Graph:
    """`module(image, *look)` gives `outputs`. `look`: inputs, with what stands in for each; `how`: in words."""

    module: nn.Module
    look: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    how: str
    halo_px: int


def graph_of(network: PlainNetwork) -> Graph:
    """What a network's ONNX model is to compute."""
    white = {"white": torch.tensor(USUAL_WHITE)}
    if isinstance(network, RgbNetwork):
        look = white | {MOMENTS: torch.zeros(2, sum(network.channels))}
        return Graph(_RgbPainter(network), look, ("stained", MOMENTS_USED), IMAGES + RGB_LOOK, RGB_HALO_PX)
    look = white | {"strength": torch.tensor(USUAL_STRENGTH), "residue": torch.zeros(1)}
    return Graph(_StainPainter(network), look, ("stained",), IMAGES + STAIN_LOOK, HALO_PX)


class _StainPainter(nn.Module):
    """sRGB uint8 (B, H, W, 3) to the same in another stain, as `stain` does it, by the fields of a `SlideLook`."""

    def __init__(self, network: StainerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, white: Tensor, strength: Tensor, residue: Tensor) -> Tensor:
        return _picture(self.network(_densities(image, white), strength, residue), white, image)


class _RgbPainter(nn.Module):
    """The same as `stain_rgb` does it, by the fields of an `RgbLook`; and the moments (B, 2, N)."""

    def __init__(self, network: RgbNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, white: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
        made, used = self.network.by_moments_or_own(_densities(image, white), moments)
        return _picture(made, white, image), used


def _densities(image: Tensor, white: Tensor) -> Tensor:
    """Natural densities (B, 3, H, W) up to multiples of the stride, by a table made in double precision."""
    padded = image.index_select(1, _going_on(image.shape[1])).index_select(2, _going_on(image.shape[2]))
    levels = torch.arange(1, 257, dtype=torch.float64)[:, None]
    table = -(levels / (white.double() + 1)).log().float()
    channels = [nn.functional.embedding(padded[..., c].int(), table[:, c : c + 1])[..., 0] for c in range(3)]
    return torch.stack(channels, 1)


def _going_on(side: int) -> Tensor:
    """Places along a side, the last one again and again up to a multiple of the stride."""
    return torch.arange((side + STRIDE_PX - 1) // STRIDE_PX * STRIDE_PX).clamp_max(side - 1)


def _picture(density: Tensor, white: Tensor, image: Tensor) -> Tensor:
    """The image's size of densities over white."""
    light = (white.view(1, 3, 1, 1) + 1) * (-density[..., : image.shape[1], : image.shape[2]]).exp() - 1
    return light.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
