"""Pictures that the server makes of slides: tiles, densities, differences, maps to lay on a slide."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.app.view.opened import LABEL, NOMINAL_MPP, Opened
from chromogen.app.view.placement import Placement
from chromogen.compute.tiles import Window
from chromogen.evaluation.tile import Tile, blur
from chromogen.image import Image, resize
from chromogen.pixel_size import ASSUMED_MPP, MPP_RANGE
from chromogen.staining.confidence import SQUARE_PX, Levels, confidence_of, painted_share
from chromogen.staining.maps import coarser
from chromogen.stains.deconvolution import (
    H_DAB,
    VECTORS,
    Array,
    combine_stains,
    optical_density,
    separate_stains,
    separate_stains_od10,
)
from chromogen.stains.tissue import tissue_reach_px

# Tiles at power-of-two levels, as the browser asks for them; none are made beforehand.

TILE_PX = 512
THUMBNAIL_PX = 256
JPEG_QUALITY = 90


class NoSuchTileError(LookupError):
    """A level or place that the slide does not have."""


@dataclass(frozen=True)
class Address:
    """A tile: column `x` and row `y` at a `level`, where 0 is the coarsest and one tile holds the whole slide."""

    level: int
    x: int
    y: int


def tile_levels(size: tuple[int, int]) -> int:
    """How many levels a slide of `size` (w, h) has, each twice as fine as the one before, down to one tile.

    >>> tile_levels((512, 300)), tile_levels((513, 300)), tile_levels((60_000, 40_000))
    (1, 2, 8)
    """
    tiles = -(-max(size) // TILE_PX)
    return (tiles - 1).bit_length() + 1


def window_of(size: tuple[int, int], address: Address) -> tuple[Window, int]:
    """What a tile shows, in level-0 pixels, and how many of those its pixels are wide; NoSuchTileError.

    >>> window_of((1000, 700), Address(0, 0, 0))
    (Window(left=0, top=0, right=1000, bottom=700), 2)
    """
    levels = tile_levels(size)
    if not 0 <= address.level < levels:
        raise NoSuchTileError(f"The slide has the levels 0 to {levels - 1}, not {address.level}.")
    step = 1 << (levels - 1 - address.level)
    side = TILE_PX * step
    left, top = address.x * side, address.y * side
    if not (0 <= left < size[0] and 0 <= top < size[1]):
        raise NoSuchTileError(f"The slide has no tile {address.x}, {address.y} at level {address.level}.")
    return Window(left, top, min(left + side, size[0]), min(top + side, size[1])), step


def read_window(opened: Opened, window: Window, step: float) -> Image:
    """A window of a slide, in level-0 pixels, at pixels `step` times as wide; uint8 (H, W, 3)."""
    mpp = min(NOMINAL_MPP * step, MPP_RANGE[1])
    return opened.slide.read_region((window.left, window.top), window.size, None if step == 1 else mpp)


def tile(opened: Opened, address: Address) -> bytes:
    """A tile as JPEG, colours at full resolution."""
    return as_jpeg(read_window(opened, *window_of(opened.size, address)))


def thumbnail(opened: Opened) -> bytes:
    """The whole slide, its longer side at most `THUMBNAIL_PX`, as JPEG; a virtual stain with its label."""
    small = opened.slide.overview(THUMBNAIL_PX)[0]
    return as_jpeg(labelled(small) if opened.virtual else small)


def as_jpeg(image: Image) -> bytes:
    """An image, uint8 (H, W, 3), as a JPEG file."""
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()


def as_png(image: Image, compress_level: int = 1) -> bytes:
    """An image, uint8 (H, W, 3 or 4), as a PNG file, quickly rather than small."""
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, "PNG", compress_level=compress_level)
    return data.getvalue()


# How much of each stain lies where, as tiles in which a browser can set thresholds without asking again.

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
    part = Window(max(left, 0), max(top, 0), min(right, other.size[0]), min(bottom, other.size[1]))
    if min(part.size) > 0:
        x = _pixels(part.left - left, part.right - left, right - left, size[0])
        y = _pixels(part.top - top, part.bottom - top, bottom - top, size[1])
        shape = x.stop - x.start, y.stop - y.start
        step = max(1.0, min(part.size[0] / shape[0], part.size[1] / shape[1]))
        there[y, x] = resize(read_window(other, part, step), shape)
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


def _pixels(begin: int, end: int, length: int, count: int) -> slice:
    """The pixels, at least one, that `begin` to `end` of `length` level-0 pixels take in a picture of `count`."""
    first, last = (round(count * place / length) for place in (begin, end))
    first = min(first, count - 1)
    return slice(first, max(last, first + 1))


def local_correlation(a: NDArray[np.floating], b: NDArray[np.floating], sigma_px: float) -> Array:
    """Pearson's correlation of two maps (H, W) around every pixel, weighted by a Gaussian; 0 where one is flat."""
    mean_a, mean_b = blur(a, sigma_px), blur(b, sigma_px)
    together = blur(a * b, sigma_px) - mean_a * mean_b
    variances = (blur(a * a, sigma_px) - mean_a**2) * (blur(b * b, sigma_px) - mean_b**2)
    varies = variances > 1e-10
    return np.where(varies, together / np.sqrt(np.where(varies, variances, 1)), 0).clip(-1, 1)


