"""The one form our error sentences have: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

# What a file may be at fault for; anything else is a mistake of ours, and ends the command.
FAILURES = (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError)


class ImageError(ValueError):
    """An image that cannot be read, or does not fit what it is wanted for."""


def sentence(argument: str, expectation: str, got: object, advice: str = "") -> str:
    """What `argument` should have been, what it was, and what to do.

    >>> sentence("seed", "a whole number", "x", "leave it out for 0")
    'Expected `seed` to be a whole number, got x; leave it out for 0.'
    >>> sentence("slide", "readable", "No such file.")  # what came may be a sentence itself
    'Expected `slide` to be readable, got No such file.'
    """
    shown = repr(str(got)) if isinstance(got, Path) else str(got).removesuffix(".")
    advised = f"; {advice.removesuffix('.')}" if advice else ""
    return f"Expected `{argument}` to be {expectation}, got {shown}{advised}."


def expected(argument: str, expectation: str, got: object, advice: str = "") -> ValueError:
    """The `sentence` as a ValueError."""
    return ValueError(sentence(argument, expectation, got, advice))


def missing(argument: str, expectation: str, path: Path, advice: str = "check the spelling") -> FileNotFoundError:
    """The `sentence` as a FileNotFoundError, for a path where nothing is."""
    return FileNotFoundError(sentence(argument, expectation, path, advice))


def short(error: object, longest: int = 200) -> str:
    r"""What an error says, in one line of at most so many characters.

    >>> short(ValueError("no\n  good")), short(MemoryError())
    ('no good', 'MemoryError')
    """
    return " ".join(str(error).split())[:longest] or type(error).__name__


def repeated(names: Sequence[str]) -> str | None:
    """The first name that is there more than once.

    >>> repeated(["a", "b", "a"]), repeated(["a", "b"])
    ('a', None)
    """
    return next((name for name in names if names.count(name) > 1), None)


def choose(argument: str, got: str, valid: Iterable[str]) -> str:
    """`got` if it is one of `valid`; else a ValueError that names the nearest of them.

    >>> choose("layer", "relu2_2", ["relu2_1", "relu2_2"])
    'relu2_2'
    """
    names = list(valid)
    if got in names:
        return got
    nearest = get_close_matches(got, names, n=1, cutoff=0.0)
    advice = f"did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(
        f"Expected `{argument}` to be one of {', '.join(names)}, got {got!r}{f'; {advice}' if advice else '.'}"
    )
