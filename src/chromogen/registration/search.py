"""Search for the rotation, mirror and shift of an IHC on an H&E."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from chromogen.image import Image
from chromogen.stains.deconvolution import Array, blurred, optical_density_od10
from chromogen.stains.tissue import Background

if TYPE_CHECKING:
    from torch import Tensor


# A slide seen from afar: maps of what every stain shows of a tissue, in um of the slide.

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


def view_at_mpp(view: DensityView, mpp: float) -> DensityView:
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


def sampled_view(view: DensityView, points_um: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, 2, h, w) and what is seen (B, 1, h, w) of a view at points (B, h, w, 2) in um; 0 outside."""
    import torch
    from torch.nn.functional import grid_sample

    origin, extent = points_um.new_tensor(view.origin_um), points_um.new_tensor(view.extent_um)
    at = 2 * (points_um - origin) / extent - 1
    both = torch.cat([view.maps * view.seen, view.seen[None]])[None]
    found = grid_sample(both.expand(len(at), -1, -1, -1), at, align_corners=False)
    return found[:, :-1], found[:, -1:]


# How alike two maps are, place by place: a measure that two stains leave standing.

FLAT = 0.01  # standard deviation of a map, 0 to 1, below which a window shows camera noise
MIN_SEEN = 0.5  # of a window


def likeness(ours: Tensor, theirs: Tensor, seen: Tensor, window_px: int) -> tuple[Tensor, Tensor]:
    """Correlation of maps (B, C, H, W) in windows, and how much there is to see in ours: both (B, C, h, w).

    Local correlation (Cachier & Pennec 2000) is not changed by how strongly a stain is developed, nor by a slow
    change of it. `seen`: (B, 1, H, W), 0 to 1, where both are known. What there is to see is the deviation of ours
    in the window; 0 where less than half of the window is known.
    """
    import torch

    weighted = torch.cat([ours, theirs, ours.square(), theirs.square(), ours * theirs], 1) * seen
    share = _mean(seen, window_px)
    a, b, a2, b2, ab = (_mean(weighted, window_px) / share.clamp_min(1e-3)).chunk(5, 1)
    variance_a, variance_b = (a2 - a.square()).clamp_min(0), (b2 - b.square()).clamp_min(0)
    covariance = ab - a * b
    r = covariance / ((variance_a + FLAT**2) * (variance_b + FLAT**2)).sqrt()
    detail = (variance_a + FLAT**2).sqrt() - FLAT
    return r, detail * (share > MIN_SEEN)


def _mean(x: Tensor, window_px: int) -> Tensor:
    """Means (B, C, h, w) of (B, C, H, W) over windows without a hard border, about every sixth of a window.

    First over blocks that do not overlap: nothing finer is asked for, and the rest is quick.
    """
    from torch.nn.functional import avg_pool2d

    x = avg_pool2d(x, max(1, window_px // 6), ceil_mode=True)
    for _ in range(2):
        x = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x


def fit(he: DensityView, ihc: DensityView, points_um: Tensor, window_px: int) -> Tensor:
    """How well the IHC fits the H&E where points (B, H, W, 2) in um say its pixels lie: (B,), -1 to 1.

    The mean of the squares of `likeness`, with their signs, by how much there is to see of the H&E: places that
    are alike count, and texture that two sections do not share hardly does.
    """
    theirs, seen = sampled_view(ihc, points_um)
    r, detail = likeness(he.maps[None], theirs, seen * he.seen, window_px)
    return (r * r.abs() * detail).sum((1, 2, 3)) / detail.sum((1, 2, 3)).clamp_min(1e-6)


def covered_share(he: DensityView, ihc: DensityView, points_um: Tensor) -> Tensor:
    """Which share of what there is to see of the H&E lies where the IHC was scanned: (B,)."""
    _, seen = sampled_view(ihc, points_um)
    detail = he.maps.sum(0) * he.seen
    return (seen[:, 0] * detail).sum((1, 2)) / detail.sum().clamp_min(1e-6)


# Where a tissue lies on another slide, with no idea beforehand: every angle, mirrored or not, every place.

WIDE_PX = 6.0
SCALES = tuple(1.15**step for step in range(-10, 11))  # a quarter to four, where a pixel size is not known
MIN_OVERLAP = 0.35  # of the smaller slide's area


@dataclass(frozen=True)
class Fineness:
    """Longest sides in px, while searching, of the smaller slide and at most of the larger; number of angles."""

    smaller_px: int
    larger_px: int
    angles: int


FINE, COARSE = Fineness(72, 640, 48), Fineness(48, 144, 36)  # for one scale, and where every scale is tried


@dataclass(frozen=True)
class Pose:
    """A place where one slide might lie on the other: `affine` (2, 3) from um to um, and how well both fit."""

    affine: Array
    fit: float


def search(he: DensityView, ihc: DensityView, scales: Sequence[float]) -> list[Pose]:
    """The best place for every angle, mirrored or not, and scale; best first.

    `scales`: um of the IHC for each um of the H&E. Correlation of densities at all shifts by Fourier transform,
    over what is seen of both (Padfield 2012); `fit` is Fisher's z (1915) times the root of the pixels compared.
    """
    fineness = FINE if len(scales) == 1 else COARSE
    poses = [pose for scale in scales for pose in _at_scale(he, ihc, scale, fineness)]
    return sorted(poses, key=lambda pose: -pose.fit)


def _at_scale(he: DensityView, ihc: DensityView, scale: float, fineness: Fineness) -> Iterator[Pose]:
    longest = sorted((max(he.extent_um) * scale, max(ihc.extent_um)))
    mpp = max(longest[0] / fineness.smaller_px, longest[1] / fineness.larger_px)
    ours, theirs = view_at_mpp(he, mpp / scale), view_at_mpp(ihc, mpp)
    canvas = int(np.ceil(np.hypot(*ours.extent_um) * scale / mpp)) + 2
    fixed, known = _even_map(theirs)
    for mirror in (1, -1):
        turns = np.linspace(0, 2 * np.pi, fineness.angles, endpoint=False)
        linear = np.stack([_turned(angle, mirror) * scale for angle in turns])
        turned, covered = _on_canvas(ours, linear, canvas, mpp)
        fits = _fits(fixed, known, turned, covered)
        for index, fit in enumerate(fits):
            yield _pose(fit, linear[index], ours, theirs, canvas, mpp)


def _turned(angle: float, mirror: int) -> Array:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[mirror * cos, -sin], [mirror * sin, cos]])


