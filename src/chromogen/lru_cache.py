"""What was made last, kept for the next who asks, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class LruCache(Generic[V]):
    """Values by what they are of, as many as fit into `most_bytes` by `bytes_of`, and one if none does.

    The ones not asked for longest are dropped first. Of threads that ask for the same at once one makes it, and
    the others wait; what fails is not kept.
    """

    def __init__(self, most_bytes: int, bytes_of: Callable[[V], int]) -> None:
        self._most_bytes, self._bytes_of = most_bytes, bytes_of
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._making: dict[Hashable, Future[V]] = {}
        self._bytes = 0
        self._lock = Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def peek(self, key: Hashable) -> V | None:
        """What is kept under the key, if anything."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """What is kept under the key, or else made now. Raises: what `make` raises."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            others = self._making.get(key)
            if others is None:
                ours = self._making[key] = Future[V]()
        return others.result() if others else self._made(key, make, ours)

    def _made(self, key: Hashable, make: Callable[[], V], told: Future[V]) -> V:
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            told.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._kept[key] = made
            self._bytes += self._bytes_of(made)
            while self._bytes > self._most_bytes and len(self._kept) > 1:
                self._bytes -= self._bytes_of(self._kept.popitem(last=False)[1])
        told.set_result(made)
        return made
