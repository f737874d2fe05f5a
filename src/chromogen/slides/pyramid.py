"""A picture of any size and its coarser levels, block by block, in the memory of a few blocks."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from chromogen.errors import expected
from chromogen.grid import Window
from chromogen.image import Image

BLOCK_PX = 1024  # side of what is read and halved at a time

Size = tuple[int, int]


class PixelSource(Protocol):
    """A picture that need not fit into memory."""

    @property
    def size(self) -> Size:
        """Width and height."""

    def read(self, window: Window, /) -> Image:
        """The pixels of a window inside the picture, sRGB uint8 (H, W, 3)."""


class PyramidBlock(NamedTuple):
    """A part of a level, uint8 (H, W, 3), and where: in pixels of that level, from multiples of `BLOCK_PX` on."""

    level: int
    window: Window
    image: Image


def level_sizes(size: Size, smallest_px: int) -> list[Size]:
    """Sizes of all levels, finest first: sides halved, and rounded up, until the longer is at most `smallest_px`.

    >>> level_sizes((1000, 3), 300)
    [(1000, 3), (500, 2), (250, 1)]
    """
    sizes = [size]
    while max(sizes[-1]) > smallest_px:
        width, height = sizes[-1]
        sizes.append((-(-width // 2), -(-height // 2)))
    return sizes


def halved(image: Image) -> Image:
    """Means of 2 x 2 pixels, uint8 (H, W, 3); of those that there are where a side is odd.

    Halves are rounded to even numbers, so that level after level gets neither lighter nor darker.
    """
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rows = np.add(image[::2], image[1::2], dtype=np.uint16)
    sums = rows[:, ::2] + rows[:, 1::2]
    means: Image = ((sums + 1 + ((sums >> 2) & 1)) >> 2).astype(np.uint8)
    return means


def pyramid_blocks(pixels: PixelSource, smallest_px: int) -> Iterator[PyramidBlock]:
    """All levels in blocks, every pixel of the picture read once.

    Depth first: a block comes right after the four finer ones that it is made of, so no level is kept.
    Raises: ValueError if what is read is not of the window's size.
    """
    sizes = level_sizes(pixels.size, smallest_px)
    return _down_to(pixels, sizes, len(sizes) - 1, (0, 0))


def pyramid_windows(size: Size, side_px: int) -> Iterator[Window]:
    """A level's windows of at most `side_px` on a side, row by row."""
    for row in range(-(-size[1] // side_px)):
        for column in range(-(-size[0] // side_px)):
            yield _window(size, (column, row), side_px)


def _window(size: Size, place: tuple[int, int], side_px: int) -> Window:
    left, top = place[0] * side_px, place[1] * side_px
    return Window(left, top, min(left + side_px, size[0]), min(top + side_px, size[1]))


def _down_to(
    pixels: PixelSource, sizes: Sequence[Size], level: int, place: tuple[int, int]
) -> Generator[PyramidBlock, None, Image]:
    """All blocks below the one at `place` (column, row) of a level, and that one; its image is returned too."""
    window = _window(sizes[level], place, BLOCK_PX)
    image = _read(pixels, window) if level == 0 else np.empty((*window.size[::-1], 3), np.uint8)
    for finer in _places_below(sizes[level - 1], place) if level else ():
        half = halved((yield from _down_to(pixels, sizes, level - 1, finer)))
        top, left = (finer[1] - 2 * place[1]) * BLOCK_PX // 2, (finer[0] - 2 * place[0]) * BLOCK_PX // 2
        image[top : top + half.shape[0], left : left + half.shape[1]] = half
    yield PyramidBlock(level, window, image)
    return image


def _places_below(size: Size, place: tuple[int, int]) -> list[tuple[int, int]]:
    """The up to four blocks of the next finer level, of `size`, that a block covers."""
    columns, rows = (
        range(2 * at, min(2 * at + 2, -(-side // BLOCK_PX))) for at, side in zip(place, size, strict=True)
    )
    return [(column, row) for row in rows for column in columns]


def _read(pixels: PixelSource, window: Window) -> Image:
    image = pixels.read(window)
    if image.shape != (*window.size[::-1], 3) or image.dtype != np.uint8:
        got = f"{image.dtype} {image.shape}"
        raise expected("pixels.read", f"uint8 {(*window.size[::-1], 3)} for {window}", got)
    return image
