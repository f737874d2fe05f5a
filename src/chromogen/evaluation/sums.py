"""Sums that add up over tiles, float64 (K,), and what is computed from them.

UndefinedError says why a number is not there.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


class UndefinedError(ValueError):
    """A metric has no value for these pictures; the text says why."""


NO_PAIRS: Array = np.zeros(6)


def add_pairs(sums: Array, x: NDArray[Any], y: NDArray[Any]) -> Array:
    """Count, sums, sums of squares and of products with pairs of values (N,) added."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.asarray(np.add(sums, [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y]))


def pearson(sums: Array) -> float:
    """Pearson's correlation (1895) of all pairs, from -1 to 1; undefined where one side does not vary."""
    n, x, y, xx, yy, xy = sums
    if n < 2:
        raise UndefinedError("no pixels to compare")
    x_variance, y_variance = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    if min(x_variance, y_variance) < 1e-12:
        raise UndefinedError("one of the two does not vary")
    return float((xy / n - x * y / n**2) / np.sqrt(x_variance * y_variance))


NO_OVERLAP: Array = np.zeros(2)


def add_overlap(sums: Array, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Array:
    """Twice the overlap, and both areas together, of two masks (H, W) added."""
    return np.asarray(np.add(sums, [2 * np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)]))


def dice(sums: Array) -> float:
    """Dice's coefficient (1945), from 0 to 1; undefined where both masks are empty."""
    overlap, areas = sums
    if areas == 0:
        raise UndefinedError("both masks are empty")
    return float(overlap / areas)


NOTHING: Array = np.zeros(2)


def add_values(sums: Array, values: NDArray[Any]) -> Array:
    """Sum and count with values (N,) added."""
    return np.asarray(np.add(sums, [values.sum(dtype=np.float64), values.size]))


def mean(sums: Array) -> float:
    """The mean of all values; undefined where there are none."""
    return ratio(sums, "no pixels to measure")


def ratio(sums: Array, why: str) -> float:
    """The first sum over the second, undefined for the reason `why` where that is zero."""
    if sums[1] == 0:
        raise UndefinedError(why)
    return float(sums[0] / sums[1])
