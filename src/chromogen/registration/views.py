"""A slide seen from afar: maps of what every stain shows of a tissue, in um of the slide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.stains.deconvolution import Array, optical_density_od10
from chromogen.stains.tissue import Background

if TYPE_CHECKING:
    from torch import Tensor

BRIGHTEST = 99.0  # percentile of a density that a map is scaled by and cut off at
PALEST_OD10 = 0.02  # a slide without tissue is not scaled up to look like one
DARK = 12  # of 255: padding that is nearly black was never scanned
EDGE_PX = 2  # beside padding, where it was blended with the slide


@dataclass(frozen=True, eq=False)
class DensityView:
    """What is seen of a rectangle of a slide.

    `maps`: float32 (2, H, W), densities of red light and of all light, 0 to 1. `seen`: float32 (H, W), 1 where the
    slide was scanned and belongs to the piece looked for, else 0. `origin_um` and `extent_um`: (x, y) of the
    rectangle's corner and (w, h) of the rectangle, in um of the slide.
    """

    maps: Tensor
    seen: Tensor
    origin_um: tuple[float, float]
    extent_um: tuple[float, float]

    @property
    def mpp(self) -> float:
        """Um per pixel of the maps."""
        return self.extent_um[0] / self.maps.shape[2]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the maps."""
        return self.maps.shape[1], self.maps.shape[2]


def view_of(image: Image, extent_um: tuple[float, float], background: Background) -> DensityView:
    """The view of a whole slide from its picture, uint8 (H, W, 3), and its `stains.tissue.background`."""
    import torch
    from torch.nn.functional import interpolate

    dark = _padding(image)
    density = optical_density_od10(image, background.white).clip(0)
    maps = np.stack([density[..., 0], density.mean(2)])
    maps[:, dark] = 0
    marks = torch.from_numpy(background.marks.astype(np.float32))[None, None]
    clean = 1 - interpolate(marks, image.shape[:2])[0, 0]
    tensor = torch.from_numpy(np.stack([_scaled(x, ~dark) for x in maps]).astype(np.float32))
    seen = torch.from_numpy((~dark).astype(np.float32))
    return DensityView(tensor * clean, seen, (0.0, 0.0), extent_um)


def _padding(image: Image) -> NDArray[np.bool_]:
    """Where a picture is nearly black and even up to its border."""
    from scipy import ndimage

    dark = np.asarray(image.max(2) < DARK)
    if not dark.any():
        return dark
    labels, count = ndimage.label(dark)
    border = np.zeros(count + 1, np.bool_)
    border[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    border[0] = False
    return np.asarray(ndimage.binary_dilation(border[labels], iterations=EDGE_PX))


def _scaled(density: Array, inside: NDArray[np.bool_]) -> Array:
    """A density (H, W) from 0 to 1: few pixels are so dense that they would outweigh the rest."""
    some = density[inside]
    top = max(PALEST_OD10, float(np.percentile(some, BRIGHTEST))) if some.size else 1.0
    return np.asarray((density / top).clip(0, 1))


def at_mpp(view: DensityView, mpp: float) -> DensityView:
    """The view at about so many um per pixel, no finer than it is; its rectangle stays the same."""
    from torch.nn.functional import interpolate

    shape = [max(8, round(side / mpp)) for side in (view.extent_um[1], view.extent_um[0])]
    if shape[0] >= view.shape[0] or shape[1] >= view.shape[1]:
        return view

    def resized(x: Tensor) -> Tensor:
        return interpolate(x[None], shape, mode="bilinear", antialias=True)[0]

    return replace(view, maps=resized(view.maps), seen=resized(view.seen[None])[0])


def cropped(view: DensityView, low_um: Array, high_um: Array) -> DensityView:
    """The whole pixels of a view that cover the rectangle between two corners (x, y) in um, within the view."""
    counts = np.array(view.shape[::-1])
    step = np.array(view.extent_um) / counts
    origin = np.array(view.origin_um)
    first = np.floor((low_um - origin) / step).clip(0, counts - 1).astype(int)
    last = np.ceil((high_um - origin) / step).clip(first + 1, counts).astype(int)
    at = np.s_[..., first[1] : last[1], first[0] : last[0]]
    corner, sides = origin + first * step, (last - first) * step
    return DensityView(view.maps[at], view.seen[at], (corner[0], corner[1]), (sides[0], sides[1]))


def scaled_um(view: DensityView, factor: float) -> DensityView:
    """The same pixels, where um of the slide turn out to be `factor` times as many."""
    x, y, w, h = (side * factor for side in (*view.origin_um, *view.extent_um))
    return replace(view, origin_um=(x, y), extent_um=(w, h))


def pixel_centers_um(view: DensityView) -> Tensor:
    """Where the pixels of a view lie: float32 (H, W, 2) in um (x, y)."""
    import torch

    xs, ys = (
        low + extent * (torch.arange(count) + 0.5) / count
        for low, extent, count in zip(view.origin_um, view.extent_um, view.shape[::-1], strict=True)
    )
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)


def sampled(view: DensityView, points_um: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, 2, h, w) and what is seen (B, 1, h, w) of a view at points (B, h, w, 2) in um; 0 outside."""
    import torch
    from torch.nn.functional import grid_sample

    origin, extent = points_um.new_tensor(view.origin_um), points_um.new_tensor(view.extent_um)
    at = 2 * (points_um - origin) / extent - 1
    both = torch.cat([view.maps * view.seen, view.seen[None]])[None]
    found = grid_sample(both.expand(len(at), -1, -1, -1), at, align_corners=False)
    return found[:, :-1], found[:, -1:]
