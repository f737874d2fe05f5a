"""What can be chosen to say where a stain lies: tissue, regions, and files in the folders that were named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import PIL.Image

from chromogen.app.view.shelf import Entry
from chromogen.app.view.stains import TISSUE
from chromogen.app.where import WhereOption
from chromogen.decoders import quiet
from chromogen.errors import FAILURES
from chromogen.image import WRITE_SUFFIXES
from chromogen.models import LOOK_SUFFIX
from chromogen.staining.where import Frame
from chromogen.staining.where_map import CLAIM as MAP_CLAIM
from chromogen.staining.where_regions import CLAIM as REGIONS_CLAIM
from chromogen.staining.where_tissue import CLAIM as TISSUE_CLAIM

DRAWN = "regions"
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")  # modes of images that may be heat maps


@dataclass(frozen=True)
class WhereLine:
    """A source of *where* in the list: what to ask for, what people call it, and what it may claim."""

    id: str
    name: str
    claim: str


ALWAYS = (WhereLine(TISSUE, TISSUE, TISSUE_CLAIM), WhereLine(DRAWN, DRAWN, REGIONS_CLAIM))


def where_lines(images: Sequence[Entry], models: Sequence[Entry], size: tuple[int, int]) -> list[WhereLine]:
    """Tissue, regions, then heat maps of a slide of `size` (w, h), and models that map any slide."""
    maps = [(entry, MAP_CLAIM) for entry in images if _may_be_map(entry.path, entry.version, size)]
    able = [(entry, _claim(entry.path, entry.version)) for entry in models]
    return [*ALWAYS, *(WhereLine(entry.id, entry.name, claim) for entry, claim in [*maps, *able] if claim)]


@lru_cache(maxsize=4096)
def _may_be_map(path: Path, _version: str, size: tuple[int, int]) -> bool:
    """Whether a file is a grey image that may show all of a slide; only its header is read."""
    if path.suffix.lower() not in WRITE_SUFFIXES:
        return False
    try:
        with quiet(), PIL.Image.open(path) as image:
            Frame(size, size).check_aspect(path, image.size)
            return image.mode in GREY
    except Exception:  # other people's files break in every way there is, and are no heat maps
        return False


@lru_cache(maxsize=256)
def _claim(path: Path, _version: str) -> str:
    """What a model may claim to know of *where*; "" where it cannot say where."""
    if path.suffix.lower() == LOOK_SUFFIX:
        return ""
    try:
        where = WhereOption(str(path)).for_all()
    except FAILURES:
        return ""
    return str(where.record()["claim"]) if where else ""
