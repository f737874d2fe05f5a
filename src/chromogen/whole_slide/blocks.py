"""One block of a slide from reading to the store: the same code in a thread, a process, or on another machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from chromogen.allocator import give_back_scattered_memory
from chromogen.grid import Window
from chromogen.image import Image
from chromogen.lru_cache import LruCache
from chromogen.provenance import peak_rss_mb
from chromogen.slides.store import BlockStore, Index
from chromogen.sliding_window import SlidingWindow, mirrored
from chromogen.stainer import Stainer
from chromogen.staining.confidence_map import Levels, squares_of
from chromogen.whole_slide.survey import TissueShare
from chromogen.whole_slide.view import DamageError, SlideFile, View, read_around_damage, shared_slide

BAND = 16  # blocks across: so many sliding windows are kept until the row below has taken its part
MAX_KEPT_BYTES = 80_000_000  # as many windows of looks, and a few more

Stained: TypeAlias = tuple[Image, list[Window]]  # (H, W, C), and what of the view could not be read
HALF = 128  # of 255: what is more counts as tissue


@dataclass(frozen=True)
class BlockWork:
    """What all blocks of a slide share; small, for it is sent along with every block. `mpp` is the view's."""

    file: SlideFile
    quickhash: str
    mpp: float | None
    stainer: Stainer
    white: tuple[int, int, int]
    store: BlockStore
    strict: bool = False


@dataclass(frozen=True)
class Block:
    """A block by its index in the store: what of the view it is, what is looked at for it, and its tissue."""

    index: Index
    core: Window
    outer: Window
    share: TissueShare | None

    @property
    def area_px(self) -> int:
        """Pixels that it makes."""
        width, height = self.core.size
        return width * height

    @property
    def blank(self) -> bool:
        """Whether nothing of it is tissue."""
        return self.share is not None and not self.share.values.any()


@dataclass(frozen=True)
class Done:
    """What became of a block: stained or left as glass, which windows of the view were unreadable, memory used."""

    index: Index
    stained: bool
    damaged: tuple[Window, ...]
    peak_rss_mb: float


def blocks_of(work: BlockWork, size: tuple[int, int], region: Window, share: TissueShare | None) -> list[Block]:
    """The store's blocks as parts of the view of `size` (w, h).

    They come in the order in which a pyramid is written; with a sliding window row by row, in bands, so that
    blocks side by side share windows. Halos reach beyond the region.
    """
    corner = Window(-region.left, -region.top, 0, 0)
    indices = sorted(work.store.indices(), key=_in_bands if work.stainer.sliding_window else _depth_first)
    return [block_at(i, work.store.window(i).seen_from(corner), size, work.stainer, share) for i in indices]


def block_at(
    index: Index, core: Window, size: tuple[int, int], stainer: Stainer, share: TissueShare | None
) -> Block:
    """The block that makes a window of the view of `size` (w, h)."""
    outer = core.grown(stainer.halo_px, size).aligned(stainer.stride_px)
    return Block(index, core, outer, share.part(core) if share else None)


def _depth_first(index: Index) -> int:
    """Four blocks that become one of the next coarser level come together: bits of row and column interleaved."""
    row, column = index
    return sum(((row >> bit & 1) << 1 | (column >> bit & 1)) << 2 * bit for bit in range(32))


def _in_bands(index: Index) -> tuple[int, int, int]:
    """Row by row, in bands of BAND blocks."""
    row, column = index
    return column // BAND, row, column


class Painted(NamedTuple):
    """A block's pixels, uint8 (H, W, 3), what could not be read, and how sure the stainer was, if it says."""

    pixels: Image
    damaged: list[Window]
    levels: Levels | None = None


def stain_block(work: BlockWork, block: Block) -> Done:
    """Read a block with its halo, stain it, and put it into the store; glass is not even read.

    Raises: DamageError where the slide is gone, or part of it cannot be read and the work is strict; OSError where
    the disk is full.
    """
    made = painted(shared_view(work), work.stainer, work.white, block)
    if made.damaged and work.strict:
        at = made.damaged[0]
        raise DamageError(f"{str(work.file.path)!r} cannot be read at x {at.left}, y {at.top} of the output.")
    work.store.write(block.index, *made)
    give_back_scattered_memory()
    return Done(block.index, not block.blank, tuple(made.damaged), peak_rss_mb())


