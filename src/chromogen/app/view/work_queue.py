"""A queue of commands, each run by a process of its own in a folder of its own, that anyone can look at or stop.

A folder holds what goes in, a record with what was asked and what became of it, and what the command writes. So
work outlives the server: what was under way when that stopped is done if its result is there, else to be resumed.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import psutil

from chromogen.app.view import processes
from chromogen.errors import expected
from chromogen.files import write_whole

MAX_WAITING = 8
UNDER_WAY = ("waiting", "running")
STATES = (*UNDER_WAY, "done", "failed", "cancelled", "interrupted")
SAID, COMPLAINED = ".said.txt", ".complained.txt"


class UnknownWorkError(LookupError):
    """No work of that id."""


class Work(Protocol):
    """What is asked: a frozen dataclass of what JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    record: ClassVar[str]  # the name of the file that tells work of this kind from other

    @property
    def id(self) -> str:
        """The name of its folder."""

    @property
    def command(self) -> list[str]:
        """What is run in its folder; run again after it was stopped, it goes on if it can."""

    @property
    def files(self) -> tuple[str, ...]:
        """The names of what goes in and comes out, files and folders, finished or not."""

    @property
    def leftovers(self) -> tuple[str, ...]:
        """The names of those that are of no use once the result is there."""

    def is_finished(self, folder: Path) -> bool:
        """Whether the result of this very work lies in its folder, whole."""


W = TypeVar("W", bound=Work)


