"""Trials: `chromogen stylize` on a region, as a queue of child processes that anyone can look at or stop.

A trial is a folder: what went in, `trial.json` with what was asked and what became of it, and what the command
writes. So a trial outlives the server: one that was under way when it stopped can be resumed.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from chromogen.errors import expected
from chromogen.files import write_whole
from chromogen.image import Image, write_image

MOST_WAITING = 8
MOST_SIDE_PX = 2048
LEAST_SIDE_PX = 64
PREVIEW_EVERY = 5
GRACE_S = 5.0
REGION, EXEMPLAR, RESULT, TRACE, PREVIEWS, RECORD = (
    "region.png",
    "exemplar.png",
    "result.png",
    "trace.jsonl",
    ".previews",
    "trial.json",
)
UNDER_WAY = ("waiting", "running")
ENDED = ("done", "failed", "cancelled", "interrupted")


class UnknownTrialError(LookupError):
    """No trial of that id."""


@dataclass(frozen=True)
class Trial:
    """What was asked, and the state: waiting, running, done, failed, cancelled or interrupted.

    `slide`, `location` and `size` say where the region was, in level-0 pixels; `options` are the command's. While
    it runs, `pid` is its process, which began at `pid_began`, and `server` the process that watches it.
    """

    id: str
    slide: str
    location: tuple[int, int]
    size: tuple[int, int]
    mpp: float | None
    options: tuple[str, ...]
    state: str = "waiting"
    error: str = ""
    pid: int | None = None
    pid_began: float | None = None
    server: int | None = None

    @property
    def arguments(self) -> list[str]:
        """What follows `chromogen` to make the same picture from the trial's folder."""
        return ["stylize", REGION, EXEMPLAR, "-o", RESULT, *self.options]


@dataclass(frozen=True)
class Progress:
    """How far a trial is: steps done, of how many at most, the losses so far, and the newest preview's step."""

    step: int = 0
    of: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    preview: int = 0


