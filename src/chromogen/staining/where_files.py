"""Sources of *where* that are files: regions that a person drew, heat maps, and networks trained on pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from shapely import STRtree, box
from shapely.affinity import scale

from chromogen.errors import expected
from chromogen.provenance import sha256_of
from chromogen.regions.geojson import SUFFIXES, Drawn, centres_inside
from chromogen.regions.masks import UNLABELLED, Mask, MisfitError, class_of, read_drawn, read_heat_map, read_mask
from chromogen.staining.maps import Array, coarser
from chromogen.staining.tissue import MPP
from chromogen.staining.where import (
    Frame,
    Place,
    Where,
    along_edges,
    border_along_edges,
    check_unchanged,
    checked_file,
    map_of_network,
    sampled_map,
)

if TYPE_CHECKING:
    from chromogen.staining.where_network import Model, WhereNetwork


# *Where* by regions that a person drew: polygons of QuPath, or a label image of the whole slide, with levels.

REGIONS_CLAIM = "as a person drew it, with the levels that a person named"
ELSEWHERE = "elsewhere"  # what no region covers
ONLY = "1"  # the name of the only region of a mask

Levels = tuple[tuple[str, float], ...]


def read_regions(
    file: Path, frame: Frame, levels: Mapping[str, float] | None = None, elsewhere: float = 0.0
) -> Where:
    """The source that a GeoJSON file or a label image of a slide is, with a level from 0 to 1 for each class.

    Polygons are in level-0 pixels of the slide; a label image shows all of the slide, in any size. Without
    `levels`, all classes have level 1; else each needs one. Raises: ValueError for a file that cannot be read, a
    class that is missing on either side, regions outside of the slide, another aspect, and levels that all are 0;
    FileNotFoundError.
    """
    sha256 = checked_file(file)
    regions = _regions(str(file), sha256)
    regions.check(file, frame)
    named = dict.fromkeys(regions.names, 1.0) if not levels else dict(levels)
    if set(named) != set(regions.names):
        there = f"{', '.join(regions.names)}, the classes of {file.name}"
        missing = [f"--level {name}=VALUE" for name in regions.names if name not in named]
        advice = f"add {' '.join(missing)}" if missing else "name no others"
        raise expected("level", f"given for {there}", ", ".join(named), advice)
    for name, level in [*named.items(), (ELSEWHERE, elsewhere)]:
        if not 0 <= level <= 1:
            raise expected("level", "0 to 1", f"{level:g} for {name}")
    if not any([elsewhere, *named.values()]):
        raise expected("level", "above 0 for a class or elsewhere", "0 for all", "nothing would be stained")
    said = {**{name: float(named[name]) for name in regions.names}, ELSEWHERE: elsewhere}
    facts = json.dumps({"levels": said, "sha256": sha256})
    identity = f"regions {sha256}, {frame}, levels {said}"
    level_of = elsewhere, *(said[name] for name in regions.names)
    return Where(
        "regions", REGIONS_CLAIM, identity, partial(_levels_at, str(file), sha256, frame, level_of), facts=facts
    )


def _levels_at(file: str, sha256: str, frame: Frame, level_of: tuple[float, ...], place: Place) -> Array:
    """The levels of a window, whose borders lie on the tissue's edges where these are near.

    `level_of` has that of what no region covers first, then that of each class. Of regions that overlap the
    smaller one counts.
    """
    regions, shape = _regions(file, sha256), place.tissue.labels.shape
    drawn = regions.classes_at(frame, place.location, (shape[0], shape[1]))
    pixel_um = regions.pixel_px(frame) * MPP
    levels = np.array(level_of, np.float32)[drawn]
    total, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for level in np.unique(levels):
        part = border_along_edges((levels == level).astype(np.float32), pixel_um, place)
        total += level * part
        weight += part
    return np.asarray(total / np.maximum(weight, 1e-3) * place.tissue.there, np.float32)


@dataclass(frozen=True, eq=False)
class Polygons:
    """Drawn features and their classes; the smallest come last, on top of the others."""

    names: tuple[str, ...]
    features: tuple[Drawn, ...]

    def check(self, file: Path, frame: Frame) -> None:
        """ValueError for regions that lie outside of the slide."""
        slide = box(0, 0, *frame.own_px)
        outside = [feature for feature in self.features if not feature.geometry.intersects(slide)]
        if outside:
            width, height = frame.own_px
            wanted = f"regions inside the slide's {width} x {height} px"
            got = f"{len(outside)} of {len(self.features)} outside in {str(file)!r}"
            raise expected("where", wanted, got, "export them from this slide, in its level-0 pixels")

    def pixel_px(self, _frame: Frame) -> float:
        """Polygons have no pixels."""
        return 0.0

    def classes_at(self, frame: Frame, location: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.uint16]:
        """The number of each pixel's class from 1, 0 for none."""
        found = np.zeros(shape, np.uint16)
        (x, y), (across, down) = location, frame.scale
        seen = box(x / across, y / down, (x + shape[1]) / across, (y + shape[0]) / down)
        for number in sorted(_tree(self).query(seen)):
            feature = self.features[number]
            polygons = [scale(polygon, *frame.scale, origin=(0, 0)) for polygon in feature.polygons]
            found[centres_inside(polygons, shape, location)] = 1 + self.names.index(class_of(feature))
        return found


