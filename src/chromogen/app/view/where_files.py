"""What can be chosen to say where a stain lies: tissue, regions, and files in the folders that were named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import PIL.Image

from chromogen.app.staining import WhereOption
from chromogen.app.view.region_files import MAX_GEOJSON_BYTES
from chromogen.app.view.slide_catalog import Entry
from chromogen.app.view.stains import TISSUE
from chromogen.errors import FAILURES
from chromogen.formats.decoders import quiet
from chromogen.image import WRITE_SUFFIXES
from chromogen.models import MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.regions.geojson import SUFFIXES as GEOJSON_SUFFIXES
from chromogen.staining.where import CLAIM as TISSUE_CLAIM
from chromogen.staining.where import Frame
from chromogen.staining.where_files import ELSEWHERE, MAP_CLAIM, ONLY, REGIONS_CLAIM, read_regions

DRAWN = "regions"
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")  # modes of images that may be heat maps
MAX_GREY_PX, MAX_COLOR_PX = 100_000_000, 4_000_000


@dataclass(frozen=True)
class WhereLine:
    """A source of *where* in the list: what to ask for, what people call it, and what it may claim.

    `classes` are those of regions in a file, each of which may have a level.
    """

    id: str
    name: str
    claim: str
    classes: tuple[str, ...] = ()


ALWAYS = (WhereLine(TISSUE, TISSUE, TISSUE_CLAIM), WhereLine(DRAWN, DRAWN, REGIONS_CLAIM))


def where_lines(images: Sequence[Entry], others: Sequence[Entry], size: tuple[int, int]) -> list[WhereLine]:
    """Tissue and regions, then what fits a slide of `size` (w, h): heat maps, drawn regions; and models."""
    found = [(entry, *_of_image(entry.path, entry.version, size)) for entry in images]
    for entry in others:
        is_drawn = entry.path.name.lower().endswith(GEOJSON_SUFFIXES)
        drawn = _of_drawn(entry.path, entry.version, size) if is_drawn else NONE
        found.append((entry, *(drawn if drawn != NONE else (_claim(entry.path, entry.version), ()))))
    return [
        *ALWAYS,
        *(WhereLine(entry.id, entry.name, claim, classes) for entry, claim, classes in found if claim),
    ]


NONE: tuple[str, tuple[str, ...]] = ("", ())


@lru_cache(maxsize=4096)
def _of_image(path: Path, _version: str, size: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    """The claim of an image of grey values that shows all of a slide, with its classes if these are labels.

    Of an image in colours that may be grey all the same, at most `MAX_COLOR_PX` are read.
    """
    if path.suffix.lower() not in WRITE_SUFFIXES:
        return NONE
    frame = Frame(size, size)
    try:
        with quiet(), PIL.Image.open(path) as image:
            frame.check_aspect(path, image.size)
            most = MAX_GREY_PX if image.mode in GREY else MAX_COLOR_PX
            if image.size[0] * image.size[1] > most:
                return NONE
        classes = _classes(path, frame)
        return (REGIONS_CLAIM, classes) if classes != (ONLY,) else (MAP_CLAIM, ())
    except Exception:  # other people's files break in every way there is, and are no heat maps
        return NONE


@lru_cache(maxsize=1024)
def _of_drawn(path: Path, _version: str, size: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    """The claim and the classes of a GeoJSON file whose regions lie on a slide."""
    try:
        if path.stat().st_size > MAX_GEOJSON_BYTES:
            return NONE
        return REGIONS_CLAIM, _classes(path, Frame(size, size))
    except FAILURES:
        return NONE


def _classes(path: Path, frame: Frame) -> tuple[str, ...]:
    return tuple(name for name in read_regions(path, frame).record()["levels"] if name != ELSEWHERE)


@lru_cache(maxsize=256)
def _claim(path: Path, _version: str) -> str:
    """What a model may claim to know of *where*; "" where it cannot say where."""
    if path.suffix.lower() not in (MODEL_SUFFIX, ONNX_SUFFIX):
        return ""
    try:
        where = WhereOption(str(path)).for_all()
    except FAILURES:
        return ""
    return str(where.record()["claim"]) if where else ""
