"""What can be chosen to stain with: what comes with Chromogen, and models in the folders that were named."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from chromogen.app.view.shelf import Entry
from chromogen.models import LOOK_CLAIM, LOOKS, MODEL_SUFFIX
from chromogen.onnx_models.generator import TARGET
from chromogen.onnx_models.onnx_file import CARD, read_onnx
from chromogen.onnx_models.onnx_file import SUFFIX as ONNX_SUFFIX
from chromogen.stainer import STAINERS

MODEL_SUFFIXES = (MODEL_SUFFIX, ONNX_SUFFIX)
FOREIGN = "a generator trained elsewhere: Chromogen knows nothing of what it was taught"


@dataclass(frozen=True)
class StainerLine:
    """A stainer in the list, by what to ask for, and what has to be given along.

    `mpp` is the pixel size it stains at, in um, None of a generator whose file does not tell.
    `claim` is what it may claim. Of a generator trained elsewhere `asks_mpp` says that its file has no pixel size,
    `value_range` which numbers it takes, "" where its file does not tell. `problem` says why a file is of no use.
    """

    id: str
    name: str
    target_stain: str = ""
    claim: str = ""
    markers: tuple[str, ...] = ()
    generator: bool = False
    asks_mpp: bool = False
    value_range: str = ""
    problem: str = ""
    mpp: float | None = None


CLAIMS = {
    **dict.fromkeys(LOOKS, LOOK_CLAIM),
    "identity": "the slide as it is",
    "color-transfer": "colours of an IHC for the whole tissue: a baseline, which knows nothing of stains",
    "normalize": "the same H&E, as if stained like a reference",
}


def stainer_lines(entries: Sequence[Entry]) -> list[StainerLine]:
    """The built-in ones, and those of files; a file that is none says why."""
    lines = [_built_in(name) for name in STAINERS]
    return lines + [
        replace(_of_file(entry.path, entry.version), id=entry.id, name=entry.name) for entry in entries
    ]


def _built_in(name: str) -> StainerLine:
    stainer = STAINERS[name]()
    return StainerLine(name, name, stainer.target_stain, CLAIMS[name], mpp=stainer.mpp)


@lru_cache(maxsize=256)
def _of_file(path: Path, _version: str) -> StainerLine:
    """Of a model's file, which is read once as long as it does not change."""
    try:
        return _of_generator(path) if path.suffix.lower() == ONNX_SUFFIX else _of_model(path)
    except (ValueError, OSError) as error:
        return StainerLine("", "", problem=str(error).replace(f"{path.parent}{os.sep}", ""))


def _of_model(path: Path) -> StainerLine:
    from chromogen.stainer_file import claim_of, read_model

    model = read_model(path)
    return StainerLine("", "", model.target_stain, claim_of(model.training), model.markers, mpp=model.mpp)


def _of_generator(path: Path) -> StainerLine:
    found = read_onnx(path)
    said = found.metadata
    if CARD in said:  # one of ours knows all of itself
        return StainerLine("", "", said.get("target_stain", TARGET), mpp=_number(said.get("mpp")))
    asks_mpp, mpp = "mpp" not in said, _number(said.get("mpp"))
    return StainerLine("", "", TARGET, FOREIGN, (), True, asks_mpp, found.range or "", mpp=mpp)


def _number(text: str | None) -> float | None:
    """What a file states as a positive number; None for anything else."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
