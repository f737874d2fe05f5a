"""A slide job: what decides its pixels, its part, its output."""

from __future__ import annotations

import math
import shutil
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition
from typing import Any

import numpy as np

from chromogen.compute.tiles import TileGrid, Window, whole
from chromogen.errors import choose, expected
from chromogen.files import named_beside
from chromogen.image import Image
from chromogen.slides import pyramid
from chromogen.slides.facts import Facts
from chromogen.slides.pyramid import COMPRESSIONS, LOSSLESS_BYTES, compression_named, level_sizes
from chromogen.slides.store import BlockStore, Index
from chromogen.slides.writer import TILE_PX, verify, write_ome_tiff, write_ome_zarr
from chromogen.staining.confidence import SQUARE_PX
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide.blocks import Block, Painted, block_at, in_threads, painted_block, threads_given_back
from chromogen.whole_slide.survey import Survey
from chromogen.whole_slide.view import SlideFile, View

# A part of a slide, stained at once and held in memory: in every pixel what the whole slide becomes there.

BLOCK_PX = pyramid.BLOCK_PX


def stain_part(job: SlideJob, view: View, seen: Survey, fitted: Stainer) -> Painted:
    """The job's region, uint8 (H, W, 3) at the view's mpp; what cannot be read is white.

    How sure the stainer was comes in squares of SQUARE_PX that begin in the region's corner.
    `seen` is the survey of the whole slide, and `fitted` the stainer with the statistics of its sample.
    Raises: ValueError where the region is not inside the slide; DamageError where the slide is gone.
    """
    steps = stain_part_in_steps(job, view, seen, fitted)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            painted: Painted = ended.value
            return painted


