"""A stainer that does real work: a small convolution network with random weights, for timing alone."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import nn

from chromogen.image import Image, to_tensor, to_uint8
from chromogen.staining.stainer import Stainer

WIDTH, LAYERS, HALO_PX = 32, 5, 16


@cache
def network() -> nn.Module:
    """Made once in every process, with the same weights in all."""
    torch.manual_seed(0)
    channels = [3, *[WIDTH] * (LAYERS - 1), 3]
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers).requires_grad_(False)


def painted(image: Image, _statistics: object, _location: object) -> Image:
    """The network's output, shifted into [0, 1]."""
    return to_uint8(network()(to_tensor(image)) / 2 + 0.5)


def small_net() -> Stainer:
    """About 57 GFLOP for a million pixels."""
    return Stainer("small-net", "noise", painted, "small-net 1", halo_px=HALO_PX)
