"""Processes that run commands: which of them still run, how they are ended, and what they said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from chromogen.app.terminal import PROGRESS_S

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
