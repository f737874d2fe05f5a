"""Files that are whole or not there at all, and what killed processes have left of theirs."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

from chromogen.errors import expected

if sys.platform != "win32":
    import fcntl

_PREFIX, _SUFFIX = ".chromogen-", ".tmp"
_HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_OME = ".ome"
LONGEST_NAME = 255  # bytes, on nearly all disks
CHECKPOINT_ENDING = ".checkpoint"
ELSEWHERE_S = 86_400.0  # how old another machine's file must be to be removed here: not all disks share locks


def canonical_name(name: str) -> str:
    r"""A name in the form in which names are compared: Unicode NFC, as macOS may give the same name in NFD.

    >>> canonical_name("e\N{COMBINING ACUTE ACCENT}") == canonical_name("\N{LATIN SMALL LETTER E WITH ACUTE}")
    True
    """
    return unicodedata.normalize("NFC", name)


def stem_of(path: Path) -> str:
    """The name by which files belong together: without folder, suffix, and ".ome" before that, in NFC.

    >>> stem_of(Path("he/a.1.svs")), stem_of(Path("virtual/a.1.ome.tif")), stem_of(Path("A.OME.ZARR"))
    ('a.1', 'a.1', 'A')
    """
    stem = path.stem
    return canonical_name(stem[: -len(_OME)] if stem.lower().endswith(_OME) and stem.lower() != _OME else stem)


def by_stem(argument: str, files: Iterable[Path]) -> dict[str, Path]:
    """Files by the name that `stem_of` gives. Raises: ValueError for two of one name, which names both."""
    found: dict[str, Path] = {}
    for file in files:
        name = stem_of(file)
        if name in found:
            twins = f"{found[name]} and {file}, both called {name}"
            raise expected(argument, "files of different names", twins, "rename one, or move it elsewhere")
        found[name] = file
    return found


def keep_newest(folder: Path, pattern: str, most: int) -> None:
    """Remove all but the `most` files of a folder that were used last, of those whose names fit a pattern."""
    newest_first = sorted(folder.glob(pattern), key=lambda path: -path.stat().st_mtime)
    for old in newest_first[most:]:
        old.unlink(missing_ok=True)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A new, empty file to write to; it takes the place of `path` once all is written.

    Whatever stops it, `path` holds the old content or all of the new; what a killed process has left in the folder
    goes with the next file written there. Raises: FileNotFoundError or another OSError where the folder is missing
    or cannot be written to.
    """
    with _beside(path.parent) as temporary:
        yield temporary
        _settle(temporary)
        temporary.replace(path)


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """A new folder to write into; it is given the name `path` once all is written, and goes if anything stops it.

    Raises: OSError where the name is taken by the time all is written, or where files cannot be written.
    """
    with _beside(path.parent, 0o777) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _settle(file)
        temporary.rename(path)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for this user alone among the system's temporary files (TMPDIR), until the `with` statement ends.

    What a killed process has left there goes with the next one. Raises: OSError where none can be made.
    """
    with _beside(Path(gettempdir()), 0o700) as temporary:
        yield temporary


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, then rename, as `written_beside`."""
    with written_beside(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def named_beside(path: Path, ending: str) -> Path:
    """`path` with an ending after its name, which is cut, and told apart by a hash, where that is too long."""
    name = os.fsencode(path.name)
    if len(name) + len(ending) <= LONGEST_NAME:
        return path.with_name(path.name + ending)
    ending = f"-{hashlib.sha256(name).hexdigest()[:16]}{ending}"
    return path.with_name(name[: LONGEST_NAME - len(ending)].decode(errors="ignore") + ending)


def write_text(path: Path, text: str) -> None:
    """Write whole, in UTF-8; what of a file's name is no text stands there as Python writes it."""
    write_whole(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def _beside(folder: Path, folder_mode: int | None = None) -> Iterator[Path]:
    """A new file, or with a mode a folder, which goes afterwards if it still has this name.

    A lock says that its process lives: it ends with that, however that ends.
    """
    temporary, lock = _made(folder, folder_mode)
    try:
        _sweep(folder, temporary.stat().st_mtime)
        yield temporary
    finally:
        with suppress(OSError):  # where it may not be removed any more, the next that may will
            _remove(temporary)
        if lock is not None:
            os.close(lock)


def _made(folder: Path, folder_mode: int | None) -> tuple[Path, int | None]:
    while True:
        temporary = folder / f"{_PREFIX}{_HERE}-{secrets.token_hex(8)}{_SUFFIX}"
        if folder_mode is None:
            temporary.touch(exist_ok=False)
        else:
            temporary.mkdir(folder_mode)
        lock = _lock(temporary, wait=True)
        if temporary.exists():  # else swept by another before it was locked
            return temporary, lock
        if lock is not None:
            os.close(lock)


def _sweep(folder: Path, now: float) -> None:
    """Remove what killed processes have left; `now` by the clock of the disk."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                _remove_if_left(Path(entry.path), now)


def _remove_if_left(path: Path, now: float) -> None:
    with suppress(OSError):
        is_ours = path.name.startswith(_PREFIX + _HERE)
        if (is_ours or now - path.lstat().st_mtime > ELSEWHERE_S) and (lock := _lock(path)) is not None:
            _remove(path)
            os.close(lock)


def _lock(path: Path, *, wait: bool = False) -> int | None:
    """A descriptor that holds the lock of a file or folder; None where another has it, or there are no locks."""
    if sys.platform == "win32":  # where files that are open cannot be renamed
        return None
    try:
        opened = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if path.is_dir() else os.O_RDWR))
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(opened)
        return None
    return opened


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _settle(file: Path) -> None:
    """Wait until a file is on disk."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
