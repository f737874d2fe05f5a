"""Finished blocks of a picture, kept on disk while it is being made: atomic, checked, and only for one plan."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import filelock
import numpy as np
from numpy.typing import NDArray

from chromogen.compute.tiles import Window
from chromogen.errors import expected, sentence
from chromogen.files import write_whole
from chromogen.image import Image

if TYPE_CHECKING:
    import zarr

Index: TypeAlias = tuple[int, int]  # row and column of a block
Levels: TypeAlias = NDArray[np.uint8]  # of a coarse map (h, w)

PLAN, LOCK, BLOCKS, DAMAGE, LEVELS = "plan.json", "lock", "blocks", "damage", "levels"
SHARED_DISK_S = 60.0  # how long another machine's file may take to be seen here
ZSTD_LEVEL = 1


class StoreError(OSError):
    """A store that another job has, or a block that is not there."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """The store's folder, made if it is missing, for this process alone until it ends, however it ends.

    Raises: StoreError where another job has it, or it is a folder of something else.
    """
    folder.mkdir(exist_ok=True)
    if any(folder.iterdir()) and not (folder / LOCK).exists():
        raise StoreError(
            sentence("out", "a name whose store is free", f"other files in {str(folder)!r}", "move them")
        )
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        got = f"being written by another job (its store is {str(folder)!r})"
        raise StoreError(sentence("out", "an output of this job alone", got, "wait for it or stop it")) from error
    try:
        yield
    finally:
        lock.release()


def planned(folder: Path, plan: Mapping[str, Any], *, restart: bool) -> None:
    """Write the plan into a new store; go on with one of the same plan, or forget what was there (`restart`).

    Raises: ValueError that says what differs from the plan there.
    """
    known = _read_plan(folder)
    given = json.loads(json.dumps(plan))
    if known is not None and known != given and not restart:
        differ = sorted(key for key in {*known, *given} if known.get(key) != given.get(key))
        changes = ", ".join(
            f"{key} {_short(known.get(key))} then and {_short(given.get(key))} now" for key in differ
        )
        advice = "add --restart to begin anew, or take the old settings to go on"
        raise expected("settings", f"those of the unfinished job in {str(folder)!r}", changes, advice)
    if known != given or restart:
        for name in (BLOCKS, DAMAGE, LEVELS):
            shutil.rmtree(folder / name, ignore_errors=True)
        write_whole(folder / PLAN, json.dumps(given, indent=1).encode())


def forget(folder: Path) -> None:
    """Remove a store whose picture is finished, the lock last."""
    for part in sorted(folder.iterdir(), key=lambda part: part.name == LOCK):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    folder.rmdir()


def _read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan of an earlier job; None for none that began."""
    try:
        found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _windows_in(file: Path) -> list[Window]:
    """What a block's file of damage tells; nothing where there is none. Raises: StoreError where it is broken."""
    try:
        return [_window_of(sides) for sides in json.loads(file.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"What is damaged is not told by {str(file)!r}; the same command finds out.") from error


def _window_of(sides: Any) -> Window:
    if not all(isinstance(side, int) for side in sides):
        raise TypeError(f"no numbers: {sides}")
    return Window(*sides)


def _as_npy(levels: Levels) -> bytes:
    file = BytesIO()
    np.save(file, levels, allow_pickle=False)
    return file.getvalue()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


@dataclass(frozen=True)
class BlockStore:
    """A picture of `size` (w, h) in blocks of `block` (w, h), as chunks of a zarr 3 array in a folder.

    It holds nothing open: several processes and machines write different blocks of one folder at once.
    """

    folder: Path
    size: tuple[int, int]
    block: tuple[int, int]

    def create(self) -> None:
        """The empty array, where it is not there yet, or not as it was made."""
        if not self._is_as_made():
            shutil.rmtree(self.folder / BLOCKS, ignore_errors=True)
            self._made(self.folder / BLOCKS)
        for name in (DAMAGE, LEVELS):
            (self.folder / name).mkdir(exist_ok=True)

    def write(self, index: Index, pixels: Image, damaged: list[Window], levels: Levels | None = None) -> None:
        """A finished block, uint8 (H, W, 3), and which windows of the picture could not be read for it.

        `levels`, uint8 (h, w), is a coarse map of the block, if there is one.
        """
        if damaged:
            windows = [[w.left, w.top, w.right, w.bottom] for w in damaged]
            write_whole(self._damage_file(index), json.dumps(windows).encode())
        if levels is not None:
            write_whole(self._levels_file(index), _as_npy(levels))
        window = self.window(index)
        self._array[window.at] = pixels

    def read(self, window: Window) -> Image:
        """Pixels of finished blocks, uint8 (H, W, 3). Raises: StoreError where one is missing or broken."""
        for index in self.touched(window):
            self._wait_for(index)
        try:
            return np.asarray(self._array[window.at])
        except (RuntimeError, ValueError) as error:
            message = f"A finished block in {str(self.folder)!r} is broken; the same command makes it again."
            raise StoreError(message) from error

    def has(self, index: Index) -> bool:
        """Whether a block is finished."""
        return self._file(index).exists()

    def check(self, index: Index) -> bool:
        """Whether a block is finished and whole; one that is broken is removed, with what is told of it."""
        try:
            whole = self.has(index) and bool(self.read(self.window(index)).size)
            _windows_in(self._damage_file(index))
            self.levels(index)
        except StoreError:
            whole = False
        if not whole:
            for file in (self._file(index), self._damage_file(index), self._levels_file(index)):
                file.unlink(missing_ok=True)
        return whole

    def damage(self) -> list[Window]:
        """All windows of the slide that could not be read. Raises: StoreError where that is not told."""
        found = {window for index in self.indices() for window in _windows_in(self._damage_file(index))}
        return sorted(found, key=lambda w: (w.top, w.left))

    def levels(self, index: Index) -> Levels | None:
        """The coarse map of a block, if it has one. Raises: StoreError where it is broken."""
        file = self._levels_file(index)
        try:
            found = np.load(BytesIO(file.read_bytes()), allow_pickle=False)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError) as error:
            raise StoreError(f"The map {str(file)!r} is broken; the same command makes it again.") from error
        if found.dtype != np.uint8 or found.ndim != 2:
            raise StoreError(f"There is another map in {str(file)!r}; the same command makes it again.")
        return np.asarray(found)

    def indices(self) -> Iterator[Index]:
        """All blocks, row by row."""
        (width, height), (block_w, block_h) = self.size, self.block
        return ((row, column) for row in range(-(-height // block_h)) for column in range(-(-width // block_w)))

    def window(self, index: Index) -> Window:
        """Where a block lies in the picture."""
        (row, column), (block_w, block_h) = index, self.block
        left, top = column * block_w, row * block_h
        return Window(left, top, min(left + block_w, self.size[0]), min(top + block_h, self.size[1]))

    def touched(self, window: Window) -> Iterator[Index]:
        """The blocks that a window has a part of."""
        block_w, block_h = self.block
        rows = range(window.top // block_h, -(-window.bottom // block_h))
        columns = range(window.left // block_w, -(-window.right // block_w))
        return ((row, column) for row in rows for column in columns)

    def _wait_for(self, index: Index) -> None:
        """Another machine may have written a block that a shared disk does not show here yet."""
        until = time.monotonic() + SHARED_DISK_S
        while not self.has(index):
            if time.monotonic() > until:
                raise StoreError(f"Block {index} is missing in {str(self.folder)!r}; the same command makes it.")
            time.sleep(0.1)

    def _file(self, index: Index) -> Path:
        """Chunk key encoding "default" of the zarr 3 specification."""
        return self.folder / BLOCKS / "c" / str(index[0]) / str(index[1]) / "0"

    def _damage_file(self, index: Index) -> Path:
        return self.folder / DAMAGE / f"{index[0]}_{index[1]}.json"

    def _levels_file(self, index: Index) -> Path:
        return self.folder / LEVELS / f"{index[0]}_{index[1]}.npy"

    def _is_as_made(self) -> bool:
        from zarr.storage import MemoryStore

        if not (self.folder / BLOCKS / "zarr.json").exists():
            return False
        try:
            known = self._opened().metadata
        except OSError:
            raise
        except Exception:  # zarr throws everything there is at broken metadata
            return False
        return bool(known == self._made(MemoryStore()).metadata)

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        return self._opened().with_config({"write_empty_chunks": True})

    def _opened(self) -> zarr.Array[Any]:
        import zarr

        return zarr.open_array(self.folder / BLOCKS, mode="r+")

    def _made(self, store: Any) -> zarr.Array[Any]:
        import zarr
        from zarr.codecs import ZstdCodec

        return zarr.create_array(
            store,
            shape=(self.size[1], self.size[0], 3),
            chunks=(self.block[1], self.block[0], 3),
            dtype=np.uint8,
            compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
            fill_value=255,
        )
