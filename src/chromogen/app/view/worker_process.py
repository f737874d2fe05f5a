"""A process apart, for what may take a server down: models of others, and networks with all their memory."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import psutil

from chromogen.compute.memory import FRUGAL, give_back_scattered_memory, keep_freed_memory
from chromogen.errors import expected

MAX_WAITING = 8
TIMEOUT_S = 120.0
T = TypeVar("T")


class WorkerProcess:
    """Does one thing at a time in a process of its own, which is begun when it is needed, and again if it dies."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._one = anyio.CapacityLimiter(1)
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work`, a function of a module, gives there. Raises: ValueError where too much waits; as `call`."""
        waiting = self._one.statistics().tasks_waiting
        if waiting >= MAX_WAITING:
            raise expected("requests", f"at most {MAX_WAITING} waiting", waiting, "try again in a moment")
        async with self._one:
            return await anyio.to_thread.run_sync(partial(self.call, work, *arguments))

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """The same, for one thread at a time.

        Raises: what `work` raises; ValueError where the process dies or takes too long, and is ended.
        """
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin)
                self._pid = self._pool.submit(os.getpid).result(self._timeout_s)
            return self._pool.submit(_done, work, *arguments).result(self._timeout_s)
        except (BrokenProcessPool, TimeoutError) as error:
            what = "one that took too long" if isinstance(error, TimeoutError) else "one at which its process died"
            self.close()
            raise expected("work", "work that ends", what, "the server goes on; try a smaller view") from error

    def close(self) -> None:
        """End the process, if there is one."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with suppress(psutil.Error):
            psutil.Process(self._pid).kill()
        pool.shutdown(cancel_futures=True)


def _done(work: Callable[..., T], *arguments: Any) -> T:
    """In the process: what work gives; memory that it left in gaps goes back."""
    try:
        return work(*arguments)
    finally:
        give_back_scattered_memory(*FRUGAL)


def _begin() -> None:
    """In the process: Ctrl-C is for the server alone, and a server that is killed takes this process along.

    Freed memory is kept, as the command line does: maps of windows are many, large and short-lived.
    """
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
