"""How much of each stain lies where, as tiles in which a browser can set thresholds without asking again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.app.view.placement import Placement
from chromogen.app.view.pool import Opened
from chromogen.app.view.tiles import Address, as_png, read_window, window_of
from chromogen.compute.tiles import Window
from chromogen.evaluation.tile import Tile, blur
from chromogen.image import Image, resize
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.deconvolution import VECTORS, Array, separate_stains_od10
from chromogen.stains.tissue import tissue_reach_px

PER_OD10 = 100  # grey levels for a density of 1: thresholds are set in hundredths, and 2.55 is the most
ZERO_DIFFERENCE = 128
KEPT_UM = 6.0  # around a place, in which structure is compared
MIN_BLUR_PX = 3.0
MAX_HALO_PX = 320
WHITE = 255
BORDER_PX = 2


def density_tile(opened: Opened, address: Address, stains: str) -> bytes:
    """A PNG: red is haematoxylin, green the other stain, blue 255 where there is tissue.

    Levels are hundredths of base-10 densities, rounded up, so that more than 20 means a density above 0.20.
    """
    window, step = window_of(opened.size, address)
    tile = read_tile(opened, window, step)
    densities = separate_stains_od10(tile.core(tile.prediction), VECTORS[stains])
    levels = np.ceil(densities[..., :2] * PER_OD10).clip(0, 255)
    tissue = 255 * tile.core(tile.tissue)[..., None]
    return as_png(np.concatenate([levels, tissue], axis=2).astype(np.uint8))


def read_tile(opened: Opened, window: Window, step: int, halo_um: float = 0.0) -> Tile:
    """A window of a slide with so much of its surroundings that tissue is found as in one piece."""
    mpp = (opened.mpp or ASSUMED_MPP) * step
    halo_px = min(max(math.ceil(halo_um / mpp), tissue_reach_px(mpp)), MAX_HALO_PX) * step
    outer = window.grown(halo_px, opened.size)
    image = read_window(opened, outer, step)
    inner = window.seen_from(outer)
    (width, height), (w, h) = (image.shape[1], image.shape[0]), outer.size
    left, top = inner.left // step, inner.top // step
    right, bottom = round((w - inner.right) / step), round((h - inner.bottom) / step)
    halo = left, top, min(right, width - left - 1), min(bottom, height - top - 1)
    width, height = opened.size
    part = outer.left / width, outer.top / height, outer.right / width, outer.bottom / height
    seen = {"prediction": opened.background}
    return Tile(image, mpp=mpp, location=(window.left, window.top), halo=halo, backgrounds=seen, part=part)


def difference_tile(
    one: Opened, other: Opened, address: Address, stains: tuple[str, str], placed: Placement
) -> bytes:
    """A PNG: red is how much more haematoxylin the other slide has, green how much more of its second stain.

    `placed` says how the other slide lies on the first. Levels are hundredths of base-10 densities above or below
    128. Blue is 128 + 127 r, r the correlation of both haematoxylins around the place, -1 to 1: whether structure
    was kept; 0 where the first has no tissue.
    """
    window, step = window_of(one.size, address)
    tile = read_tile(one, window, step, halo_um=3 * KEPT_UM)
    height, width = tile.prediction.shape[:2]
    left, top = window.left - tile.halo[0] * step, window.top - tile.halo[1] * step
    outer = Window(left, top, min(left + width * step, one.size[0]), min(top + height * step, one.size[1]))
    there = _there(other, outer, placed, (width, height))
    first, second = (
        separate_stains_od10(image, VECTORS[name])
        for image, name in zip((tile.prediction, there), stains, strict=True)
    )
    more = np.rint(ZERO_DIFFERENCE + PER_OD10 * (second - first)[..., :2]).clip(0, 255)
    kept = 128 + 127 * local_correlation(first[..., 0], second[..., 0], max(tile.px(KEPT_UM), MIN_BLUR_PX))
    kept = np.where(tile.tissue, np.maximum(kept, 1), 0)
    return as_png(tile.core(np.concatenate([more, kept[..., None]], axis=2)).astype(np.uint8))


def _there(other: Opened, window: Window, placed: Placement, size: tuple[int, int]) -> Image:
    """What another slide shows in a window of the first, at `size` (w, h); white where it has nothing."""
    there = np.full((size[1], size[0], 3), WHITE, np.uint8)
    if not placed.is_upright:
        return _turned(other, window, placed, there)
    left, top, right, bottom = (round(side) for side in placed.window(window))
    x = _covered(left, right, other.size[0], size[0])
    y = _covered(top, bottom, other.size[1], size[1])
    if x and y:
        part, (width, height) = Window(x.begin, y.begin, x.end, y.end), (x.last - x.first, y.last - y.first)
        step = max(1.0, min(part.size[0] / width, part.size[1] / height))
        seen = resize(read_window(other, part, step), (width, height))
        there[y.first : y.last, x.first : x.last] = seen
    return there


def _turned(other: Opened, window: Window, placed: Placement, white: Image) -> Image:
    """The same of a slide that is turned, mirrored or bent: bilinear between its pixels, as coarse as `white`."""
    height, width = white.shape[:2]
    rows, columns = np.indices((height, width)) + 0.5
    first = np.stack([columns / width, rows / height], -1).reshape(-1, 2) * window.size + (window.left, window.top)
    at = placed.move(first)
    low, high = (np.floor(at.min(0)) - BORDER_PX).astype(int), (np.ceil(at.max(0)) + BORDER_PX).astype(int)
    part = Window(*low.clip(0, other.size).tolist(), *high.clip(0, other.size).tolist())
    if min(part.size) <= 0:
        return white
    seen = read_window(other, part, max(1.0, placed.scale * window.size[0] / width))
    shares = (at - (part.left, part.top)) / part.size
    places = (shares * (seen.shape[1], seen.shape[0]) - 0.5)[:, ::-1].T
    planes = [ndimage.map_coordinates(plane, places, order=1, cval=WHITE) for plane in np.moveaxis(seen, 2, 0)]
    return np.stack(planes, -1).reshape(white.shape)


@dataclass(frozen=True)
class _Covered:
    """What of a slide is seen along one axis, level-0 pixels `begin` to `end`, in pixels `first` to `last`."""

    begin: int
    end: int
    first: int
    last: int


def _covered(begin: int, end: int, most: int, count: int) -> _Covered | None:
    """Pixels `begin` to `end` of a slide of `most`, in a picture of `count`; None where the slide has none."""
    inner_begin, inner_end = max(begin, 0), min(end, most)
    if inner_end <= inner_begin:
        return None
    first, last = (round(count * (place - begin) / (end - begin)) for place in (inner_begin, inner_end))
    first = min(first, count - 1)
    return _Covered(inner_begin, inner_end, first, max(last, first + 1))


def local_correlation(a: NDArray[np.floating], b: NDArray[np.floating], sigma_px: float) -> Array:
    """Pearson's correlation of two maps (H, W) around every pixel, weighted by a Gaussian; 0 where one is flat."""
    mean_a, mean_b = blur(a, sigma_px), blur(b, sigma_px)
    together = blur(a * b, sigma_px) - mean_a * mean_b
    variances = (blur(a * a, sigma_px) - mean_a**2) * (blur(b * b, sigma_px) - mean_b**2)
    varies = variances > 1e-10
    return np.where(varies, together / np.sqrt(np.where(varies, variances, 1)), 0).clip(-1, 1)
