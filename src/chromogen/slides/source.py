"""What stands behind the face of a slide: what every reader of a file format offers, and how it refuses a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from chromogen.errors import sentence, short
from chromogen.image import Image

SAMPLES, SAMPLE_BYTES = 16, 65_536  # what of a large file is hashed
MAX_SEGMENT_BYTES = 1 << 29  # of a tile, strip or chunk, which can only be decoded whole

_RED_GREEN_BLUE = ({"red", "green", "blue"}, {"r", "g", "b"})
_NEUTRAL = {"", "c", "ch", "channel", "rgb", "brightfield", "bright field", "bf", "transmitted light"}


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
    got = f"{str(path)!r} ({short(problem)})"
    return sentence("path", "a whole slide or image", got, "copy or export it again")


def not_brightfield(path: Path, problem: str) -> SlideError:
    """For a slide whose channels are no red, green and blue."""
    return error("path", "a brightfield slide", f"{str(path)!r} {problem}", "export it as RGB")


def check_channels(path: Path, names: Iterable[str], dtype: object) -> None:
    """Refuse three channels that nothing calls RGB, if they are of 16 bits or named after stains or lasers.

    Raises: SlideError, with the names.
    """
    names = list(names)
    plain = {name.casefold().rstrip("0123456789 :#-_") for name in names}
    if plain not in _RED_GREEN_BLUE and not plain <= _NEUTRAL:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise not_brightfield(path, f"with the channels {shown} (fluorescence or multiplex)")
    if dtype != np.uint8 and plain not in _RED_GREEN_BLUE:
        raise not_brightfield(path, f"with {dtype} channels that nothing calls RGB (fluorescence or multiplex)")


def check_segment(path: Path, pixels: int, bytes_per_pixel: int) -> None:
    """SlideError for a tile, strip or chunk that would have to be decoded whole and is too large for it."""
    if pixels * bytes_per_pixel > MAX_SEGMENT_BYTES:
        got = f"{str(path)!r} with {pixels:,} px in one piece"
        raise error("path", "a slide in tiles", got, "export it as a tiled pyramid")


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
