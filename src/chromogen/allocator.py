"""What becomes of freed memory: every step of an optimization frees what the next one needs again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
KEPT_BYTES = 2**31 - 1
GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocation, as the command line does; False where it cannot.

    By default glibc hands every large block back to the system and gets it again page by page, zeroed: a quarter
    of a step at 512 px. It touches the whole process, so Python programs choose it by this call. Only glibc can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, GROWTH_BYTES))
    return all(mallopt(option, value) == 1 for option, value in settings)
