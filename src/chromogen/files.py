"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A new file's path to write to; it takes the place of `path` once all is written.

    Whatever stops it, `path` holds the old content or all of the new. Raises FileNotFoundError or another OSError
    where the folder is missing or cannot be written to.
    """
    temporary = _beside(path)
    try:
        yield temporary
        _settle(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """A new folder to write into; it is given the name `path` once all is written, and goes if anything stops it.

    Raises OSError where the name is taken by the time all is written, or where files cannot be written.
    """
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _settle(file)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".chromogen-{secrets.token_hex(8)}.tmp")


def _settle(file: Path) -> None:
    """Wait until a file is on disk."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, then rename, as `written_beside`."""
    with written_beside(path) as temporary, temporary.open("xb") as file:
        file.write(data)
