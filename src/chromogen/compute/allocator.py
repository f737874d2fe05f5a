"""What becomes of freed memory, and when Python looks for garbage."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
from pathlib import Path
from typing import Any

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
