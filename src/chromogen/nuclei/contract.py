"""What every network that finds nuclei takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """What a network says of the middles of squares of STRIDE_PX.

    `depth` is float32 (h, w) in [0, 1]: how surely a place lies deep in a nucleus. `radii_px(rows, columns)` gives
    the distances in px to its border, float32 (N, RAYS), clockwise from +x: few places are asked for, all of them
    with a depth over MIN_LIKELY.
    """

    depth: NDArray[np.float32]
    radii_px: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]]


# From optical densities of base 10, float32 (1, 3, H, W) in the order red, green, blue.
Network: TypeAlias = Callable[[NDArray[np.float32]], Prediction]


def prediction_of(made: NDArray[np.float32]) -> Prediction:
    """Of an array (1, 1 + RAYS, h, w): the logit of lying deep in a nucleus, and the radii of every place."""
    depth = np.asarray(1 / (1 + np.exp(-made[0, 0])), np.float32)
    return Prediction(depth, lambda rows, columns: np.ascontiguousarray(made[0, 1:, rows, columns]))


NETWORK_MPP = 0.5  # the pixel size that a network reads
STRIDE_PX = 2  # between the places where it predicts
MIN_LIKELY = 0.1  # depth that a place may have in one view of two, and still MIN_CONFIDENCE in their mean
MULTIPLE_PX = 16  # of which both sides of its input are
WEIGHTS = Path(__file__).with_name("nuclei.safetensors")  # of the network that comes with Chromogen
