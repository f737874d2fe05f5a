"""Memory: what becomes of freed memory, and what is kept, in memory by use or on disk."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import weakref
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from cachetools import LRUCache

from chromogen.files import scratch_folder

if TYPE_CHECKING:
    from torch import Tensor


# What becomes of freed memory, and when Python looks for garbage.

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
M_ARENA_MAX = -8
NEVER = -1
GARBAGE_OBJECTS = 70_000
GROWTH_BYTES = 64 * 2**20
GIVEN_BACK_BYTES = 32 * 2**20  # and more; glibc takes no higher limit
DEFAULT_MMAP_MAX = 65536
SCATTERED_BYTES = 700 * 2**20
FRUGAL = (430 * 2**20, 1.2)  # hardly more than torch and a window's results; taking more anew costs a twentieth


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocation, as the command line does; False where it cannot.

    By default glibc hands every large block back to the system and gets it again page by page, zeroed: a quarter
    of a step at 512 px. All threads share what is kept: with a heap for each, two threads that stain a slide took
    half as much again. It touches the whole process, so Python programs choose it by this call, best
    before they load torch. Only glibc can.
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, GROWTH_BYTES), (M_ARENA_MAX, 1))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)


def collect_garbage_rarely() -> None:
    """Let Python look for garbage in cycles a hundred times less often than by default, and not when it ends.

    Each full search goes through all of torch's modules, which takes a quarter of a second: while they are loaded,
    now and then later, and twice or more at the end. It touches the whole process, as `keep_freed_memory` does.
    """
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def give_back_freed_memory(from_bytes: int = GIVEN_BACK_BYTES) -> bool:
    """Undo `keep_freed_memory`, for work that memory limits rather than time; False where it cannot.

    Blocks kept for next time are rarely of the size that is asked for next: a tile of a picture takes half the
    memory when every large block goes back to the system at once. Those below `from_bytes`, at most 32 MB, stay:
    to give back blocks from 4 MB on took a third of a step.
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = (
        (M_MMAP_MAX, DEFAULT_MMAP_MAX),
        (M_MMAP_THRESHOLD, min(from_bytes, GIVEN_BACK_BYTES)),
        (M_TRIM_THRESHOLD, GROWTH_BYTES),
    )
    given = all(libc.mallopt(option, value) == 1 for option, value in settings)
    libc.malloc_trim(0)
    return given


def give_back_scattered_memory(from_bytes: int = SCATTERED_BYTES, times: float = 1.3) -> bool:
    """Give back what lies free between blocks in use, if the process takes so much, and `times` what it uses.

    Blocks of many sizes leave gaps that only smaller ones fit, and memory would grow for as long as work goes on.
    False where there was nothing to do, or it cannot be done.
    """
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        return False
    libc.mallinfo2.restype = _HeapInfo
    taken = resident_bytes()
    if taken < from_bytes:
        return False
    info = libc.mallinfo2()
    return taken > times * (info.uordblks + info.hblkhd) and bool(libc.malloc_trim(0))


def resident_bytes() -> int:
    """The memory that this process takes now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class _HeapInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _glibc() -> Any:
    """The C library, if it is one with these settings."""
    try:
        libc = ctypes.CDLL(None)
        return libc if libc.mallopt and libc.malloc_trim else None
    except (AttributeError, OSError, TypeError):
        return None


# A least-recently-used cache within a number of bytes; one thread makes a value, and others wait for it.

V = TypeVar("V")


class LruCache(Generic[V]):
    """Values by key, as many as fit into `max_bytes` by `bytes_of`; a larger one is kept alone.

    Of threads that ask for the same key at once one makes the value, and the others wait. Failures are not kept.
    """

    def __init__(self, max_bytes: int, bytes_of: Callable[[V], int]) -> None:
        self._kept: LRUCache[Hashable, V] = LRUCache(
            max_bytes, getsizeof=lambda value: min(bytes_of(value), max_bytes)
        )
        self._making: dict[Hashable, Future[V]] = {}
        self._lock = Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def peek(self, key: Hashable) -> V | None:
        """The value of a key, if it is kept."""
        with self._lock:
            return self._kept.get(key)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made now if it is not kept. Raises: what `make` raises."""
        with self._lock:
            if key in self._kept:
                return self._kept[key]
            others = self._making.get(key)
            if others is None:
                ours = self._making[key] = Future[V]()
        return others.result() if others else self._made(key, make, ours)

    def _made(self, key: Hashable, make: Callable[[], V], waiting: Future[V]) -> V:
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            waiting.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._kept[key] = made
        waiting.set_result(made)
        return made


# Tensors by number and name, kept for as long as they are needed: in memory, or on disk where they do not fit.


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """A safetensors file; OSError where the disk is full or the folder gone, as of any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, facts)
    except SafetensorError as error:
        raise OSError(f"{path.name} could not be written in {path.parent}: {error}") from error


class Store(Protocol):
    """Tensors by number and name."""

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number; OSError where there is no room."""

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""


class InMemory:
    """A `Store` in memory."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, Tensor]] = {}

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number."""
        self._kept[number] = {**self.of(number), **tensors}

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""
        return self._kept.get(number, {})


class Spill:
    """A `Store` in a folder of the system's for temporary files that goes when this does.

    TMPDIR says where that is; what a killed process leaves there goes with the next such folder.
    """

    @cached_property
    def _folder(self) -> Path:
        stack = ExitStack()
        folder = stack.enter_context(scratch_folder())
        weakref.finalize(self, stack.close)
        return folder

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number; OSError where the disk is full."""
        save_tensors(self._file(number), {**self.of(number), **tensors})

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""
        from safetensors.torch import load_file

        kept = "_folder" in self.__dict__ and self._file(number).exists()
        return load_file(self._file(number)) if kept else {}

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.safetensors"
