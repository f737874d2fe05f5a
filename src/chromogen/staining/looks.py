"""Measured exemplars in files: JSON that people can read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.errors import expected
from chromogen.files import write_text
from chromogen.staining.exemplar import QUANTILES, SITES, Exemplar

FORMAT = "chromogen look 1"
SUFFIX = ".json"
MOST_BYTES = 1_000_000
LENGTHS = {"white": 3, "stained_od10": len(QUANTILES), "unstained_od10": len(QUANTILES)}


@dataclass(frozen=True)
class Look:
    """An exemplar under a name, with the source and licence of the picture that it was measured on.

    `sha256` is the hash of all that decides pixels.
    """

    name: str
    target_stain: str
    source: str
    licence: str
    exemplar: Exemplar

    @property
    def sha256(self) -> str:
        """The hash of the exemplar's numbers."""
        return sha256_of_exemplar(self.exemplar)


def sha256_of_exemplar(exemplar: Exemplar) -> str:
    """The hash of all that decides pixels."""
    return sha256(json.dumps(asdict(exemplar), sort_keys=True).encode()).hexdigest()


def write_look(path: Path, look: Look) -> None:
    """Write a look as JSON. Raises: OSError."""
    write_text(path, json.dumps({"format": FORMAT, **asdict(look)}, indent=1) + "\n")


def read_look(path: Path) -> Look:
    """A look from its file. Raises: FileNotFoundError; ValueError for what is no look, or damaged."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        told = json.loads(path.read_text("utf-8"))
        if told.pop("format") != FORMAT:
            raise ValueError("another format")
        exemplar = exemplar_of_record(told.pop("exemplar"))
        return Look(
            **{name: str(told[name]) for name in ("name", "target_stain", "source", "licence")}, exemplar=exemplar
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        wanted = "a look that `write_look` wrote"
        raise expected("stainer", wanted, f"{str(path)!r} ({error})", "measure the exemplar again") from error


def exemplar_of_record(told: dict[str, Any]) -> Exemplar:
    """The exemplar of what a file says, `asdict` in JSON.

    Raises: ValueError, KeyError or TypeError where that cannot be one.
    """
    if told["site"] not in SITES:
        raise ValueError(f"site {told['site']!r}")
    values = {field.name: _value(told[field.name]) for field in fields(Exemplar) if field.name != "site"}
    for name, length in LENGTHS.items():
        if len(values[name]) != length:
            raise ValueError(f"{name} has {len(values[name])} numbers")
    if (
        np.shape(values["matrix"]) != (3, 3)
        or len(values["levels_od10"]) != len(values["hidden_od10"])
        or not values["levels_od10"]
    ):
        raise ValueError("a matrix or levels of another size")
    if not (0 <= values["share"] <= 1 and all(0 <= level <= 255 for level in values["white"])):
        raise ValueError("a share or white that cannot be")
    for name in ("stained_od10", "unstained_od10", "levels_od10"):
        if any(b < a for a, b in zip(values[name], values[name][1:], strict=False)):
            raise ValueError(f"{name} falls")
    return Exemplar(site=told["site"], **values)


def _value(told: Any) -> Any:
    """A number, or tuples of numbers. Raises: ValueError or TypeError for all else."""
    if isinstance(told, list):
        return tuple(_value(part) for part in told)
    number = float(told)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
