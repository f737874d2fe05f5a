"""Means of scores with their intervals: over groups of pictures, and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 2000


def mean_of(found: Sequence[tuple[str, float | str]]) -> dict[str, Any]:
    """Of (group, score) pairs: the mean with its interval and count, or why there is none."""
    numbers = [(group, value) for group, value in found if isinstance(value, float)]
    if not numbers:
        return {"mean": None, "ci95": None, "n": 0, "why": found[0][1]}
    groups, values = zip(*numbers, strict=True)
    return {"mean": float(np.mean(values)), "ci95": bootstrap(values, groups), "n": len(values)}


def bootstrap(values: Sequence[float], groups: Sequence[str]) -> list[float] | None:
    """The 95 % percentile interval of the mean, resampling whole groups (Efron 1979); None for a single group."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return None
    sums, counts = np.bincount(member, values), np.bincount(member)
    drawn = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return [float(quantile) for quantile in np.percentile(means, [2.5, 97.5])]


def student_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The interval of the mean by Student's t (1908): wide for few values, as it should be; None for one.

    >>> student_interval([1.0, 2.0, 3.0])
    (-0.484..., 4.484...)
    """
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    from scipy import stats

    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def share_interval(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (1927), for `count` of `of`, which is at least 1.

    >>> [round(end, 3) for end in share_interval(8, 10)]
    [0.49, 0.943]
    """
    from scipy import stats

    interval = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
