"""A slide as one picture at the mpp of a stainer, read by windows; damage in the file is found and gone around."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromogen.grid import Window
from chromogen.image import Image
from chromogen.slides.slide import Slide, SlideError, open_slide
from chromogen.stainer import Stainer

IDENTITY = "identity"  # the stainer that leaves a slide as it is
MOST_ENLARGED = 2.0  # beyond it, what a stainer knows tissue by is not in the pixels
SAME_MPP = 0.02  # mpp that differ by less are the same: resampling would blur more than it would bring
MOST_OPEN = 4  # slides of other processes' jobs
SMALLEST_DAMAGE_PX = 128  # what cannot be read is narrowed down to about this


class DamageError(OSError):
    """A slide that is damaged, or gone, while it is being read."""


class SlideFile(NamedTuple):
    """A slide by its file and how it is opened: can be sent to other machines, unlike an open slide."""

    path: Path
    mpp: float | None = None
    icc: bool = True

    def absolute(self) -> SlideFile:
        """The same for processes that work in other folders."""
        return self._replace(path=self.path.absolute())

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


def warn_of_coarse_pixels(slide: Slide, stainer: Stainer) -> None:
    """Where a slide would be enlarged more than `MOST_ENLARGED` times for a stainer that looks at the tissue."""
    own = slide.need_mpp()
    if stainer.halo_px and own > MOST_ENLARGED * stainer.mpp:
        said = f"{slide.path.name} has {own:.3g} um/px, and {stainer.name} knows tissue at {stainer.mpp:g} um/px"
        advice = "expect a poor stain, or give a finer scan, or its true size of pixels with --slide-mpp"
        warnings.warn(f"{said}; {advice}.", stacklevel=3)


def warn_of_doubt(slide: Slide, stainer: Stainer, doubt: str | None) -> None:
    """Where a slide may not be the H&E that stainers expect, and says why."""
    if doubt and stainer.name != IDENTITY:
        warnings.warn(f"{slide.path.name} {doubt}.", stacklevel=3)


def read_around_damage(
    view: View, window: Window, smallest_px: int = SMALLEST_DAMAGE_PX
) -> tuple[Image, list[Window]]:
    """A window as uint8 (H, W, 3), and the windows in it that cannot be read, of about `smallest_px`, left white.

    Raises: DamageError where the file itself is gone, or is no slide any more.
    """
    try:
        return view.read(window), []
    except SlideError:
        _check_still_there(view.slide.path)
    width, height = window.size
    if max(width, height) <= smallest_px:
        return np.full((height, width, 3), 255, np.uint8), [window]
    first, second = _halves(window)
    parts = [read_around_damage(view, half, smallest_px) for half in (first, second)]
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
    """Slides that this process reads, open for all its threads: those of its own jobs, and a few of others'."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._slides: dict[SlideFile, Slide] = {}
        self._jobs: Counter[SlideFile] = Counter()

    def get(self, file: SlideFile, quickhash: str | None = None) -> Slide:
        with self._lock:
            if file in self._slides and quickhash not in {None, self._slides[file].quickhash}:
                self._slides.pop(file).close()
            if file not in self._slides:
                self._slides[file] = file.open()
                self._close_all_but(MOST_OPEN)
            slide = self._slides[file]
        if quickhash not in {None, slide.quickhash}:
            raise DamageError(f"The slide {str(file.path)!r} has changed while it was being stained.")
        return slide

    @contextmanager
    def held(self, file: SlideFile) -> Iterator[Slide]:
        with self._lock:
            self._jobs[file] += 1
        try:
            yield self.get(file)
        finally:
            with self._lock:
                self._jobs[file] -= 1
                if not self._jobs[file] and file in self._slides:
                    self._slides.pop(file).close()

    def _close_all_but(self, count: int) -> None:
        """The oldest of those that no job here holds."""
        idle = [file for file in self._slides if not self._jobs[file]]
        for file in idle[: max(0, len(idle) - count)]:
            self._slides.pop(file).close()


_SLIDES = _OpenSlides()


def shared_slide(file: SlideFile, quickhash: str | None = None) -> Slide:
    """The slide, opened once for all threads of this process, anew where it is not the one of the hash.

    Raises: DamageError if it is not that one even then.
    """
    return _SLIDES.get(file, quickhash)


def held_slide(file: SlideFile) -> AbstractContextManager[Slide]:
    """The slide, as `shared_slide`, open as long as any job of this process holds it."""
    return _SLIDES.held(file)
