"""A network that changes colours freely (Johnson et al. 2016), with its statistics frozen for a whole slide.

We differ from the paper in size, in resizing before convolutions on the way up instead of transposed ones (Odena
et al. 2016), and in that it paints a change of density, so that it starts from the H&E. Its instance norm (Ulyanov
et al. 2016) takes a tile's own moments in training; a slide is stained by those of a sample of its tissue, one set
for all tiles, which therefore agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from chromogen.errors import expected
from chromogen.grid import Window, whole
from chromogen.image import Image
from chromogen.stains.glass import white_level
from chromogen.stains.light import picture_from
from chromogen.style.slide_densities import Target, density_from, image_from, padded

RGB_HALO_PX = 48
MOST_SAMPLED_PX = 1024  # on a side of what moments are measured on
LEAST_VARIANCE = 1e-5
KERNEL_PX = 9  # of the first and last convolution


@dataclass(frozen=True)
class RgbArchitecture:
    """`width` channels in full resolution, four times as many in a quarter, where the residual `blocks` are."""

    width: int = 16
    blocks: int = 3
    kind: str = "rgb"

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 64 and 1 <= self.blocks <= 3 and self.kind == "rgb"):
            raise expected("network", "rgb, of 1 to 3 blocks and 1 to 64 channels", asdict(self))


@dataclass(frozen=True)
class RgbLook:
    """What must be the same over a slide: white level (3,), and means and deviations of all norms (2, N)."""

    white: tuple[float, ...]
    moments: NDArray[np.float32]


class Affine(nn.Module):
    """A factor and a shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Of (B, C, H, W)."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class RgbNetwork(nn.Module):
    """Densities of an H&E (B, 3, H, W) -> densities of its IHC, both over white; sides in multiples of 4."""

    def __init__(self, architecture: RgbArchitecture, target: Target) -> None:
        super().__init__()
        self.architecture, self.target = architecture, target
        w = architecture.width
        self.first = _convolution(3, w, KERNEL_PX)
        self.down = nn.ModuleList([_convolution(w, 2 * w, 3, 2), _convolution(2 * w, 4 * w, 3, 2)])
        self.blocks = nn.ModuleList([_convolution(4 * w, 4 * w, 3) for _ in range(2 * architecture.blocks)])
        self.up = nn.ModuleList([_convolution(4 * w, 2 * w, 3), _convolution(2 * w, w, 3)])
        self.last = _convolution(w, 3, KERNEL_PX)
        self.channels = [w, 2 * w, 4 * w, *[4 * w] * len(self.blocks), 2 * w, w]
        self.norms = nn.ModuleList([Affine(count) for count in self.channels])
        with torch.no_grad():
            self.last.weight.zero_()

    def forward(self, density: Tensor, _strength: Tensor, _residue: Tensor) -> Tensor:
        """By each picture's own moments, as in training; the strengths of its stains are nothing to it."""
        return self._painted(density, lambda _, x: standardized(x, *moments_of(x)))

    def by_moments(self, density: Tensor, moments: Tensor) -> Tensor:
        """By the moments (2, N) of a slide."""
        each = moments.split(self.channels, 1)
        return self._painted(density, lambda at, x: standardized(x, *each[at][..., None, None].unsqueeze(1)))

    def moments(self, density: Tensor) -> Tensor:
        """Means and deviations (2, N) of a picture (1, 3, H, W), of all norms one after the other."""
        return self.by_moments_or_own(density, torch.zeros(2, sum(self.channels)))[1][0]

    def by_moments_or_own(self, density: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
        """By the moments (2, N) of a slide, or each picture's own where they are 0; and the moments (B, 2, N).

        In one graph, without a branch: for programs that have nothing but the graph.
        """
        each = [part[None, ..., None, None] for part in moments.split(self.channels, 1)]
        used: list[Tensor] = []

        def by_either(at: int, x: Tensor) -> Tensor:
            taken = torch.where(each[at][:, 1:] > 0, each[at], torch.stack(moments_of(x), 1))
            used.append(taken[..., 0, 0])
            return standardized(x, taken[:, 0], taken[:, 1])

        made = self._painted(density, by_either)
        return made, torch.cat(used, 2)

    def _painted(self, density: Tensor, norm: Callable[[int, Tensor], Tensor]) -> Tensor:
        """`norm(number, x)` standardizes what comes out of a convolution.

        The last one's sums are scaled down (Karras et al. 2018): a step of Adam would move all their parts alike.
        """
        layers = iter(enumerate(self.norms))

        def scaled(x: Tensor) -> Tensor:
            at, affine = next(layers)
            made: Tensor = affine(norm(at, x))
            return made

        x = scaled(self.first(picture_from(density))).relu()
        for convolution in self.down:
            x = scaled(convolution(x)).relu()
        for one, other in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = x + scaled(other(scaled(one(x)).relu()))
        for convolution in self.up:
            x = scaled(convolution(F.interpolate(x, scale_factor=2.0, mode="nearest"))).relu()
        change: Tensor = self.last(x) * self.last.weight[0].numel() ** -0.5
        return (density + change).clamp_min(0)


def _convolution(given: int, made: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Without bias, which a norm would take away again."""
    return nn.Conv2d(given, made, kernel, stride, kernel // 2, bias=False, padding_mode="replicate")


def moments_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (B, C, 1, 1)."""
    mean = x.mean((2, 3), keepdim=True)
    return mean, ((x - mean).square().mean((2, 3), keepdim=True) + LEAST_VARIANCE).sqrt()


def standardized(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) of mean 0 and deviation 1 in each channel, where x has these moments (1, C, 1, 1)."""
    return (x - mean) / std


@torch.inference_mode()
def rgb_look(network: RgbNetwork, sample: Image) -> RgbLook:
    """The look of a slide, from uint8 (H, W, 3) of its tissue."""
    seen, white = sampled(sample)
    return RgbLook(white, network.moments(density_from(padded(seen), white)).numpy())


def sampled(sample: Image) -> tuple[Image, tuple[float, ...]]:
    """What of a sample moments are measured on, its upper left part, which is enough; and its white level."""
    return sample[:MOST_SAMPLED_PX, :MOST_SAMPLED_PX], tuple(map(float, white_level(sample)))


@torch.inference_mode()
def stain_rgb(network: RgbNetwork, image: Image, look: RgbLook, part: Window | None = None) -> Image:
    """The image, uint8 (H, W, 3), or a window of it, stained by the network and a slide's look."""
    asked = part or whole((image.shape[1], image.shape[0]))
    density = density_from(padded(image), look.white)
    made = network.by_moments(density, torch.from_numpy(look.moments))
    return image_from(made[..., *asked.at], look.white)
