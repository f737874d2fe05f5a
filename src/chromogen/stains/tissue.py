"""Where the tissue is: one definition for slides, metrics, the page and losses; and where there is most of it.

Tissue is what takes more light than bare glass, with the gaps between its cells. Lengths are physical, so that a
picture at any um per pixel has the same share of tissue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.glass import (
    LEVELS_OD10,
    SMOOTHING_REACH,
    SMOOTHING_UM,
    GlassView,
    glass_view,
    highest,
    lowest,
    smoothed,
    smoothing_px,
)

STAINED_OD10 = 0.025  # over glass: the mean over the channels, plus how far they are apart
GAP_UM = 32.0  # the widest gap that counts as tissue: of pale IHC only nuclei take light
OCTAGON = 0.414  # of its reach, half a side: so far a square reaches, and the rest a diamond
ROUNDING_PX = 3

# Marks are no tissue. Ink takes more red than green light, in shares of its mean density, and more so than the
# slide's own stains. Haematoxylin does too under some scanners, but is never so dense over a stroke's width.
INK_OD10, INK_HUE, INK_MORE_THAN_STAIN = 0.1, 0.2, 0.35
DENSE_INK_OD10, DENSE_INK_HUE = 0.35, 0.45
BLACK_OD10, GREY = 0.6, 0.15  # least density; most spread over the channels, in shares of it
GREY_OD10 = 0.012  # spread of what is pale: a level or two of the camera's noise and white balance
STROKE_UM = 50.0  # how wide the thinnest stroke is
MARKS_MPP = 3.0  # fine enough for marks
RIM_PX = 2  # of a stroke or bubble, paler than the rest


Part: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom, as shares of a view's sides
WHOLE: Part = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Background:
    """What a whole view shows besides tissue: the colour of glass (3,), 0 to 255, and marks, bool (h, w).

    Marks are ink of pens, rims of air bubbles and of the cover slip, and padding of another colour.
    """

    white: NDArray[np.float64]
    marks: NDArray[np.bool_]

    def tissue(self, image: Image, mpp: float, part: Part = WHOLE) -> NDArray[np.bool_]:
        """Where an image, uint8 (H, W, 3) at `mpp` um/px, shows tissue: bool (H, W).

        The image is a `part` of the view. A pixel depends on what lies within `tissue_reach_px` of it alone.
        """
        return self.tissue_in(smoothed(image, mpp), mpp, part)

    def tissue_in(self, light: Image, mpp: float, part: Part = WHOLE) -> NDArray[np.bool_]:
        """As `tissue`, of an image that is smoothed already."""
        stained = _stain_od10(_density_od10(light, self.white)) > STAINED_OD10
        if self.marks.any():
            stained &= ~self._marks_at(part, stained.shape)
        return filled(stained, mpp)

    def _marks_at(self, part: Part, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        left, top, right, bottom = part
        rows, columns = (
            ((low + (high - low) * (np.arange(count) + 0.5) / count) * marks).astype(int).clip(0, marks - 1)
            for low, high, count, marks in zip((top, left), (bottom, right), shape, self.marks.shape, strict=True)
        )
        return np.asarray(self.marks[rows[:, None], columns])


def tissue_mask(view: Image, mpp: float = ASSUMED_MPP) -> NDArray[np.bool_]:
    """Where a whole slide or picture, uint8 (H, W, 3) at `mpp` um/px, shows tissue: bool (H, W).

    Tissue takes more light than the view's own glass, white, grey or slightly coloured, over 2 um; gaps of up to
    32 um belong to it. A view that shows no glass is tissue where it is darker than white. Ink of pens, green,
    blue or black, is no tissue, nor is what is grey and stands alone, as rims of air bubbles do. Red ink passes
    for eosin. Where the whole view is in black and white, all that is dark is tissue.
    Raises: ValueError for what is no view.
    """
    return background(view, mpp).tissue(view, mpp)


def background(view: Image, mpp: float = ASSUMED_MPP) -> Background:
    """What a whole slide or picture, uint8 (H, W, 3) at `mpp` um/px, shows besides tissue."""
    return background_of(glass_view(view, mpp))


def background_of(seen: GlassView) -> Background:
    """As `background`, of a view whose glass is found already."""
    step = max(1, int(MARKS_MPP / seen.mpp))
    marks, (red, green, blue) = seen.padding[::step, ::step].copy(), np.moveaxis(seen.image, 2, 0)
    if not (np.array_equal(red, green) and np.array_equal(green, blue)):
        marks |= _marks(_density_od10(seen.light[::step, ::step], seen.white), seen.mpp * step)
    return Background(seen.white, marks)


def filled(stained: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """What takes light, bool (H, W), with the gaps between: grown to fill them, and shrunk again.

    It shrinks also by what smoothing has added.
    """
    grown_px, shrunk_px = _gap_reaches_px(mpp)
    return ~_grown(~_grown(stained, grown_px), shrunk_px)


def _gap_reaches_px(mpp: float) -> tuple[int, int]:
    grown_px = round(GAP_UM / 2 / mpp)
    return grown_px, grown_px + round(SMOOTHING_UM / mpp)


def _grown(mask: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """A mask grown by an octagon, which is nearly round: by a square, then by a diamond."""
    square_px = round(OCTAGON * reach_px)
    grown = highest(mask, square_px)
    if reach_px == square_px or grown.all() or not grown.any():
        return grown
    return np.asarray(ndimage.distance_transform_cdt(~grown, "taxicab") <= reach_px - square_px)


def tissue_reach_px(mpp: float) -> int:
    """How far around a pixel lies what decides whether it is tissue, over a known background."""
    return sum(_gap_reaches_px(mpp)) + math.ceil(SMOOTHING_REACH * smoothing_px(mpp)) + ROUNDING_PX


def without_small(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    """A mask (H, W) with its connected parts alone that have so many pixels, at least one."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(least_px, 1))[labels])


