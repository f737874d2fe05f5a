"""Scores of a slide from its nuclei: the index of positive ones, H-score and Allred score, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FIELD_UM = 250.0  # the side of the squares that the bootstrap draws
LEAST_FIELDS = 5
DRAWS = 1000
INTERVAL = (2.5, 97.5)
SEED = 20261130
# Allred et al. 1998: the proportion score by the share of positive nuclei.
PROPORTIONS = (0.0, 0.01, 0.1, 1 / 3, 2 / 3)

Counts: TypeAlias = NDArray[np.float64]  # (..., 4): nuclei of grade 0, 1+, 2+, 3+


@dataclass(frozen=True)
class Score:
    """A value and the interval in which 95 % of the bootstrap's draws lie; None where it cannot be said."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of one slide: nuclei of each grade, positive share in percent, H-score (0 to 300), Allred (0 to 8).

    `drawn` says what the bootstrap draws: "fields" of FIELD_UM, or "nuclei" where there are too few fields.
    """

    grades: tuple[int, int, int, int]
    positive_percent: Score
    h_score: Score
    allred: Score
    drawn: str
    fields: int

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def positive_percent(counts: Counts) -> NDArray[np.float64]:
    """Share of positive nuclei in percent: the index of Ki67, ER and PR."""
    return np.asarray(100 * counts[..., 1:].sum(axis=-1) / counts.sum(axis=-1))


def h_score(counts: Counts) -> NDArray[np.float64]:
    """1 x percent of 1+, 2 x of 2+, 3 x of 3+ nuclei, from 0 to 300 (McCarty et al. 1985)."""
    return np.asarray(100 * (counts @ np.arange(4)) / counts.sum(axis=-1))


def allred(counts: Counts) -> NDArray[np.float64]:
    """Proportion (0 to 5) plus mean intensity of the positive nuclei (0 to 3), from 0 to 8 (Allred et al. 1998).

    The proportion is 0 without positive nuclei, 1 below 1/100, 2 to 1/10, 3 to 1/3, 4 to 2/3, and 5 above.
    """
    positive = counts[..., 1:].sum(axis=-1)
    proportion = np.searchsorted(PROPORTIONS, positive / counts.sum(axis=-1), side="left")
    intensity = np.floor(counts @ np.arange(4) / np.maximum(positive, 1) + 0.5)
    return np.asarray(np.where(positive > 0, proportion + intensity, 0.0))


def scores_of(grades: NDArray[np.int64], centres_um: NDArray[Any]) -> Scores | None:
    """The scores of nuclei with grades (N,) 0 to 3 and centres (N, 2) in um; None without nuclei.

    Intervals come of a bootstrap (Efron 1979) over squares of the slide, since neighbours are alike.
    """
    if not len(grades):
        return None
    one_each = np.eye(4)[grades]
    by_field = _by_field(one_each, centres_um)
    drawn = "fields" if len(by_field) >= LEAST_FIELDS else "nuclei"
    units = by_field if drawn == "fields" else one_each
    totals = _draws(units)
    whole = one_each.sum(axis=0)
    formulas: list[Callable[[Counts], NDArray[np.float64]]] = [positive_percent, h_score, allred]
    index, h, allred_score = (_score(formula, whole, totals) for formula in formulas)
    return Scores(tuple(int(n) for n in whole), index, h, allred_score, drawn, len(by_field))  # type: ignore[arg-type]


def _by_field(one_each: Counts, centres_um: NDArray[Any]) -> Counts:
    """Nuclei of each grade, by square of FIELD_UM that has any: (fields, 4)."""
    squares = np.floor(np.asarray(centres_um, np.float64) / FIELD_UM).astype(np.int64)
    _, at = np.unique(squares, axis=0, return_inverse=True)
    at = at.ravel()
    return np.stack([np.bincount(at, one_each[:, grade]) for grade in range(4)], axis=1)


def _draws(units: Counts) -> Counts:
    """Totals (DRAWS, 4) of as many units, drawn with replacement."""
    rng = np.random.default_rng(SEED)
    kinds, many = np.unique(units, axis=0, return_counts=True)
    drawn = rng.multinomial(len(units), many / many.sum(), DRAWS)
    return np.asarray(drawn @ kinds)


def _score(formula: Callable[[Counts], NDArray[np.float64]], whole: Counts, totals: Counts) -> Score:
    low, high = np.percentile(formula(totals), INTERVAL)
    return Score(round(float(formula(whole)), 4), round(float(low), 4), round(float(high), 4))