class Trials:
    """The trials in a folder, done one after the other by a single worker, so that looking stays smooth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        self._child: tuple[str, subprocess.Popen[bytes]] | None = None
        self._trials = {trial.id: self._taken_up(trial) for trial in _read_all(folder)}
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

    def all(self) -> list[Trial]:
        """Every trial, the newest first."""
        with self._lock:
            return sorted(self._trials.values(), key=lambda trial: trial.id, reverse=True)

    def find(self, trial_id: str) -> Trial:
        """The trial of an id; UnknownTrialError."""
        with self._lock:
            if trial_id not in self._trials:
                raise UnknownTrialError("There is no such trial (any more).")
            trial = self._trials[trial_id]
            if trial.state == "running" and trial.server != os.getpid():
                trial = self._trials[trial_id] = _read(self.folder / trial_id / RECORD) or trial
            return trial

    def path(self, trial_id: str, name: str) -> Path:
        """A file of a trial, by one of the names above."""
        return self.folder / self.find(trial_id).id / name

    def start(self, trial: Trial, region: Image, exemplar: Image) -> Trial:
        """Put a trial into the queue. ValueError where too many wait, OSError where it cannot be written."""
        self._check_room()
        folder = self.folder / trial.id
        folder.mkdir(parents=True)
        write_image(folder / REGION, region, {"mpp": trial.mpp, "region_of_slide": list(trial.location)})
        write_image(folder / EXEMPLAR, exemplar)
        return self._enqueue(trial)

    def cancel(self, trial_id: str) -> Trial:
        """Stop a trial that waits or runs; one that has ended stays as it is."""
        trial = self.find(trial_id)
        if trial.state in UNDER_WAY:
            trial = self._became(trial_id, state="cancelled")
            with self._lock:
                child = self._child if self._child and self._child[0] == trial_id else None
            if child:
                _end(child[1])
            elif trial.pid and _began(trial.pid) == trial.pid_began:
                psutil.Process(trial.pid).terminate()  # another server's
        return trial

    def resume(self, trial_id: str) -> Trial:
        """Put a trial that was interrupted, cancelled or failed back into the queue; it goes on if it can."""
        trial = self.find(trial_id)
        if trial.state in UNDER_WAY or trial.state == "done":
            raise expected("trial", "one that was stopped", trial.state)
        self._check_room()
        return self._enqueue(trial)

    def progress(self, trial_id: str) -> Progress:
        """How far a trial is, from what its process has written."""
        folder = self.folder / self.find(trial_id).id
        steps = _lines(folder / TRACE)
        previews = [int(file.stem.rpartition("_")[2]) for file in (folder / PREVIEWS).glob("region_step_*.png")]
        if not steps:
            return Progress(preview=max(previews, default=0))
        losses = [step["losses"]["total"] for step in steps]
        last = steps[-1]
        return Progress(last["index"], last["of"], last["seconds"], losses, max(previews, default=0))

    def preview(self, trial_id: str) -> Path:
        """The newest picture of a trial: its result, else its last preview, else the region it began with."""
        result = self.path(trial_id, RESULT)
        number = self.progress(trial_id).preview
        preview = self.path(trial_id, PREVIEWS) / f"region_step_{number:04d}.png"
        return next((file for file in (result, preview) if file.is_file()), self.path(trial_id, REGION))

    def _check_room(self) -> None:
        waiting = sum(trial.state == "waiting" for trial in self.all())
        if waiting >= MOST_WAITING:
            raise expected("trials", f"at most {MOST_WAITING} waiting", waiting, "wait, or cancel one")

    def _enqueue(self, trial: Trial) -> Trial:
        with self._lock:
            self._trials[trial.id] = trial
        trial = self._became(trial.id, state="waiting", error="")
        self._waiting.put(trial.id)
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="trials", daemon=True)
                self._worker.start()
        return trial

    def _work(self) -> None:
        while (trial_id := self._waiting.get()) is not None:
            try:
                if self.find(trial_id).state == "waiting" and not self._closed:
                    self._run(trial_id)
            except (OSError, LookupError) as error:
                self._became(trial_id, state="failed", error=str(error))

    def _run(self, trial_id: str) -> None:
        folder = self.folder / trial_id
        trial = self.find(trial_id)
        (folder / PREVIEWS).mkdir(exist_ok=True)
        said = folder / ".said.txt"
        with said.open("wb") as out, (folder / ".complained.txt").open("wb") as err:
            child = subprocess.Popen(
                command_of(trial), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment()
            )
            with self._lock:
                self._child = trial_id, child
            if self.find(trial_id).state == "waiting" and not self._closed:
                began = _began(child.pid)
                self._became(trial_id, state="running", pid=child.pid, pid_began=began, server=os.getpid())
            else:
                _end(child)
            status = child.wait()
        with self._lock:
            self._child = None
        self._ended(trial_id, status, folder / ".complained.txt")

    def _ended(self, trial_id: str, status: int, complained: Path) -> None:
        if self.find(trial_id).state == "cancelled":
            return
        if self._closed and status:
            self._became(trial_id, state="interrupted", pid=None)
        elif status == 0:
            self._became(trial_id, state="done", pid=None, server=None)
        else:
            said = complained.read_text(errors="replace").strip().splitlines()
            why = said[-1].removeprefix("Error: ") if said else f"it ended with status {status}"
            self._became(trial_id, state="failed", error=why, pid=None)

    def _became(self, trial_id: str, **changes: Any) -> Trial:
        with self._lock:
            trial = replace(self._trials[trial_id], **changes)
            self._trials[trial_id] = trial
            write_whole(self.folder / trial_id / RECORD, json.dumps(asdict(trial), indent=1).encode())
        return trial

    def _taken_up(self, trial: Trial) -> Trial:
        """A trial as another server left it: where that is gone, it is interrupted, and its process ended."""
        if trial.state not in UNDER_WAY:
            return trial
        if trial.pid and _began(trial.pid) == trial.pid_began:
            if (
                trial.server
                and psutil.Process(trial.pid).ppid() == trial.server
                and psutil.pid_exists(trial.server)
            ):
                return trial
            psutil.Process(trial.pid).kill()
        return replace(trial, state="interrupted", pid=None)


def new_trial(
    slide: str, location: tuple[int, int], size: tuple[int, int], mpp: float | None, options: Any
) -> Trial:
    """A trial with an id that begins with the time; ValueError for a region that is too small or too large."""
    if not all(LEAST_SIDE_PX <= side <= MOST_SIDE_PX for side in size):
        got = f"{size[0]} x {size[1]} px"
        raise expected("region", f"{LEAST_SIDE_PX} to {MOST_SIDE_PX} px on each side", got, "draw another one")
    trial_id = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return Trial(trial_id, slide, location, size, mpp, tuple(options))


def options_of(preset: str, mpp: float | None, given: Mapping[str, float | int | str | None]) -> list[str]:
    """The command line's options: preset, pixel size, and of the others those that are given."""
    options = ["--preset", preset] + (["--mpp", f"{mpp:.6g}"] if mpp else [])
    for name, value in given.items():
        if value is not None:
            options += [f"--{name.replace('_', '-')}", f"{value}"]
    return options


