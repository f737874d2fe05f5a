"""The one form our error sentences have: what was expected, what came, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def expected(argument: str, expectation: str, got: object, advice: str = "") -> ValueError:
    """A ValueError that says what `argument` should have been, what it was, and what to do.

    >>> str(expected("seed", "a whole number", "x", "leave it out for 0"))
    'Expected `seed` to be a whole number, got x; leave it out for 0.'
    """
    return ValueError(f"Expected `{argument}` to be {expectation}, got {got}{f'; {advice}' if advice else ''}.")


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
