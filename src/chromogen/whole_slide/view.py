"""A slide as one picture at the mpp of a stainer, read by windows; damage in the file is found and gone around."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.pixel_size import is_same_mpp
from chromogen.slides.pool import SlidePool
from chromogen.slides.slide import Slide, open_slide
from chromogen.slides.source import DamagedRegionError
from chromogen.staining.stainer import Stainer

IDENTITY = "identity"  # the stainer that leaves a slide as it is
MAX_ENLARGED = 2.0  # beyond it, what a stainer knows tissue by is not in the pixels
MAX_OPEN = 4  # slides of a process, beside those being read
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
    """A slide at `mpp` um/px as one picture; None: its own pixels. `kept` has windows that were read before."""

    slide: Slide
    mpp: float | None
    kept: LruCache[Image] | None = None

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """What its pixels follow from."""
        return str(self.slide.path), self.slide.quickhash, self.slide.mpp, self.mpp

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.slide.size_at(self.mpp)

    def read(self, window: Window) -> Image:
        """The window's pixels, uint8 (H, W, 3), as cut out of the whole view. Raises: SlideError."""

        def read() -> Image:
            return self.slide.read_at(window.location, window.size, self.mpp)

        return self.kept.get((*self.identity, window), read) if self.kept else read()


def view_at(slide: Slide, mpp: float) -> View:
    """The slide at an mpp; its own pixels where they are of the same size within 2 %.

    Raises: SlideError where the slide does not say its mpp.
    """
    return View(slide, None if is_same_mpp(slide.need_mpp(), mpp) else mpp)


def warn_of_coarse_pixels(slide: Slide, stainer: Stainer) -> None:
    """Where a slide would be enlarged more than `MAX_ENLARGED` times for a stainer that looks at the tissue."""
    own = slide.need_mpp()
    if stainer.halo_px and own > MAX_ENLARGED * stainer.mpp:
        said = f"{slide.path.name} has {own:.3g} um/px, and {stainer.name} knows tissue at {stainer.mpp:g} um/px"
        advice = "expect a poor stain, or give a finer scan, or its true size of pixels with --mpp"
        warnings.warn(f"{said}; {advice}.", stacklevel=3)


def warn_of_doubt(slide: Slide, stainer: Stainer, doubt: str | None) -> None:
    """Where a slide may not be the H&E that stainers expect, and says why."""
    if doubt and stainer.name != IDENTITY:
        warnings.warn(f"{slide.path.name} {doubt}.", stacklevel=3)


def read_around_damage(
    view: View, window: Window, smallest_px: int = SMALLEST_DAMAGE_PX
) -> tuple[Image, list[Window]]:
    """A window as uint8 (H, W, 3), and the windows in it that cannot be read, of about `smallest_px`, left white.

    Only what the file holds damaged is left white. Raises: DamageError where the file is gone, out of reach, or
    another by now; SlideError where the slide is closed; OSError where the system cannot read it.
    """
    try:
        return view.read(window), []
    except DamagedRegionError:
        _check_still_there(view.slide)
    width, height = window.size
    if max(width, height) <= smallest_px:
        return np.full((height, width, 3), 255, np.uint8), [window]
    first, second = _halves(window)
    parts = [read_around_damage(view, half, smallest_px) for half in (first, second)]
    pixels = np.concatenate([part for part, _ in parts], axis=1 if width >= height else 0)
    return pixels, [damaged for _, found in parts for damaged in found]


def _check_still_there(slide: Slide) -> None:
    """DamageError where the file cannot be opened, or is not the one that is being read."""
    try:
        with open_slide(slide.path) as now:
            is_same = now.quickhash == slide.quickhash
    except (OSError, ValueError) as error:
        message = f"The slide {str(slide.path)!r} is gone ({error}); once it is back, the same command goes on."
        raise DamageError(message) from error
    if not is_same:
        raise _changed(slide.path)


def _changed(path: Path) -> DamageError:
    return DamageError(f"The slide {str(path)!r} has changed while it was being stained.")


def _halves(window: Window) -> tuple[Window, Window]:
    """The window cut across its longer side."""
    left, top, right, bottom = window.left, window.top, window.right, window.bottom
    if right - left >= bottom - top:
        middle = (left + right) // 2
        return Window(left, top, middle, bottom), Window(middle, top, right, bottom)
    middle = (top + bottom) // 2
    return Window(left, top, right, middle), Window(left, middle, right, bottom)


_SLIDES = SlidePool[Slide](MAX_OPEN)


@contextmanager
def shared_slide(file: SlideFile, quickhash: str | None = None) -> Iterator[Slide]:
    """The slide, opened once for all threads of this process, anew where it is not the one of the hash.

    It stays open for whoever reads it next, as long as few others are read. Raises: DamageError if it is not the
    one of the hash even then; SlideError or OSError where it cannot be opened.
    """

    def fits(slide: Slide) -> bool:
        return quickhash in {None, slide.quickhash}

    with _SLIDES.reading(file, file.open, fits) as slide:
        if not fits(slide):
            raise _changed(file.path)
        yield slide


@contextmanager
def held_slide(file: SlideFile) -> Iterator[Slide]:
    """The slide, as `shared_slide`, for a job of this process: closed as soon as nobody reads it any more."""
    try:
        with shared_slide(file) as slide:
            yield slide
    finally:
        _SLIDES.forget(file)
