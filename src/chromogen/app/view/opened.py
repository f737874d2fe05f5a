"""A slide as the web app reads it: by how much coarser than level 0, whether it has a pixel size or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chromogen.app.view.shelf import Entry
from chromogen.slides.pool import SlidePool
from chromogen.slides.slide import MPP_RANGE, Slide, SlideError, open_slide, plausible_mpp

MOST_OPEN = 24
NOMINAL_MPP = MPP_RANGE[0]


@dataclass(frozen=True)
class Opened:
    """An open slide, and its pixel size in um where it says one.

    Tiles are asked for by how much coarser than level 0 they are, also of slides without a pixel size: the slide
    is set to count a pixel as `NOMINAL_MPP`.
    """

    slide: Slide
    mpp: float | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in level-0 pixels."""
        return self.slide.size


def new_pool() -> SlidePool:
    """For all who look at slides at once."""
    return SlidePool(MOST_OPEN)


@contextmanager
def reading(pool: SlidePool, entry: Entry) -> Iterator[Opened]:
    """The slide, open for as long as it is read. Raises: SlideError or OSError where it cannot be opened."""
    with pool.reading((entry.id, entry.version), lambda: opened(entry).slide) as slide:
        yield Opened(slide, plausible_mpp(slide.stated_mpp))


def opened(entry: Entry) -> Opened:
    """Open a slide for display; SlideError, which names no folder, where it cannot be."""
    try:
        slide = open_slide(entry.path, mpp=NOMINAL_MPP)
    except (ValueError, OSError) as error:
        raise SlideError(str(error).replace(f"{entry.path.parent}{os.sep}", "")) from error
    except MemoryError as error:
        raise SlideError(f"{entry.path.name} is too large for the memory that is free.") from error
    return Opened(slide, plausible_mpp(slide.stated_mpp))
