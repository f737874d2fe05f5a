"""The colour of a slide's bare glass, from any view of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFilter
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP

SMOOTHING_UM = 2.0
MIN_SMOOTHING_PX = 0.7  # noise of single pixels, where pixels are large
SMOOTHING_REACH = 3  # sigmas

# Glass is even, near grey and bright; what lies within `EVEN_UM` of a border is not even.
EVEN_UM, EVEN_LEVELS = 2.0, 5
# From the least to the most dense channel: a white balance that is a little off, a tinted lamp, a strongly tinted
# one. Pale stain is tinted too. So the least tint is tried first; more is a lamp's only if green is not the
# darkest channel, as it is under eosin; and the most only beside tissue, since pale DAB alone looks the same.
WHITE_OD10, LAMP_OD10, STRONG_LAMP_OD10 = 0.05, 0.09, 0.16
MIN_TISSUE, TISSUE_LEVELS = 0.02, 40  # so large a share of the view is so much darker than glass
MAX_BRIGHTER, BRIGHTER_LEVELS = 0.02, 10  # nothing is brighter than glass, but for so small a share of the view
DARKEST = 100
MIN_GLASS = 1e-3  # of the view
WIDTH = 5  # levels over which glass of one colour may vary
MIN_PEAK = 0.1  # of what may be glass: the brightest colour of so many pixels is
# A slide may be padded with white that is brighter than its glass, which is then at least so much of both.
PADDING, PADDED, MIN_BESIDE_PADDING = 254, 200, 0.25
MIN_PADDING = 0.005  # of the view: padding of any colour is exactly flat, and reaches the border

LEVELS_OD10 = -np.log10((np.arange(256) + 1.0) / 256).astype(np.float32)


def white_level(view: Image, mpp: float = ASSUMED_MPP) -> NDArray[np.float64]:
    """The colour of bare glass (3,), 0 to 255, in a view, uint8 (H, W, 3), at `mpp` um/px.

    It is 255 where the view shows no glass. Raises: ValueError for what is no view.
    """
    return glass_view(view, mpp).white


@dataclass(frozen=True, eq=False)
class GlassView:
    """A view, uint8 (H, W, 3), at `mpp` um/px; its smoothed light; and what `white_and_padding` finds in both."""

    image: Image
    mpp: float
    light: Image
    white: NDArray[np.float64]
    padding: NDArray[np.bool_]


def glass_view(view: Image, mpp: float) -> GlassView:
    """A view, uint8 (H, W, 3), with its glass, found once. Raises: ValueError for what is no view."""
    light = smoothed(view, mpp)
    return GlassView(view, mpp, light, *white_and_padding(view, light, mpp))


def white_and_padding(view: Image, light: Image, mpp: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """As `white_level`, of a view and its smoothed light; and what padding of another colour reaches, (H, W).

    What is flat is glass itself, where a fair share of other glass is not in view.
    """
    padding = _flat_at_border(view)
    if padding.any():
        beside = ~highest(padding, smoothing_reach_px(mpp))
        if _shows_glass(light, beside, mpp):
            white = white_in(light, mpp, beside)
            other = padding.copy()
            other[padding] = (abs(view[padding] - white) > WIDTH // 2).any(axis=1)
            return white, highest(other, smoothing_reach_px(mpp))
    return white_in(light, mpp), np.zeros_like(padding)


def _flat_at_border(view: Image) -> NDArray[np.bool_]:
    """Where a view has parts of one colour, without any noise, that are large and touch its border."""
    red, green, blue = np.moveaxis(view.astype(np.uint32), 2, 0)
    color = red << 16 | green << 8 | blue
    labels, count = ndimage.label(highest(color, 1) == lowest(color, 1))
    large = np.bincount(labels.ravel(), minlength=count + 1) >= MIN_PADDING * labels.size
    border = np.zeros(count + 1, np.bool_)
    border[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    border[0] = False
    return np.asarray((large & border)[labels])


def _shows_glass(light: Image, beside: NDArray[np.bool_], mpp: float) -> bool:
    """Whether a smoothed view shows bright glass beside its padding, and no less than a fair share of all."""
    even, tint_od10 = _even_light(light, mpp)
    glass = even & (tint_od10 <= STRONG_LAMP_OD10)
    bright = np.count_nonzero(glass & beside & (light[..., 1] >= PADDED))
    return bool(bright >= max(MIN_BESIDE_PADDING * np.count_nonzero(glass), MIN_GLASS * glass.size))


def smoothed(view: Image, mpp: float) -> Image:
    """The view, uint8 (H, W, 3), as if its light had been gathered over `SMOOTHING_UM`, at any um per pixel."""
    if view.dtype != np.uint8 or view.ndim != 3 or view.shape[2] != 3 or not view.size:
        raise expected("overview", "uint8 (H, W, 3)", f"{view.dtype} {view.shape}", "convert it first")
    picture = PIL.Image.fromarray(np.ascontiguousarray(view))
    return np.asarray(picture.filter(PIL.ImageFilter.GaussianBlur(smoothing_px(mpp))))


def smoothing_px(mpp: float) -> float:
    """The sigma that light is gathered with, in px."""
    return float(max(SMOOTHING_UM / mpp, MIN_SMOOTHING_PX))  # Pillow takes no numpy number


def smoothing_reach_px(mpp: float) -> int:
    """How far light is smoothed."""
    return round(SMOOTHING_REACH * smoothing_px(mpp))


def white_in(light: Image, mpp: float, seen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """As `white_level`, of a view, uint8 (H, W, 3), that is smoothed, or of what is `seen` of it, (H, W)."""
    seen = np.ones(light.shape[:2], np.bool_) if seen is None else seen
    even, tint_od10 = _even_light(light, mpp)
    for most_od10 in (WHITE_OD10, LAMP_OD10, STRONG_LAMP_OD10):
        glass = even & seen & (tint_od10 <= most_od10)
        if np.count_nonzero(glass) >= MIN_GLASS * glass.size:
            white = _brightest_color(light[glass])
            if _is_glass(white, light, seen, mpp, beside_tissue=most_od10 == STRONG_LAMP_OD10):
                return white
    return np.full(3, 255.0)


def _even_light(light: Image, mpp: float) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Where a smoothed view is even, bright, and tinted no more than by a lamp; and its tint."""
    red, green, blue = np.moveaxis(light, 2, 0)
    darkest = np.minimum(np.minimum(red, green), blue)
    brightest = np.maximum(np.maximum(red, green), blue)
    tint_od10 = LEVELS_OD10[darkest] - LEVELS_OD10[brightest]
    lamplike = (green > darkest) | (tint_od10 <= WHITE_OD10)
    return _even(darkest, mpp) & (darkest >= DARKEST) & lamplike, tint_od10


