"""How a stained slide is written while its blocks are still coming, and what the file says of itself."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition
from typing import Any

from chromogen.errors import choose, expected
from chromogen.files import named_beside
from chromogen.grid import Window
from chromogen.image import Image
from chromogen.slides.compression import COMPRESSIONS, LOSSLESS_BYTES, compression_named
from chromogen.slides.facts import Facts
from chromogen.slides.pyramid import level_sizes
from chromogen.slides.store import BlockStore, Index
from chromogen.slides.verification import verify
from chromogen.slides.writer import TILE_PX, write_ome_tiff, write_ome_zarr

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
