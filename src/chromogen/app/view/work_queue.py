"""A queue of commands, each run by a process of its own in a folder of its own, that anyone can look at or stop.

A folder holds what goes in, a record with what was asked and what became of it, and what the command writes. So
work outlives the server: what was under way when that stopped can be resumed.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import psutil

from chromogen.errors import expected
from chromogen.files import write_whole

MOST_WAITING = 8
GRACE_S = 5.0
LEAST_FREE_BYTES = 100_000
UNDER_WAY = ("waiting", "running")
SAID, COMPLAINED = ".said.txt", ".complained.txt"


class UnknownWorkError(LookupError):
    """No work of that id."""


class Work(Protocol):
    """What is asked: a frozen dataclass of what JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str:
        """The name of its folder."""

    @property
    def command(self) -> list[str]:
        """What is run in its folder; run again after it was stopped, it goes on if it can."""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what goes in and comes out, files and folders, finished or not."""


W = TypeVar("W", bound=Work)


@dataclass(frozen=True)
class Queued(Generic[W]):
    """A piece of work, and its state: one of `UNDER_WAY`, or done, failed, cancelled or interrupted.

    `error` says why it failed. While it runs, `pid` is its process, which began at `pid_began` (numbers of
    processes are used again), and `server` the process that watches it.
    """

    work: W
    state: str = "waiting"
    error: str = ""
    pid: int | None = None
    pid_began: float | None = None
    server: int | None = None

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.work.id

    def as_record(self) -> dict[str, Any]:
        """As JSON has it: what was asked and the state beside each other."""
        return {**asdict(self.work), **{name: getattr(self, name) for name in _STATE}}


_STATE = tuple(part.name for part in fields(Queued) if part.name != "work")


def new_id() -> str:
    """An id that begins with the time."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class WorkQueue(Generic[W]):
    """Work of one kind in a folder, done one after the other by a single worker, so that looking stays smooth.

    `record` is the name of the file that tells work of this kind from other.
    """

    def __init__(self, folder: Path, kind: type[W], record: str) -> None:
        self.folder = folder
        self._kind = kind
        self._record = record
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        self._child: tuple[str, subprocess.Popen[bytes]] | None = None
        self._works = {queued.id: self._taken_up(queued) for queued in self._read_all()}
        self._worker: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Stop what runs, to be resumed later, and the worker."""
        with self._lock:
            self._closed = True
            child = self._child
        if child:
            _end(child[1])
        if self._worker:
            self._waiting.put(None)
            self._worker.join(2 * GRACE_S)

    def all(self) -> list[Queued[W]]:
        """All of it, the newest first."""
        with self._lock:
            return sorted(self._works.values(), key=lambda queued: queued.id, reverse=True)

    def find(self, work_id: str) -> Queued[W]:
        """What has an id; UnknownWorkError."""
        with self._lock:
            if work_id not in self._works:
                raise UnknownWorkError("There is no such work (any more).")
            found = self._works[work_id]
            if found.state == "running" and found.server != os.getpid():
                found = self._works[work_id] = self._read(self.folder / work_id / self._record) or found
            return found

    def folder_of(self, work_id: str) -> Path:
        """The folder of work that there is."""
        return self.folder / self.find(work_id).id

    def check_room(self) -> None:
        """ValueError where too many wait."""
        waiting = sum(queued.state == "waiting" for queued in self.all())
        if waiting >= MOST_WAITING:
            raise expected("queue", f"at most {MOST_WAITING} waiting", waiting, "wait, or cancel one")

    def start(self, work: W) -> Queued[W]:
        """Put work, whose folder is there, into the queue. ValueError where too many wait; OSError."""
        self.check_room()
        return self._enqueue(Queued(work))

    def keep(self, work: W) -> Queued[W]:
        """Take down work that was done elsewhere. OSError where that cannot be written."""
        return self._taken_down(Queued(work, "done"))

    def cancel(self, work_id: str) -> Queued[W]:
        """Stop work that waits or runs; what has ended stays as it is."""
        found = self.find(work_id)
        if found.state in UNDER_WAY:
            found = self._became(work_id, state="cancelled")
            with self._lock:
                child = self._child if self._child and self._child[0] == work_id else None
            if child:
                _end(child[1])
            elif found.pid and _began(found.pid) == found.pid_began:
                psutil.Process(found.pid).terminate()  # another server's
        return found

    def resume(self, work_id: str) -> Queued[W]:
        """Put work that was interrupted, cancelled or failed back into the queue; it goes on if it can."""
        found = self.find(work_id)
        if found.state in UNDER_WAY or found.state == "done":
            raise expected("work", "one that was stopped", found.state)
        self.check_room()
        return self._enqueue(found)

    def remove(self, work_id: str) -> None:
        """Remove what work that has ended made, and forget it; what others have put into its folder stays.

        Raises: ValueError while it is under way, or its process still is.
        """
        self.find(work_id)
        with self._lock:
            found = self._works[work_id]
            ending = self._child is not None and self._child[0] == work_id
            if ending or found.state in UNDER_WAY or (found.pid and _began(found.pid) == found.pid_began):
                raise expected("work", "one that has ended", "one under way", "cancel it, or wait a moment")
            del self._works[work_id]
        folder = self.folder / found.id
        if folder.is_symlink() or not folder.is_dir():
            return
        left = [file.name for file in folder.glob(".chromogen-*.tmp")]  # by a process that was killed
        for name in (self._record, SAID, COMPLAINED, *found.work.files, *left):
            if Path(name).name == name:
                _remove(folder / name)
        with suppress(OSError):
            folder.rmdir()

    def _enqueue(self, queued: Queued[W]) -> Queued[W]:
        queued = self._taken_down(replace(queued, state="waiting", error=""))
        self._waiting.put(queued.id)
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="work", daemon=True)
                self._worker.start()
        return queued

    def _work(self) -> None:
        while (work_id := self._waiting.get()) is not None:
            try:
                if self.find(work_id).state == "waiting" and not self._closed:
                    self._run(work_id)
            except UnknownWorkError:
                continue  # removed meanwhile
            except (OSError, LookupError) as error:
                self._became(work_id, state="failed", error=str(error))

    def _run(self, work_id: str) -> None:
        folder = self.folder / work_id
        command = self.find(work_id).work.command
        with (folder / SAID).open("wb") as out, (folder / COMPLAINED).open("wb") as err:
            child = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment()
            )
            with self._lock:
                self._child = work_id, child
            if self.find(work_id).state == "waiting" and not self._closed:
                began = _began(child.pid)
                self._became(work_id, state="running", pid=child.pid, pid_began=began, server=os.getpid())
            else:
                _end(child)
            status = child.wait()
        with self._lock:
            self._child = None
        self._ended(work_id, status, folder / COMPLAINED)

    def _ended(self, work_id: str, status: int, complained: Path) -> None:
        if self.find(work_id).state != "running":
            return  # cancelled, perhaps waiting again
        if self._closed and status:
            self._became(work_id, state="interrupted", pid=None)
        elif status == 0:
            self._became(work_id, state="done", pid=None, server=None)
        else:
            said = complained.read_text(errors="replace").strip().splitlines()
            why = said[-1].removeprefix("Error: ") if said else _silent(status, self.folder)
            self._became(work_id, state="failed", error=why, pid=None)

    def _became(self, work_id: str, **changes: Any) -> Queued[W]:
        """Where that cannot be written, a server after this one takes up what was."""
        with self._lock:
            queued = self._works[work_id] = replace(self._works[work_id], **changes)
            with suppress(OSError):
                self._write(queued)
        return queued

    def _taken_down(self, queued: Queued[W]) -> Queued[W]:
        """Work that is there from now on, if it can be written; OSError."""
        with self._lock:
            self._write(queued)
            self._works[queued.id] = queued
        return queued

    def _write(self, queued: Queued[W]) -> None:
        record = json.dumps(queued.as_record(), indent=1)
        write_whole(self.folder / queued.id / self._record, record.encode())

    def _taken_up(self, queued: Queued[W]) -> Queued[W]:
        """Work as another server left it: where that is gone, it is interrupted, and its process ended."""
        if queued.state not in UNDER_WAY:
            return queued
        if queued.pid and _began(queued.pid) == queued.pid_began:
            with suppress(psutil.Error):  # it may end meanwhile
                process, server = psutil.Process(queued.pid), queued.server
                if server and process.ppid() == server and psutil.pid_exists(server):
                    return queued
                process.kill()
        return replace(queued, state="interrupted", pid=None)

    def _read_all(self) -> Iterator[Queued[W]]:
        """What earlier servers left; what cannot be read is left alone."""
        return (found for file in sorted(self.folder.glob(f"*/{self._record}")) if (found := self._read(file)))

    def _read(self, file: Path) -> Queued[W] | None:
        try:
            record = _with_tuples(json.loads(file.read_text()))
            state = {name: record.pop(name) for name in _STATE if name in record}
            found = Queued(self._kind(**record), **state)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        return found if found.id == file.parent.name else None


def _with_tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _remove(path: Path) -> None:
    """A file, or a folder with all that is in it; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; make it, if it does not soon."""
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _silent(status: int, folder: Path) -> str:
    """Why a process ended that could not say it, perhaps because there was no room for that."""
    is_full = shutil.disk_usage(folder).free < LEAST_FREE_BYTES
    return f"it ended with status {status}" + ("; the disk is full" if is_full else "")


def _began(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def wait_for(works: WorkQueue[W], work_id: str, timeout_s: float) -> Queued[W]:
    """The work when it has ended, or after `timeout_s`; for programs and tests."""
    until = time.monotonic() + timeout_s
    while works.find(work_id).state in UNDER_WAY and time.monotonic() < until:
        time.sleep(0.05)
    return works.find(work_id)
