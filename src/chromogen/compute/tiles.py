"""How a picture is cut: into tiles with halos, and into overlapping windows that are blended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image

# VGG19 halves a picture four times: tiles that begin at multiples of 16 are halved alike. At multiples of 32 the
# squares of Winograd's convolutions lie alike too, in all but the deepest layers, and so round alike.
ALIGNED_PX = 32


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels of a picture, from `left` and `top` on, without `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    @property
    def location(self) -> tuple[int, int]:
        """Where it begins, (x, y)."""
        return self.left, self.top

    @property
    def area_px(self) -> int:
        """How many pixels it has."""
        width, height = self.size
        return width * height

    @property
    def at(self) -> tuple[slice, slice]:
        """Rows and columns, for `array[window.at]` of (H, W) and `tensor[..., *window.at]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def seen_from(self, outer: Window) -> Window:
        """The same rectangle as a window of `outer`.

        >>> Window(20, 30, 40, 50).seen_from(Window(16, 16, 64, 64))
        Window(left=4, top=14, right=24, bottom=34)
        """
        return Window(
            self.left - outer.left, self.top - outer.top, self.right - outer.left, self.bottom - outer.top
        )

    def placed_in(self, outer: Window) -> Window:
        """A window of `outer` as a window of what `outer` is one of: the way back from `seen_from`."""
        return self.seen_from(Window(-outer.left, -outer.top, 0, 0))

    def common(self, other: Window) -> Window:
        """What two windows share: of no size where that is nothing.

        >>> Window(0, 0, 40, 50).common(Window(30, 60, 90, 90)).size
        (10, 0)
        """
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Window(left, top, max(left, min(self.right, other.right)), max(top, min(self.bottom, other.bottom)))

    def coarser(self, stride: int) -> Window:
        """The window in a layer that is `stride` times coarser; begins must be multiples of it."""
        return Window(self.left // stride, self.top // stride, self.right // stride, self.bottom // stride)

    def grown(self, by_px: int, size: tuple[int, int]) -> Window:
        """Larger on every side, but not past the picture's `size` (w, h)."""
        width, height = size
        return Window(
            max(0, self.left - by_px),
            max(0, self.top - by_px),
            min(width, self.right + by_px),
            min(height, self.bottom + by_px),
        )

    def aligned(self, stride: int) -> Window:
        """Larger to the left and above, so that it begins at multiples of a stride.

        >>> Window(20, 30, 40, 50).aligned(16)
        Window(left=16, top=16, right=40, bottom=50)
        """
        return Window(self.left - self.left % stride, self.top - self.top % stride, self.right, self.bottom)


@dataclass(frozen=True)
class GridTile:
    """A tile: the `core` that counts, and the `outer` window that is read for it, which has the halo."""

    core: Window
    outer: Window

    @property
    def inner(self) -> Window:
        """The core as a window of `outer`."""
        return self.core.seen_from(self.outer)


@dataclass(frozen=True)
class TileGrid:
    """Even tiles of a picture of `size` (w, h): cores of at most `core_px` on a side, with `halo_px` around them.

    Cores cover every pixel once. Cores and their outer windows begin at multiples of 32, so halos are wider
    to the left and above; all end at the picture's border.

    >>> grid = TileGrid((100, 40), core_px=64, halo_px=20)
    >>> [(tile.core.left, tile.core.right, tile.outer.left, tile.outer.right) for tile in grid]
    [(0, 64, 0, 84), (64, 100, 32, 100)]
    """

    size: tuple[int, int]
    core_px: int
    halo_px: int

    def __iter__(self) -> Iterator[GridTile]:
        """Row by row."""
        width, height = self.size
        for (top, bottom), (left, right) in product(_spans(height, self.core_px), _spans(width, self.core_px)):
            core = Window(left, top, right, bottom)
            yield GridTile(core, core.grown(self.halo_px, self.size).aligned(ALIGNED_PX))

    def __len__(self) -> int:
        """How many tiles."""
        width, height = self.size
        return len(_spans(height, self.core_px)) * len(_spans(width, self.core_px))


def outer_px(core_px: int, halo_px: int) -> int:
    """The largest side of an outer window, for a core of so many pixels."""
    return core_px + halo_px - (-halo_px // ALIGNED_PX) * ALIGNED_PX


def _spans(side_px: int, most_px: int) -> list[tuple[int, int]]:
    most_px = max(most_px // ALIGNED_PX, 1) * ALIGNED_PX
    count = max(1, -(-side_px // most_px))
    core_px = max(1, -(-side_px // (count * ALIGNED_PX))) * ALIGNED_PX
    return [(begin, min(begin + core_px, side_px)) for begin in range(0, side_px, core_px)]


def windows_of(size: tuple[int, int], side_px: int) -> Iterator[Window]:
    """A picture of `size` (w, h) in windows of at most `side_px` on a side, row by row."""
    everything = whole(size)
    for top, left in product(range(0, size[1], side_px), range(0, size[0], side_px)):
        yield Window(left, top, left + side_px, top + side_px).common(everything)


def whole(size: tuple[int, int]) -> Window:
    """A picture of `size` (w, h) as one window."""
    return Window(0, 0, *size)


# A picture of overlapping windows, blended: for networks whose every pixel depends on all that they see.

SMALL_PX = 32  # a picture smaller than a window is brought to a multiple of it
FULL = 256  # weight of a pixel in a window's middle

Each = Callable[[Callable[[Window], Image], Sequence[Window]], Iterator[Image]]  # `map`, or a pool's


@dataclass(frozen=True)
class SlidingWindow:
    """Square windows of `window_px` that overlap by `blend_px`, and begin at multiples of the rest.

    Those are multiples as seen from the whole picture: windows, and so the pixels, never depend on the part that
    is asked for. Beyond its border a picture is mirrored. A smaller one gets a smaller window, unless `fixed`.
    Raises: ValueError for windows that overlap by more than half.
    """

    window_px: int
    blend_px: int
    fixed: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.blend_px <= self.window_px // 2:
            wanted = f"0 to {self.window_px // 2} px, half of a window of {self.window_px}"
            raise expected("blend", wanted, self.blend_px)

    @property
    def step_px(self) -> int:
        """From one window's begin to the next's: images begin at multiples of it."""
        return self.window_px - self.blend_px

    def blended(
        self, paint: Callable[[Window], Image], shape: tuple[int, ...], core: Window, each: Each = map
    ) -> Image:
        """The core, uint8 (h, w, C), of a picture of `shape` (H, W) of which `paint` makes one window at a time.

        The picture begins at a multiple of `step_px`. Where it is part of a larger one it goes on for `window_px`
        beyond the core, or to the larger one's border. Sums are of whole numbers: windows may come in any order.
        The last window comes first: threads with cores side by side then begin with different ones.
        """
        windows = self.windows((shape[0], shape[1]), core)[::-1]
        painted = dict(zip(windows, each(paint, windows), strict=True))
        made = np.empty((*core.size[::-1], painted[windows[0]].shape[2]), np.uint8)
        for piece, shown in _pieces(windows, core):
            parts = [painted[window][piece.seen_from(window).at] for window in shown]
            made[piece.seen_from(core).at] = parts[0] if len(parts) == 1 else self._mean(parts, shown, piece)
        return made

    def _mean(self, parts: Sequence[Image], shown: Sequence[Window], piece: Window) -> Image:
        """What several windows show of a piece, each by its weight."""
        weights = [self._weights(window)[piece.seen_from(window).at] for window in shown]
        total = sum(part * weight for part, weight in zip(parts, weights, strict=True))
        weight = sum(weights[1:], weights[0])
        return np.asarray((total + weight // 2) // weight, np.uint8)

    def windows(self, shape: tuple[int, int], core: Window) -> list[Window]:
        """Those that show in a core of an image of `shape` (H, W), row by row; the last may reach beyond it."""
        height, width = (self._side_px(side) for side in shape)
        tops = self._begins(core.top, core.bottom, shape[0])
        lefts = self._begins(core.left, core.right, shape[1])
        return [Window(left, top, left + width, top + height) for top, left in product(tops, lefts)]

    def cells(self, part: Window) -> list[Window]:
        """In a part of a picture: windows whose left and upper borders are where one gives way to another."""
        lefts, tops = (self._meetings(*ends) for ends in ((part.left, part.right), (part.top, part.bottom)))
        return [
            Window(left, top, min(left + self.step_px, part.right), min(top + self.step_px, part.bottom))
            for top, left in product(tops, lefts)
        ]

    def _side_px(self, side_px: int) -> int:
        """Of windows in an image of that side: what is smaller than a window is a whole picture's."""
        return self.window_px if self.fixed else min(self.window_px, -(-side_px // SMALL_PX) * SMALL_PX)

    def _begins(self, start: int, stop: int, side_px: int) -> range:
        """Of windows that show from `start` to `stop`, without one that shows no more than the one before."""
        first = max(0, (start - self.window_px) // self.step_px + 1) * self.step_px
        return range(first, min(stop, max(1, side_px - self.blend_px)), self.step_px)

    def _meetings(self, start: int, stop: int) -> range:
        """Middles of overlaps."""
        middle = self.blend_px // 2
        return range(max(1, -(-(start - middle) // self.step_px)) * self.step_px + middle, stop, self.step_px)

    def _weights(self, window: Window) -> NDArray[np.uint32]:
        """Of a window's pixels (H, W, 1): less towards its borders, never nothing."""
        across, down = (self._ramp(side) for side in window.size)
        return np.asarray((down[:, None] * across)[..., None], np.uint32)

    def _ramp(self, side_px: int) -> NDArray[np.uint32]:
        within = (np.arange(side_px) + 0.5) / max(self.blend_px, 0.5)
        part = np.minimum(within, within[::-1]).clip(0, 1)
        return np.asarray(np.maximum(1, np.rint(FULL * part**2 * (3 - 2 * part))), np.uint32)


def mirrored(image: Image, window: Window) -> Image:
    """The window of an image that is mirrored at its right and lower border, as often as need be."""
    if window.bottom <= len(image) and window.right <= image.shape[1]:
        return image[window.at]
    rows, columns = (
        _reflected(*ends)
        for ends in ((window.top, window.bottom, len(image)), (window.left, window.right, image.shape[1]))
    )
    return np.asarray(image[rows[:, None], columns])


def _reflected(start: int, stop: int, side_px: int) -> NDArray[Any]:
    places = np.arange(start, stop) % (2 * side_px)
    return np.where(places < side_px, places, 2 * side_px - 1 - places)


def _pieces(windows: Sequence[Window], core: Window) -> Iterator[tuple[Window, list[Window]]]:
    """Parts of a core all over which the same windows show, and these windows: rows and columns of both."""
    by_corner = {(window.left, window.top): window for window in windows}
    rows = _cut({(window.top, window.bottom) for window in windows}, core.top, core.bottom)
    columns = _cut({(window.left, window.right) for window in windows}, core.left, core.right)
    for (top, bottom, tops), (left, right, lefts) in product(rows, columns):
        yield Window(left, top, right, bottom), [by_corner[corner] for corner in product(lefts, tops)]


def _cut(sides: Collection[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int, list[int]]]:
    """From `start` to `stop`, cut wherever a side begins or ends, and where sides begin that cover each part."""
    ends = sorted({start, stop, *(end for side in sides for end in side if start < end < stop)})
    return [(a, b, [first for first, past in sides if first <= a and b <= past]) for a, b in pairwise(ends)]