def _is_glass(
    white: NDArray[np.float64], light: Image, seen: NDArray[np.bool_], mpp: float, *, beside_tissue: bool
) -> bool:
    """Whether hardly anything in a smoothed view is clearly brighter, and, `beside_tissue`, much is darker.

    White padding may be brighter; light from it reaches as far as smoothing does.
    """
    red, green, blue = np.moveaxis(light, 2, 0)
    mean = (red.astype(np.uint16) + green + blue) / np.float32(3)
    if beside_tissue and (seen & (mean < white.mean() - TISSUE_LEVELS)).mean() < MIN_TISSUE:
        return False
    brighter = seen & (mean > white.mean() + BRIGHTER_LEVELS)
    if brighter.mean() > MAX_BRIGHTER:
        padding = (red >= PADDING) & (green >= PADDING) & (blue >= PADDING)
        brighter &= ~highest(padding, smoothing_reach_px(mpp))
    return bool(brighter.mean() <= MAX_BRIGHTER)


def _brightest_color(colors: Image) -> NDArray[np.float64]:
    """Of what may be glass, uint8 (N, 3), the colour (3,) of the brightest good part."""
    levels = colors.min(axis=1)
    level = _brightest_peak(_without_padding(np.bincount(levels, minlength=256)))
    return np.asarray(np.median(colors[abs(levels.astype(int) - level) <= WIDTH // 2], axis=0), np.float64)


def _even(level: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Where a level varies little around."""
    reach_px = max(1, round(EVEN_UM / mpp))
    return np.asarray(highest(level, reach_px) - lowest(level, reach_px) <= EVEN_LEVELS)


def highest(values: NDArray[Any], reach_px: int) -> NDArray[Any]:
    """The highest of values (H, W) in the square that reaches so far from every pixel."""
    return _extremes(np.maximum, _extremes(np.maximum, values, reach_px).T, reach_px).T


def lowest(values: NDArray[Any], reach_px: int) -> NDArray[Any]:
    """The lowest of values (H, W) in the square that reaches so far from every pixel."""
    return _extremes(np.minimum, _extremes(np.minimum, values, reach_px).T, reach_px).T


def _extremes(further: np.ufunc, values: NDArray[Any], reach_px: int) -> NDArray[Any]:
    """The highest, or lowest, of rows up to `reach_px` above and below.

    Extremes of 1, 2, 4, ... rows are made of each other. The last two that overlap make those of all rows.
    """
    found = np.pad(values, ((reach_px, reach_px), (0, 0)), mode="edge")
    rows, wanted = 1, 2 * reach_px + 1
    while 2 * rows <= wanted:
        found = further(found[:-rows], found[rows:])
        rows *= 2
    return np.asarray(further(found[: len(values)], found[wanted - rows : wanted - rows + len(values)]))


def _without_padding(counts: NDArray[np.int_]) -> NDArray[np.int_]:
    levels = np.arange(256)
    beside = np.where((levels >= PADDED) & (levels < PADDING), counts, 0)
    return beside if beside.sum() >= MIN_BESIDE_PADDING * counts.sum() else counts


def _brightest_peak(counts: NDArray[np.int_]) -> int:
    """Of a histogram of levels the brightest peak that is a good part of them; the highest one where none is."""
    together = ndimage.convolve1d(counts, np.ones(WIDTH, int), mode="constant")
    good = np.flatnonzero(together >= min(MIN_PEAK * counts.sum(), together.max()))
    level = int(good[-1])
    while level and together[level - 1] > together[level]:
        level -= 1
    return level
