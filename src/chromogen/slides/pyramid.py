"""Levels of an output: sizes, compression, threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from chromogen.compute.tiles import Window, whole
from chromogen.errors import choose, expected
from chromogen.image import Image

# Work in a few threads, with results in order and never much waiting in memory.

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 8
WAITING = 4  # items a thread


def results_in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` on every item, in threads, while the next items are being made here; results in the items' order.

    The first error ends it: what has not begun is not done.
    """
    threads = min(MAX_THREADS, processors())
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads * WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# A picture of any size and its coarser levels, block by block, in the memory of a few blocks.

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


def _down_to(
    pixels: PixelSource, sizes: Sequence[Size], level: int, place: tuple[int, int]
) -> Generator[PyramidBlock, None, Image]:
    """All blocks below the one at `place` (column, row) of a level, and that one; its image is returned too."""
    left, top = place[0] * BLOCK_PX, place[1] * BLOCK_PX
    window = Window(left, top, left + BLOCK_PX, top + BLOCK_PX).common(whole(sizes[level]))
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


# How tiles of a TIFF file are compressed: what encodes them, and the tags that say so.


@dataclass(frozen=True)
class Compression:
    """`encode(tile, quality)` compresses uint8 (H, W, 3); `tags` are what tifffile needs to know to say how.

    `most_bytes` is what a pixel of tissue takes at most, with its share in all levels: at the default quality, and
    at the highest. It was measured on real tissue with the noise of a camera (sigma 8 of 255).
    """

    encode: Callable[[Image, int], bytes]
    tags: Mapping[str, Any]
    most_bytes: tuple[float, float]
    quality: int = 0
    qualities: range = field(default=range(0))  # none: lossless

    def most_bytes_at(self, quality: int | None) -> float:
        """What a pixel of tissue takes at most at a quality. Raises: as `quality_or_default`."""
        wanted = self.quality_or_default(quality)
        highest = self.qualities[-1] if self.qualities else self.quality
        return float(np.interp(wanted, (self.quality, highest), self.most_bytes))

    def quality_or_default(self, quality: int | None) -> int:
        """Raises: ValueError if the quality is none of this compression's."""
        if quality is None or quality in self.qualities:
            return self.quality if quality is None else quality
        if not self.qualities:
            raise expected("quality", "left out for a lossless compression", quality, "leave it out")
        between = f"from {self.qualities[0]} to {self.qualities[-1]}"
        raise expected("quality", between, quality, f"leave it out for {self.quality}")


def _jpeg(tile: Image, quality: int) -> bytes:
    """Colour at half the width, as scanners have it: Bio-Formats reads tiles without it in wrong colours."""
    import imagecodecs

    encode = imagecodecs.jpeg8_encode
    return bytes(encode(tile, quality, colorspace="RGB", outcolorspace="YCBCR", subsampling=(2, 1)))


def _jpeg2000(tile: Image, quality: int) -> bytes:
    import imagecodecs

    encode = imagecodecs.jpeg2k_encode
    return bytes(encode(tile, quality, codecformat="J2K", colorspace="SRGB", reversible=False, numthreads=1))


def _deflate(tile: Image, _quality: int) -> bytes:
    """Without differencing, so a quarter larger: Bio-Formats undoes it by the picture's width, not a tile's."""
    import imagecodecs

    return bytes(imagecodecs.deflate_encode(tile.tobytes(), 6))


LOSSLESS_BYTES = 4.0  # 3 colours, and a third more for the coarser levels: noise is hardly compressed
COMPRESSIONS: dict[str, Compression] = {
    "jpeg": Compression(_jpeg, {"compression": 7, "subsampling": (2, 1)}, (1.1, 2.7), 90, range(50, 101)),
    "jpeg2000": Compression(_jpeg2000, {"compression": 34712}, (1.3, 2.6), 40, range(35, 61)),  # PSNR in dB
    "deflate": Compression(_deflate, {"compression": 8}, (LOSSLESS_BYTES, LOSSLESS_BYTES)),
}


def compression_named(name: str) -> Compression:
    """By its name. Raises: ValueError, with the nearest name, for another."""
    return COMPRESSIONS[choose("compression", name, COMPRESSIONS)]
