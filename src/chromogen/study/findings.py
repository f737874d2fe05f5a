"""Does a claim hold? Paired differences over fields or slides, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chromogen.evaluation.agreement import student_interval
from chromogen.evaluation.credibility import Scores
from chromogen.study.experiments import Claim, Comparison

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


@dataclass(frozen=True)
class ScoredField:
    """What a crop scored, by experiment and metric; runs at one `place`, crops of one `slide`, are one witness."""

    place: str
    slide: str
    scores: Mapping[str, Scores]


@dataclass(frozen=True)
class Found:
    """A comparison's mean difference, positive where it is as claimed, its 95 % interval, over n units."""

    comparison: Comparison
    difference: float | None
    ci95: tuple[float, float] | None
    n: int
    verdict: str
    why: str = ""


@dataclass(frozen=True)
class Finding:
    """What became of a claim, and of each of its comparisons."""

    claim: Claim
    verdict: str
    found: tuple[Found, ...]


def findings(claims: Sequence[Claim], fields: Sequence[ScoredField], signs: Mapping[str, int]) -> list[Finding]:
    """Every claim judged; `signs` has 1 for metrics of which more is better, -1 for the others.

    Of two experiments one is the better where a metric says so and none says the opposite. A claim holds where
    that is so for each of its pairs, and does not where a pair is the other way round; else it is undecided.
    """
    return [_judge(claim, fields, signs) for claim in claims]


def _judge(claim: Claim, fields: Sequence[ScoredField], signs: Mapping[str, int]) -> Finding:
    found = tuple(compare(comparison, fields, signs[comparison.metric]) for comparison in claim.comparisons)
    pairs: dict[tuple[str, str], set[str]] = {}
    for f in found:
        pairs.setdefault((f.comparison.better, f.comparison.worse), set()).add(f.verdict)
    verdicts = {_verdict_of_pair(said) for said in pairs.values()}
    overall = FAILS if FAILS in verdicts else UNDECIDED if UNDECIDED in verdicts else HOLDS
    return Finding(claim, overall, found)


def _verdict_of_pair(said: set[str]) -> str:
    decided = said - {UNDECIDED}
    return decided.pop() if len(decided) == 1 else UNDECIDED


def compare(comparison: Comparison, fields: Sequence[ScoredField], sign: int) -> Found:
    """Holds where the whole interval of the mean difference is as claimed, does not where all of it is not."""
    differences, missing = _differences(comparison, fields, sign)
    if not differences:
        return Found(comparison, None, None, 0, UNDECIDED, missing or "no fields")
    mean, ci95 = float(np.mean(differences)), student_interval(differences)
    if ci95 is None:
        return Found(comparison, mean, None, 1, UNDECIDED, "one place alone has no interval")
    verdict = HOLDS if ci95[0] > 0 else FAILS if ci95[1] < 0 else UNDECIDED
    return Found(comparison, mean, ci95, len(differences), verdict)


def _differences(comparison: Comparison, fields: Sequence[ScoredField], sign: int) -> tuple[list[float], str]:
    """One a slide, or one a place where all that have both scores are of one slide; and why there are none."""
    found: list[tuple[ScoredField, float]] = []
    missing = ""
    for field in fields:
        better, worse = (
            field.scores.get(name, {}).get(comparison.metric, "not run")
            for name in (comparison.better, comparison.worse)
        )
        if isinstance(better, str) or isinstance(worse, str):
            missing = better if isinstance(better, str) else str(worse)
        else:
            found.append((field, sign * (better - worse)))
    several = len({field.slide for field, _ in found}) > 1
    units: dict[str, list[float]] = {}
    for field, difference in found:
        units.setdefault(field.slide if several else field.place, []).append(difference)
    return [math.fsum(values) / len(values) for values in units.values()], missing
