"""Confidence as a picture: whole numbers for every pixel, squares of them, how much is unlike, and colours."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.staining.confidence import SQUARE_PX, ground, on_pixels, painted_share
from chromogen.staining.maps import Array, coarser
from chromogen.staining.tissue import Tissue

Levels: TypeAlias = NDArray[np.uint8]  # 0 on glass, 1 to 255 by the logarithm of confidence

DECADES = 5  # of confidence, from 1 down
COLORS = np.array([(40, 20, 70), (60, 80, 140), (40, 145, 140), (130, 205, 90), (250, 230, 40)])  # over the levels
GLASS = 255


def confidence_levels(confidence: Array, tissue: Tissue) -> Levels:
    """What `confidence` says of squares, as levels of pixels (H, W)."""
    decades = np.log10(np.maximum(confidence, 10.0**-DECADES)) / DECADES + 1
    shape = tissue.labels.shape
    levels = np.rint(1 + 254 * on_pixels(decades.astype(np.float32), shape))
    return np.asarray(levels * (on_pixels(ground(tissue), shape) > 0.5), np.uint8)


def squares_of(levels: Levels) -> Levels:
    """The levels of squares of SQUARE_PX: means over their tissue, 0 where less than half is tissue."""
    there = coarser(levels > 0, SQUARE_PX)
    mean = coarser(levels, SQUARE_PX) / np.maximum(there, 0.5)
    return np.asarray(np.rint(mean) * (there >= 0.5), np.uint8)


def confidence_of(levels: Levels) -> Array:
    """The confidence that levels stand for, float32, 1e-5 to 1; NaN on glass."""
    known = 10.0 ** (DECADES * ((levels.astype(np.float32) - 1) / 254 - 1))
    return np.asarray(np.where(levels > 0, known, np.nan), np.float32)


def unlike_fraction(levels: Levels) -> float:
    """The share of tissue that is unlike the exemplar's: its stain is left out. 0 where there is no tissue."""
    tissue = levels[levels > 0]
    return 1 - float(painted_share(confidence_of(tissue)).mean()) if len(tissue) else 0.0


def heat_map(levels: Levels) -> Image:
    """Levels (h, w) in colours, uint8 (h, w, 3): from violet, which is unlike, to yellow; glass is white."""
    places = np.linspace(1, 255, len(COLORS))
    colors = np.stack([np.interp(np.arange(256), places, channel) for channel in COLORS.T], axis=1)
    colors[0] = GLASS
    return np.asarray(np.rint(colors), np.uint8)[levels]


def levels_in(picture: Image) -> Levels:
    """The levels (h, w) that a picture by `heat_map` shows; 0 where a colour is none of its."""
    known = heat_map(np.arange(256, dtype=np.uint8)[None])[0]
    packed, wanted = (colors.astype(np.int64) @ (65536, 256, 1) for colors in (known, picture))
    order = np.argsort(packed)
    found = order[np.searchsorted(packed[order], wanted).clip(0, 255)]
    return np.asarray(np.where(packed[found] == wanted, found, 0), np.uint8)
