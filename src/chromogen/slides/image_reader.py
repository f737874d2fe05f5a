"""A plain image as a source of one level, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chromogen.image import Image, read_image_and_facts
from chromogen.slides.source import About, SlideError, sampled_hash


class ImageSource:
    """What `read_image` reads, in sRGB already if `icc`."""

    def __init__(self, path: Path, *, icc: bool = True) -> None:
        self._path = path
        try:
            self._pixels, facts = read_image_and_facts(path, icc=icc)
        except ValueError as error:
            raise SlideError(str(error)) from error
        self.mpp = facts.mpp
        self.sizes: Sequence[tuple[int, int]] = [(self._pixels.shape[1], self._pixels.shape[0])]
        self.about = About.of(f"{path.suffix[1:].upper() or 'plain'} image", facts)

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """See `Source`."""
        (x, y), (w, h) = location, size
        return self._pixels[y : y + h, x : x + w].copy()

    def quickhash(self) -> str:
        """See `Source`."""
        return sampled_hash(self._path)

    def close(self) -> None:
        """See `Source`."""