@dataclass(frozen=True, eq=False)
class LabelImage:
    """A label image (h, w) of a whole slide: 0 outside, or the number of a class from 1."""

    names: tuple[str, ...]
    classes: NDArray[np.uint16]

    def check(self, file: Path, frame: Frame) -> None:
        """ValueError for an image of another aspect than the slide."""
        frame.check_aspect(file, (self.classes.shape[1], self.classes.shape[0]))

    def pixel_px(self, frame: Frame) -> float:
        """How large its pixels are, in pixels of MPP."""
        return float(max(np.array(frame.size_px[::-1]) / self.classes.shape))

    def classes_at(self, frame: Frame, location: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.uint16]:
        """The number of each pixel's class: that of the image's pixel which it lies in."""
        rows, columns = (
            ((start + np.arange(side) + 0.5) * own / of).astype(int).clip(0, own - 1)
            for start, side, own, of in zip(
                location[::-1], shape, self.classes.shape, frame.size_px[::-1], strict=True
            )
        )
        return np.asarray(self.classes[rows[:, None], columns])


@lru_cache(maxsize=4)
def _regions(file: str, sha256: str) -> Polygons | LabelImage:
    """Read once a process. Raises: ValueError where the file is another by now."""
    check_unchanged("where", sha256, sha256_of(Path(file)))
    if file.lower().endswith(SUFFIXES):
        features = sorted(read_drawn(Path(file), "where"), key=lambda feature: -feature.geometry.area)
        return Polygons(tuple(sorted({class_of(feature) for feature in features})), tuple(features))
    try:
        masks = read_mask(Path(file))
    except MisfitError as error:
        got = f"{file!r} {error.problem}"
        raise expected("where", "a label image of the slide", got, error.advice) from error
    names = tuple(ONLY if label == UNLABELLED else str(label) for label in masks)
    classes = np.zeros(next(iter(masks.values())).shape, np.uint16)
    for number, mask in enumerate(masks.values(), 1):
        classes[mask >= 0.5] = number
    return LabelImage(names, classes)


@lru_cache(maxsize=4)
def _tree(polygons: Polygons) -> STRtree:
    return STRtree([feature.geometry for feature in polygons.features])


# *Where* by a map of the whole slide: a grey image, as other programs and models write heat maps.

MAP_CLAIM = "as the map of another source has it; Chromogen does not know what that rests on"


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
    return Where("map", MAP_CLAIM, f"map {sha256}, {frame}", map_of, facts=json.dumps({"sha256": sha256}))


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
    check_unchanged("where", sha256, sha256_of(Path(file)))
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
    check_unchanged("model", sha256, model.sha256)
    return model.network()
