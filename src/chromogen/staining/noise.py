"""Randomness that depends on the place on a slide alone: every window of a slide draws the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float32]
REACH = np.arange(-1, 3)  # nodes beside a place that a cubic B-spline weighs
SPREAD = 151 / 315  # standard deviation of a B-spline over independent nodes, on average over places


def normal_field(location_px: tuple[float, float], size_px: tuple[int, int], length_px: float, seed: int) -> Array:
    """Smooth noise of mean 0 and deviation 1, float32 (h, w), of a part of a slide at `location_px` (x, y).

    Cubic B-splines over a grid of independent normal numbers, `length_px` apart.
    """
    columns, across = _weights(location_px[0] + np.arange(size_px[0]) + 0.5, length_px)
    rows, down = _weights(location_px[1] + np.arange(size_px[1]) + 0.5, length_px)
    nodes = _normals(np.arange(rows[0, 0], rows[-1, -1] + 1), np.arange(columns[0, 0], columns[-1, -1] + 1), seed)
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


def _normals(rows: NDArray[np.int64], columns: NDArray[np.int64], seed: int) -> Array:
    return _hashed_normals(rows[:, None], columns[None], seed)


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
