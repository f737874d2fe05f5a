"""The network that stains slides: a DAB for every pixel of an H&E from the tissue within 27 um, seamless.

What the tissue is like is looked at in half resolution and coarser; what comes of it is brought to full resolution
by the H&E's own haematoxylin. No statistic is taken of the picture: those are given, one set for a whole slide.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from chromogen.errors import choose, expected
from chromogen.grid import Window, whole
from chromogen.image import Image
from chromogen.stains.deconvolution import H_E, optical_density
from chromogen.stains.estimation import stain_strength
from chromogen.stains.glass import white_level
from chromogen.stains.light import LEAST_DENSITY, foreign_beyond, ramp, red_cell_share
from chromogen.stains.tissue import tissue_mask
from chromogen.style.slide_densities import STRIDE_PX, Target, density_from, image_from, mixed, padded
from chromogen.style.tissue_pyramid import FAR, FEATURES, doubled, halved, smoothed, tissue_pyramid

HALO_PX = 64
OUTPUTS = 3  # DAB, how far the haematoxylin's detail counts for it, gain of haematoxylin
TRAINED_SITES = ("any", "nuclear", "cytoplasm")  # of all sites those that haematoxylin and its surroundings tell
ELSEWHERE = {"nuclear": 0.05, "cytoplasm": 0.1}  # stains are never clean
DENSITY_FOR_DAB = 3.0  # how soon tissue takes all the DAB it can
RED_CELLS_KEPT = 0.15  # of their density
MOST_GAIN = 0.5  # haematoxylin may change by a factor of e to this, either way
LEAST_DAB = -1.5  # what networks start from: a tenth of the most
GLASS = (218 / 255, 227 / 255)  # of the darkest channel: stained below, left as it is above; models are trained so
UNMIXING = np.linalg.inv(H_E)
GAINS = (0.6, 1.6)  # of haematoxylin, as a slide on the whole: models were trained with these
PALEST = {"any": GAINS[0], "nuclear": GAINS[0], "cytoplasm": 0.85}  # blue nuclei show their chromatin
NUCLEUS = {"nuclear": (0.08, 0.22), "cytoplasm": (0.14, 0.34)}  # over most of its surroundings', of the strongest
CELLULAR = (0.18, 0.42)  # haematoxylin within 8 um, of the slide's strongest: from collagen to cells side by side
COLLAGEN = (0.15, 0.4)  # what it takes of a cytoplasm's DAB, and keeps of its own haematoxylin
COVERED = {"any": 0.0, "nuclear": 0.6, "cytoplasm": 0.0}  # of a place's haematoxylin, where it takes all the DAB
SURROUNDINGS = 0.75  # in a nest of nuclei all is dense
USUAL_STRENGTH = (1.5, 1.0)  # of haematoxylin and eosin, where a slide shows neither
MOST_LOGIT = 30.0
PIXELS_AT_ONCE, STRIP_PX = 4096, 32  # they stay in a processor's cache


@dataclass(frozen=True)
class SlideLook:
    """What must be the same over a slide: white level (3,), strengths of both stains (2,), and the usual residue.

    The residue is the share of a density that is neither stain, in the middle of the tissue's pixels.
    """

    white: tuple[float, ...]
    strength: tuple[float, ...]
    residue: float


def slide_look(sample: Image) -> SlideLook:
    """The look of a slide, from uint8 (H, W, 3) of its tissue."""
    tissue = tissue_mask(sample)
    white = white_level(sample)
    strength = stain_strength(sample, H_E, white)
    found = np.where(strength > 0, strength, USUAL_STRENGTH)
    return SlideLook(tuple(map(float, white)), tuple(map(float, found)), _usual_residue(sample[tissue], white))


def _usual_residue(inside: NDArray[np.uint8], white: Any) -> float:
    if not len(inside):
        return 0.0
    amounts = optical_density(inside[:: 1 + len(inside) // 250_000], white) @ UNMIXING
    length = np.linalg.norm(amounts, axis=1)
    there = length > LEAST_DENSITY
    return float(np.median(amounts[there, 2] / length[there])) if there.any() else 0.0


@dataclass(frozen=True)
class Architecture:
    """A network as data. `site` says where in a cell the marker sits."""

    width: int = 48
    depth: int = 3
    site: str = "any"
    kind: str = "stain-pyramid"

    def __post_init__(self) -> None:
        choose("site", self.site, TRAINED_SITES)
        choose("network", self.kind, ("stain-pyramid",))
        if not (1 <= self.width <= 1024 and 1 <= self.depth <= 16):
            raise expected("network", "of 1 to 16 layers of 1 to 1024 channels", asdict(self))


class StainerNetwork(nn.Module):
    """Densities of an H&E (B, 3, H, W) -> densities of its IHC, both over white; any size in multiples of 16.

    At first it stains everything palely alike. `mean` and `std` (1, F, 1, 1) standardize the features; they
    are the training tissue's, so that a slide of nothing but stroma is known as such.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture, target: Target) -> None:
        super().__init__()
        self.architecture, self.target = architecture, target
        self.register_buffer("mean", torch.zeros(1, FEATURES, 1, 1))
        self.register_buffer("std", torch.ones(1, FEATURES, 1, 1))
        sizes = [FEATURES, *[architecture.width] * architecture.depth]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
        self.body = nn.Sequential(*hidden)
        self.head = nn.Linear(architecture.width, OUTPUTS)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.zero_()

    def forward(self, density: Tensor, strength: Tensor, residue: Tensor) -> Tensor:
        """By the slide's strengths (2,) and residue (1,)."""
        maps = self.maps(halved_amounts(density), strength, residue, (slice(None), slice(None)))
        return self.rendered(density, doubled(maps), strength)

    def maps(self, halved: Tensor, strength: Tensor, residue: Tensor, at: tuple[slice, slice]) -> Tensor:
        """What is to become of rows and columns `at`, (B, 7, h, w), of what `halved_amounts` finds in the H&E."""
        features = _features(halved, strength)[..., *at]
        halved = halved[..., *at]
        out = self._decided((features - self.mean) / self.std)
        part = shares(halved, residue)
        gain = (self.target.hematoxylin / strength[0]).clamp(PALEST[self.architecture.site], GAINS[1])
        dab, hematoxylin = self._site(features)
        gain = gain * (MOST_GAIN * out[:, 2:].tanh()).exp() * part.keeps * hematoxylin
        takes = part.takes * dab
        return torch.cat([out[:, :2], features[:, :1], gain, takes, part.through, part.glass], 1)

    def _decided(self, features: Tensor) -> Tensor:
        """What the network says of every pixel, (B, 15, h, w) -> (B, 3, h, w).

        Always of so many pixels at once: products of matrices of other sizes may be added up in another order.
        An exported graph has no place for a number of parts that depends on the size.
        """
        if torch.compiler.is_compiling():
            at_once: Tensor = self.head(self.body(features.permute(0, 2, 3, 1)))
            return at_once.permute(0, 3, 1, 2)
        batch, _, height, width = features.shape
        pixels = features.permute(0, 2, 3, 1).flatten(0, 2)
        *parts, last = pixels.split(PIXELS_AT_ONCE)
        parts.append(F.pad(last, (0, 0, 0, PIXELS_AT_ONCE - len(last))))
        found = torch.cat([self.head(self.body(part)) for part in parts])[: len(pixels)]
        return found.view(batch, height, width, OUTPUTS).permute(0, 3, 1, 2)

    def _site(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the DAB the cell's part takes, and of its haematoxylin keeps.

        By haematoxylin, the first feature: by what stands out of the surroundings; of "cytoplasm" also by how much
        these have: collagen, whose cells lie apart, takes a hint of DAB, and what it seems to have of
        haematoxylin is eosin's.
        """
        site, around = self.architecture.site, features[:, FAR : FAR + 1]
        all_of_it = torch.ones_like(around)
        if site == "any":
            return all_of_it, all_of_it
        nuclear = ramp(features[:, :1] - SURROUNDINGS * around, *NUCLEUS[site])
        inside = nuclear if site == "nuclear" else 1 - nuclear
        share = ELSEWHERE[site] + (1 - ELSEWHERE[site]) * inside
        if site == "nuclear":
            return share, all_of_it
        cellular = ramp(around, *CELLULAR)
        pairs = zip(COLLAGEN, (cellular, cellular.maximum(nuclear)), strict=True)
        dab, hematoxylin = (least + (1 - least) * share_of_all for least, share_of_all in pairs)
        return share * dab, hematoxylin

    def rendered(self, density: Tensor, maps: Tensor, strength: Tensor) -> Tensor:
        """Haematoxylin and DAB over what goes through, channel by channel, by maps in full resolution."""
        logit, guided, coarse, gain, takes, through, glass = maps.split(1, 1)
        hematoxylin, eosin = (amount.clamp_min(0) for amount in mixed(density, UNMIXING[:, :2]))
        detail = hematoxylin / strength[0] - coarse
        share = 1 - (1 + (logit + guided * detail + LEAST_DAB).clamp_max(MOST_LOGIT).exp()).rsqrt()
        full = 1 - (-DENSITY_FOR_DAB * (hematoxylin + eosin)).exp()
        dab = self.target.dab * takes * full * share
        hematoxylin, left = hematoxylin * gain, glass * density.amax(1, keepdim=True)
        if covered := COVERED[self.architecture.site]:
            hematoxylin = hematoxylin * (1 - covered * takes * full * share)
        if self.target.dab_offset:
            dab = (dab + self.target.dab_offset * takes * full).clamp_min(0)
        colors = zip(self.target.matrix[0], self.target.matrix[1], density.split(1, 1), strict=True)
        return torch.cat([hematoxylin * h + dab * d + through * own + left for h, d, own in colors], 1)


def features_of(density: Tensor, strength: Tensor) -> Tensor:
    """What the network sees of densities (B, 3, H, W): (B, 15, H / 2, W / 2), not standardized."""
    return _features(halved_amounts(density), strength)


def halved_amounts(density: Tensor) -> Tensor:
    """Amounts of three stains, mean and highest density (B, 5, H / 2, W / 2) of densities (B, 3, H, W)."""
    colors = halved(density)
    darkest = halved(density.amax(1, keepdim=True))
    return torch.cat([*mixed(colors, UNMIXING), colors.mean(1, keepdim=True), darkest], 1)


def _features(halved: Tensor, strength: Tensor) -> Tensor:
    relative = (halved[:, :2] / strength.view(1, 2, 1, 1)).clamp_min(0)
    return tissue_pyramid(torch.cat([relative, halved[:, 3:4]], 1))


@dataclass(frozen=True)
class Shares:
    """What of a pixel takes DAB, keeps its haematoxylin, goes through as it is, or is glass: (B, 1, h, w)."""

    takes: Tensor
    keeps: Tensor
    through: Tensor
    glass: Tensor


def shares(halved: Tensor, residue: Tensor) -> Shares:
    """By amounts of both stains and the residue, mean and highest density (B, 5, h, w) in half resolution.

    Glass takes no DAB, nor do ink and pigment, which go through, nor red cells, of which a
    hint does.
    """
    amounts = halved[:, :3]
    strange = foreign_beyond(amounts, residue)
    glass = ramp(doubled(smoothed(F.avg_pool2d((-halved[:, 4:5]).exp(), 2))), *GLASS)
    keeps = (1 - glass) * (1 - strange)
    red_cells = keeps * red_cell_share(amounts)
    return Shares(keeps - red_cells, keeps, (1 - glass) * strange + RED_CELLS_KEPT * red_cells, glass)


@torch.inference_mode()
def stain(network: StainerNetwork, image: Image, look: SlideLook, part: Window | None = None) -> Image:
    """The image, uint8 (H, W, 3), or a window of it, stained by the network and a slide's look."""
    asked = part or whole((image.shape[1], image.shape[0]))
    padded_image = padded(image)
    strength, residue = torch.tensor(look.strength), torch.tensor([look.residue])
    tops = range(0, len(padded_image), STRIP_PX)
    strips = (density_from(padded_image[top : top + STRIP_PX], look.white) for top in tops)
    amounts = torch.cat([halved_amounts(strip) for strip in strips], 2)
    painted = _outwards(asked)
    around = painted.grown(STRIDE_PX, (padded_image.shape[1], padded_image.shape[0]))
    maps = network.maps(amounts, strength, residue, around.coarser(2).at)
    made = np.empty((*painted.size[::-1], 3), np.uint8)
    for top in range(painted.top, painted.bottom, STRIP_PX):
        strip = replace(painted, top=top, bottom=min(top + STRIP_PX, painted.bottom))
        density = density_from(padded_image[strip.at], look.white)
        rendered = network.rendered(density, _doubled_in(maps, strip.seen_from(around)), strength)
        made[strip.seen_from(painted).at] = image_from(rendered, look.white)
    return made[asked.seen_from(painted).at]


def _outwards(window: Window) -> Window:
    """Larger, so that it begins and ends at multiples of 16."""
    right, bottom = (-(-end // STRIDE_PX) * STRIDE_PX for end in (window.right, window.bottom))
    return replace(window.aligned(STRIDE_PX), right=right, bottom=bottom)


def _doubled_in(x: Tensor, window: Window) -> Tensor:
    """A window, of even numbers, of `doubled(x)`."""
    half = window.coarser(2)
    near = half.grown(1, (x.shape[3], x.shape[2]))
    inside = half.seen_from(near)
    return doubled(x[..., *near.at])[..., 2 * inside.top : 2 * inside.bottom, 2 * inside.left : 2 * inside.right]
