"""Maps: noise that depends on the place alone, and smoothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import uniform_filter

# Randomness that depends on the place on a slide alone: every window of a slide draws the same.

REACH = np.arange(-1, 3)  # nodes beside a place that a cubic B-spline weighs
SPREAD = 151 / 315  # standard deviation of a B-spline over independent nodes, on average over places


def normal_field(location_px: tuple[float, float], size_px: tuple[int, int], length_px: float, seed: int) -> Array:
    """Smooth noise of mean 0 and deviation 1, float32 (h, w), of a part of a slide at `location_px` (x, y).

    Cubic B-splines over a grid of independent normal numbers, `length_px` apart.
    """
    columns, across = _weights(location_px[0] + np.arange(size_px[0]) + 0.5, length_px)
    rows, down = _weights(location_px[1] + np.arange(size_px[1]) + 0.5, length_px)
    every_row, every_column = (np.arange(nodes[0, 0], nodes[-1, -1] + 1) for nodes in (rows, columns))
    nodes = _hashed_normals(every_row[:, None], every_column[None], seed)
    along = _sparse(rows, down) @ nodes
    return np.ascontiguousarray((_sparse(columns, across) @ along.T).T, np.float32)


def normal_at(points_px: NDArray[Any], length_px: float, seed: int) -> Array:
    """What `normal_field` has at points (N, 2), (x, y) in pixels of the slide: float32 (N,)."""
    columns, across = _weights(points_px[:, 0].astype(np.float64), length_px)
    rows, down = _weights(points_px[:, 1].astype(np.float64), length_px)
    nodes = _hashed_normals(rows[:, :, None], columns[:, None, :], seed)
    return np.asarray(np.einsum("nij,ni,nj->n", nodes, down, across) / SPREAD, np.float32)


def _weights(places_px: NDArray[Any], length_px: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The four nodes beside each place and their B-spline weights, both (N, 4)."""
    at = places_px / length_px
    first = np.floor(at).astype(np.int64)
    t = (at - first)[:, None]
    s = 1 - t
    weights = [s**3, 3 * t**3 - 6 * t**2 + 4, 3 * s**3 - 6 * s**2 + 4, t**3]
    return first[:, None] + REACH, np.concatenate(weights, axis=1) / 6


def _sparse(nodes: NDArray[np.int64], weights: NDArray[np.float64]) -> sparse.csr_array:
    """A matrix from nodes to places, which takes both to a deviation of 1 along its axis."""
    count, taps = nodes.shape
    scaled = (weights / np.sqrt(SPREAD)).astype(np.float32)
    columns, begins = (nodes - nodes[0, 0]).ravel(), np.arange(0, count * taps + 1, taps)
    return sparse.csr_array((scaled.ravel(), columns, begins), shape=(count, int(columns[-1]) + 1))


def _hashed_normals(rows: NDArray[np.int64], columns: NDArray[np.int64], seed: int) -> Array:
    """A normal number for every node, of its row, its column and the seed alone (Box & Muller 1958)."""
    with np.errstate(over="ignore"):
        key = _mixed(_mixed(rows.astype(np.uint64) + np.uint64(seed)) ^ columns.astype(np.uint64))
    high, low = key >> np.uint64(32), key & np.uint64(0xFFFFFFFF)
    radius = np.sqrt(-2 * np.log((high.astype(np.float32) + np.float32(1)) * np.float32(2**-32)))
    return np.asarray(radius * np.cos(low.astype(np.float32) * np.float32(2 * np.pi * 2**-32)))


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele et al. 2014): neighbouring numbers become unrelated ones."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# Maps of a picture: smoothed, averaged over a mask, made coarser and finer; float32 (H, W).

Array = NDArray[np.float32]
CUT_OFF = 2.5  # sigmas of a Gaussian
COARSE_PX = ((8.0, 4), (1.5, 2))  # from such a sigma on a map is smoothed on squares of so many px
STRIP_PX = 32  # rows that stay in a processor's cache
TABLE = 4096  # steps of a table that is looked up
MIN_COVER = 0.03  # of a mask, where a mean over it still means something


