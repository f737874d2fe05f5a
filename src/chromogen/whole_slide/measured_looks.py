"""Looks measured of reference IHCs in files: fields of their tissue, measured once, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from chromogen.errors import expected, missing
from chromogen.files import keep_newest
from chromogen.image import Image, PathLike
from chromogen.pixel_size import is_same_mpp
from chromogen.provenance import sha256_of
from chromogen.slides.slide import Slide, open_slide, slide_files
from chromogen.staining.exemplar import WANTED, Exemplar, exemplar_of, joined_exemplars, reference_tissue
from chromogen.staining.looks import Look, doubts_of, read_look, write_look
from chromogen.staining.tissue import MPP
from chromogen.stains.deconvolution import chromogen_name
from chromogen.stains.glass import white_level
from chromogen.whole_slide.survey import Region, tissue_fields

MEASURED = 4  # to be raised whenever a number of a look comes to mean something else
MAX_FILES = 200
OVERVIEW_PX = 1536
UNKNOWN_LICENCE = "as its source"


@dataclass(frozen=True)
class ReferenceFile:
    """A reference IHC in a file: `picture`, uint8 (H, W, 3) at MPP, is all of it, or fields of its tissue.

    `white` (3,) is the colour of its glass. `assumed` says that its file states no pixel size.
    """

    file: Path
    picture: Image
    white: NDArray[np.float64]
    assumed: bool


def cache_folder() -> Path:
    """Where measured looks are kept: `looks` in the user's cache folder; it may be deleted at any time."""
    return platformdirs.user_cache_path("chromogen") / "looks"


def measure_look(
    styles: PathLike | Sequence[PathLike],
    *,
    site: str = "auto",
    mpp: float | None = None,
    region: Region | None = None,
    name: str = "",
    source: str = "",
    licence: str = "",
) -> Look:
    """The look of a marker, measured in seconds on one or several reference IHCs: images, slides, or folders.

    `site` is what the marker stains: nuclear, cytoplasm, or auto. `mpp` is um per pixel of files that do not say
    it; without, it is 0.5. `region` (x, y, width, height) in level-0 pixels is a part of a single IHC. Several
    IHCs give their mean. Of whole slides, 16 fields of tissue are measured. What is measured is kept in
    `cache_folder`, under a hash of the pixels. `Look.doubts` says what may make a poor look.
    Raises: ValueError for what shows no stained and unstained tissue; FileNotFoundError; SlideError.
    """
    paths = [Path(styles)] if isinstance(styles, str | os.PathLike) else [Path(style) for style in styles]
    return look_of_references(read_references(paths, mpp, region), site, name, source, licence)


def read_references(
    paths: Sequence[Path], mpp: float | None = None, region: Region | None = None
) -> list[ReferenceFile]:
    """Reference IHCs by their paths, folders opened. Raises: ValueError, FileNotFoundError, SlideError."""
    for path in paths:
        if not path.exists():
            raise missing("style", "an existing IHC image, slide or folder", path)
    files = slide_files(paths)
    if region is not None and len(files) != 1:
        raise expected("style-region", "given with one IHC", f"{len(files)} IHCs", "leave it out")
    return [_read(file, mpp, region) for file in files]


def look_of_references(
    references: Sequence[ReferenceFile], site: str = "auto", name: str = "", source: str = "", licence: str = ""
) -> Look:
    """The mean look of reference IHCs of one marker. Raises: as `measure_look`."""
    measured = [_measured_once(reference, site) for reference in references]
    exemplar = joined_exemplars([look.exemplar for look in measured])
    files = ", ".join(reference.file.name for reference in references)
    doubts = tuple(f"{look.name} {doubt}" for look in measured for doubt in look.doubts)
    name = name or references[0].file.stem
    return Look(name, stain_of(exemplar), source or files, licence or UNKNOWN_LICENCE, exemplar, doubts)


def stain_of(exemplar: Exemplar) -> str:
    """What an exemplar is stained with, and where.

    >>> from chromogen.staining.stainer import load_look
    >>> stain_of(load_look("nuclear").exemplar)
    'DAB in nuclei'
    """
    where = "nuclei" if exemplar.site == "nuclear" else "cytoplasm"
    return f"{chromogen_name(np.array(exemplar.matrix[1]))} in {where}"


def _read(file: Path, mpp: float | None, region: Region | None) -> ReferenceFile:
    with open_slide(file, mpp, assumed_mpp=MPP) as slide:
        overview, step = slide.overview(OVERVIEW_PX)
        fields = tissue_fields(slide, overview, step, _own_or_mpp(slide), region)
        if not fields:
            raise expected("style", f"{WANTED} tissue", f"no tissue in {file.name}")
        alone = len(fields) == 1 and region is None
        white = white_level(fields[0], MPP) if alone else white_level(overview, slide.need_mpp() * step)
        return ReferenceFile(file, np.concatenate(fields), white, slide.mpp_from == "assumed")


def _own_or_mpp(slide: Slide) -> float | None:
    """The pixel size to read at: the slide's own, None, where it is nearly MPP."""
    return None if is_same_mpp(slide.need_mpp(), MPP) else MPP


def _measured_once(reference: ReferenceFile, site: str) -> Look:
    """The look of one IHC under its file's name, or what was measured the last time of the same pixels."""
    file = cache_folder() / f"{_key(reference, site)}.json"
    with suppress(OSError, ValueError):
        found = read_look(file)
        os.utime(file)
        return _named(found, reference)
    look = _measured(reference, site)
    with suppress(OSError):  # a cache that cannot be written is done without
        file.parent.mkdir(parents=True, exist_ok=True)
        write_look(file, look)
        keep_newest(file.parent, "*.json", MAX_FILES)
    return look


def _named(look: Look, reference: ReferenceFile) -> Look:
    """The same under the name of another file."""
    return Look(reference.file.name, look.target_stain, look.source, look.licence, look.exemplar, look.doubts)


def _measured(reference: ReferenceFile, site: str) -> Look:
    """Measure one IHC. Raises: ValueError, which names the file."""
    try:
        shown = reference_tissue(reference.picture, reference.white)
        exemplar = exemplar_of(shown, site)
    except ValueError as error:
        raise ValueError(f"{reference.file.name}: {error}") from error
    doubts = doubts_of(reference.picture, shown, exemplar)
    return Look(reference.file.name, stain_of(exemplar), reference.file.name, UNKNOWN_LICENCE, exemplar, doubts)


def _key(reference: ReferenceFile, site: str) -> str:
    """A name for everything that decides what is measured, and for nothing else."""
    from chromogen.nuclei.outlines import WEIGHTS

    pixels = hashlib.sha256(np.ascontiguousarray(reference.picture).tobytes()).hexdigest()
    record = [MEASURED, sha256_of(WEIGHTS), site, reference.white.tolist(), reference.picture.shape, pixels]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()
