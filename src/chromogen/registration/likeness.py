"""How alike two maps are, place by place: a measure that two stains leave standing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chromogen.registration.views import DensityView, sampled

if TYPE_CHECKING:
    from torch import Tensor

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
    theirs, seen = sampled(ihc, points_um)
    r, detail = likeness(he.maps[None], theirs, seen * he.seen, window_px)
    return (r * r.abs() * detail).sum((1, 2, 3)) / detail.sum((1, 2, 3)).clamp_min(1e-6)


def covered(he: DensityView, ihc: DensityView, points_um: Tensor) -> Tensor:
    """Which share of what there is to see of the H&E lies where the IHC was scanned: (B,)."""
    _, seen = sampled(ihc, points_um)
    detail = he.maps.sum(0) * he.seen
    return (seen[:, 0] * detail).sum((1, 2)) / detail.sum().clamp_min(1e-6)
