"""Tiles of slides at power-of-two levels, as the browser asks for them; none are made beforehand."""

from __future__ import annotations

import io
from dataclasses import dataclass

import PIL.Image

from chromogen.app.view.pool import NOMINAL_MPP, Opened
from chromogen.app.view.virtual import labelled
from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.pixel_size import MPP_RANGE

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


def as_png(image: Image) -> bytes:
    """An image, uint8 (H, W, 3), as a PNG file, quickly rather than small."""
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, "PNG", compress_level=1)
    return data.getvalue()
