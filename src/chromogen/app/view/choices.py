"""What can be chosen to stain with: stainers, what a user sets of them, and what says where a stain lies."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL.Image

from chromogen.app.staining import WhereOption
from chromogen.app.view.drawn_regions import MAX_GEOJSON_BYTES
from chromogen.app.view.slide_catalog import Entry, without_folder
from chromogen.errors import FAILURES, expected
from chromogen.formats.decoders import quiet
from chromogen.image import WRITE_SUFFIXES
from chromogen.models import LOOK_CLAIM, LOOK_SUFFIX, LOOKS, MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.regions.geojson import SUFFIXES as GEOJSON_SUFFIXES
from chromogen.staining.looks import FORMAT, Look
from chromogen.staining.onnx_file import read_onnx
from chromogen.staining.stainer import STAINERS, TARGET_OF_GENERATOR, Stainer, load_look, stainer_of_look
from chromogen.staining.tissue import MPP
from chromogen.staining.where import CLAIM as TISSUE_CLAIM
from chromogen.staining.where import Frame, Where
from chromogen.staining.where_files import ELSEWHERE, MAP_CLAIM, ONLY, REGIONS_CLAIM, read_regions

# What a user sets of a stainer, read off the function that makes it: a new dial there needs no change here.

MAX_SEED = 9999
STEPS = 100  # of a slider


@dataclass(frozen=True)
class Dial:
    """A number from `low` to `high` in steps; `default` is where it stands if nobody moves it."""

    name: str
    low: float
    high: float
    step: float
    default: float


def dials_of(look: Look) -> tuple[Dial, ...]:
    """The dials of a look: every number that `stainer_of_look` takes and that says something of this look."""
    named = list(inspect.signature(stainer_of_look).parameters.values())[1:]
    return tuple(dial for one in named if (dial := _dial(one, look)))


def _dial(parameter: inspect.Parameter, look: Look) -> Dial | None:
    """The dial of a parameter; None where it is no number, or the look has no use for it."""
    name, default, kinds = parameter.name, parameter.default, str(parameter.annotation).split(" | ")
    if name == "share":
        return Dial(name, 0, 1, 1 / STEPS, look.exemplar.share) if look.exemplar.site == "nuclear" else None
    if "int" in kinds:
        return Dial(name, 0, MAX_SEED, 1, default or 0)
    if "float" in kinds and default:
        return Dial(name, 0, 2 * default, 2 * default / STEPS, default)  # from none to twice as much
    return None


def dialled(look: Look, given: Mapping[str, float], where: Where | None = None, *, fill: bool = False) -> Stainer:
    """The stainer of a look with some dials set, and a source of *where*.

    Raises: ValueError for a dial that the look does not have, or a value out of its range.
    """
    dials = {dial.name: dial for dial in dials_of(look)}
    for name, value in given.items():
        if name not in dials:
            raise expected("dials", f"some of {', '.join(dials)}", name)
        if not dials[name].low <= value <= dials[name].high:
            raise expected(name, f"{dials[name].low:g} to {dials[name].high:g}", value)
    values: dict[str, Any] = {
        name: int(value) if dials[name].step == 1 else value for name, value in given.items()
    }
    return stainer_of_look(look, where=where, fill=fill, **values)


# Stainers: what comes with Chromogen, and models in the folders that were named.

MODEL_SUFFIXES = (MODEL_SUFFIX, ONNX_SUFFIX, LOOK_SUFFIX)
FOREIGN = "a generator trained elsewhere: Chromogen knows nothing of what it was taught"


@dataclass(frozen=True)
class StainerLine:
    """A stainer in the list, by what to ask for, and what has to be given along.

    `mpp` is the pixel size it stains at, in um, None of a generator whose file does not tell. `dials` are what can
    be set of a measured look.
    `claim` is what it may claim. Of a generator trained elsewhere `asks_mpp` says that its file has no pixel size,
    `value_range` which numbers it takes, "" where its file does not tell. `problem` says why a file is of no use.
    """

    id: str
    name: str
    target_stain: str = ""
    claim: str = ""
    generator: bool = False
    asks_mpp: bool = False
    value_range: str = ""
    problem: str = ""
    mpp: float | None = None
    dials: tuple[Dial, ...] = ()


CLAIMS = {
    "identity": "the slide as it is",
    "color-transfer": "colours of an IHC for the whole tissue: a baseline, which knows nothing of stains",
    "normalize": "the same H&E, as if stained like a reference",
}


def stainer_lines(entries: Sequence[Entry]) -> list[StainerLine]:
    """The built-in ones, and those of files; a file that is none says why."""
    lines = [_built_in(name) for name in STAINERS]
    return lines + [
        replace(_of_file(entry.path, entry.version), id=entry.id, name=entry.name)
        for entry in entries
        if entry.path.suffix.lower() in (MODEL_SUFFIX, ONNX_SUFFIX) or _says_look(entry.path)
    ]


def _says_look(path: Path) -> bool:
    """Whether a JSON file says that it is a look: folders are full of others."""
    try:
        with path.open("rb") as file:
            return FORMAT.split()[0].encode() + b" look" in file.read(200)
    except OSError:
        return False


def _built_in(name: str) -> StainerLine:
    if name in LOOKS:
        return replace(_of_look(name), id=name, name=name)
    stainer = STAINERS[name]()
    return StainerLine(name, name, stainer.target_stain, CLAIMS[name], mpp=stainer.mpp)


def _of_look(name: str | Path) -> StainerLine:
    look = load_look(name)
    stainer = stainer_of_look(look)
    return StainerLine("", "", look.target_stain, LOOK_CLAIM, mpp=stainer.mpp, dials=dials_of(look))


@lru_cache(maxsize=256)
def _of_file(path: Path, _version: str) -> StainerLine:
    """Of a model's file, which is read once as long as it does not change."""
    try:
        return {ONNX_SUFFIX: _of_generator, LOOK_SUFFIX: _of_look}.get(path.suffix.lower(), _of_model)(path)
    except (ValueError, OSError) as error:
        return StainerLine("", "", problem=without_folder(str(error), path))


def _of_model(path: Path) -> StainerLine:
    from chromogen.staining.where_network import read_model

    model = read_model(path)
    dials = tuple(dial for dial in dials_of(model.look) if dial.name != "share")  # the model gives shares
    return StainerLine("", "", model.look.target_stain, model.claim, mpp=MPP, dials=dials)


def _of_generator(path: Path) -> StainerLine:
    found = read_onnx(path)
    said = found.metadata
    asks_mpp, mpp = "mpp" not in said, _number(said.get("mpp"))
    return StainerLine("", "", TARGET_OF_GENERATOR, FOREIGN, True, asks_mpp, found.range or "", mpp=mpp)


def _number(text: str | None) -> float | None:
    """What a file states as a positive number; None for anything else."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


# What says where a stain lies: tissue, regions, and files in the folders that were named.

TISSUE, DRAWN = "tissue", "regions"
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
