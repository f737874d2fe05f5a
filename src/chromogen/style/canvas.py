"""What an optimization changes, and the picture it stands for: pixels, maps of stain, or a network that stains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chromogen.image import Image, to_tensor
from chromogen.stains.deconvolution import H_DAB, H_E, Array
from chromogen.stains.light import concentrations_of, rendered, tissue_share
from chromogen.style.networks import SUPPOSED_MPP, LocalStain

STRONGEST = 0.98  # the quantile of haematoxylin that is made the same in H&E and IHC
MOST_DAB = 1.5  # where tissue is dense, in natural density, for an output of ln 2 above zero
DENSITY_FOR_DAB = 3.0  # how soon tissue takes all the DAB it can
MOST_GAIN = 0.5  # haematoxylin may change by a factor of e to this, either way
LEAST_DAB = -1.5  # what networks and maps start from: softplus(-1.5) = 0.2
MOST_GRADIENT = 1.0


class Canvas(Protocol):
    """A picture by its parameters."""

    parameters: list[Tensor]
    learning_rate: float
    one_cycle: bool

    def picture(self) -> Tensor:
        """The picture (1, 3, H, W) in [0, 1], with its gradient."""

    def tame(self) -> None:
        """Called between gradient and step."""

    def settle(self) -> None:
        """Called after a step."""


class Pixels:
    """Every pixel of the picture, from a first one (1, 3, H, W) on."""

    learning_rate, one_cycle = 0.02, False

    def __init__(self, start: Tensor) -> None:
        # torch's L-BFGS needs a contiguous parameter; the encoder converts to channels-last inside.
        self.x = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.parameters = [self.x]

    def picture(self) -> Tensor:
        """The pixels."""
        return self.x

    def tame(self) -> None:
        """Nothing to do."""

    def settle(self) -> None:
        """Keep them between black and white."""
        with torch.no_grad():
            self.x.clamp_(0, 1)


@dataclass(frozen=True)
class StainPlan:
    """What is known of a picture in stain space before it is stained, each (1, 1, H, W), and the IHC's vectors.

    `hematoxylin` is the H&E's at the strength it has in the IHC; `most_dab` how much DAB the tissue can take: none
    where there is glass, so that no lumen is filled.
    """

    hematoxylin: Tensor
    most_dab: Tensor
    matrix: Array


def stain_plan(he: Tensor, style: Image, mpp: float = SUPPOSED_MPP, matrix: Array = H_DAB) -> StainPlan:
    """From an H&E (1, 3, H, W) in [0, 1] and an IHC, uint8 (H, W, 3)."""
    ihc = to_tensor(style).to(he.device)
    with torch.no_grad():
        ours, theirs = (concentrations_of(x, m)[:, :2].clamp_min(0) for x, m in ((he, H_E), (ihc, matrix)))
        tissue = tissue_share(he, mpp)
        strength = _strongest(theirs[:, :1], tissue_share(ihc, mpp)) / _strongest(ours[:, :1], tissue)
        most = MOST_DAB * (1 - (-DENSITY_FOR_DAB * ours.sum(1, keepdim=True)).exp())
        return StainPlan(ours[:, :1] * strength, most * tissue, matrix)


def _strongest(hematoxylin: Tensor, tissue: Tensor) -> float:
    """The concentration that stands for a picture's strength of stain; of all of it where there is no tissue."""
    inside = hematoxylin[tissue > 0.5]
    values = inside if len(inside) else hematoxylin.flatten()
    return max(float(torch.quantile(values[:: 1 + len(values) // 1_000_000], STRONGEST)), 1e-3)


def stained(plan: StainPlan, out: Tensor) -> Tensor:
    """The picture that two numbers a pixel (1, 2, H, W) mean: DAB, and a bounded gain of haematoxylin."""
    dab = F.softplus(out[:, :1] + LEAST_DAB) * plan.most_dab
    hematoxylin = plan.hematoxylin * (MOST_GAIN * out[:, 1:].tanh()).exp()
    return rendered(torch.cat([hematoxylin, dab], 1), plan.matrix)


class StainMaps:
    """A free DAB map and gain, pixel by pixel."""

    learning_rate, one_cycle = 0.1, False

    def __init__(self, plan: StainPlan, coarse: StainMaps | None = None) -> None:
        """From nothing, or from the maps of a coarser scale."""
        self.plan = plan
        size = plan.hematoxylin.shape[2:]
        start = plan.hematoxylin.new_zeros(1, 2, *size) if coarse is None else _enlarged(coarse.maps, size)
        self.maps = start.requires_grad_()
        self.parameters = [self.maps]

    def picture(self) -> Tensor:
        """Rendered from the maps."""
        return stained(self.plan, self.maps)

    def tame(self) -> None:
        """Nothing to do."""

    def settle(self) -> None:
        """Nothing to do: every value is a possible one."""


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps.detach(), tuple(size), mode="bilinear", align_corners=False)


class StainNetwork:
    """The weights of a small local network: what is stained how is a function of the tissue."""

    learning_rate, one_cycle = 4e-3, True

    def __init__(
        self, plan: StainPlan, features: Tensor, seed: int = 0, coarse: StainNetwork | None = None
    ) -> None:
        """From tissue features (1, N, H, W), whose dtype it computes in; a coarser scale's network goes on."""
        self.plan = plan
        self.features = features.contiguous(memory_format=torch.channels_last)
        self.network: LocalStain = coarse.network if coarse else _new_network(features, seed)
        self.parameters: list[Tensor] = list(self.network.parameters())

    def picture(self) -> Tensor:
        """Rendered from what the network says of every pixel."""
        dtype = self.features.dtype
        with torch.autocast(self.features.device.type, dtype, enabled=dtype != torch.float32):
            out = self.network(self.features)
        return stained(self.plan, out)

    def tame(self) -> None:
        """Long gradients are cut."""
        nn.utils.clip_grad_norm_(self.parameters, MOST_GRADIENT)

    def settle(self) -> None:
        """Nothing to do."""


def _new_network(features: Tensor, seed: int) -> LocalStain:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LocalStain(features.shape[1]).to(features.device)