def smooth(x: NDArray[Any], sigma_px: float) -> Array:
    """The map blurred by a Gaussian; its border goes on outside. A wide one is made of means of squares."""
    by = next((by for least_px, by in COARSE_PX if sigma_px >= least_px), 1)
    if by == 1:
        return _smoothed(np.asarray(x, np.float32), sigma_px)
    # going to squares and back adds the variance of half a square
    coarse = _smoothed(coarser(x, by), float(np.sqrt((sigma_px / by) ** 2 - 0.25)))
    return finer(coarse, by, x.shape)


def _smoothed(x: Array, sigma_px: float) -> Array:
    """As `smooth`, at full resolution, in strips."""
    reach_px = max(1, int(CUT_OFF * sigma_px + 0.25))
    weights = np.exp(-0.5 * (np.arange(reach_px + 1) / sigma_px) ** 2)
    weights = (weights / (2 * weights.sum() - weights[0])).astype(np.float32)
    padded = np.pad(x, reach_px, mode="edge")
    made = np.empty_like(x)
    for top in range(0, len(x), STRIP_PX):
        down = _weighted(padded[top : top + STRIP_PX + 2 * reach_px], weights)
        made[top : top + STRIP_PX] = _weighted(down.T, weights).T
    return made


def strips(rows: int) -> Iterator[slice]:
    """All rows, STRIP_PX at a time: what is made of a few at once stays in a processor's cache."""
    return (slice(top, top + STRIP_PX) for top in range(0, rows, STRIP_PX))


def _weighted(x: Array, weights: Array) -> Array:
    """Of rows that lie as far on both sides as weights say, their weighted sums."""
    reach_px = len(weights) - 1
    count = len(x) - 2 * reach_px
    total = x[reach_px : reach_px + count] * weights[0]
    pair = np.empty_like(total)
    for off, weight in enumerate(weights[1:], 1):
        before, after = (x[reach_px + by : reach_px + by + count] for by in (-off, off))
        np.add(before, after, out=pair)
        pair *= weight
        total += pair
    return np.asarray(total)


def mean_over(x: NDArray[Any], mask: NDArray[Any], sigma_px: float) -> Array:
    """The mean of a map over a mask, 0 to 1, near every pixel."""
    weight = np.asarray(mask, np.float32)
    mean = smooth(x * weight, sigma_px) / np.maximum(smooth(weight, sigma_px), MIN_COVER)
    return np.asarray(mean, np.float32)


def ramp(x: NDArray[Any], low: float, high: float) -> Array:
    """0 up to `low`, 1 from `high` on, linear between."""
    part = np.subtract(x, low, dtype=np.float32)
    part *= np.float32(1 / (high - low))
    return np.asarray(np.clip(part, 0, 1, out=part))


def looked_up(x: Array, at: Sequence[float], values: Sequence[float]) -> Array:
    """`numpy.interp` of a whole map, from a table."""
    low, high = at[0], max(at[-1], at[0] + 1e-6)
    table = np.interp(np.linspace(low, high, TABLE), at, values).astype(np.float32)
    place = (x - np.float32(low)) * np.float32((TABLE - 1) / (high - low))
    np.clip(place, 0, TABLE - 1, out=place)
    place += np.float32(0.5)
    return np.asarray(table.take(place.astype(np.int32), mode="clip"))


def coarser(x: NDArray[Any], by: int) -> Array:
    """Means over squares of `by` px, (ceil(H / by), ceil(W / by)); the border goes on where a square is cut."""
    height, width = x.shape
    if height % by or width % by:
        x = np.pad(x, ((0, -height % by), (0, -width % by)), mode="edge")
    rows = np.add(x[0::by], x[1::by], dtype=np.float32) if by > 1 else np.array(x, np.float32)
    for row in range(2, by):
        rows += x[row::by]
    total = rows[:, 0::by].copy()
    for column in range(1, by):
        total += rows[:, column::by]
    total *= np.float32(1 / by**2)
    return total


def finer(x: NDArray[Any], by: int, shape: tuple[int, ...]) -> Array:
    """A map of squares of `by` px back on the pixels of a picture of `shape` (H, W), linear between centres."""
    import torch

    coarse = torch.from_numpy(np.ascontiguousarray(x, np.float32))[None, None]
    made = torch.nn.functional.interpolate(coarse, scale_factor=by, mode="bilinear", align_corners=False)
    return np.asarray(made[0, 0, : shape[0], : shape[1]].numpy())


def guided_filter(x: NDArray[Any], guides: Sequence[NDArray[Any]], radius_px: int, eps: float, by: int) -> Array:
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
