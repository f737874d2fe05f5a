"""What an optimization changes, and the picture it stands for: pixels, maps of stain, or a network that stains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from chromogen.grid import Window
from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.deconvolution import H_DAB, H_E, Array, stain_matrix
from chromogen.stains.estimation import estimate_stains, stain_strength
from chromogen.stains.light import (
    concentrations_of,
    density_of,
    foreign_share,
    red_cell_share,
    rendered,
    stained_share,
)
from chromogen.style.networks import FEATURES, LocalStain

MOST_TURNED_DEG = 20.0  # from the usual vectors to an IHC's own
GAINS = (0.72, 1.6)  # haematoxylin is never made weaker or stronger than so: paler nuclei lose their contrast
DAB_HEADROOM = 1.2
LEAST_STRONGEST_DAB = 0.3
DENSITY_FOR_DAB = 3.0  # how soon tissue takes all the DAB it can
RED_CELLS_KEPT = 0.15  # of their density
MOST_GAIN = 0.5  # haematoxylin may change by a factor of e to this, either way
LEAST_DAB = -1.5  # what networks and maps start from: a tenth of the most
MOST_GRADIENT = 1.0
ROWS_AT_ONCE = 64  # of a window, by a network: its activations would take more memory than the encoder's


class Canvas(Protocol):
    """A picture by its parameters."""

    parameters: list[Tensor]
    learning_rate: float
    one_cycle: bool

    def picture(self, window: Window | None = None) -> Tensor:
        """The picture (1, 3, H, W) in [0, 1], or a window of it, with its gradient."""

    def tame(self) -> None:
        """Called between gradient and step."""

    def settle(self) -> None:
        """Called after a step."""

    def develop(self, amount: float) -> None:
        """Called at the end: make `amount` times the DAB, where there is such a thing."""


class Pixels:
    """Every pixel of the picture, from a first one (1, 3, H, W) on."""

    learning_rate, one_cycle = 0.02, False

    def __init__(self, start: Tensor) -> None:
        # torch's L-BFGS needs a contiguous parameter; the encoder converts to channels-last inside.
        self.x = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.parameters = [self.x]

    def picture(self, window: Window | None = None) -> Tensor:
        """The pixels."""
        return self.x if window is None else part_of(self.x, window)

    def tame(self) -> None:
        """Nothing to do."""

    def settle(self) -> None:
        """Keep them between black and white."""
        with torch.no_grad():
            self.x.clamp_(0, 1)

    def develop(self, amount: float) -> None:
        """Nothing to do: pixels know no DAB."""


def part_of(x: Tensor, window: Window) -> Tensor:
    """A window of a parameter (1, C, H, W): what gradient it gets is added to the parameter's, there."""
    part = x.detach()[..., *window.at].contiguous().requires_grad_(torch.is_grad_enabled())

    def add(gradient: Tensor) -> None:
        if x.grad is None:
            x.grad = torch.zeros_like(x)
        x.grad[..., *window.at] += gradient

    if part.requires_grad:
        part.register_hook(add)
    return part


@dataclass(frozen=True)
class Stains:
    """What decides a stained picture as a whole: the IHC's own vectors, and how strong its stains are.

    `hematoxylin_gain` brings the H&E's haematoxylin to the strength it has in the IHC; no DAB is denser than
    `strongest_dab`, in natural density.
    """

    matrix: Array
    hematoxylin_gain: float
    strongest_dab: float


def stains_of(content: Image, styles: Sequence[Image], mix: Sequence[float]) -> Stains:
    """From an H&E and IHC images that count by `mix`, uint8 (H, W, 3)."""
    matrices = [ihc_vectors(style) for style in styles]
    mean = np.average(matrices, axis=0, weights=mix)
    matrix = stain_matrix(tuple(mean[0]), tuple(mean[1]))
    strengths = [stain_strength(style, m) for style, m in zip(styles, matrices, strict=True)]
    hematoxylin, dab = np.average(strengths, axis=0, weights=mix)
    ours = stain_strength(content, H_E)[0]
    gain = hematoxylin / ours if min(hematoxylin, ours) > 0 else 1.0
    return Stains(matrix, float(np.clip(gain, *GAINS)), max(float(dab) * DAB_HEADROOM, LEAST_STRONGEST_DAB))


