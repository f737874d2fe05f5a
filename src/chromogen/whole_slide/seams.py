"""How visible the borders of blocks are in a finished picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from chromogen.grid import Window
from chromogen.image import Image

SEGMENTS = 200
REACH_PX = 32  # on either side of a border; so far away gradients are what they are everywhere
STEP_PX = 16  # places compared are whole blocks of JPEG apart


def seam_score(read: Callable[[Window], Image], cores: Sequence[Window], size: tuple[int, int]) -> float | None:
    """Mean gradient across the borders of cores, over that 16 and 32 px beside them: 1 where no seam shows.

    Sampled on at most `SEGMENTS` borders of the cores given, in a picture of `size` (w, h) that `read` gives by
    windows. None where there is no border, or no gradient at all.
    """
    borders = list(_borders(cores, size))
    if not borders:
        return None
    chosen = np.unique(np.linspace(0, len(borders) - 1, SEGMENTS).astype(int))
    at, beside = np.sum([_gradients(read, *borders[index]) for index in chosen], axis=0)
    return float(at / beside) if beside else None


def _borders(cores: Sequence[Window], size: tuple[int, int]) -> Iterator[tuple[Window, int]]:
    """Windows around the left and upper borders of cores, and the axis that the border is crossed along."""
    for core in cores:
        if core.left >= REACH_PX + 1 and core.left + REACH_PX < size[0]:
            yield Window(core.left - REACH_PX - 1, core.top, core.left + REACH_PX + 1, core.bottom), 1
        if core.top >= REACH_PX + 1 and core.top + REACH_PX < size[1]:
            yield Window(core.left, core.top - REACH_PX - 1, core.right, core.top + REACH_PX + 1), 0


def _gradients(read: Callable[[Window], Image], window: Window, axis: int) -> tuple[float, float]:
    """Sums of absolute differences at the border, and the mean of those beside it."""
    pixels = np.moveaxis(read(window).astype(np.int16), axis, 0)
    steps = np.abs(np.diff(pixels, axis=0)).reshape(len(pixels) - 1, -1).sum(axis=1, dtype=np.float64)
    beside = [place for place in range(0, 2 * REACH_PX + 1, STEP_PX) if place != REACH_PX]
    return float(steps[REACH_PX]), float(steps[beside].mean())
