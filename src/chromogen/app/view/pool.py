"""Slides open for reading: a bounded number of them and of their bytes, shared by all who look."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import openslide

from chromogen.app.view.shelf import Entry
from chromogen.image import SUPPOSED_MPP, Image
from chromogen.slides.slide import MPP_RANGE, Slide, SlideError, open_slide, plausible_mpp
from chromogen.stains.appearance import Appearance, appearance
from chromogen.stains.tissue import Background, background

MOST_OPEN = 24
OVERVIEW_PX = 1024
MOST_BYTES = 1_500_000_000  # images without a pyramid are held in memory
PYRAMID_BYTES = 20_000_000  # what an open slide with one takes, about
NOMINAL_MPP = MPP_RANGE[0]


@dataclass
class Opened:
    """An open slide, its pixel size in um where it says one, and who is reading it.

    Tiles are asked for by how much coarser than level 0 they are, also of slides without a pixel size: the slide
    is set to count a pixel as `NOMINAL_MPP`.
    """

    slide: Slide
    mpp: float | None
    bytes: int
    readers: int = 0
    dropped: bool = False

    @cached_property
    def background(self) -> Background:
        """What the slide shows besides tissue, from afar."""
        return background(*self._from_afar())

    @cached_property
    def look(self) -> Appearance:
        """What the slide looks like, from afar."""
        return appearance(*self._from_afar())

    def _from_afar(self) -> tuple[Image, float]:
        overview, step = self.slide.overview(OVERVIEW_PX)
        return overview, (self.mpp or SUPPOSED_MPP) * step

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in level-0 pixels."""
        return self.slide.size


class SlidePool:
    """Opens slides when they are read, and closes those that were not for the longest time."""

    def __init__(self, opener: Callable[[Entry], Opened] | None = None) -> None:
        self._open = opener or opened
        self._slides: OrderedDict[tuple[str, str], Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    @contextmanager
    def reading(self, entry: Entry) -> Iterator[Opened]:
        """The slide, open for as long as it is read. Raises: SlideError or OSError where it cannot be opened."""
        found = self._leased(entry)
        try:
            yield found
        finally:
            self._give_back(found)

    def close(self) -> None:
        """Close all; those being read, when that is over."""
        with self._lock:
            while self._slides:
                self._drop_oldest()

    def _leased(self, entry: Entry) -> Opened:
        key = (entry.id, entry.version)
        found = self._lease(key)
        if found:
            return found
        with self._opening:  # one at a time: a plain image is decoded whole
            found = self._lease(key)
            if found:
                return found
            fresh = self._open(entry)
            with self._lock:
                fresh.readers += 1
                self._slides[key] = fresh
                while len(self._slides) > 1 and self._is_full():
                    self._drop_oldest()
            return fresh

    def _lease(self, key: tuple[str, str]) -> Opened | None:
        with self._lock:
            found = self._slides.get(key)
            if found:
                self._slides.move_to_end(key)
                found.readers += 1
            return found

    def _is_full(self) -> bool:
        return len(self._slides) > MOST_OPEN or sum(s.bytes for s in self._slides.values()) > MOST_BYTES

    def _drop_oldest(self) -> None:
        _, oldest = self._slides.popitem(last=False)
        oldest.dropped = True
        if not oldest.readers:
            oldest.slide.close()

    def _give_back(self, found: Opened) -> None:
        with self._lock:
            found.readers -= 1
            if found.dropped and not found.readers:
                found.slide.close()


def opened(entry: Entry) -> Opened:
    """Open a slide for display; SlideError, which names no folder, where it cannot be."""
    try:
        slide = open_slide(entry.path, mpp=NOMINAL_MPP)
        has_pyramid = openslide.OpenSlide.detect_format(entry.path) is not None
    except (ValueError, OSError) as error:
        raise SlideError(str(error).replace(f"{entry.path.parent}{os.sep}", "")) from error
    except MemoryError as error:
        raise SlideError(f"{entry.path.name} is too large for the memory that is free.") from error
    width, height = slide.size
    return Opened(slide, plausible_mpp(slide.stated_mpp), PYRAMID_BYTES if has_pyramid else 3 * width * height)
