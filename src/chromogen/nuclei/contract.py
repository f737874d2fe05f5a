"""What every network that finds nuclei takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# Optical densities of base 10, float32 (1, 3, H, W) in the order red, green, blue, to predictions, float32
# (1, 1 + RAYS, H / 2, W / 2): the logit of lying deep in a nucleus, and distances in px to its border from the
# middle of the 2 x 2 px, clockwise from +x.
Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

NETWORK_MPP = 0.5  # the pixel size that a network reads
STRIDE_PX = 2  # between the places where it predicts
MULTIPLE_PX = 16  # of which both sides of its input are
