"""What a user sets of a stainer, read off the function that makes it: a new dial there needs no change here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chromogen.errors import expected
from chromogen.staining.looks import Look
from chromogen.staining.stainer import Stainer, stainer_of_look
from chromogen.staining.where import Where

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
