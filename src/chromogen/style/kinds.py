"""Kinds of networks that stain, by the name their architecture says: what each is built, fitted and used by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from chromogen.image import Image
from chromogen.style.rgb_network import RGB_HALO_PX, RgbArchitecture, RgbLook, RgbNetwork, rgb_look, stain_rgb
from chromogen.style.stainer_network import (
    HALO_PX,
    Architecture,
    SlideLook,
    StainerNetwork,
    features_of,
    slide_look,
    stain,
)

PlainArchitecture: TypeAlias = Architecture | RgbArchitecture
PlainNetwork: TypeAlias = StainerNetwork | RgbNetwork
Look: TypeAlias = SlideLook | RgbLook
Seen: TypeAlias = Sequence[tuple[Tensor, Tensor]]  # densities (1, 3, H, W) and strengths (2,) of tissue


@dataclass(frozen=True)
class Kind:
    """What goes with an architecture.

    `build(architecture, target)` is the network, from densities, strengths and residue to densities;
    `prepare(network, seen)` tells it of the tissue before training; `look(network, sample)` is what has to be the
    same over a slide, by which `stain(network, image, look, part)` stains the image, or a window of it.
    `halo_px` around a pixel are seen.
    """

    architecture: Callable[..., Any]
    build: Callable[..., Any]
    prepare: Callable[[Any, Seen], None]
    look: Callable[[Any, Image], Any]
    stain: Callable[..., Image]
    halo_px: int


@torch.no_grad()
def _standardize(network: StainerNetwork, seen: Seen) -> None:
    """Give the network the means and deviations that features have in tissue."""
    features = torch.cat([features_of(density, strength) for density, strength in seen], 3)
    network.mean.copy_(features.mean((2, 3), keepdim=True))
    network.std.copy_(features.std((2, 3), keepdim=True).clamp_min(1e-3))


def _nothing(_network: RgbNetwork, _seen: Seen) -> None:
    """Its norms find moments by themselves."""


def _slide_look(_network: StainerNetwork, sample: Image) -> SlideLook:
    return slide_look(sample)


KINDS = {
    "stain-pyramid": Kind(Architecture, StainerNetwork, _standardize, _slide_look, stain, HALO_PX),
    "rgb": Kind(RgbArchitecture, RgbNetwork, _nothing, rgb_look, stain_rgb, RGB_HALO_PX),
}


def kind_of(architecture: PlainArchitecture) -> Kind:
    """What goes with the architecture."""
    return KINDS[architecture.kind]


def site_of(architecture: PlainArchitecture) -> str:
    """Where in a cell its marker sits, one of `TRAINED_SITES`."""
    return architecture.site if isinstance(architecture, Architecture) else "any"
