"""How well found nuclei agree with drawn ones, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_IOU = 0.5  # of a found and a drawn nucleus that match: at more than half, each matches one at most


@dataclass(frozen=True)
class Agreement:
    """Numbers of nuclei: `matched` of `found` and `drawn` ones."""

    matched: int
    found: int
    drawn: int

    @property
    def precision(self) -> float:
        """Share of the found nuclei that were drawn; NaN without any."""
        return self.matched / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the drawn nuclei that were found; NaN without any."""
        return self.matched / self.drawn if self.drawn else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without any nucleus."""
        many = self.found + self.drawn
        return 2 * self.matched / many if many else float("nan")

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.matched + other.matched, self.found + other.found, self.drawn + other.drawn)


def agreement(found: NDArray[Any], drawn: NDArray[Any]) -> Agreement:
    """Match two label images (H, W), 0 where no nucleus is, at intersections over unions above LEAST_IOU."""
    _, found_at = np.unique(found, return_inverse=True)
    _, drawn_at = np.unique(drawn, return_inverse=True)
    first, second = found_at.ravel() + (found.min() > 0), drawn_at.ravel() + (drawn.min() > 0)
    counts = np.zeros((first.max() + 1, second.max() + 1), np.int64)
    np.add.at(counts, (first, second), 1)
    union = counts.sum(axis=1)[:, None] + counts.sum(axis=0) - counts
    matched = (counts > LEAST_IOU * union)[1:, 1:]
    return Agreement(int(matched.sum()), counts.shape[0] - 1, counts.shape[1] - 1)
