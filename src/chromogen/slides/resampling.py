"""Pixels at another size: the mean of the area that each covers, or bicubic where that is less than a pixel.

What a pixel becomes depends on its own place alone, in every bit, so that tiles fit together however they are cut.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from chromogen.image import Image

MARGIN_PX = 2  # what bicubic interpolation looks at beyond a pixel's area
_CUBIC_A = -0.5  # Keys (1981)
_DECIMALS = 3  # where halves must be halves before they are rounded; float32 has no more to say


class Span(NamedTuple):
    """`length` output pixels of a side, from `first` on; the i-th covers `offset + step * [i, i + 1]` of it."""

    offset: float
    step: float
    first: int
    length: int

    @property
    def start(self) -> float:
        """Where the first pixel begins, in input pixels."""
        return self.offset + self.step * self.first

    @property
    def stop(self) -> float:
        """Where the last pixel ends, in input pixels."""
        return self.offset + self.step * (self.first + self.length)

    def at_level(self, downsample: float) -> Span:
        """The same of an input whose pixels are `downsample` times as wide."""
        return self._replace(offset=self.offset / downsample, step=self.step / downsample)

    def is_crop_of(self, side: int) -> bool:
        """Whether the output pixels are the input's own, of `side` pixels."""
        return self.step == 1 and self.offset.is_integer() and self.stop <= side

    @property
    def is_blocks(self) -> bool:
        """Whether each output pixel covers whole pixels of the input, and as many as the others."""
        return self.step.is_integer() and self.offset.is_integer()

    def parts(self, longest_px: int) -> list[Span]:
        """The span in pieces of about `longest_px` of the input.

        >>> [part.length for part in Span(0.0, 2.0, 0, 5).parts(4)]
        [1, 2, 2]
        """
        number = min(self.length, math.ceil(self.length * self.step / longest_px))
        cuts = [self.first + self.length * index // number for index in range(number + 1)]
        return [self._replace(first=a, length=b - a) for a, b in pairwise(cuts)]

    def cover(self, side: int) -> tuple[int, int]:
        """First pixel and past the last of an input of `side` pixels that the output depends on: at least one."""
        first = min(max(0, math.floor(self.start) - MARGIN_PX), side - 1)
        return first, max(first + 1, min(side, math.ceil(self.stop) + MARGIN_PX))


def resample(pixels: Image, location: tuple[int, int], x: Span, y: Span) -> Image:
    """The output pixels of two spans, from input pixels that begin at `location` (x, y).

    Beyond the last row and column lies more of them: a level whose size was rounded down lacks part of a pixel.
    """
    if x.is_blocks and y.is_blocks:
        covered = _blocks(_blocks(pixels, y, location[1], 0), x, location[0], 1)
        return _block_means(covered, int(x.step), int(y.step))
    height, width = pixels.shape[:2]
    rows = _weights(y, location[1], height) @ pixels.reshape(height, -1).astype(np.float32)
    columns = rows.reshape(y.length, width, 3).swapaxes(0, 1).reshape(width, -1)
    means = (_weights(x, location[0], width) @ columns).reshape(x.length, y.length, 3).swapaxes(0, 1)
    np.round(means, _DECIMALS, out=means)
    return np.asarray(np.clip(np.rint(means, out=means), 0, 255, out=means), np.uint8)


def _blocks(pixels: Image, span: Span, origin: int, axis: int) -> Image:
    """What the output pixels of a span cover of a side whose pixels begin at `origin`, the outermost repeated."""
    first, side = int(span.start) - origin, pixels.shape[axis]
    past = first + span.length * int(span.step)
    if first >= 0 and past <= side:
        return pixels[first:past] if axis == 0 else pixels[:, first:past]
    return pixels.take(np.arange(first, past).clip(0, side - 1), axis)


def _block_means(pixels: Image, width: int, height: int) -> Image:
    """Means of blocks, exact, halves to even: much faster than by weights, and the same."""
    columns, rows = pixels.shape[1] // width, pixels.shape[0] // height
    kind = np.uint16 if 255 * width * height <= np.iinfo(np.uint16).max else np.uint32
    in_rows = np.add.reduce(pixels.reshape(rows, height, -1), axis=1, dtype=kind).reshape(rows, columns, width, 3)
    means = np.empty((rows, columns, 3), np.uint8)
    for channel in range(3):  # along rows of one channel, numpy's loops are long ones
        sums = in_rows[:, :, 0, channel].copy()
        for column in range(1, width):
            sums += in_rows[:, :, column, channel]
        np.rint(sums / np.float32(width * height), out=means[..., channel], casting="unsafe")
    return means


def _weights(span: Span, origin: int, side: int) -> sparse.csr_array:
    """How much of each of `side` input pixels, from `origin` on, is in each output pixel: one row for each."""
    index, weights = _area(span) if span.step >= 1 else _cubic(span)
    count, taps = index.shape
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    columns = np.clip(index - origin, 0, side - 1)
    return sparse.csr_array(
        (weights.ravel(), columns.ravel(), np.arange(0, count * taps + 1, taps)), shape=(count, side)
    )


def _area(span: Span) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Input pixels that each output pixel touches, and how much of them it covers."""
    edges = span.offset + span.step * np.arange(span.first, span.first + span.length + 1)
    start, stop = edges[:-1, None], edges[1:, None]
    first = np.floor(start).astype(np.int64)
    index = first + np.arange(int((np.ceil(stop) - first).max()))
    return index, np.clip(np.minimum(stop, index + 1) - np.maximum(start, index), 0, None)


def _cubic(span: Span) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The four input pixels around each output pixel's middle, and Keys' cubic convolution of them."""
    middle = span.offset + span.step * (np.arange(span.first, span.first + span.length)[:, None] + 0.5) - 0.5
    index = np.floor(middle).astype(np.int64) + np.arange(-1, 3)
    return index, _keys(np.abs(middle - index))


def _keys(distance: NDArray[Any]) -> NDArray[np.float64]:
    near = ((_CUBIC_A + 2) * distance - (_CUBIC_A + 3)) * distance**2 + 1
    far = _CUBIC_A * (((distance - 5) * distance + 8) * distance - 4)
    return np.asarray(np.where(distance <= 1, near, far))
