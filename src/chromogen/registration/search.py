"""Where a tissue lies on another slide, with no idea beforehand: every angle, mirrored or not, every place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import next_fast_len

from chromogen.registration.views import DensityView, at_mpp, sampled
from chromogen.stains.deconvolution import Array
from chromogen.stains.light import blurred

if TYPE_CHECKING:
    from torch import Tensor

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
    ours, theirs = at_mpp(he, mpp / scale), at_mpp(ihc, mpp)
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
    maps, seen = sampled(view, back)
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
