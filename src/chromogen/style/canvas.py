"""What `stylize` changes: pixels, or the weights of a small network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chromogen.compute.memory import InMemory, Spill, Store
from chromogen.compute.tiles import TileGrid, Window
from chromogen.image import Image, to_tensor
from chromogen.stains.deconvolution import (
    H_DAB,
    H_E,
    Array,
    blurred,
    concentrations_of,
    density_of,
    estimate_stains,
    rendered,
    stain_matrix,
    stain_strength,
)

# A network that changes a stain by the tissue around a pixel and nothing else, fitted to one picture.

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


# What an optimization changes, and the picture it stands for: pixels, or a network that restains it.

MAX_TURNED_DEG = 20.0  # from the usual vectors to an IHC's own
GAINS = (0.72, 1.6)  # haematoxylin is never made weaker or stronger than so: paler nuclei lose their contrast
DAB_HEADROOM = 1.2
MIN_STRONGEST_DAB = 0.3
MAX_GAIN = 0.4  # haematoxylin, and the faint DAB of a background, may change by a factor of e to this, either way
MAX_DAB_GAIN = 0.8  # DAB above that: more for the background would tint collagen in patches
MAX_GRADIENT = 1.0
ROWS_AT_ONCE = 64  # of a window, by a network: its activations would take more memory than the encoder's


class Canvas(Protocol):
    """A picture by its parameters."""

    parameters: list[Tensor]
    learning_rate: float
    one_cycle: bool

    def picture(self, window: Window) -> Tensor:
        """A window (1, 3, h, w) of the picture, in [0, 1], with its gradient."""

    def clip_gradients(self) -> None:
        """Called between gradient and step."""

    def project(self) -> None:
        """Called after a step: bring the parameters back to those that are allowed."""

    def scale_dab(self, factor: float) -> None:
        """Called at the end: multiply the DAB, where there is such a thing."""


class PixelCanvas:
    """Every pixel of the picture, from a first one (1, 3, H, W) on."""

    learning_rate, one_cycle = 0.02, False

    def __init__(self, start: Tensor) -> None:
        # torch's L-BFGS needs a contiguous parameter; the encoder converts to channels-last inside.
        self.x = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.parameters = [self.x]

    def picture(self, window: Window) -> Tensor:
        """The pixels."""
        return part_of(self.x, window)

    def clip_gradients(self) -> None:
        """Nothing to do."""

    def project(self) -> None:
        """Keep them between black and white."""
        with torch.no_grad():
            self.x.clamp_(0, 1)

    def scale_dab(self, factor: float) -> None:
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
class StainStrengths:
    """What decides a stained picture as a whole: the IHC's own vectors, and how strong its stains are.

    `hematoxylin_gain` brings the H&E's haematoxylin to the strength it has in the IHC; no DAB is denser than
    `strongest_dab`, in natural density.
    """

    matrix: Array
    hematoxylin_gain: float
    strongest_dab: float


def stain_strengths(content: Image, styles: Sequence[Image], mix: Sequence[float]) -> StainStrengths:
    """From an H&E and IHC images that count by `mix`, uint8 (H, W, 3)."""
    matrices = [ihc_vectors(style) for style in styles]
    mean = np.average(matrices, axis=0, weights=mix)
    matrix = stain_matrix(tuple(mean[0]), tuple(mean[1]))
    strengths = [stain_strength(style, m) for style, m in zip(styles, matrices, strict=True)]
    hematoxylin, dab = np.average(strengths, axis=0, weights=mix)
    ours = stain_strength(content, H_E)[0]
    gain = hematoxylin / ours if min(hematoxylin, ours) > 0 else 1.0
    return StainStrengths(matrix, float(np.clip(gain, *GAINS)), max(float(dab) * DAB_HEADROOM, MIN_STRONGEST_DAB))


def ihc_vectors(style: Image) -> Array:
    """The stain vectors of an IHC image, uint8 (H, W, 3): its own (Macenko), or H-DAB where these are no H-DAB.

    An IHC that is negative, or nearly, tells nothing of DAB's colour.
    """
    estimated = estimate_stains(style, H_DAB).matrix
    cosines = (estimated[:2] * H_DAB[:2]).sum(1)
    return estimated if cosines.min() > np.cos(np.radians(MAX_TURNED_DEG)) else H_DAB


@dataclass(frozen=True)
class StainAmounts:
    """A picture before it is stained otherwise: amounts (1, 3, H, W) of haematoxylin, DAB and neither.

    They are natural densities by the rows of a `matrix`, over a `white` of (r, g, b). Up to `background`, DAB is
    that of tissue without the marker.
    """

    of_stains: Tensor
    matrix: Array
    white: Tensor
    background: float


def stain_amounts(picture: Tensor, matrix: Array, white: Sequence[float], background: float = 0.0) -> StainAmounts:
    """Of a picture (1, 3, H, W) in [0, 1]."""
    glass = torch.tensor(white, dtype=picture.dtype, device=picture.device).view(1, 3, 1, 1)
    density = density_of(picture) + ((glass + 1) / 256).log()
    inverse = torch.as_tensor(np.linalg.inv(matrix), dtype=picture.dtype, device=picture.device)
    return StainAmounts(torch.einsum("bchw,cs->bshw", density, inverse), matrix, glass, background)


def part_of_amounts(amounts: StainAmounts, window: Window) -> StainAmounts:
    """Those of a window."""
    return replace(amounts, of_stains=amounts.of_stains[..., *window.at])


def with_dab_scaled(amounts: StainAmounts, factor: float) -> StainAmounts:
    """Amounts with `factor` times the DAB everywhere, as if developed for longer or shorter."""
    factors = amounts.of_stains.new_tensor([1, factor, 1]).view(1, 3, 1, 1)
    return replace(amounts, of_stains=amounts.of_stains * factors)


def restained(amounts: StainAmounts, out: Tensor) -> Tensor:
    """The picture that two numbers a pixel (1, 2, H, W) mean: bounded gains of haematoxylin and DAB."""
    hematoxylin, dab, neither = amounts.of_stains.split(1, 1)
    change = out.tanh()
    faint = dab.clamp_max(amounts.background)
    hematoxylin = hematoxylin * (MAX_GAIN * change[:, :1]).exp()
    dab = faint * (MAX_GAIN * change[:, 1:]).exp() + (dab - faint) * (MAX_DAB_GAIN * change[:, 1:]).exp()
    return rendered(torch.cat([hematoxylin, dab, neither], 1), amounts.matrix, amounts.white)


def hematoxylin_alone(he: Tensor, stains: StainStrengths) -> Tensor:
    """What an IHC without any DAB would show of an H&E (1, 3, H, W) in [0, 1]."""
    with torch.no_grad():
        hematoxylin = concentrations_of(he, H_E)[:, :1].clamp_min(0) * stains.hematoxylin_gain
        return rendered(hematoxylin, stains.matrix)


Features: TypeAlias = Callable[[Window], Tensor]  # (1, N, h, w) of a window


class NetworkCanvas:
    """The weights of a small local network: how far each pixel's amounts change is a function of the tissue."""

    learning_rate, one_cycle = 0.015, True

    def __init__(
        self, amounts: StainAmounts, features: Features, seed: int = 0, coarse: NetworkCanvas | None = None
    ) -> None:
        """From tissue features, whose dtype it computes in; a coarser scale's network goes on."""
        self.amounts, self.features = amounts, features
        self.network: LocalStain = coarse.network if coarse else _new_network(amounts, seed)
        self.parameters: list[Tensor] = list(self.network.parameters())

    def picture(self, window: Window) -> Tensor:
        """Rendered from what the network says of every pixel, rows by rows, whose activations are not kept.

        The backward pass computes them again: torch's own checkpoints import its compiler.
        """
        given = self.features(window), part_of_amounts(self.amounts, window)
        with torch.no_grad():
            picture = torch.cat([self._stained(*part) for _, part in _by_rows(*given)], 2)

        def send_back(gradient: Tensor) -> None:
            for at, part in _by_rows(*given):
                with torch.enable_grad():
                    (self._stained(*part) * gradient[..., *at]).sum().backward()

        if torch.is_grad_enabled():
            picture.requires_grad_().register_hook(send_back)
        return picture

    def _stained(self, features: Tensor, amounts: StainAmounts) -> Tensor:
        dtype = features.dtype
        with torch.autocast(features.device.type, dtype, enabled=dtype != torch.float32):
            out = self.network(features.contiguous(memory_format=torch.channels_last))
        return restained(amounts, out)

    def clip_gradients(self) -> None:
        """No longer than `MAX_GRADIENT`, all together: one odd step must not undo many."""
        nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT)

    def project(self) -> None:
        """Nothing to do."""

    def scale_dab(self, factor: float) -> None:
        """The tissue takes more or less."""
        self.amounts = with_dab_scaled(self.amounts, factor)


def _by_rows(
    features: Tensor, amounts: StainAmounts
) -> Iterator[tuple[tuple[slice, slice], tuple[Tensor, StainAmounts]]]:
    """Where rows of a window are, their features and amounts."""
    _, _, height, width = features.shape
    for row in range(0, height, ROWS_AT_ONCE):
        rows = Window(0, row, width, min(row + ROWS_AT_ONCE, height))
        yield rows.at, (features[..., *rows.at], part_of_amounts(amounts, rows))


def _new_network(amounts: StainAmounts, seed: int) -> LocalStain:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LocalStain(FEATURES).to(amounts.of_stains.device)
