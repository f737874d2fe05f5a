"""The protocol of a reader, and the reader of plain images."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import sentence, short
from chromogen.formats.tiff_pages import FileFacts
from chromogen.image import Image, read_image_and_facts

# What stands behind the face of a slide: what every reader of a file format offers, and how it refuses a
# file.

Place: TypeAlias = tuple[int, int]  # (x, y)
Size: TypeAlias = tuple[int, int]  # (w, h)

SAMPLES, SAMPLE_BYTES = 16, 65_536  # what of a large file is hashed
MAX_WINDOWS, WINDOW_PX = 4, 512  # along each side: what of an image tells how bright its samples are
MAX_SEGMENT_BYTES = 1 << 29  # of a tile, strip or chunk, which can only be decoded whole


class SlideError(ValueError):
    """A slide that cannot be opened or read, or a region that it does not have."""


class DamagedRegionError(SlideError):
    """A region that the file holds damaged, whoever reads it and when; what lies beside it can be read."""


@dataclass(frozen=True)
class About:
    """What a file says of itself besides its pixels; `bounds` are (x, y) and (w, h) in level-0 pixels."""

    format: str
    vendor: str | None = None
    objective: float | None = None
    icc_profile: bytes | None = None
    bounds: tuple[tuple[int, int], tuple[int, int]] | None = None
    associated: tuple[str, ...] = ()  # names of label, macro and the like, whose pixels nobody is given
    properties: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, file_format: str, facts: FileFacts) -> About:
        """What an image file says."""
        return cls(
            format=file_format,
            vendor=facts.vendor,
            objective=facts.objective,
            icc_profile=facts.icc_profile,
            associated=facts.associated,
            properties=facts.properties,
        )


# What decoders raise in the middle of a broken file: their words mean nothing to its owner.
WORDLESS = (struct.error, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)


class Source(Protocol):
    """A file format: its levels, finest first, and their pixels. `read` must be safe in several threads."""

    sizes: Sequence[tuple[int, int]]
    mpp: tuple[float, float] | None  # as the file says, whether it can be or not
    about: About

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """A rectangle of a level, opaque; here `location` and `size` are in pixels of that level.

        Raises: DamagedRegionError if the file is damaged there; what is not damaged can be read all the same.
        OSError for what is no damage: a file that is gone, a network that is down, no file handles left.
        """

    def quickhash(self) -> str:
        """What names the slide's content, found in well under a second."""

    def close(self) -> None:
        """Let go of the file."""


def error(argument: str, expectation: str, got: object, advice: str) -> SlideError:
    """The `sentence` as a SlideError."""
    return SlideError(sentence(argument, expectation, got, advice))


def unreadable(path: Path, problem: object) -> SlideError:
    """For a file that is no slide, or a broken one."""
    return SlideError(_unreadable(path, problem))


def damaged(path: Path, problem: object) -> DamagedRegionError:
    """For a region that a file holds damaged."""
    return DamagedRegionError(_unreadable(path, problem))


def out_of_reach(path: Path, problem: object) -> OSError:
    """For a file that cannot be read now, though nothing says that it is damaged."""
    return OSError(f"The slide {str(path)!r} is out of reach ({short(problem)}); try again once it can be read.")


def _unreadable(path: Path, problem: object) -> str:
    why = "damaged or cut short" if isinstance(problem, WORDLESS) else short(problem)
    got = f"{str(path)!r} ({why})"
    return sentence("path", "a whole slide or image", got, "copy or export it again")


def check_segment(path: Path, pixels: int, bytes_per_pixel: int) -> None:
    """SlideError for a tile, strip or chunk that would have to be decoded whole and is too large for it."""
    if pixels * bytes_per_pixel > MAX_SEGMENT_BYTES:
        got = f"{str(path)!r} with {pixels:,} px in one piece"
        raise error("path", "a slide in tiles", got, "export it as a tiled pyramid")


def brightest_sample(samples: Callable[[Place, Size], NDArray[Any]], size: Size) -> int:
    """The largest of `samples(location, size)` spread over an image of a size; 0 where all are damaged."""
    found = 0
    for location, sides in sampled_windows(size):
        with suppress(DamagedRegionError):
            found = max(found, int(samples(location, sides).max()))
    return found


def sampled_windows(size: Size) -> list[tuple[Place, Size]]:
    """Location (x, y) and size (w, h) of rectangles spread over an image, small enough to read at once."""
    counts = [min(MAX_WINDOWS, -(-side // WINDOW_PX)) for side in size]
    sides = [min(WINDOW_PX, side) for side in size]
    starts = [
        [(whole - side) * index // max(1, count - 1) for index in range(count)]
        for whole, side, count in zip(size, sides, counts, strict=True)
    ]
    return [((x, y), (sides[0], sides[1])) for y in starts[1] for x in starts[0]]


def sampled_hash(path: Path) -> str:
    """SHA-256 of a file's size and 1 MB of it, evenly spaced: names it without reading gigabytes.

    A small file counts whole. Two files that differ between the samples alone have the same hash.
    """
    size = path.stat().st_size
    sha256 = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= SAMPLES * SAMPLE_BYTES:
            sha256.update(file.read())
        else:
            for index in range(SAMPLES):
                file.seek((size - SAMPLE_BYTES) * index // (SAMPLES - 1))
                sha256.update(file.read(SAMPLE_BYTES))
    return sha256.hexdigest()


# A plain image as a source of one level, in memory.


class ImageSource:
    """An image in memory, uint8 (H, W, 3), in sRGB: `mpp` and `about` are what its file says."""

    def __init__(
        self, pixels: Image, mpp: tuple[float, float] | None, about: About, quickhash: Callable[[], str]
    ) -> None:
        self._pixels = pixels
        self.mpp = mpp
        self.sizes: Sequence[tuple[int, int]] = [(pixels.shape[1], pixels.shape[0])]
        self.about = about
        self.quickhash = quickhash

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """See `Source`."""
        (x, y), (w, h) = location, size
        return self._pixels[y : y + h, x : x + w].copy()

    def close(self) -> None:
        """See `Source`."""


def open_image(path: Path, *, icc: bool = True) -> ImageSource:
    """What `read_image` reads, in sRGB already if `icc`. Raises: SlideError."""
    try:
        pixels, facts = read_image_and_facts(path, icc=icc)
    except ValueError as error:
        raise SlideError(str(error)) from error
    about = About.of(f"{path.suffix[1:].upper() or 'plain'} image", facts)
    return ImageSource(pixels, facts.mpp, about, partial(sampled_hash, path))


def open_array(pixels: Image) -> ImageSource:
    """An array, uint8 (H, W, 3). Raises: SlideError for another."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise error("path", "a file, or an array uint8 (H, W, 3)", f"{pixels.dtype} {pixels.shape}", "convert it")
    return ImageSource(pixels, None, About("array"), lambda: hashlib.sha256(pixels.tobytes()).hexdigest())
