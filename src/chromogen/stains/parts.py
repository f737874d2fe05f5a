"""The connected parts of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def large_parts(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    """A mask, bool (H, W), without connected parts of fewer pixels: side by side is connected, corners are not."""
    labels, _ = ndimage.label(mask)
    return np.asarray(mask & (np.bincount(labels.ravel()) >= least_px)[labels])