def densest_window(weight: NDArray[Any], size: tuple[int, int]) -> tuple[int, int]:
    """Top-left corner (x, y) of the window of `size` (w, h) with the largest sum of a weight or mask (H, W).

    Of equal windows the topmost, then leftmost. Raises: ValueError if the window does not fit.
    """
    (w, h), (height, width) = size, weight.shape
    if not (1 <= w <= width and 1 <= h <= height):
        raise expected("size", f"within 1 x 1 and {width} x {height}", f"{w} x {h}", "make the window smaller")
    integral = np.pad(weight.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    sums = integral[h:, w:] - integral[:-h, w:] - integral[h:, :-w] + integral[:-h, :-w]
    rounding = 1e-12 * np.abs(integral).max()
    y, x = np.unravel_index(np.argmax(sums >= sums.max() - rounding), sums.shape)
    return int(x), int(y)


def spread_over(mask: NDArray[np.bool_], count: int) -> list[tuple[int, int]]:
    """So many pixels (row, column) of a mask (H, W), evenly apart in reading order; none where it is empty.

    >>> spread_over(np.ones((2, 4), np.bool_), 2)
    [(0, 1), (1, 1)]
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return []
    chosen = np.linspace(0, len(rows) - 1, 2 * count + 1).astype(int)[1::2]
    return [(int(rows[i]), int(columns[i])) for i in chosen]


def _density_od10(light: Image, white: NDArray[np.float64]) -> NDArray[np.float32]:
    """Densities over glass, not below 0: (3, H, W)."""
    glass = -np.log10((white + 1) / 256)
    tables = [(LEVELS_OD10 - level).clip(0) for level in glass.astype(np.float32)]
    return np.stack([table[light[..., channel]] for channel, table in enumerate(tables)])


def _mean(density: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((density[0] + density[1] + density[2]) / 3)


def _spread(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """From the least to the most dense channel."""
    red, green, blue = density
    return np.asarray(np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue))


def _stain_od10(density: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(_mean(density) + _spread(density))


def _marks(density: NDArray[np.float32], mpp: float) -> NDArray[np.bool_]:
    stained = _stain_od10(density) > STAINED_OD10
    ink = _ink(density, mpp)
    return np.asarray(ink | highest(_grey_parts(stained & ~ink, density, mpp), RIM_PX))


def _ink(density: NDArray[np.float32], mpp: float) -> NDArray[np.bool_]:
    """Where pens have been, with a rim; what is thinner than a stroke is none."""
    mean, spread = _mean(density), _spread(density)
    dense = mean > INK_OD10
    hue = np.divide(density[0] - density[1], mean, out=np.zeros_like(mean), where=dense)
    usual = np.median(hue[dense]) if dense.any() else 0.0
    ink = dense & (hue > max(INK_HUE, usual + INK_MORE_THAN_STAIN))
    ink |= (mean > DENSE_INK_OD10) & (hue > DENSE_INK_HUE)
    ink |= (mean > BLACK_OD10) & (spread < GREY * mean)
    return highest(_opened(ink, mpp), RIM_PX)


def _grey_parts(stained: NDArray[np.bool_], density: NDArray[np.float32], mpp: float) -> NDArray[np.bool_]:
    """What is grey over a stroke's width, and connected parts that are grey for the most part, and no specks."""
    labels, count = ndimage.label(stained)
    spread = _spread(density)
    grey = spread < GREY * _mean(density)
    wide = _opened(stained & (grey | (spread < GREY_OD10)), mpp)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    of_them = np.bincount(labels[grey], minlength=count + 1)
    marked = (of_them > 0.5 * pixels) & (pixels * mpp**2 >= STROKE_UM**2)
    marked[0] = False
    return np.asarray(wide | marked[labels])


def _opened(mask: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """What of a mask is as wide as a stroke."""
    reach_px = max(1, round(STROKE_UM / 2 / mpp))
    return highest(lowest(mask, reach_px), reach_px)
