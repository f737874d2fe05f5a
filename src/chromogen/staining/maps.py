"""Maps of a picture: smoothed, averaged over a mask, made coarser and finer; float32 (H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

Array = NDArray[np.float32]
CUT_OFF = 3.0  # sigmas of a Gaussian
LEAST_COVER = 0.03  # of a mask, where a mean over it still means something


def smooth(x: NDArray[Any], sigma_px: float) -> Array:
    """The map blurred by a Gaussian; its border goes on outside."""
    return np.asarray(gaussian_filter(np.asarray(x, np.float32), sigma_px, mode="nearest", truncate=CUT_OFF))


def mean_over(x: NDArray[Any], mask: NDArray[Any], sigma_px: float) -> Array:
    """The mean of a map over a mask, 0 to 1, near every pixel."""
    weight = np.asarray(mask, np.float32)
    mean = smooth(x * weight, sigma_px) / np.maximum(smooth(weight, sigma_px), LEAST_COVER)
    return np.asarray(mean, np.float32)


def ramp(x: NDArray[Any], low: float, high: float) -> Array:
    """0 up to `low`, 1 from `high` on, linear between."""
    return np.asarray(((x - low) / (high - low)).clip(0, 1), np.float32)


def coarser(x: NDArray[Any], by: int) -> Array:
    """Means over squares of `by` px, (ceil(H / by), ceil(W / by)); the border goes on where a square is cut."""
    height, width = x.shape
    grown = np.pad(x, ((0, -height % by), (0, -width % by)), mode="edge")
    squares = grown.reshape(grown.shape[0] // by, by, grown.shape[1] // by, by)
    return np.asarray(squares.mean(axis=(1, 3)), np.float32)


def finer(x: NDArray[Any], by: int, shape: tuple[int, ...]) -> Array:
    """A map of squares of `by` px back on the pixels of a picture of `shape` (H, W), linear between centres."""
    for axis in (0, 1):
        places = ((np.arange(shape[axis]) + 0.5) / by - 0.5).clip(0, x.shape[axis] - 1)
        before = np.minimum(places.astype(int), max(x.shape[axis] - 2, 0))
        after = np.minimum(before + 1, x.shape[axis] - 1)
        part = (places - before).astype(np.float32)
        part = part[:, None] if axis == 0 else part
        x = np.take(x, before, axis) * (1 - part) + np.take(x, after, axis) * part
    return np.asarray(x, np.float32)


def guided(x: NDArray[Any], guides: Sequence[NDArray[Any]], radius_px: int, eps: float, by: int) -> Array:
    """A map brought to the edges of two guides: the guided filter (He et al. 2013), solved on squares of `by` px.

    The linear model of each window is found on the coarse maps and applied to the fine guides (He & Sun 2015).
    """
    size = 2 * (radius_px // by) + 1
    p, (a, b) = coarser(x, by), (coarser(guide, by) for guide in guides)
    means = [uniform_filter(m, size) for m in (p, a, b)]
    aa, ab, bb, ap, bp = (
        uniform_filter(u * v, size) - means[i] * means[j]
        for u, v, i, j in ((a, a, 1, 1), (a, b, 1, 2), (b, b, 2, 2), (a, p, 1, 0), (b, p, 2, 0))
    )
    aa, bb = aa + eps, bb + eps
    determinant = aa * bb - ab**2
    slopes = (bb * ap - ab * bp) / determinant, (aa * bp - ab * ap) / determinant
    offset = means[0] - slopes[0] * means[1] - slopes[1] * means[2]
    on_pixels = [finer(uniform_filter(part, size), by, x.shape) for part in (*slopes, offset)]
    return np.asarray(on_pixels[0] * guides[0] + on_pixels[1] * guides[1] + on_pixels[2], np.float32)
