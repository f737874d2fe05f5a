"""Processes beside the server: those that run commands, and one for what may take a server down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, TypeVar

import anyio
import anyio.to_thread
import psutil

from chromogen.app.terminal import PROGRESS_S
from chromogen.compute.memory import FRUGAL, give_back_scattered_memory, keep_freed_memory
from chromogen.errors import expected

# Commands: which of them still run, how they are ended, and what they said.

GRACE_S = 15.0  # in which a process may write down where it is
CLOCK_S = 2.0  # by how much the beginning of a process may seem to change when the clock is set
MIN_FREE_BYTES = 100_000


def begin(command: Sequence[str], folder: Path, out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that runs a command in a folder, in a group of its own: Ctrl-C is for the server alone."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", PROGRESS_S: "0"}  # the last line is for errors
    return subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, process_group=0
    )


def began(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None where there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None


def is_running(pid: int | None, pid_began: float | None) -> bool:
    """Whether the process of that number is still the one that began then: numbers are used again."""
    if not isinstance(pid, int) or not isinstance(pid_began, float):  # as anyone may have written into a record
        return False
    now = began(pid)
    return now is not None and abs(now - pid_began) < CLOCK_S


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; make it, if it does not soon."""
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def end_if_running(pid: int, pid_began: float | None) -> None:
    """End a process that nobody watches any more, and wait until it is gone."""
    if is_running(pid, pid_began):
        with suppress(psutil.Error):  # it may end meanwhile
            _end(psutil.Process(pid))


def end_lost(folder: Path, command: Sequence[str]) -> None:
    """End a process that runs a command in a folder, whose number nobody has written down."""
    where = str(folder.resolve())
    for process in psutil.process_iter(["cwd", "cmdline"]):
        words = process.info["cmdline"] or []
        if process.info["cwd"] == where and words[1:] == list(command[1:]):
            with suppress(psutil.Error):
                _end(process)


def _end(process: psutil.Process) -> None:
    """As `end`, of a process of others."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(GRACE_S)


def complaint(file: Path, beginning: str = "") -> str:
    """The last line that a process complained of, if it begins so; empty where there is none."""
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].removeprefix("Error: ") if lines and lines[-1].startswith(beginning) else ""


def silent(status: int, folder: Path) -> str:
    """Why a process ended that could not say it, perhaps because there was no room for that."""
    is_full = shutil.disk_usage(folder).free < MIN_FREE_BYTES
    return f"it ended with status {status}" + ("; the disk is full" if is_full else "")


# A process for models of others, and networks with all their memory.

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
