"""*Where* a marker is: what every source of it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chromogen.image import Image
from chromogen.staining.how import Location, SlideLook
from chromogen.staining.maps import Array
from chromogen.staining.tissue import Tissue


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
