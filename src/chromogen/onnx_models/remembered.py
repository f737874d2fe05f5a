"""What a function made of the last pictures it was given, so that blocks side by side need not make it twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock

from chromogen.image import Image

MOST_BYTES = 80_000_000  # a hundred pictures of 512 px


class Remembered:
    """A function from picture to picture that keeps its latest results.

    Of threads that ask for the same at once one makes it, and the others wait. What it makes is not to be changed.
    """

    def __init__(self, function: Callable[[Image], Image], most_bytes: int = MOST_BYTES) -> None:
        self._function, self._most_bytes = function, most_bytes
        self._lock = Lock()
        self._known: OrderedDict[bytes, Future[Image]] = OrderedDict()

    def __call__(self, image: Image) -> Image:
        """What the function makes of it, or once made. Raises: what the function raises, each time."""
        key = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=32).digest()
        with self._lock:
            found = self._known.get(key)
            if known := found is not None:
                self._known.move_to_end(key)
            else:
                found = self._known[key] = Future()
                while len(self._known) > max(1, self._most_bytes // max(1, image.nbytes)):
                    self._known.popitem(last=False)
        if not known:
            self._make(key, found, image)
        return found.result()

    def _make(self, key: bytes, made: Future[Image], image: Image) -> None:
        try:
            made.set_result(self._function(image))
        except BaseException as error:
            with self._lock:
                self._known.pop(key, None)
            made.set_exception(error)
