"""What can be chosen to stain with: what comes with Chromogen, and models in the folders that were named."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from chromogen.app.view.dials import Dial, dials_of
from chromogen.app.view.slide_catalog import Entry
from chromogen.models import LOOK_CLAIM, LOOK_SUFFIX, LOOKS, MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.staining.looks import FORMAT
from chromogen.staining.onnx_file import read_onnx
from chromogen.staining.stainer import STAINERS, TARGET_OF_GENERATOR, load_look, stainer_of_look
from chromogen.staining.tissue import MPP

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
        return StainerLine("", "", problem=str(error).replace(f"{path.parent}{os.sep}", ""))


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