def command_of(trial: Trial) -> list[str]:
    """The whole command, with what lets others follow it."""
    follow = ["--trace", TRACE, "--preview", PREVIEWS, "--preview-every", str(PREVIEW_EVERY), "--resume", "--json"]
    return [sys.executable, "-m", "chromogen", *trial.arguments, *follow]


def shell_line(trial: Trial) -> str:
    """The command line that makes the same picture, in the trial's folder."""
    import shlex

    return shlex.join(["chromogen", *trial.arguments])


def python_lines(trial: Trial) -> str:
    """The same in Python."""
    options = dict(zip(trial.options[::2], trial.options[1::2], strict=True))
    changes = {
        "dab_amount": options.get("--dab-amount"),
        "seed": options.get("--seed"),
    }
    changed = ", ".join(f"{name}={value}" for name, value in changes.items() if value is not None)
    recipe = f'PRESETS["{options["--preset"]}"]'
    if steps := options.get("--steps"):
        recipe = f"with_total_steps({recipe}, {steps})"
    if changed:
        recipe = f"replace({recipe}, {changed})"
    mpp = f", mpp={options['--mpp']}" if "--mpp" in options else ""
    return "\n".join(
        [
            "from dataclasses import replace",
            "from chromogen import Encoder, PRESETS, measure_style, read_image, stylize, write_image",
            "from chromogen.style.recipes import with_total_steps",
            "",
            f"recipe = {recipe}",
            "encoder = Encoder()",
            f'style = measure_style([read_image("{EXEMPLAR}")], recipe, encoder{mpp})',
            f'result = stylize(read_image("{REGION}"), style, recipe, encoder=encoder)',
            'write_image("result.png", result.image)',
        ]
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; make it, if it does not soon."""
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()


def _began(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _read_all(folder: Path) -> list[Trial]:
    """The trials that earlier servers left; what cannot be read is left alone."""
    return [trial for file in sorted(folder.glob(f"*/{RECORD}")) if (trial := _read(file))]


def _read(file: Path) -> Trial | None:
    try:
        found = json.loads(file.read_text())
        tuples = {name: tuple(found[name]) for name in ("location", "size", "options")}
        trial = Trial(**{**found, **tuples})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return trial if trial.id == file.parent.name else None


def _lines(trace: Path) -> Sequence[dict[str, Any]]:
    """The whole lines of a trace; the last one may be half written. Of a resumed run, the newest of each step."""
    try:
        text = trace.read_text(errors="replace")
    except OSError:
        return []
    steps: dict[int, dict[str, Any]] = {}
    for line in text.split("\n")[:-1]:
        try:
            step = json.loads(line)
            steps[step["index"]] = step
        except (ValueError, KeyError, TypeError):
            continue
    return [steps[index] for index in sorted(steps)]


def wait_for(trials: Trials, trial_id: str, timeout_s: float) -> Trial:
    """The trial when it has ended, or after `timeout_s`; for programs and tests."""
    until = time.monotonic() + timeout_s
    while trials.find(trial_id).state in UNDER_WAY and time.monotonic() < until:
        time.sleep(0.05)
    return trials.find(trial_id)
