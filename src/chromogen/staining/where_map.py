"""Sources of *where* that are pictures, or networks trained on pairs."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from chromogen.errors import expected
from chromogen.provenance import sha256_of
from chromogen.regions.masks import Mask, read_heat_map
from chromogen.staining.maps import Array, coarser
from chromogen.staining.tissue import MPP
from chromogen.staining.where import Frame, Place, Where, along_edges, checked_file, map_of_network, sampled_map

if TYPE_CHECKING:
    from chromogen.staining.where_network import Model, WhereNetwork


# *Where* by a map of the whole slide: a grey image, as other programs and models write heat maps.

CLAIM = "as the map of another source has it; Chromogen does not know what that rests on"


def read_map(file: Path, frame: Frame) -> Where:
    """The source that a heat map is: a grey image of all of the slide, in any size, from 0 to white.

    Its values are levels from 0 to 1: for a marker of nuclei the share of positive nuclei, for others that of the
    exemplar's DAB. Raises: ValueError for an image in colours, of another aspect than the slide, or of nothing
    but 0; FileNotFoundError.
    """
    sha256 = checked_file(file)
    values = read_heat_map(file)
    frame.check_aspect(file, (values.shape[1], values.shape[0]))
    if not values.any():
        raise expected("where", "a map with a value above 0", f"{str(file)!r}, which is 0 everywhere")
    map_of = partial(_map_at, str(file), sha256, frame)
    return Where("map", CLAIM, f"map {sha256}, {frame}", map_of, facts=json.dumps({"sha256": sha256}))


def _map_at(file: str, sha256: str, frame: Frame, place: Place) -> Array:
    """The map of a window; what its pixels are too coarse to say, the tissue's edges say."""
    values, pixel_px = _map(file, sha256, frame)
    shape = place.tissue.labels.shape
    seen = sampled_map(values, pixel_px, place.location, (shape[0], shape[1]))
    return along_edges(seen, max(pixel_px) * MPP, place)


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


def read_paired(file: Path) -> Where:
    """The source that a model of real pairs is. Raises: as `read_model`."""
    from chromogen.staining.where_network import read_model

    return paired_source(file, read_model(file))


def paired_source(file: Path, model: Model) -> Where:
    """The source that a model is, which was read from a file: the level of DAB that the model expects.

    For a marker of nuclei levels are over nuclei, for others over tissue.
    """
    from chromogen.staining.where_network import slide_stains

    figures = {name: model.training[name] for name in FIGURES if name in model.training}
    facts = json.dumps({"model": model.name, **figures, "sha256": model.sha256})
    map_of = partial(_expected_at, str(file.absolute()), model.sha256)
    return Where("paired", model.claim, f"paired {model.sha256}", map_of, slide_stains, facts)


def _expected_at(file: str, sha256: str, place: Place) -> Array:
    """The level of every pixel; what squares of 8 um are too coarse to say, the tissue's edges say."""
    from chromogen.staining.where_network import level_map

    predict = partial(level_map, _network(file, sha256), stains=place.look.where)
    return map_of_network(predict, place.image, place)


@lru_cache(maxsize=4)
def _network(file: str, sha256: str) -> WhereNetwork:
    """Read once a process. Raises: ValueError where the file is another by now."""
    from chromogen.staining.where_network import read_model

    model = read_model(Path(file))
    if model.sha256 != sha256:
        wanted = f"the one with hash {sha256[:12]}"
        raise expected("model", wanted, model.sha256[:12], "do not change it under way")
    return model.network()
