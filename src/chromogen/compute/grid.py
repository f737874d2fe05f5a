"""How a picture is cut into tiles: each a core that counts once, and a halo around it that is looked at too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

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
    """What counts, and what is looked at for it."""

    core: Window
    outer: Window

    @property
    def inner(self) -> Window:
        """The core as a window of what is looked at."""
        return self.core.seen_from(self.outer)


@dataclass(frozen=True)
class TileGrid:
    """Even tiles of a picture of `size` (w, h): cores of at most `core_px` on a side, with `halo_px` around them.

    Cores cover every pixel once. They and what is looked at for them begin at multiples of 32, so halos are wider
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
    """The most that is looked at, along a side, for a core of so many pixels."""
    return core_px + halo_px - (-halo_px // ALIGNED_PX) * ALIGNED_PX


def _spans(side_px: int, most_px: int) -> list[tuple[int, int]]:
    most_px = max(most_px // ALIGNED_PX, 1) * ALIGNED_PX
    count = max(1, -(-side_px // most_px))
    core_px = max(1, -(-side_px // (count * ALIGNED_PX))) * ALIGNED_PX
    return [(begin, min(begin + core_px, side_px)) for begin in range(0, side_px, core_px)]


def whole(size: tuple[int, int]) -> Window:
    """A picture of `size` (w, h) as one window."""
    return Window(0, 0, *size)
