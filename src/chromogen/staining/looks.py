"""Measured exemplars in files: JSON that people can read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.errors import expected
from chromogen.files import write_text
from chromogen.staining.confidence import BETWEEN_LABS, SHARES, KnownTissue
from chromogen.staining.exemplar import QUANTILES, SITES, Exemplar

FORMAT = "chromogen look 1"
SUFFIX = ".json"
MOST_BYTES = 1_000_000
LEAST_VARIANCE = 1e-4  # of features: rounding may lose less
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
        return sha256(json.dumps(asdict(self.exemplar), sort_keys=True).encode()).hexdigest()


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
        exemplar = _checked(told.pop("exemplar"))
        return Look(
            **{name: str(told[name]) for name in ("name", "target_stain", "source", "licence")}, exemplar=exemplar
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        wanted = "a look that `write_look` wrote"
        raise expected("stainer", wanted, f"{str(path)!r} ({error})", "measure the exemplar again") from error


def _checked(told: dict[str, Any]) -> Exemplar:
    """The exemplar of what a file says. Raises: ValueError, KeyError or TypeError where that cannot be one."""
    if told["site"] not in SITES:
        raise ValueError(f"site {told['site']!r}")
    numbers = {field.name for field in fields(Exemplar)} - {"site", "known"}
    values = {name: _value(told[name]) for name in numbers}
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
        if not _rises(values[name]):
            raise ValueError(f"{name} falls")
    if not told["known"]:
        raise ValueError("no tissue")
    return Exemplar(site=told["site"], known=tuple(map(_known, told["known"])), **values)


def _known(told: dict[str, Any]) -> KnownTissue:
    """What a file says of an exemplar's tissue. Raises: as `_checked`."""
    known = KnownTissue(**{field.name: _value(told[field.name]) for field in fields(KnownTissue)})
    count = len(BETWEEN_LABS)
    if (len(known.means), np.shape(known.covariance)) != (count, (count, count)):
        raise ValueError("tissue of another size")
    if not np.allclose(known.covariance, np.transpose(known.covariance)):
        raise ValueError("a covariance that is not symmetric")
    if np.linalg.eigvalsh(known.covariance).min() < -LEAST_VARIANCE:
        raise ValueError("a covariance below 0")
    if len(known.distances) != len(SHARES) or min(known.distances) < 0 or not _rises(known.distances):
        raise ValueError("distances that cannot be")
    return known


def _rises(values: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in pairwise(values))


def _value(told: Any) -> Any:
    """A number, or tuples of numbers. Raises: ValueError or TypeError for all else."""
    if isinstance(told, list):
        return tuple(_value(part) for part in told)
    number = float(told)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
