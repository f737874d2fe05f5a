"""Blocks of a slide, and who makes them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from chromogen.compute.memory import LruCache, give_back_scattered_memory, keep_freed_memory
from chromogen.compute.tiles import SlidingWindow, Window, mirrored
from chromogen.errors import expected, short
from chromogen.files import scratch_folder
from chromogen.image import Image
from chromogen.provenance import peak_rss_mb
from chromogen.slides.pyramid import processors
from chromogen.slides.store import BlockStore, Index
from chromogen.staining.confidence import Levels, squares_of
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide.survey import TissueShare
from chromogen.whole_slide.view import DamageError, SlideFile, View, read_around_damage, shared_slide

if TYPE_CHECKING:
    from distributed import Client


# One block of a slide from reading to the store: the same code in a thread, a process, or on another machine.

BAND = 8  # blocks across; an eighth of the windows is painted twice, where bands meet
MAX_KEPT_BYTES = 120_000_000  # windows of looks of two rows of a band, which the row below needs, and a few more

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
    """A block by its index in the store: what of the view it is, what is read for it, and its tissue."""

    index: Index
    core: Window
    outer: Window
    share: TissueShare | None

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
    indices = sorted(work.store.indices(), key=_in_bands if work.stainer.sliding_window else _depth_first)
    return [block_at(i, work.store.window(i).placed_in(region), size, work.stainer, share) for i in indices]


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
    made = painted_block(shared_view(work.file, work.quickhash, work.mpp), work.stainer, work.white, block)
    if made.damaged and work.strict:
        at = made.damaged[0]
        raise DamageError(f"{str(work.file.path)!r} cannot be read at x {at.left}, y {at.top} of the output.")
    work.store.write(block.index, *made)
    give_back_scattered_memory()
    return Done(block.index, not block.blank, tuple(made.damaged), peak_rss_mb())


@contextmanager
def shared_view(file: SlideFile, quickhash: str, mpp: float | None) -> Iterator[View]:
    """The slide as this process reads it. Raises: DamageError where it is another by now."""
    with shared_slide(file, quickhash) as slide:
        yield View(slide, mpp)


def painted_block(
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
    damaged = [part for part in damaged if part.common(block.core).area_px]
    stained = stained.copy() if damaged else stained
    for part in damaged:
        stained[part.common(block.core).seen_from(block.core).at] = white
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
    inside, location = block.core.seen_from(block.outer), block.outer.location
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
    return stainer.paint(seen, stainer.statistics, window.location), damaged


@cache
def _painted_last() -> LruCache[Stained]:
    """The last windows of this process."""
    return LruCache(MAX_KEPT_BYTES, lambda stained: stained[0].nbytes)


def _faded(stained: Image, share: NDArray[np.uint8], white: tuple[int, int, int]) -> Image:
    """The stained picture where there is tissue, glass where there is none."""
    faded = PIL.Image.new("RGB", stained.shape[1::-1], white)
    faded.paste(PIL.Image.fromarray(stained), mask=PIL.Image.fromarray(share))
    return np.array(faded)


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


# Where blocks are worked on: threads of this process, or the workers of a Dask cluster.

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16  # each takes memory for a block
AHEAD = 2  # pieces that wait for every one that is worked on
GROUPS_AHEAD = 1  # likewise, of a cluster
SHARES = 2  # so many groups of the size of the next one would be left for each worker
ALLOWED_FAILURES = 20  # workers that may die over a piece before it is given up
CONNECT_S = 30


class Run(Protocol):
    """Apply a function to pieces, many at once, few ahead; results come as they are ready."""

    def __call__(self, function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        """Results, in any order."""


def in_threads(threads: int | None = None) -> Run:
    """Run on so many threads of this process, by default one a processor it may use."""
    count = threads or min(MAX_THREADS, processors())

    def run(function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        coming = iter(pieces)
        with ThreadPoolExecutor(count, "block") as pool:
            try:
                running: set[Future[R]] = {pool.submit(function, p) for p in islice(coming, AHEAD * count)}
                while running:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {pool.submit(function, piece) for piece in islice(coming, len(ready))}
                    yield from (future.result() for future in ready)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    return run


MAX_GROUP = 4 * BAND  # blocks: half a square


def group_of(waiting: int, threads: int) -> int:
    """How many of the blocks that wait go to a worker together, when there are so many threads of workers.

    Neighbours share windows, which each worker paints for itself: 3.8 a block where blocks go out one by one. So
    groups are large at first, and end as single blocks, for all workers to be done at once (guided
    self-scheduling, Polychronopoulos & Kuck 1987).
    """
    return max(1, min(MAX_GROUP, waiting // (SHARES * threads)))


def on_cluster(client: Client) -> Run:
    """Run on a cluster's workers. A piece whose worker dies goes to another; without any it waits for one.

    Pieces go out in groups (`group_of`), whose results come together.
    """

    def run(function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        from distributed import as_completed

        waiting = deque(pieces)

        def send(groups: int) -> list[Any]:
            threads, sent = _threads_of(client), list[Any]()
            while waiting and len(sent) < groups:
                group = [waiting.popleft() for _ in range(group_of(len(waiting), threads))]
                sent.append(client.submit(_each, function, group, pure=False))
            return sent

        def wanted() -> int:
            return (1 + GROUPS_AHEAD) * _threads_of(client)

        ready = as_completed(send(wanted()), loop=client.loop)
        for done in ready:
            yield from done.result()
            for future in send(max(0, wanted() - ready.count())):
                ready.add(future)

    return run


def _each(function: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
    return [function(piece) for piece in pieces]


def _threads_of(client: Client) -> int:
    """Of all workers there are now, or of the first to come."""
    known = client.scheduler_info(n_workers=-1)["workers"].values()
    return max(1, sum(int(worker["nthreads"]) for worker in known))


@contextmanager
def local_cluster(workers: int, threads: int | None = None) -> Iterator[Client]:
    """A cluster of processes on this machine, reachable from it alone, that share its processors."""
    dask, distributed = _distributed()
    with (
        scratch_folder() as folder,
        dask.config.set(_settings(folder)),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads or max(1, processors() // workers),
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(folder),
            memory_limit=0,
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        # Dask lets glibc give freed memory back at once, which costs a window of a look a third of its time.
        client.register_worker_callbacks(keep_freed_memory)
        yield client


@contextmanager
def cluster_at(address: str) -> Iterator[Client]:
    """A cluster whose scheduler listens at an address, as tcp://10.0.0.5:8786, or in a scheduler file (.json).

    Raises: ValueError where none answers, or the extra `cluster` is missing.
    """
    _, distributed = _distributed()
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        client = distributed.Client(**where, set_as_default=False, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        got = f"{address} ({short(error)})"
        raise expected(
            "scheduler", "the address of a Dask scheduler", got, "start one with `dask scheduler`"
        ) from error
    with client:
        yield client


def _settings(folder: Path) -> dict[str, Any]:
    """The scheduler has a folder too, which it would leave in the system's."""
    return {"distributed.scheduler.allowed-failures": ALLOWED_FAILURES, "temporary-directory": str(folder)}


def _distributed() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise expected(
            "workers", "used with the extra `cluster`", "none", "pip install 'chromogen[cluster]'"
        ) from error
    return dask, distributed
