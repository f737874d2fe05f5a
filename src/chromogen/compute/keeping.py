"""What is kept: values in memory, by use, and tensors on disk."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from cachetools import LRUCache

from chromogen.files import scratch_folder

if TYPE_CHECKING:
    from torch import Tensor


# A least-recently-used cache within a number of bytes; one thread makes a value, and others wait for it.

V = TypeVar("V")


class LruCache(Generic[V]):
    """Values by key, as many as fit into `max_bytes` by `bytes_of`; a larger one is kept alone.

    Of threads that ask for the same key at once one makes the value, and the others wait. Failures are not kept.
    """

    def __init__(self, max_bytes: int, bytes_of: Callable[[V], int]) -> None:
        self._kept: LRUCache[Hashable, V] = LRUCache(
            max_bytes, getsizeof=lambda value: min(bytes_of(value), max_bytes)
        )
        self._making: dict[Hashable, Future[V]] = {}
        self._lock = Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def peek(self, key: Hashable) -> V | None:
        """The value of a key, if it is kept."""
        with self._lock:
            return self._kept.get(key)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made now if it is not kept. Raises: what `make` raises."""
        with self._lock:
            if key in self._kept:
                return self._kept[key]
            others = self._making.get(key)
            if others is None:
                ours = self._making[key] = Future[V]()
        return others.result() if others else self._made(key, make, ours)

    def _made(self, key: Hashable, make: Callable[[], V], waiting: Future[V]) -> V:
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            waiting.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._kept[key] = made
        waiting.set_result(made)
        return made


# Tensors by number and name, kept for as long as they are needed: in memory, or on disk where they do not fit.


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """A safetensors file; OSError where the disk is full or the folder gone, as of any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, facts)
    except SafetensorError as error:
        raise OSError(f"{path.name} could not be written in {path.parent}: {error}") from error


class Store(Protocol):
    """Tensors by number and name."""

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number; OSError where there is no room."""

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""


class InMemory:
    """A `Store` in memory."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, Tensor]] = {}

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number."""
        self._kept[number] = {**self.of(number), **tensors}

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""
        return self._kept.get(number, {})


class Spill:
    """A `Store` in a folder of the system's for temporary files that goes when this does.

    TMPDIR says where that is; what a killed process leaves there goes with the next such folder.
    """

    @cached_property
    def _folder(self) -> Path:
        stack = ExitStack()
        folder = stack.enter_context(scratch_folder())
        weakref.finalize(self, stack.close)
        return folder

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number; OSError where the disk is full."""
        save_tensors(self._file(number), {**self.of(number), **tensors})

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""
        from safetensors.torch import load_file

        kept = "_folder" in self.__dict__ and self._file(number).exists()
        return load_file(self._file(number)) if kept else {}

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.safetensors"
