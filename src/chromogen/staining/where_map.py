"""Sources of *where* that are pictures, or networks trained on pairs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.provenance import sha256_of
from chromogen.regions.masks import Mask, read_heat_map
from chromogen.staining.maps import Array, coarser
from chromogen.staining.tissue import MPP
from chromogen.staining.where import Frame, Place, along_edges, checked_file, map_of_network, sampled_map

if TYPE_CHECKING:
    from chromogen.staining.where_network import Model, WhereNetwork


# *Where* by a map of the whole slide: a grey image, as other programs and models write heat maps.

CLAIM = "as the map of another source has it; Chromogen does not know what that rests on"


@dataclass(frozen=True)
class ByMap:
    """A heat map in an image file, which must have this hash; `read_map` makes one.

    Its values are levels from 0 to 1: for a marker of nuclei the share of positive ones, for others that of the
    exemplar's DAB.
    """

    file: str
    sha256: str
    frame: Frame
    name: str = "map"
    gives_shares: bool = True

    @property
    def identity(self) -> str:
        """The file's hash and the frame."""
        return f"map {self.sha256}, {self.frame}"

    def record(self) -> dict[str, Any]:
        """The file by its hash."""
        return {"source": self.name, "claim": CLAIM, "sha256": self.sha256}

    def measure(self, _sample: Image) -> None:
        """Nothing: the map is there."""

    def __call__(self, place: Place) -> Array:
        """The map of a window; what its pixels are too coarse to say, the tissue's edges say."""
        values, pixel_px = _map(self.file, self.sha256, self.frame)
        shape = place.tissue.labels.shape
        seen = sampled_map(values, pixel_px, place.location, (shape[0], shape[1]))
        return along_edges(seen, max(pixel_px) * MPP, place)


def read_map(file: Path, frame: Frame) -> ByMap:
    """The source that a heat map is: a grey image of all of the slide, in any size, from 0 to white.

    Raises: ValueError for an image in colours, of another aspect than the slide, or of nothing but 0;
    FileNotFoundError.
    """
    sha256 = checked_file(file)
    values = read_heat_map(file)
    frame.check_aspect(file, (values.shape[1], values.shape[0]))
    if not values.any():
        raise expected("where", "a map with a value above 0", f"{str(file)!r}, which is 0 everywhere")
    return ByMap(str(file), sha256, frame)


@lru_cache(maxsize=2)
def _map(file: str, sha256: str, frame: Frame) -> tuple[Mask, tuple[float, float]]:
    """Read once a process: values, and how many pixels of MPP their pixels are wide.

    A map that is finer than MPP is averaged. Raises: ValueError where the file is another by now.
    """
    if sha256_of(Path(file)) != sha256:
        raise expected("where", f"the file with hash {sha256[:12]}", "another", "do not change it under way")
    values = read_heat_map(Path(file))
    height, width = values.shape
    by = max(1, min(width // frame.size_px[0], height // frame.size_px[1]))
    pixel_px = by * frame.size_px[0] / width, by * frame.size_px[1] / height
    return (coarser(values, by) if by > 1 else values), pixel_px


# *Where* by a model that `chromogen train --paired` made: the only source that has seen the marker.

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
    from chromogen.staining.where_network import read_model

    return paired_source(file, read_model(file))


def paired_source(file: Path, model: Model) -> ByPairs:
    """The source that a model is, which was read from a file."""
    figures = {name: model.training[name] for name in FIGURES if name in model.training}
    told = {"source": "paired", "claim": model.claim, "model": model.name, **figures, "sha256": model.sha256}
    return ByPairs(str(file.absolute()), model.sha256, json.dumps(told))


@lru_cache(maxsize=4)
def _network(file: str, sha256: str) -> WhereNetwork:
    """Read once a process. Raises: ValueError where the file is another by now."""
    from chromogen.staining.where_network import read_model

    model = read_model(Path(file))
    if model.sha256 != sha256:
        wanted = f"the one with hash {sha256[:12]}"
        raise expected("model", wanted, model.sha256[:12], "do not change it under way")
    return model.network()