@contextmanager
def shared_view(work: BlockWork) -> Iterator[View]:
    """The slide as this process reads it. Raises: DamageError where it is another by now."""
    with shared_slide(work.file, work.quickhash) as slide:
        yield View(slide, work.mpp)


def painted(
    view: AbstractContextManager[View], stainer: Stainer, white: tuple[int, int, int], block: Block
) -> Painted:
    """What becomes of a block; what could not be read is left `white`, as glass is.

    The view is entered where the block is read at all.
    """
    if block.blank:
        return Painted(np.full((*block.core.size[::-1], 3), white, np.uint8), [])
    _keep_to_one_thread()
    with view as seen:
        if stainer.sliding_window is None:
            made, damaged = _in_one_piece(seen, stainer, block)
        else:
            made, damaged = _blended(seen, stainer, stainer.sliding_window, block.core)
    stained, levels = np.ascontiguousarray(made[..., :3]), _levels(made, block)
    if block.share is not None and block.share.values.min() < 255:
        stained = _faded(stained, block.share.at(block.core), white)
    damaged = [part for part in damaged if _overlap(part, block.core)]
    for part in damaged:
        stained = _whitened(stained, part, block.core, white)
    return Painted(stained, damaged, levels)


def _levels(made: Image, block: Block) -> Levels | None:
    """How sure the stainer was of the block's tissue, in squares, if it says."""
    if made.shape[2] < 4:
        return None
    tissue = True if block.share is None else block.share.at(block.core) >= HALF
    return squares_of(made[..., 3] * np.uint8(tissue))


def _in_one_piece(view: View, stainer: Stainer, block: Block) -> Stained:
    """The block's core, of what the stainer makes of the block with its halo."""
    pixels, damaged = read_around_damage(view, block.outer)
    inside, location = block.core.seen_from(block.outer), (block.outer.left, block.outer.top)
    return stainer.painted(pixels, inside, location=location), damaged


def _blended(view: View, stainer: Stainer, sliding_window: SlidingWindow, core: Window) -> Stained:
    """A core made of sliding windows, each read and painted once for all blocks that share it."""
    damaged: dict[Window, None] = {}

    def paint(window: Window) -> Image:
        key = (view, stainer.identity, stainer.statistics, window)
        made, lost = _painted_last().get(key, lambda: _window(view, stainer, window))
        damaged.update(dict.fromkeys(lost))
        return made

    width, height = view.size
    return sliding_window.blended(paint, (height, width), core), list(damaged)


def _window(view: View, stainer: Stainer, window: Window) -> Stained:
    """A window of the stainer's sliding window, beyond the slide's border mirrored."""
    part = window.grown(0, view.size)
    pixels, damaged = read_around_damage(view, part)
    seen = mirrored(pixels, window.seen_from(part))
    return stainer.paint(seen, stainer.statistics, (window.left, window.top)), damaged


@cache
def _painted_last() -> LruCache[Stained]:
    """The last windows of this process."""
    return LruCache(MAX_KEPT_BYTES, lambda stained: stained[0].nbytes)


def _faded(stained: Image, share: NDArray[np.uint8], white: tuple[int, int, int]) -> Image:
    """The stained picture where there is tissue, glass where there is none."""
    faded = PIL.Image.new("RGB", stained.shape[1::-1], white)
    faded.paste(PIL.Image.fromarray(stained), mask=PIL.Image.fromarray(share))
    return np.array(faded)


def _whitened(stained: Image, part: Window, core: Window, white: tuple[int, int, int]) -> Image:
    seen = part.seen_from(core)
    rows, columns = slice(max(0, seen.top), seen.bottom), slice(max(0, seen.left), seen.right)
    changed = stained.copy()
    changed[rows, columns] = white
    return changed


def _overlap(a: Window, b: Window) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


@contextmanager
def threads_given_back() -> Iterator[None]:
    """Afterwards torch has as many threads as before: blocks leave it with one."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    try:
        yield
    finally:
        if before is not None:
            sys.modules["torch"].set_num_threads(before)


def _keep_to_one_thread() -> None:
    """Blocks are what runs side by side: torch's own threads would only get in their way."""
    if "torch" in sys.modules:
        import torch

        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
