"""*Where* a marker is: what every source of it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chromogen.errors import expected, missing
from chromogen.image import Image
from chromogen.provenance import sha256_of
from chromogen.staining.how import Location, SlideLook
from chromogen.staining.maps import Array
from chromogen.staining.tissue import Tissue

MAX_OFF = 0.01  # of a side: how far an image of the slide may be from its aspect


@dataclass(frozen=True)
class Place:
    """A window of a slide: its picture, uint8 (H, W, 3) at MPP, what that shows, and the slide's statistics.

    `location` (x, y) is where it lies on the slide, in pixels of MPP. `site` is what the marker stains, one of
    SITES.
    """

    image: Image
    tissue: Tissue
    look: SlideLook
    site: str
    location: Location


@dataclass(frozen=True)
class Frame:
    """The whole picture that a drawing or map belongs to: sizes (w, h) in its own pixels, and in those of MPP."""

    own_px: tuple[int, int]
    size_px: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of MPP in an own pixel, across and down."""
        return self.size_px[0] / self.own_px[0], self.size_px[1] / self.own_px[1]

    def check_aspect(self, file: Path, size: tuple[int, int]) -> None:
        """ValueError for an image of `size` (w, h) that cannot show all of the picture, and no more."""
        (width, height), (own_width, own_height) = size, self.own_px
        off = abs(width * own_height / own_width - height), abs(height * own_width / own_height - width)
        if min(off) > 1 + MAX_OFF * min(size):
            wanted = f"an image of all of the slide, {own_width} x {own_height} px or that aspect"
            got = f"{width} x {height} px in {str(file)!r}"
            raise expected("where", wanted, got, "export the whole slide, without margins")

    def __str__(self) -> str:
        """In the identity of a source."""
        return f"{self.own_px[0]} x {self.own_px[1]} px as {self.size_px[0]} x {self.size_px[1]}"


def checked_file(file: Path) -> str:
    """The hash of a source's file. Raises: FileNotFoundError, which names `where`."""
    if not file.is_file():
        raise missing("where", "an existing file", file)
    return sha256_of(file)


def sampled(
    values: Array, pixel_px: tuple[float, float], location: tuple[int, int], shape: tuple[int, int]
) -> Array:
    """A window of a map whose pixels are `pixel_px` (x, y) wide, linear between their centres."""
    x = values
    for axis, (start, pixel) in enumerate(zip(location[::-1], pixel_px[::-1], strict=True)):
        places = ((start + np.arange(shape[axis]) + 0.5) / pixel - 0.5).clip(0, values.shape[axis] - 1)
        before = places.astype(int)
        after = np.minimum(before + 1, values.shape[axis] - 1)
        part = (places - before).astype(np.float32)
        part = part[:, None] if axis == 0 else part
        x = np.take(x, before, axis) * (1 - part) + np.take(x, after, axis) * part
    return np.asarray(x, np.float32)


class Where(Protocol):
    """A source of *where*: a frozen dataclass of few small values, hashable and picklable.

    It is sent along with every block of a slide, so it names files and their hashes rather than hold what is in
    them. Chance, if any, comes from the place on the slide.
    """

    @property
    def name(self) -> str:
        """What users call the source, such as `tissue`."""

    @property
    def identity(self) -> str:
        """All that decides the map: the source, its settings, and the hashes of its files."""

    @property
    def gives_shares(self) -> bool:
        """Whether values are levels of their own, and for a marker of nuclei the local share of positive ones.

        Without it a map only says which tissue is likely, and a dial says how many nuclei are positive.
        """

    def record(self) -> Mapping[str, Any]:
        """What an output says of the source, as plain data: `source`, `claim`, and what it rests on."""

    def measure(self, sample: Image) -> Any:
        """What must be the same over a slide, of uint8 (H, W, 3) of its tissue at MPP, for `SlideLook.where`."""

    def __call__(self, place: Place) -> Array:
        """The map of a window, float32 (H, W), 0 to 1, along the tissue's edges and nowhere on glass."""
