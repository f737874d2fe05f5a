"""Which prediction belongs to which H&E and which real IHC, and from which slide it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chromogen.errors import expected, missing
from chromogen.files import by_stem, canonical_name
from chromogen.image import PathLike
from chromogen.slides.slide import slide_files


@dataclass(frozen=True)
class Case:
    """One prediction's file, the files of the same name of H&E and real IHC if they are there, and its group."""

    name: str
    group: str
    prediction: Path
    he: Path | None
    real: Path | None


def match_cases(
    prediction: PathLike, he: PathLike | None = None, real: PathLike | None = None, group: str | None = None
) -> tuple[list[Case], list[str]]:
    """Cases, matched by name without suffix (`stem_of`), and a warning for every file that has no counterpart.

    Each path is an image or slide, or a folder of them. `group` is a regular expression that finds in a name which
    slide it is from, by its first parenthesis or else by all of it; without it every image is its own group.
    Raises: ValueError where nothing matches, or two files of a folder have one name; FileNotFoundError.
    """
    predictions = files_by_name("prediction", prediction)
    others = {"he": files_by_name("he", he), "real": files_by_name("real", real)}
    warnings: list[str] = []
    for role, path in (("he", he), ("real", real)):
        if path is None:
            continue
        if len(predictions) == len(others[role]) == 1:
            others[role] = dict.fromkeys(predictions, next(iter(others[role].values())))
        warnings += _unmatched(role, predictions, others[role])
    cases = [
        Case(name, group_of(name, group), file, others["he"].get(name), others["real"].get(name))
        for name, file in predictions.items()
    ]
    return cases, warnings


def files_by_name(role: str, named: PathLike | None) -> dict[str, Path]:
    """The images and slides that a path names, one or a folder of them, by `stem_of`; none for no path.

    Raises: ValueError for a folder without images or with two of one name; FileNotFoundError.
    """
    if named is None:
        return {}
    path = Path(named)
    if not path.exists():
        raise missing(role, "an existing image or folder", path)
    return by_stem(role, slide_files([path]))


def _unmatched(role: str, predictions: Mapping[str, Path], others: Mapping[str, Path]) -> list[str]:
    if not predictions.keys() & others.keys():
        ours, theirs = next(iter(predictions)), next(iter(others))
        raise expected(role, f"named like the predictions ({ours}, ...)", f"{theirs}, ...", "rename one side")
    left = [f"no {role} is called {name}" for name in predictions if name not in others]
    return left + [
        f"no prediction is called {name}: this {role} is left out" for name in others if name not in predictions
    ]


def group_of(name: str, pattern: str | None) -> str:
    """Which slide a name is from, by a regular expression's first parenthesis or all of it. Raises: ValueError."""
    if pattern is None:
        return name
    try:
        found = re.search(canonical_name(pattern), canonical_name(name))
    except re.error as error:
        raise expected("group", "a regular expression", pattern, str(error)) from error
    if found is None or (found.groups() and found.group(1) is None):
        raise expected("group", "found in every name", f"{pattern}, which is not in {name}")
    return found.group(1) if found.groups() else found.group()
