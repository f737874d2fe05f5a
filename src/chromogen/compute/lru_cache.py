"""A least-recently-used cache within a number of bytes; one thread makes a value, and others wait for it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

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
