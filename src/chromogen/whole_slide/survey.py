"""What is seen of a slide before it is stained: where tissue lies, the colour of glass, a sample of tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.grid import Window, whole
from chromogen.image import Image
from chromogen.pixel_size import MPP_RANGE
from chromogen.stains.appearance import ALWAYS_DOUBTED, appearance_of
from chromogen.stains.glass import glass_view
from chromogen.stains.tissue import Background, background_of, spread_over
from chromogen.whole_slide.view import View, read_around_damage

OVERVIEW_PX = 1536
MIN_TISSUE = 0.001  # of the overview: with less, what takes light in it is ink, or dirt
SMALLEST_DAMAGE_PX = 32  # of the overview
MARGIN_PX, SOFT_PX = 7, 5  # of the overview: tissue reaches so far beyond its mask, and fades within so much
FIELDS, FIELD_PX = 16, 256  # of the sample
FINE = 256  # parts of an overview's pixel: places in it are whole numbers of them


@dataclass(frozen=True)
class TissueShare:
    """How far pixels of a view are tissue: a coarse map, 0 to 255, interpolated between the centres of its pixels.

    `values` is (h, w), the part from `origin` (x, y) on of a map of `shape` (w, h) of the whole view of `size`.
    """

    values: NDArray[np.uint8]
    size: tuple[int, int]
    shape: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    def part(self, window: Window) -> TissueShare:
        """What a window needs of the map."""
        (x, _), (y, _) = self._places(window)
        left, top, right, bottom = int(x[0]), int(y[0]), int(x[-1]) + 2, int(y[-1]) + 2
        origin = (self.origin[0] + left, self.origin[1] + top)
        return replace(self, values=self.values[top:bottom, left:right], origin=origin)

    def at(self, window: Window) -> NDArray[np.uint8]:
        """The share of the window's pixels, (H, W): 0 for glass, 255 for tissue."""
        (x, x_part), (y, y_part) = self._places(window)
        values = self.values.astype(np.int32)
        height, width = (side - 1 for side in values.shape)
        upper, lower = values[y], values[np.minimum(y + 1, height)]
        rows = upper * (FINE - y_part)[:, None] + lower * y_part[:, None]
        both = rows[:, x] * (FINE - x_part) + rows[:, np.minimum(x + 1, width)] * x_part
        return np.asarray((both + FINE * FINE // 2) // (FINE * FINE), np.uint8)

    def _places(self, window: Window) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """For columns and rows of the window: the map's pixel before it, and how many parts of it beyond."""
        sides = ((window.left, window.right, 0), (window.top, window.bottom, 1))
        return [self._along(np.arange(start, stop), axis) for start, stop, axis in sides]

    def _along(self, pixels: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
        scale = self.shape[axis] / self.size[axis]
        last = (self.shape[axis] - 1) * FINE
        places = np.rint(((pixels + 0.5) * scale - 0.5) * FINE).astype(np.int32).clip(0, last)
        before, part = np.divmod(places, FINE)
        return before - self.origin[axis], part


@dataclass(frozen=True)
class Survey:
    """A slide's tissue, the colour of its glass (r, g, b), a sample at the view's mpp, and why it may be no H&E.

    `share` is None where everything counts as tissue. What cannot be read from afar does: nearer, more of it may.
    `background` says of any part of the view, seen from near, which pixels are tissue.
    """

    share: TissueShare | None
    tissue_fraction: float
    white: tuple[int, int, int]
    sample: Image
    background: Background
    doubt: str | None = None


def survey(view: View, *, mask_tissue: bool = True) -> Survey:
    """Look at a slide from afar, and at fields of its tissue from near."""
    overview, mpp, damaged = _overview(view)
    glass = glass_view(overview, mpp)
    seen = background_of(glass)
    mask = seen.tissue_in(glass.light, mpp)
    red, green, blue = (round(float(level)) for level in seen.white)
    fraction = float(mask.mean())
    doubt = ALWAYS_DOUBTED["nothing"] if fraction < MIN_TISSUE else appearance_of(glass).doubt_as("content")
    for window in damaged:
        mask[window.at] = True
    sample = _sample(view, mask)
    if not mask_tissue:
        return Survey(None, fraction, (red, green, blue), sample, seen, doubt)
    share = TissueShare(_softened(mask), view.size, (mask.shape[1], mask.shape[0]))
    return Survey(share, fraction, (red, green, blue), sample, seen, doubt)


def _overview(view: View) -> tuple[Image, float, list[Window]]:
    """The slide from afar, its mpp then, and what of it is damaged.

    The longer side is at most `OVERVIEW_PX` where that is no coarser than slides can be read.
    """
    own = view.slide.need_mpp()
    mpp = min(MPP_RANGE[1], own * max(view.slide.size) / OVERVIEW_PX)
    afar = View(view.slide, mpp if mpp > own else None)
    image, damaged = read_around_damage(afar, whole(afar.size), SMALLEST_DAMAGE_PX)
    return image, max(mpp, own), damaged


def _softened(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """255 over the mask and what is next to it, fading to 0."""
    wide = ndimage.binary_dilation(mask, iterations=MARGIN_PX) if mask.any() else mask
    return np.asarray(ndimage.uniform_filter(wide * 255.0, SOFT_PX).round(), np.uint8)


def _sample(view: View, mask: NDArray[np.bool_]) -> Image:
    """Fields from all over the tissue, side by side; the whole view where it is hardly larger."""
    side = math.isqrt(FIELDS)
    if view.size[0] * view.size[1] <= FIELDS * FIELD_PX**2:
        return read_around_damage(view, whole(view.size))[0]
    chosen = spread_over(mask if mask.any() else np.ones_like(mask), FIELDS)
    fields = [read_around_damage(view, _field(view, mask, column, row))[0] for row, column in chosen]
    return np.concatenate([np.concatenate(fields[r * side : (r + 1) * side], axis=1) for r in range(side)])


def _field(view: View, mask: NDArray[np.bool_], column: int, row: int) -> Window:
    """The field around a pixel of the mask, inside the view."""
    width, height = (min(FIELD_PX, side) for side in view.size)
    x = round((column + 0.5) * view.size[0] / mask.shape[1]) - width // 2
    y = round((row + 0.5) * view.size[1] / mask.shape[0]) - height // 2
    left, top = min(max(0, x), view.size[0] - width), min(max(0, y), view.size[1] - height)
    return Window(left, top, left + width, top + height)
