"""A slide as one picture at the mpp of a stainer, read by windows; damage in the file is found and gone around."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromogen.grid import Window
from chromogen.image import Image
from chromogen.slides.slide import Slide, SlideError, open_slide

SAME_MPP = 0.02  # mpp that differ by less are the same: resampling would blur more than it would bring
SMALLEST_DAMAGE_PX = 128  # what cannot be read is narrowed down to about this


class DamageError(OSError):
    """A slide that is damaged, or gone, while it is being read."""


class SlideFile(NamedTuple):
    """A slide by its file and how it is opened: can be sent to other machines, unlike an open slide."""

    path: Path
    mpp: float | None = None
    icc: bool = True

    def open(self) -> Slide:
        """The slide. Raises: SlideError or OSError."""
        return open_slide(self.path, mpp=self.mpp, icc=self.icc)


@dataclass(frozen=True)
class View:
    """A slide at `mpp` um/px as one picture; None: its own pixels."""

    slide: Slide
    mpp: float | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.slide.size_at(self.mpp)

    def read(self, window: Window) -> Image:
        """The window's pixels, uint8 (H, W, 3), as cut out of the whole view. Raises: SlideError."""
        return self.slide.read_at((window.left, window.top), window.size, self.mpp)


def view_at(slide: Slide, mpp: float) -> View:
    """The slide at an mpp; its own pixels where those differ by less than `SAME_MPP`.

    Raises: SlideError where the slide does not say its mpp.
    """
    return View(slide, None if abs(slide.need_mpp() / mpp - 1) <= SAME_MPP else mpp)


def read_around_damage(view: View, window: Window) -> tuple[Image, list[Window]]:
    """The window's pixels, and the windows in it that cannot be read, which are white.

    Raises: DamageError where the file itself is gone, or is no slide any more.
    """
    try:
        return view.read(window), []
    except SlideError:
        _check_still_there(view.slide.path)
    width, height = window.size
    if max(width, height) <= SMALLEST_DAMAGE_PX:
        return np.full((height, width, 3), 255, np.uint8), [window]
    first, second = _halves(window)
    parts = [read_around_damage(view, half) for half in (first, second)]
    pixels = np.concatenate([part for part, _ in parts], axis=1 if width >= height else 0)
    return pixels, [damaged for _, found in parts for damaged in found]


def _check_still_there(path: Path) -> None:
    try:
        open_slide(path).close()
    except (OSError, ValueError) as error:
        message = f"The slide {str(path)!r} is gone ({error}); once it is back, the same command goes on."
        raise DamageError(message) from error


def _halves(window: Window) -> tuple[Window, Window]:
    """The window cut across its longer side."""
    left, top, right, bottom = window.left, window.top, window.right, window.bottom
    if right - left >= bottom - top:
        middle = (left + right) // 2
        return Window(left, top, middle, bottom), Window(middle, top, right, bottom)
    middle = (top + bottom) // 2
    return Window(left, top, right, middle), Window(left, middle, right, bottom)


class _OpenSlides:
    """The slide that this process reads from, open for all its threads; another one takes its place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: SlideFile | None = None
        self._slide: Slide | None = None

    def get(self, file: SlideFile) -> Slide:
        with self._lock:
            if self._slide is None or self._file != file:
                self._close()
                self._slide, self._file = file.open(), file
            return self._slide

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._slide is not None:
            self._slide.close()
        self._slide = self._file = None


_SLIDES = _OpenSlides()


def shared_slide(file: SlideFile) -> Slide:
    """The slide, opened once for all threads of this process."""
    return _SLIDES.get(file)


def close_shared_slide() -> None:
    """Let go of the file that `shared_slide` opened."""
    _SLIDES.close()
