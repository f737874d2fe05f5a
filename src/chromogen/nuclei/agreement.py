"""How well found nuclei agree with drawn ones, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_IOU = 0.5  # of a found and a drawn nucleus that match: at more than half, each matches one at most


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
    """Match two label images (H, W), 0 where no nucleus is, at intersections over unions above MIN_IOU."""
    numbers = [int(np.count_nonzero(np.unique(labels))) for labels in (found, drawn)]
    return Agreement(len(matches(found, drawn)), *numbers)


def matches(found: NDArray[Any], drawn: NDArray[Any]) -> NDArray[np.int64]:
    """Labels (K, 2) of the nuclei of two label images (H, W) that match, in order of the first."""
    both = (found > 0) & (drawn > 0)
    most = int(drawn.max(initial=0)) + 1
    pairs, shared = np.unique(found[both].astype(np.int64) * most + drawn[both], return_counts=True)
    first, second = np.divmod(pairs, most)
    areas = [np.bincount(labels[labels > 0]) for labels in (found, drawn)]
    union = areas[0][first] + areas[1][second] - shared
    return np.stack([first, second], axis=1)[shared > MIN_IOU * union]