@dataclass(frozen=True)
class Queued(Generic[W]):
    """A piece of work, and its state, one of `STATES`.

    `error` says why it failed. While it runs, `pid` is its process, which began at `pid_began` (numbers of
    processes are used again). `server` is the process that is to run it, or watches it, which began too.
    """

    work: W
    state: str = "waiting"
    error: str = ""
    pid: int | None = None
    pid_began: float | None = None
    server: int | None = None
    server_began: float | None = None

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
    """Work of some kinds in a folder, done one after the other by a single worker: looking stays smooth."""

    def __init__(self, folder: Path, *kinds: type[W]) -> None:
        self.folder = folder
        self._kinds = kinds
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
            ours = [queued for queued in self._works.values() if queued.server == os.getpid()]
        for queued in ours:
            if not child or queued.id != child[0]:
                self._became(queued.id, of=("waiting",), state="interrupted", server=None)
        if child:
            processes.end(child[1])
        if self._worker:
            self._waiting.put(None)
            self._worker.join(2 * processes.GRACE_S)

    def all(self) -> list[Queued[W]]:
        """All of it, the newest first."""
        with self._lock:
            works = [self._refreshed(work_id) for work_id in self._works]
        return sorted(works, key=lambda queued: queued.id, reverse=True)

    def find(self, work_id: str) -> Queued[W]:
        """What has an id; UnknownWorkError."""
        with self._lock:
            if work_id not in self._works:
                raise UnknownWorkError("There is no such work (any more).")
            return self._refreshed(work_id)

    def folder_of(self, work_id: str) -> Path:
        """The folder of work that there is."""
        return self.folder / self.find(work_id).id

    def check_room(self) -> None:
        """ValueError where too many wait."""
        waiting = sum(queued.state == "waiting" for queued in self.all())
        if waiting >= MAX_WAITING:
            raise expected("queue", f"at most {MAX_WAITING} waiting", waiting, "wait, or cancel one")

    def start(self, work: W) -> Queued[W]:
        """Put work, whose folder is there, into the queue. ValueError where too many wait; OSError."""
        self.check_room()
        return self._enqueue(Queued(work))

    def keep(self, work: W) -> Queued[W]:
        """Take down work that was done elsewhere. OSError where that cannot be written."""
        return self._taken_down(Queued(work, "done"))

    def cancel(self, work_id: str) -> Queued[W]:
        """Stop work that waits or runs; what has ended stays as it is."""
        self.find(work_id)
        found = self._became(work_id, of=UNDER_WAY, state="cancelled")
        if found.state == "cancelled":
            with self._lock:
                child = self._child if self._child and self._child[0] == work_id else None
            if child:
                processes.end(child[1])
            elif found.pid and processes.is_running(found.pid, found.pid_began):  # another server's
                with suppress(psutil.Error):
                    psutil.Process(found.pid).terminate()
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
            if ending or found.state in UNDER_WAY or processes.is_running(found.pid, found.pid_began):
                raise expected("work", "one that has ended", "one under way", "cancel it, or wait a moment")
            del self._works[work_id]
        folder = self.folder / found.id
        if folder.is_symlink() or not folder.is_dir():
            return
        left = [file.name for file in folder.glob(".chromogen-*")]  # by a process that was killed
        for name in (found.work.record, SAID, COMPLAINED, *found.work.files, *left):
            if Path(name).name == name:
                _remove(folder / name)
        with suppress(OSError):
            folder.rmdir()

    def _enqueue(self, queued: Queued[W]) -> Queued[W]:
        server = os.getpid()
        queued = replace(
            queued, state="waiting", error="", pid=None, server=server, server_began=processes.began(server)
        )
        self._taken_down(queued)
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
            child = processes.begin(command, folder, out, err)
            with self._lock:
                self._child = work_id, child
            if not self._closed:
                self._became(
                    work_id, of=("waiting",), state="running", pid=child.pid, pid_began=processes.began(child.pid)
                )
            if self.find(work_id).pid != child.pid:
                processes.end(child)  # cancelled meanwhile
            status = child.wait()
        with self._lock:
            self._child = None
        self._ended(work_id, status)

    def _ended(self, work_id: str, status: int) -> None:
        found = self._as_cancelled_elsewhere(work_id)
        if found.state == "cancelled" and found.work.is_finished(self.folder / work_id):
            self._became(work_id, of=("cancelled",), **self._outcome(found))  # before it could be stopped
        if found.state != "running" and not (found.state == "waiting" and self._closed):
            return  # cancelled, perhaps waiting again
        if status == 0:
            self._became(work_id, state="done", pid=None, server=None)
        elif self._closed or found.work.is_finished(self.folder / work_id):
            self._became(work_id, **self._outcome(found))
        else:
            why = processes.complaint(self.folder / work_id / COMPLAINED) or processes.silent(status, self.folder)
            self._became(work_id, state="failed", error=why, pid=None, server=None)

    def _outcome(self, queued: Queued[W]) -> dict[str, Any]:
        """How work ended whose process was stopped, or that nobody watched, by what it left in its folder."""
        folder, over = self.folder / queued.id, {"pid": None, "server": None}
        if queued.work.is_finished(folder):
            for name in queued.work.leftovers:
                _remove(folder / name)
            return {"state": "done", "error": "", **over}
        why = processes.complaint(folder / COMPLAINED, "Error: ") if queued.state == "running" else ""
        return {"state": "failed" if why else "interrupted", "error": why, **over}

    def _as_cancelled_elsewhere(self, work_id: str) -> Queued[W]:
        """The work, cancelled if another server wrote so into its record."""
        recorded = self._recorded(self.find(work_id))
        if recorded and recorded.state == "cancelled":
            return self._became(work_id, of=("running",), state="cancelled")
        return self.find(work_id)

    def _became(self, work_id: str, of: Sequence[str] = STATES, **changes: Any) -> Queued[W]:
        """Change work that is in one of some states; what it is now.

        Where that cannot be written, a server after this one takes up what was.
        """
        with self._lock:
            if self._works[work_id].state not in of:
                return self._works[work_id]
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
        write_whole(self.folder / queued.id / queued.work.record, record.encode())

    def _refreshed(self, work_id: str) -> Queued[W]:
        """Work as it is now, if another server watches it, or did so until it was gone. Under the lock."""
        found = self._works[work_id]
        if found.state in UNDER_WAY and found.server != os.getpid():
            found = self._works[work_id] = self._taken_up(self._recorded(found) or found)
        return found

    def _taken_up(self, queued: Queued[W]) -> Queued[W]:
        """Work as another server left it: where that is gone, its process is ended, and its folder says the rest.

        Server and process may have died in any order, and at any moment: before the number of the process was
        written, after the result was there and before that was.
        """
        if processes.is_running(queued.server, queued.server_began):
            return queued
        folder = self.folder / queued.id
        if queued.pid:
            processes.end_if_running(queued.pid, queued.pid_began)
        elif queued.state in UNDER_WAY:
            processes.end_lost(folder, queued.work.command)
        was_running = queued.state == "cancelled" and queued.pid is not None
        if queued.state not in UNDER_WAY and not (was_running and queued.work.is_finished(folder)):
            return queued
        queued = replace(queued, **self._outcome(queued))
        with suppress(OSError):
            self._write(queued)
        return queued

    def _read_all(self) -> Iterator[Queued[W]]:
        """What earlier servers left; what cannot be read is left alone."""
        for kind in self._kinds:
            for file in sorted(self.folder.glob(f"*/{kind.record}")):
                if found := self._read(file, kind):
                    yield found

    def _recorded(self, queued: Queued[W]) -> Queued[W] | None:
        """Work as its record has it; another server may have written that."""
        return self._read(self.folder / queued.id / queued.work.record, type(queued.work))

    def _read(self, file: Path, kind: type[W]) -> Queued[W] | None:
        try:
            said = json.loads(file.read_text()).items()
            record: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in said
            }
            state = {name: record.pop(name) for name in _STATE if name in record}
            found = Queued(kind(**record), **state)
            words = [*found.work.command, *found.work.files]  # which odd values break
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        is_sound = found.state in STATES and all(isinstance(word, str) for word in (found.error, *words))
        return found if is_sound and found.id == file.parent.name else None


def _remove(path: Path) -> None:
    """A file, or a folder with all that is in it; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