def _even_map(view: DensityView) -> tuple[Tensor, Tensor]:
    """One map (h, w) of a view, without what changes slowly, and what is seen (h, w)."""
    detail = _detail(view.maps.mean(0)[None, None], view.seen[None, None])
    return detail[0, 0], view.seen


def _detail(maps: Tensor, seen: Tensor) -> Tensor:
    """Maps (B, 1, H, W) without what changes slowly: outlines look alike however a tissue is turned."""
    around = blurred(maps * seen, WIDE_PX) / blurred(seen, WIDE_PX).clamp_min(1e-3)
    return (maps - around) * seen


def _on_canvas(view: DensityView, linear: Array, canvas: int, mpp: float) -> tuple[Tensor, Tensor]:
    """A view turned about its middle by each of (B, 2, 2), on squares of `canvas` px of the other slide's mpp."""
    import torch

    at = (torch.arange(canvas) + 0.5 - canvas / 2) * mpp
    points = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)
    inverse = torch.as_tensor(np.linalg.inv(linear), dtype=torch.float32)
    back = torch.einsum("hwk,bjk->bhwj", points, inverse) + torch.as_tensor(_middle(view), dtype=torch.float32)
    maps, seen = sampled_view(view, back)
    return _detail(maps.mean(1, keepdim=True), seen)[:, 0], seen[:, 0]


def _middle(view: DensityView) -> Array:
    return np.asarray(view.origin_um) + np.asarray(view.extent_um) / 2


def _fits(fixed: Tensor, known: Tensor, turned: Tensor, covered: Tensor) -> Tensor:
    """Fits of maps (B, c, c) at every shift over a map (h, w): (B, h + c, w + c), shift 0 at [0, 0], wrapped."""
    import torch

    shape = [next_fast_len(a + b) for a, b in zip(fixed.shape, turned.shape[1:], strict=True)]

    def spectrum(x: Tensor) -> Tensor:
        found: Tensor = torch.fft.rfft2(x, shape)
        return found

    def summed(left: Tensor, right: Tensor) -> Tensor:
        found: Tensor = torch.fft.irfft2(left * right.conj(), shape)
        return found

    ours = [spectrum(known * fixed**power) for power in range(3)]
    theirs = [spectrum(covered * turned**power) for power in range(3)]
    n = summed(ours[0], theirs[0]).clamp_min(1)
    a, b = summed(ours[1], theirs[0]) / n, summed(ours[0], theirs[1]) / n
    variance_a = (summed(ours[2], theirs[0]) / n - a**2).clamp_min(1e-5)
    variance_b = (summed(ours[0], theirs[2]) / n - b**2).clamp_min(1e-5)
    r = (summed(ours[1], theirs[1]) / n - a * b) / (variance_a * variance_b).sqrt()
    least = MIN_OVERLAP * min(float(known.sum()), float(covered[0].sum()))
    return torch.where(n > least, torch.atanh(r.clamp(-0.99, 0.99)) * n.sqrt(), -torch.inf)


def _pose(fit: Tensor, linear: Array, ours: DensityView, theirs: DensityView, canvas: int, mpp: float) -> Pose:
    """The pose of the best shift of one canvas."""
    best = int(fit.argmax())
    shift = np.array([best % fit.shape[1], best // fit.shape[1]])
    shape = np.array(fit.shape[::-1])
    shift = np.where(shift > np.array(theirs.shape[::-1]), shift - shape, shift)
    corner = np.asarray(theirs.origin_um) + (shift + canvas / 2) * mpp
    offset = corner - linear @ _middle(ours)
    return Pose(np.column_stack([linear, offset]), float(fit.flatten()[best]))