def stain_part_in_steps(
    job: SlideJob, view: View, seen: Survey, fitted: Stainer
) -> Generator[tuple[int, int], None, Painted]:
    """As `stain_part`, and after every block how many are finished, of how many; it may be closed there."""
    region = job.window(view)
    cores = [tile.core for tile in TileGrid(region.size, BLOCK_PX, 0)]
    blocks = [
        block_at((0, number), core.placed_in(region), view.size, fitted, seen.share)
        for number, core in enumerate(cores)
    ]
    made = np.empty((*region.size[::-1], 3), np.uint8)
    levels = np.zeros([-(-side // SQUARE_PX) for side in region.size[::-1]], np.uint8)

    def make(block: Block) -> list[Window]:
        core = cores[block.index[1]]
        done = painted_block(nullcontext(view), fitted, fitted.white or seen.white, block)
        made[core.at] = done.pixels
        if done.levels is not None:
            top, left = core.top // SQUARE_PX, core.left // SQUARE_PX
            levels[top : top + done.levels.shape[0], left : left + done.levels.shape[1]] = done.levels
        return done.damaged

    damaged: list[Window] = []
    with threads_given_back():
        for number, found in enumerate(in_threads()(make, blocks), 1):
            damaged += found
            yield number, len(blocks)
    return Painted(made, damaged, levels if levels.any() else None)


# What is to be made of a slide: all that decides the pixels, and so whether a finished block is still good.

LAYOUT = 1  # of blocks and masks: another number is another plan


@dataclass(frozen=True)
class SlideJob:
    """All that decides the pixels: slide, stainer, region (x, y, w, h) in level-0 pixels, whether glass stays."""

    file: SlideFile
    stainer: Stainer
    region: tuple[int, int, int, int] | None = None
    mask_tissue: bool = True

    def absolute(self) -> SlideJob:
        """The same for processes that work in other folders."""
        return replace(self, file=self.file.absolute())

    def window(self, view: View) -> Window:
        """The region in the view. Raises: ValueError where it is not inside the slide."""
        if self.region is None:
            return whole(view.size)
        x, y, width, height = self.region
        sides = ((x, width, 0), (y, height, 1))
        (left, right), (top, bottom) = (
            self._side(view, start, start + length, axis) for start, length, axis in sides
        )
        return Window(left, top, right, bottom)

    def _side(self, view: View, start: int, stop: int, axis: int) -> tuple[int, int]:
        own, seen = view.slide.size[axis], view.size[axis]
        if not 0 <= start < stop <= own:
            inside = f"X,Y,W,H inside the slide's {view.slide.size[0]} x {view.slide.size[1]} px"
            raise expected("region", inside, ",".join(map(str, self.region or ())))
        first = min(start * seen // own, seen - 1)
        return first, max(first + 1, round(stop * seen / own))

    def plan(self, view: View) -> dict[str, Any]:
        """The same as plain data, the slide by its hash."""
        return {
            "layout": LAYOUT,
            "slide": view.slide.quickhash,
            "slide_mpp": view.slide.mpp,
            "icc": self.file.icc,
            "stainer": self.stainer.identity,
            "mpp": view.mpp or view.slide.mpp,
            "halo_px": self.stainer.halo_px,
            "region": list(self.region) if self.region else None,
            "tissue_mask": self.mask_tissue,
        }


# How a stained slide is written while its blocks are still coming, and what the file says of itself.

SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr")
GLASS_BYTES = 0.04  # a pixel of glass, by JPEG, which takes more for one colour than the others


class Arriving:
    """The picture of a store whose blocks are still being made: reading a window waits for its blocks."""

    def __init__(self, store: BlockStore, there: set[Index]) -> None:
        self.size = store.size
        self._store = store
        self._missing = set(store.indices()) - there
        self._changed = Condition()
        self._failed = False

    def arrive(self, index: Index) -> None:
        """A block is finished."""
        with self._changed:
            self._missing.discard(index)
            self._changed.notify_all()

    def fail(self) -> None:
        """No more blocks will come: whoever waits for one gets an OSError."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    def read(self, window: Window, /) -> Image:
        """The window's pixels, uint8 (H, W, 3), once they are there."""
        self._wait_for(set(self._store.touched(window)))
        return self._store.read(window)

    def wait(self) -> None:
        """Until all blocks are there."""
        self._wait_for(set(self._store.indices()))

    def _wait_for(self, wanted: set[Index]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failed or not wanted & self._missing)
            if wanted & self._missing:
                raise OSError("The blocks to write do not come.")


@dataclass(frozen=True)
class Output:
    """A file that a slide is written to: OME-Zarr (lossless) where its name says so, else OME-TIFF.

    `anonymous` leaves out what may name a patient. Raises: ValueError for a name or compression that is none.
    """

    path: Path
    compression: str = "jpeg"
    quality: int | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        if not self.path.name.lower().endswith(SUFFIXES):
            raise expected("out", f"a slide's name ending in {', '.join(SUFFIXES)}", self.path.name)
        choose("compression", self.compression, COMPRESSIONS)

    def absolute(self) -> Output:
        """The same for processes that work in other folders."""
        return replace(self, path=self.path.absolute())

    @property
    def is_zarr(self) -> bool:
        """Whether it is a folder."""
        return self.path.name.lower().endswith(".zarr")

    @property
    def settings(self) -> dict[str, Any]:
        """What besides the pixels decides the file."""
        return {"compression": self.compression, "quality": self.quality, "anonymous": self.anonymous}

    @property
    def store(self) -> Path:
        """The folder beside it that holds finished blocks until it is there."""
        return named_beside(self.path, ".chromogen")

    def most_bytes(self, size: tuple[int, int], tissue_px: int) -> float:
        """Of the disk, at most, to write a picture of `size` (w, h) with so many pixels of tissue.

        A TIFF takes it twice for a moment. Its tiles at the border, and its coarsest levels, are filled up.
        """
        width, height = size
        if self.is_zarr:
            return LOSSLESS_BYTES * tissue_px + GLASS_BYTES * (width * height - tissue_px)
        filled = math.prod(-(-side // TILE_PX) * TILE_PX for side in size) - width * height
        filled += TILE_PX**2 * len(level_sizes(size, TILE_PX))
        tissue = compression_named(self.compression).most_bytes_at(self.quality) * (tissue_px + filled)
        return 2 * (tissue + GLASS_BYTES * (width * height - tissue_px))

    def write(self, pixels: Arriving, facts: Facts) -> None:
        """Write beside, in the store, check what was written, and put it in its place.

        What facts say of blocks may change until the last of them is there.
        """
        new = self.store / f"new-{self.path.name}"
        _remove(new)
        if self.is_zarr:
            pixels.wait()
            write_ome_zarr(new, pixels, self.told(facts))
        else:
            write_ome_tiff(new, pixels, self.told(facts), compression=self.compression, quality=self.quality)
        verify(new, pixels)
        if self.path.is_dir():
            _remove(self.store / "old")
            self.path.rename(self.store / "old")
        new.replace(self.path)

    def told(self, facts: Facts) -> Facts:
        """What of the facts goes into files."""
        return facts.anonymous() if self.anonymous else facts


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
