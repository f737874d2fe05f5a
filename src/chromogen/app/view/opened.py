"""Slides as the web app reads them: by how much coarser than level 0, with a pixel size or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from chromogen.app.view.slide_catalog import Entry, without_folder
from chromogen.image import Image, read_provenance
from chromogen.pixel_size import ASSUMED_MPP, MPP_RANGE, plausible_mpp
from chromogen.slides.facts import read_facts
from chromogen.slides.pool import SlidePool
from chromogen.slides.slide import Slide, open_slide
from chromogen.slides.source import SlideError
from chromogen.stains.appearance import Appearance, appearance
from chromogen.stains.tissue import Background, background

# Which slides are virtual stains, by what their files say, and the words of their label.

LABEL = ("VIRTUAL STAIN", "not for diagnosis")
MARK = "virtual stain"  # begins the notice of every version of Chromogen


@lru_cache(maxsize=4096)
def virtual_facts(path: Path, _version: str) -> Mapping[str, Any] | None:
    """What a virtual stain's file says of how it was made; None for any other file.

    The content decides, not the name: facts in OME-TIFF and OME-Zarr, the provenance in plain images.
    """
    try:
        facts = read_facts(path)
        said = facts.as_json() if facts else (read_provenance(path) or {})
    except Exception:  # other people's files break in every way there is, and are no virtual stain
        return None
    return said if MARK in str(said.get("notice")).lower() else None


def stainer_of(facts: Mapping[str, Any] | None) -> str | None:
    """The stainer of a virtual stain, or how else it was made; None for what is none."""
    return None if facts is None else str(facts.get("stainer", "style transfer"))


# Slides that are open, for all who look at them.

MAX_OPEN = 24
OVERVIEW_PX = 1024
NOMINAL_MPP = MPP_RANGE[0]


@dataclass(frozen=True)
class Opened:
    """An open slide, and its pixel size in um where it says one; one for all who look at it.

    `virtual` is what the file of a virtual stain says of how it was made, None for other slides.

    Tiles are asked for by how much coarser than level 0 they are, also of slides without a pixel size: the slide
    is set to count a pixel as `NOMINAL_MPP`.
    """

    slide: Slide
    mpp: float | None
    virtual: Mapping[str, Any] | None = None

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
        return overview, (self.mpp or ASSUMED_MPP) * step

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in level-0 pixels."""
        return self.slide.size

    @property
    def memory_bytes(self) -> int:
        """What it takes while it is open."""
        return self.slide.memory_bytes

    def close(self) -> None:
        """Let go of the file."""
        self.slide.close()


class ShelfPool:
    """The shelf's slides, open for all who look at them."""

    def __init__(self) -> None:
        self._pool = SlidePool[Opened](MAX_OPEN)

    @contextmanager
    def reading(self, entry: Entry) -> Iterator[Opened]:
        """The slide, open for as long as it is read.

        Raises: SlideError, which names no folder, where it cannot be opened or read.
        """
        reading = self._pool.reading((entry.id, entry.version), lambda: opened(entry))
        with reading as found, errors_without_folders(entry.path):
            yield found

    def close(self) -> None:
        """Close all; those being read, when that is over."""
        self._pool.close()


def opened(entry: Entry) -> Opened:
    """Open a slide for display; SlideError, which names no folder, where it cannot be."""
    try:
        with errors_without_folders(entry.path):
            slide = open_slide(entry.path, mpp=NOMINAL_MPP)
    except MemoryError as error:
        raise SlideError(f"{entry.path.name} is too large for the memory that is free.") from error
    return Opened(slide, plausible_mpp(slide.stated_mpp), virtual_facts(entry.path, entry.version))


@contextmanager
def errors_without_folders(path: Path) -> Iterator[None]:
    """Raises: SlideError, which names no folder, for what goes wrong with the file at a path."""
    try:
        yield
    except (SlideError, OSError) as error:
        said = (isinstance(error, OSError) and error.strerror) or str(error)
        raise SlideError(without_folder(said, path)) from error
