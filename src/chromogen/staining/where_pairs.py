"""*Where* by a model that `chromogen train --paired` made: the only source that has seen the marker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.staining.edges import map_of_network
from chromogen.staining.maps import Array
from chromogen.staining.where import Place

if TYPE_CHECKING:
    from chromogen.staining.where_file import Model
    from chromogen.staining.where_network import WhereNetwork

FIGURES = ("validated_on", "validation")  # of a model's record: what its claim rests on


@dataclass(frozen=True)
class ByPairs:
    """The level of DAB that a model expects, from its file, which must have this hash; `read_paired` makes one.

    For a marker of nuclei levels are over nuclei, for others over tissue. `told` is what an output says, as JSON.
    """

    file: str
    sha256: str
    told: str
    name: str = "paired"
    gives_shares: bool = True

    @property
    def identity(self) -> str:
        """The model's hash."""
        return f"paired {self.sha256}"

    def record(self) -> dict[str, Any]:
        """The model's claim and its held-out figures."""
        told: dict[str, Any] = json.loads(self.told)
        return told

    def measure(self, sample: Image) -> Any:
        """White and strengths of the slide's stains, as the model has to know them."""
        from chromogen.staining.where_network import slide_stains

        return slide_stains(sample)

    def __call__(self, place: Place) -> Array:
        """The level of every pixel; what squares of 8 um are too coarse to say, the tissue's edges say."""
        from chromogen.staining.where_network import level_map

        network = _network(self.file, self.sha256)
        return map_of_network(partial(level_map, network, stains=place.look.where), place.image, place)


def read_paired(file: Path) -> ByPairs:
    """The source that a model of real pairs is. Raises: as `read_model`."""
    from chromogen.staining.where_file import read_model

    return paired_source(file, read_model(file))


def paired_source(file: Path, model: Model) -> ByPairs:
    """The source that a model is, which was read from a file."""
    figures = {name: model.training[name] for name in FIGURES if name in model.training}
    told = {"source": "paired", "claim": model.claim, "model": model.name, **figures, "sha256": model.sha256}
    return ByPairs(str(file.absolute()), model.sha256, json.dumps(told))


@lru_cache(maxsize=4)
def _network(file: str, sha256: str) -> WhereNetwork:
    """Read once a process. Raises: ValueError where the file is another by now."""
    from chromogen.staining.where_file import read_model

    model = read_model(Path(file))
    if model.sha256 != sha256:
        wanted = f"the one with hash {sha256[:12]}"
        raise expected("model", wanted, model.sha256[:12], "do not change it under way")
    return model.network()