def ihc_vectors(style: Image) -> Array:
    """The stain vectors of an IHC image, uint8 (H, W, 3): its own (Macenko), or H-DAB where these are no H-DAB.

    An IHC that is negative, or nearly, tells nothing of DAB's colour.
    """
    estimated = estimate_stains(style, H_DAB).matrix
    cosines = (estimated[:2] * H_DAB[:2]).sum(1)
    return estimated if cosines.min() > np.cos(np.radians(MOST_TURNED_DEG)) else H_DAB


@dataclass(frozen=True)
class StainPlan:
    """What is known of a picture in stain space before it is stained.

    `hematoxylin` is the H&E's at the strength it has in the IHC; `most_dab` how much DAB the tissue can take: none
    where there is glass, so that no lumen is filled, nor in red cells, ink and pigment. Both (1, 1, H, W). `kept`
    is density (1, 3, H, W) that goes through as it is: the glass's grey, pigment and ink, a hint of red cells.
    """

    hematoxylin: Tensor
    most_dab: Tensor
    kept: Tensor
    matrix: Array


def stain_plan(
    he: Tensor, stains: Stains, mpp: float = ASSUMED_MPP, sites: NDArray[np.float32] | None = None
) -> StainPlan:
    """From an H&E (1, 3, H, W) in [0, 1].

    `sites` is how much of the DAB each pixel may take, (H', W') as `site_share` gives it; it may be finer than
    the H&E. Without it, tissue takes DAB everywhere.
    """
    with torch.no_grad():
        tissue, all_three = stained_share(he, mpp), concentrations_of(he, H_E)
        foreign, red = foreign_share(all_three, tissue), red_cell_share(all_three)
        amount = all_three[:, :2].clamp_min(0).sum(1, keepdim=True)
        takes = tissue * (1 - foreign) * (1 - red) * (1 - (-DENSITY_FOR_DAB * amount).exp())
        hematoxylin = all_three[:, :1].clamp_min(0) * stains.hematoxylin_gain * tissue * (1 - foreign)
        del all_three, amount  # of a large picture, each takes as much as what is returned
        most_dab = takes.mul_(stains.strongest_dab)
        if sites is not None:
            finest = torch.from_numpy(sites).to(he)[None, None]
            most_dab *= F.adaptive_avg_pool2d(finest, (he.shape[2], he.shape[3]))
        density = density_of(he)
        glass = (1 - tissue) * density.amax(1, keepdim=True)
        kept = density.mul_(tissue * (foreign + (1 - foreign) * red * RED_CELLS_KEPT)).add_(glass)
        return StainPlan(hematoxylin, most_dab, kept, stains.matrix)


def part_of_plan(plan: StainPlan, window: Window) -> StainPlan:
    """The plan of a window."""
    hematoxylin, most_dab, kept = (x[..., *window.at] for x in (plan.hematoxylin, plan.most_dab, plan.kept))
    return StainPlan(hematoxylin, most_dab, kept, plan.matrix)


def developed(plan: StainPlan, amount: float) -> StainPlan:
    """The plan with `amount` times the DAB everywhere, as if developed for longer or shorter."""
    return replace(plan, most_dab=plan.most_dab * amount)


def hematoxylin_alone(he: Tensor, stains: Stains) -> Tensor:
    """What an IHC without any DAB would show of an H&E (1, 3, H, W) in [0, 1]."""
    with torch.no_grad():
        hematoxylin = concentrations_of(he, H_E)[:, :1].clamp_min(0) * stains.hematoxylin_gain
        return rendered(hematoxylin, stains.matrix)


