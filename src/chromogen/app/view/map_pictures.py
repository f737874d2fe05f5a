"""Maps as pictures to be laid on a slide: *where* a stain lies, and which tissue is unlike the exemplar's."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from chromogen.staining.confidence import SQUARE_PX, Levels, confidence_of, painted_share
from chromogen.staining.maps import coarser

WHERE_RGB, UNLIKE_RGB = (0, 128, 118), (104, 20, 150)  # both are seen on pink, blue and brown
MAX_ALPHA = 150  # of *where*: the tissue is seen through it
HATCH_ALPHA, TINT_ALPHA = 235, 60
HATCH_PX, LINE_PX = 8, 2  # from line to line, and how wide a line is
MAX_SIDE_PX = 4096
BY = 2  # pixels of *where* on a side of the picture's: maps are smooth


def where_picture(values: NDArray[np.uint8]) -> bytes:
    """A map of *where* (H, W), 255 for 1, as a PNG: the more opaque the more is stained, nothing for nothing."""
    return _png(WHERE_RGB, coarser(values, BY) * (MAX_ALPHA / 255))


def unlike_picture(levels: Levels, size: tuple[int, int]) -> bytes:
    """Squares of confidence of a stained picture of `size` (w, h), as a PNG that covers it.

    What was left out is hatched and tinted, what got part of its stain only tinted, all else clear.
    """
    side_px = max(1, min(SQUARE_PX, MAX_SIDE_PX // max(levels.shape)))
    left_out = np.nan_to_num(1 - painted_share(confidence_of(levels)), nan=0)
    left_out = np.repeat(np.repeat(left_out, side_px, 0), side_px, 1)
    height, width = (max(1, round(side * side_px / SQUARE_PX)) for side in size[::-1])
    left_out = left_out[:height, :width]
    rows, columns = np.indices(left_out.shape)
    lines = (rows + columns) % HATCH_PX < LINE_PX
    return _png(UNLIKE_RGB, np.where(lines & (left_out > 0.5), HATCH_ALPHA, TINT_ALPHA * left_out))


def _png(color: tuple[int, int, int], alpha: NDArray[Any]) -> bytes:
    """One colour in as many shades as `alpha` (H, W), 0 to 255, has."""
    opacity = np.rint(alpha).astype(np.uint8)
    plain = np.broadcast_to(np.array(color, np.uint8), (*opacity.shape, 3))
    held = io.BytesIO()
    PIL.Image.fromarray(np.dstack([plain, opacity])).save(held, "PNG", compress_level=3)
    return held.getvalue()