# The label of virtual stains.

INK, PAPER = (255, 255, 255), (150, 20, 20)
MIN_LETTER_PX, GOOD_LETTER_PX, MAX_LETTER_PX = 8, 11, 48
MARGIN = 0.25  # of a letter's height


def labelled(image: Image) -> Image:
    """The image, uint8 (H, W, 3), with `LABEL` over its lower edge, on a ground of its own; as large as before.

    In one line where the letters can be large enough, else in two.
    """
    height, width = image.shape[:2]
    lines = [" - ".join(LABEL)]
    font = _fitting(lines, width, height)
    if font.size <= MIN_LETTER_PX:
        lines = list(LABEL)
        font = _fitting(lines, width, height)
    picture = PIL.Image.fromarray(image)
    draw = PIL.ImageDraw.Draw(picture)
    line_px = round(font.size * (1 + MARGIN))
    top = height - line_px * len(lines) - round(font.size * MARGIN)
    draw.rectangle((0, top, width, height), fill=PAPER)
    for number, line in enumerate(lines):
        middle = (width / 2, top + (number + 0.5) * line_px + font.size * MARGIN / 2)
        draw.text(middle, line, fill=INK, font=font, anchor="mm")
    return np.asarray(picture)


def _fitting(lines: list[str], width: int, height: int) -> PIL.ImageFont.FreeTypeFont:
    """The largest letters in which lines fit a picture; at least `MIN_LETTER_PX`, though they may not fit."""
    trial = _font(100)
    widest = max(trial.getlength(line) for line in lines) / 100
    letter_px = min(0.9 * width / widest, max(height / 12, GOOD_LETTER_PX), MAX_LETTER_PX)
    return _font(max(letter_px, MIN_LETTER_PX))


def _font(size_px: float) -> PIL.ImageFont.FreeTypeFont:
    return cast(PIL.ImageFont.FreeTypeFont, PIL.ImageFont.load_default(size_px))


# Maps to be laid on a slide: *where* a stain lies, and which tissue is unlike the exemplar's.

WHERE_RGB, UNLIKE_RGB = (0, 128, 118), (104, 20, 150)  # both are seen on pink, blue and brown
MAX_ALPHA = 150  # of *where*: the tissue is seen through it
HATCH_ALPHA, TINT_ALPHA = 235, 60
HATCH_PX, LINE_PX = 8, 2  # from line to line, and how wide a line is
MAX_SIDE_PX = 4096
BY = 2  # pixels of *where* on a side of the picture's: maps are smooth


def where_picture(values: NDArray[np.uint8]) -> bytes:
    """A map of *where* (H, W), 255 for 1, as a PNG: the more opaque the more is stained, nothing for nothing."""
    return _shades(WHERE_RGB, coarser(values, BY) * (MAX_ALPHA / 255))


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
    return _shades(UNLIKE_RGB, np.where(lines & (left_out > 0.5), HATCH_ALPHA, TINT_ALPHA * left_out))


def _shades(color: tuple[int, int, int], alpha: NDArray[Any]) -> bytes:
    """One colour in as many shades as `alpha` (H, W), 0 to 255, has."""
    opacity = np.rint(alpha).astype(np.uint8)
    plain = np.broadcast_to(np.array(color, np.uint8), (*opacity.shape, 3))
    return as_png(np.dstack([plain, opacity]), compress_level=3)


# A finished virtual stain with more or less of it: what needs no new run.


def adjusted(he: Image, result: Image, strength: float, dab_amount: float) -> Image:
    """Between the H&E (strength 0) and the result (1), with `dab_amount` times its DAB; uint8 (H, W, 3).

    Optical densities are mixed, as light passes them. DAB is that of the H-DAB vectors, where a run with
    `--dab-amount` takes the style's own: close to it, not equal.
    """
    if dab_amount != 1:
        concentrations = separate_stains(result, H_DAB)
        concentrations[..., 1] = np.where(
            concentrations[..., 1] > 0, concentrations[..., 1] * dab_amount, concentrations[..., 1]
        )
        result = combine_stains(concentrations, H_DAB)
    if strength == 1:
        return result
    began = resize(he, (result.shape[1], result.shape[0]))
    density = (1 - strength) * optical_density(began) + strength * optical_density(result)
    return np.asarray(np.rint(256 * np.exp(-density) - 1).clip(0, 255), np.uint8)
