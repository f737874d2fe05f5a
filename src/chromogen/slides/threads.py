"""Work in a few threads, with results in order and never much waiting in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
