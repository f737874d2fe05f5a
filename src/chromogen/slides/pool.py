"""Open slides that threads share: each is lent while it is read, and a bounded number of them stays open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

MAX_BYTES = 1_500_000_000  # plain images are held in memory whole


class Open(Protocol):
    """An open slide, or what is known of one beside it."""

    @property
    def memory_bytes(self) -> int:
        """About what it takes while it is open."""

    def close(self) -> None:
        """Let go of the file."""


S = TypeVar("S", bound=Open)


@dataclass(eq=False)
class _Lent(Generic[S]):
    """An open slide, how many read it now, and whether it closes when the last of them gives it back."""

    slide: S
    readers: int = 0
    leaving: bool = False


class SlidePool(Generic[S]):
    """Keeps the slides that were read last open, at most `most_open` of at most `most_bytes` in memory.

    A slide that is being read is never closed: the pool may hold more than that as long as all of them are read.
    The one read last stays open, however large it is.
    """

    def __init__(self, most_open: int, most_bytes: int = MAX_BYTES) -> None:
        self._most_open, self._most_bytes = most_open, most_bytes
        self._slides: OrderedDict[Hashable, _Lent[S]] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    @contextmanager
    def reading(
        self, key: Hashable, opener: Callable[[], S], fits: Callable[[S], bool] = lambda _: True
    ) -> Iterator[S]:
        """The slide of a key, open until the `with` statement ends.

        `opener` opens it if the pool has none under the key, or one that no longer `fits`. Raises: what it raises.
        """
        lent = self._lease(key, opener, fits)
        try:
            yield lent.slide
        finally:
            self._give_back(key, lent)

    def forget(self, key: Hashable) -> None:
        """Close the slide of a key, when the last reader has given it back."""
        with self._lock:
            if key in self._slides:
                self._slides[key].leaving = True
                self._close_if_unread(key, self._slides[key])

    def close(self) -> None:
        """Close all slides; those being read, when the last reader has given them back."""
        for key in list(self._slides):
            self.forget(key)

    def _lease(self, key: Hashable, opener: Callable[[], S], fits: Callable[[S], bool]) -> _Lent[S]:
        if lent := self._kept(key, fits):
            return lent
        with self._opening:  # one at a time: a plain image is decoded whole
            if lent := self._kept(key, fits):
                return lent
            lent = _Lent(opener(), readers=1)
            with self._lock:
                self._slides[key] = lent
                self._make_room()
            return lent

    def _kept(self, key: Hashable, fits: Callable[[S], bool]) -> _Lent[S] | None:
        """What is open under the key, lent once more; one that does not fit leaves."""
        with self._lock:
            lent = self._slides.get(key)
            if lent is None:
                return None
            lent.readers += 1
            self._slides.move_to_end(key)
        fitting = False
        try:
            fitting = fits(lent.slide)  # may read the file: not while all others wait
        finally:
            if not fitting:
                self._replace(key, lent)
        return lent if fitting else None

    def _replace(self, key: Hashable, lent: _Lent[S]) -> None:
        """Give a slide back that nobody is to find again."""
        with self._lock:
            lent.leaving = True
            if self._slides.get(key) is lent:
                del self._slides[key]
        self._give_back(key, lent)

    def _give_back(self, key: Hashable, lent: _Lent[S]) -> None:
        with self._lock:
            lent.readers -= 1
            if lent.leaving:
                self._close_if_unread(key, lent)
            self._make_room()

    def _make_room(self) -> None:
        """Close what was not read for the longest time, until the rest is within bounds."""
        for key, lent in list(self._slides.items())[:-1]:
            if not self._is_full():
                return
            self._close_if_unread(key, lent)

    def _is_full(self) -> bool:
        held = sum(lent.slide.memory_bytes for lent in self._slides.values())
        return len(self._slides) > self._most_open or held > self._most_bytes

    def _close_if_unread(self, key: Hashable, lent: _Lent[S]) -> None:
        if lent.readers:
            return
        if self._slides.get(key) is lent:
            del self._slides[key]
        lent.slide.close()