def stained(plan: StainPlan, out: Tensor) -> Tensor:
    """The picture that two numbers a pixel (1, 2, H, W) mean: DAB, and a bounded gain of haematoxylin."""
    wanted = F.softplus(out[:, :1] + LEAST_DAB) / 2
    dab = plan.most_dab * (1 - (-wanted).exp())
    hematoxylin = plan.hematoxylin * (MOST_GAIN * out[:, 1:].tanh()).exp()
    return rendered(torch.cat([hematoxylin, dab], 1), plan.matrix, plan.kept)


class StainMaps:
    """A free DAB map and gain, pixel by pixel."""

    learning_rate, one_cycle = 0.1, False

    def __init__(self, plan: StainPlan, coarse: StainMaps | None = None) -> None:
        """From nothing, or from the maps of a coarser scale."""
        self.plan = plan
        size = plan.hematoxylin.shape[2:]
        start = plan.hematoxylin.new_zeros(1, 2, *size) if coarse is None else _enlarged(coarse.maps, size)
        self.maps: Tensor = start.requires_grad_()
        self.parameters = [self.maps]

    def picture(self, window: Window | None = None) -> Tensor:
        """Rendered from the maps."""
        if window is None:
            return stained(self.plan, self.maps)
        return stained(part_of_plan(self.plan, window), part_of(self.maps, window))

    def tame(self) -> None:
        """Nothing to do."""

    def settle(self) -> None:
        """Nothing to do: every value is a possible one."""

    def develop(self, amount: float) -> None:
        """The tissue takes more or less."""
        self.plan = developed(self.plan, amount)


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps.detach(), tuple(size), mode="bilinear", align_corners=False)


Features: TypeAlias = Callable[[Window | None], Tensor]  # (1, N, h, w) of a window, or of the whole


class StainNetwork:
    """The weights of a small local network: what is stained how is a function of the tissue."""

    learning_rate, one_cycle = 0.015, True

    def __init__(
        self, plan: StainPlan, features: Features, seed: int = 0, coarse: StainNetwork | None = None
    ) -> None:
        """From tissue features, whose dtype it computes in; a coarser scale's network goes on."""
        self.plan, self.features = plan, features
        self.network: LocalStain = coarse.network if coarse else _new_network(plan, seed)
        self.parameters: list[Tensor] = list(self.network.parameters())

    def picture(self, window: Window | None = None) -> Tensor:
        """Rendered from what the network says of every pixel; in a window, rows by rows, which are not kept."""
        features = self.features(window)
        if window is None:
            return self._stained(features, self.plan)
        plan, parts = part_of_plan(self.plan, window), []
        for row in range(0, features.shape[2], ROWS_AT_ONCE):
            rows = Window(0, row, features.shape[3], row + ROWS_AT_ONCE)
            given = features[..., *rows.at], part_of_plan(plan, rows)
            part: Tensor = checkpoint(self._stained, *given, use_reentrant=False, preserve_rng_state=False)
            parts.append(part)
        return torch.cat(parts, 2)

    def _stained(self, features: Tensor, plan: StainPlan) -> Tensor:
        dtype = features.dtype
        with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
            out = self.network(features.contiguous(memory_format=torch.channels_last))
        return stained(plan, out)

    def tame(self) -> None:
        """Long gradients are cut."""
        cut_gradients(self.parameters)

    def settle(self) -> None:
        """Nothing to do."""

    def develop(self, amount: float) -> None:
        """The tissue takes more or less."""
        self.plan = developed(self.plan, amount)


def cut_gradients(parameters: Iterable[Tensor]) -> None:
    """Of a network's parameters together no longer than `MOST_GRADIENT`: one odd step must not undo many."""
    nn.utils.clip_grad_norm_(parameters, MOST_GRADIENT)


def _new_network(plan: StainPlan, seed: int) -> LocalStain:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LocalStain(FEATURES).to(plan.hematoxylin.device)
