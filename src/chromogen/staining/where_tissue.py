"""*Where* by the slide's own tissue: epithelium, as the shapes and the company of its nuclei tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chromogen.image import Image
from chromogen.staining.epithelium import epithelium
from chromogen.staining.maps import Array
from chromogen.staining.where import Place

CLAIM = "a guess by the tissue's nuclei, which knows nothing of the marker"


@dataclass(frozen=True)
class ByTissue:
    """Epithelium takes the stain, other tissue does not; a dial says how many nuclei do."""

    name: str = "tissue"
    identity: str = "tissue"
    gives_shares: bool = False

    def record(self) -> dict[str, Any]:
        """The source and its claim."""
        return {"source": self.name, "claim": CLAIM}

    def measure(self, _sample: Image) -> None:
        """Nothing: the slide's rule is part of every look."""

    def __call__(self, place: Place) -> Array:
        """How far pixels lie in epithelium."""
        return epithelium(place.tissue, place.look.rule)
