"""The network that sees nuclei: a small U-Net from optical densities to star-convex outlines."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chromogen.devices import choose_device, choose_precision
from chromogen.nuclei.contract import STRIDE_PX, Network
from chromogen.nuclei.outlines import RAYS

if TYPE_CHECKING:
    from torch import Tensor

MAX_RADIUS_PX = 40.0  # of an outline, at the network's pixel size: 20 um
WEIGHTS = Path(__file__).with_name("nuclei.safetensors")


def _layer(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class NucleusNetwork(nn.Module):
    """A U-Net (Ronneberger et al. 2015) that predicts star-convex outlines (Schmidt et al. 2018).

    In: optical densities of base 10, float32 (B, 3, H, W) in the order red, green, blue, at 0.5 um/px; height and
    width are multiples of MULTIPLE_PX. Out: float32 (B, 1 + RAYS, H / 2, W / 2): the logit of lying deep in a
    nucleus, and the distances in px of the input to its border along RAYS directions, clockwise from +x.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.unshuffle = nn.PixelUnshuffle(STRIDE_PX)
        self.down_fine = nn.Sequential(_layer(3 * STRIDE_PX**2, fine), _layer(fine, fine))
        self.down_middle = nn.Sequential(_layer(fine, middle), _layer(middle, middle))
        self.bottom = nn.Sequential(
            _layer(middle, coarse), _layer(coarse, coarse, 2), _layer(coarse, coarse, 2), _layer(coarse, middle)
        )
        self.up_middle = nn.Sequential(_layer(2 * middle, middle), _layer(middle, fine))
        self.up_fine = nn.Sequential(_layer(2 * fine, fine), _layer(fine, 2 * fine))
        self.head = nn.Conv2d(2 * fine, 1 + RAYS, 1)

    def forward(self, densities: Tensor) -> Tensor:
        """Predictions from densities: see the class."""
        fine = self.down_fine(self.unshuffle(densities))
        middle = self.down_middle(nn.functional.max_pool2d(fine, 2))
        coarse = self.bottom(nn.functional.max_pool2d(middle, 2))
        middle = self.up_middle(torch.cat([middle, _doubled(coarse)], dim=1))
        out: Tensor = self.head(self.up_fine(torch.cat([fine, _doubled(middle)], dim=1)))
        return torch.cat([out[:, :1], MAX_RADIUS_PX * torch.sigmoid(out[:, 1:] / 4 - 1.5)], dim=1)


def _doubled(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def _fused(network: NucleusNetwork) -> NucleusNetwork:
    """The same function with every normalization made part of its convolution."""
    for layer in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        convolution, norm = layer[0], layer[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layer[0], layer[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return network


def channels_last(network: NucleusNetwork) -> NucleusNetwork:
    """The same network, its weights laid out as processors convolve fastest."""
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


@lru_cache(maxsize=2)
def built_in_network(views: int = 2) -> Network:
    """The network that comes with Chromogen on the fastest device there is, its weights read once."""
    return network_from(load_file(WEIGHTS), "auto", views)


def network_from(weights: Mapping[str, Tensor], device: str = "cpu", views: int = 2) -> Network:
    """A function from densities, float32 (1, 3, H, W), to predictions, (1, 1 + RAYS, H / 2, W / 2).

    With two `views` it looks twice, the second time with the picture turned by half a circle, and gives the mean:
    that finds a fiftieth more nuclei, at twice the time. It computes in bf16 where the hardware does.
    """
    network, where = NucleusNetwork(), choose_device(device)
    dtype = torch.bfloat16 if choose_precision("auto", where) == "bf16" else torch.float32
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    channels_last(_fused(network.eval()).to(where, dtype))

    def predict(densities: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            given = torch.from_numpy(densities).to(where, dtype).contiguous(memory_format=torch.channels_last)
            made = network(given).float()
            if views == 2:
                made = _mean(made, network(given.flip(2, 3)).float().flip(2, 3))
            return np.asarray(made.cpu().numpy())

    return predict


def _mean(upright: Tensor, turned: Tensor) -> Tensor:
    """The mean of two predictions, of which one was turned by half a circle: its rays point the other way."""
    depth = (upright[:, :1].sigmoid() + turned[:, :1].sigmoid()) / 2
    radii = (upright[:, 1:] + turned[:, 1:].roll(RAYS // 2, dims=1)) / 2
    return torch.cat([depth.logit(eps=1e-6), radii], dim=1)
