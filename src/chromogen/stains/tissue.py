"""Where the tissue is, from a low-power view, and which window of it is richest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.stains.parts import large_parts

SMOOTHING_PX = 1.5
# Base-10 densities. What stains less than the first is never tissue, what stains more than the second always is.
THRESHOLD_OD10 = (0.05, 0.08)
COLORLESS_OD10 = 0.03
SMALLEST_PART = 1e-3  # of the view: smaller specks and holes are no tissue architecture

# Ink takes more red than green light, in shares of its mean density, and more so than the slide's own stains, of
# which bluish haematoxylin may reach 0.3. Or it is black, as no fold is: stains keep their colour where dense.
INK_HUE, MORE_THAN_STAIN = (0.2, 0.45), 0.35
INK_OD10 = 0.1
BLACK_OD10, GREY = 0.6, 0.15  # least density; most spread over the channels, in shares of it
INK_RIM_PX = 2
LEAST_GLASS = 0.01


def tissue_mask(overview: Image) -> NDArray[np.bool_]:
    """Where a low-power view, uint8 (H, W, 3), shows tissue: bool (H, W), without small specks and holes.

    Otsu's threshold (1979) of the stain: mean optical density above that of the glass, white or grey, plus the
    spread of density over the channels. We hold the threshold within `THRESHOLD_OD10`, so that a view of nothing
    but glass is all False and one of nothing but tissue all True, and dark folds hide no pale tissue. Ink of pens,
    green, blue or black, is no tissue, nor is what is grey and stands alone, as rims of air bubbles do. Red ink
    passes for eosin. Where the whole view is in black and white, all that is dark is tissue.
    """
    if overview.dtype != np.uint8 or overview.ndim != 3 or overview.shape[2] != 3 or not overview.size:
        raise expected("overview", "uint8 (H, W, 3)", f"{overview.dtype} {overview.shape}", "convert it first")
    density = _density_od10(overview)
    stain = _stain_od10(density)
    mask = np.asarray(stain > np.clip(threshold_otsu(stain), *THRESHOLD_OD10))
    smallest_px = SMALLEST_PART * mask.size
    if np.any(overview != overview[..., :1]):
        density -= _glass_od10(density, mask)
        mask = _without_grey_parts(mask & ~_ink(density, mask, smallest_px), density)
    return ~large_parts(~large_parts(mask, smallest_px), smallest_px)


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


def _density_od10(overview: Image) -> NDArray[np.float64]:
    levels = -np.log10((np.arange(256) + 1.0) / 256)
    channels = [ndimage.gaussian_filter(levels[overview[..., c]], SMOOTHING_PX) for c in range(3)]
    return np.stack(channels, 2)


def _mean(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the channels, four times as fast as numpy's own over a last axis of three."""
    red, green, blue = np.moveaxis(density, 2, 0)
    return np.asarray((red + green + blue) / 3)


def _spread(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the least to the most dense channel, ten times as fast as `numpy.ptp`."""
    red, green, blue = np.moveaxis(density, 2, 0)
    return np.asarray(np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue))


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


def _stain_od10(density: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, chroma = _mean(density), _spread(density)
    colorless = mean[chroma < COLORLESS_OD10]
    glass = np.percentile(colorless, 1) if colorless.size else 0.0
    return np.asarray(chroma + np.maximum(mean - glass, 0))


def _glass_od10(density: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The density (3,) of bare glass, zero where hardly any is in view."""
    glass = density[~mask]
    return np.asarray(np.median(glass, axis=0)) if len(glass) > LEAST_GLASS * mask.size else np.zeros(3)


def _ink(density: NDArray[np.float64], mask: NDArray[np.bool_], smallest_px: float) -> NDArray[np.bool_]:
    """Where pens have been, with a rim; single pixels are no stroke."""
    mean = _mean(density)
    dense = mask & (mean > INK_OD10)
    hue = np.divide(density[..., 0] - density[..., 1], mean, out=np.zeros_like(mean), where=dense)
    stains = hue[dense & (hue < INK_HUE[0])]
    usual = np.median(stains) if stains.size else 0.0
    colored = dense & (hue > np.clip(usual + MORE_THAN_STAIN, *INK_HUE))
    black = (mean > BLACK_OD10) & (_spread(density) < GREY * mean)
    strokes = large_parts(ndimage.binary_opening(colored | (mask & black)), smallest_px)
    return np.asarray(ndimage.binary_dilation(strokes, iterations=INK_RIM_PX))


def _without_grey_parts(mask: NDArray[np.bool_], density: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The mask without connected parts that are grey for the most part."""
    labels, count = ndimage.label(mask)
    grey = _spread(density) < GREY * _mean(density)
    shares = ndimage.mean(grey, labels, np.arange(1, count + 1)) if count else []
    return np.asarray(mask & np.concatenate([[False], np.asarray(shares) <= 0.5])[labels])
