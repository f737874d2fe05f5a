"""Files that are whole or not there at all, and the names by which files belong together."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import filelock

from chromogen.errors import expected, missing

_OME = ".ome"
LONGEST_NAME = 255  # bytes, on nearly all disks
CHECKPOINT_ENDING = ".checkpoint"
MAX_SCRATCH = 1000  # processes of one user that have a scratch folder at once
POLL_S = 0.01


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

    Whatever stops it, `path` holds the old content or all of the new. A process that writes the same path waits.
    Raises: FileNotFoundError or another OSError where the folder is missing or cannot be written to.
    """
    with _beside(path) as temporary:
        yield temporary
        _settle(temporary)
        temporary.replace(path)


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """A new folder to write into; it is given the name `path` once all is written, and goes if anything stops it.

    Raises: OSError where the name is taken by the time all is written, or where files cannot be written.
    """
    with _beside(path, 0o777) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _settle(file)
        temporary.rename(path)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for this user alone among the system's temporary files (TMPDIR), until the `with` statement ends.

    Folders are numbered, and the first number that no process holds is taken, with what a killed one left there.
    Raises: OSError where none can be made.
    """
    user = getattr(os, "getuid", int)()  # Windows has a folder of temporary files for each user
    with ExitStack() as until_done:
        for number in range(MAX_SCRATCH):
            with suppress(filelock.Timeout, PermissionError):
                numbered = Path(tempfile.gettempdir()) / f"{user}-{number}"
                folder = until_done.enter_context(_beside(numbered, 0o700, wait_s=0))
                break
        else:
            raise OSError(f"no scratch folder can be made in {tempfile.gettempdir()}")
        yield folder


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


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write whole, as JSON that refuses what is not a number."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False))


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write whole, as CSV: columns are all names of all rows, and a cell is empty where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


@contextmanager
def _beside(path: Path, folder_mode: int | None = None, wait_s: float = -1) -> Iterator[Path]:
    """A new file, or with a mode a folder, of one name for each `path`; it goes afterwards if it has this name.

    A lock keeps out other processes. It ends with this process, however that ends, and the next one for this path
    removes what was left. Raises: filelock.Timeout where another process holds it for more than `wait_s`; OSError.
    """
    temporary, lock = (named_beside(path.with_name(f".chromogen-{path.name}"), end) for end in (".tmp", ".lock"))
    lock.touch()  # filelock would wait for ever where no file can be made, and make a folder that is missing
    with filelock.FileLock(lock, wait_s, poll_interval=POLL_S):
        try:
            _remove(temporary)
            if folder_mode is None:
                temporary.touch(exist_ok=False)
            else:
                temporary.mkdir(folder_mode)
            yield temporary
        finally:
            for left in (temporary, lock):
                with suppress(OSError):  # Windows keeps a lock's file while it is open
                    _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _settle(file: Path) -> None:
    """Wait until a file is on disk."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


# Lines of JSON that a resumed run continues.

Record: TypeAlias = dict[str, Any]


def json_lines_to(path: Path, is_kept: Callable[[Record, Record], bool]) -> Callable[[Record], None]:
    """A function that appends records as lines of JSON.

    A resumed run does some steps anew: before the first record, lines go that `is_kept(line, record)` refuses, as
    does half a line, which a full disk leaves.
    """
    written = count()

    def append(record: Record) -> None:
        if next(written) == 0 and path.exists():
            write_whole(path, b"".join(_kept(path.read_bytes(), lambda line: is_kept(line, record))))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    return append


def _kept(lines: bytes, is_kept: Callable[[Record], bool]) -> Iterator[bytes]:
    for line in lines.splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError):
            if line.endswith(b"\n") and is_kept(json.loads(line)):
                yield line


# Whether inputs are there, and outputs may be written where they are to go.


def check_there(argument: str, paths: Sequence[Path], expectation: str) -> None:
    """FileNotFoundError for a path that is not there."""
    for path in paths:
        if not path.exists():
            raise missing(argument, expectation, path)


def check_apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """ValueError if an output is a file that is taken already."""
    taken = {_place(path) for path in inputs}
    for output in outputs:
        if _place(output) in taken:
            raise expected("out", "another file than the inputs and the other outputs", output)


def _place(path: Path) -> str:
    """Where a path leads, as it is compared."""
    return canonical_name(str(path.resolve()))


def check_geojson(out: Path) -> None:
    """ValueError for an output that is not named as GeoJSON."""
    if out.suffix.lower() not in (".geojson", ".json"):
        raise expected("out", "a file ending in .geojson", out)


def check_folder(folder: Path) -> None:
    """ValueError if a folder to write in is missing or cannot be written to."""
    if not folder.is_dir():
        raise expected("out", "in a folder that exists", f"{folder}", "make the folder first")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise expected("out", "in a folder that can be written to", folder, error.strerror or "") from error


def ready_folder(folder: Path) -> None:
    """The folder, made if need be, that can be written to; ValueError where it cannot."""
    make_folder(folder)
    check_folder(folder)


def ready_empty_folder(argument: str, folder: Path) -> None:
    """The same for a folder that has to be new or empty, named by the argument it was given as."""
    if folder.is_dir() and any(folder.iterdir()):
        raise expected(argument, "a new or empty folder", f"{folder}, which holds files", "name another folder")
    ready_folder(folder)


def make_folder(folder: Path) -> None:
    """The folder, made where only its last part is missing; ValueError where it cannot be."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise expected("out", "a folder that is there or can be made", folder, error.strerror or "") from error
