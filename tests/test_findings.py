from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from chromogen.evaluation.experiments import Claim, Comparison
from chromogen.evaluation.findings import FAILS, HOLDS, UNDECIDED, Field, compare, findings, student_interval

BETTER = Comparison("edge_r", "a", "b")


def fields(*pairs: tuple[float | str, float | str], slides: str | None = None) -> list[Field]:
    """Fields where a and b scored so, each of a slide of its own unless named."""
    names = slides or "abcdefgh"
    return [Field(str(i), names[i], {"a": {"edge_r": a}, "b": {"edge_r": b}}) for i, (a, b) in enumerate(pairs)]


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(1, 2, 7)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(list(values)) == pytest.approx(tuple(wanted))
    assert student_interval([1.0]) is None


def test_a_difference_in_every_slide_holds_and_the_opposite_fails() -> None:
    up, down = fields((0.9, 0.5), (0.8, 0.4), (0.85, 0.5)), fields((0.5, 0.9), (0.4, 0.8), (0.5, 0.85))
    found = compare(BETTER, up, sign=1)
    assert (found.verdict, found.n) == (HOLDS, 3)
    assert found.difference == pytest.approx((0.4 + 0.4 + 0.35) / 3)
    assert compare(BETTER, down, sign=1).verdict == FAILS
    assert compare(BETTER, down, sign=-1).verdict == HOLDS, "where less is better"


def test_what_goes_both_ways_is_undecided() -> None:
    assert compare(BETTER, fields((0.9, 0.5), (0.4, 0.8), (0.6, 0.5)), sign=1).verdict == UNDECIDED


def test_crops_of_a_slide_are_one_unit_unless_there_is_no_other_slide() -> None:
    four = ((0.9, 0.5), (0.8, 0.4), (0.7, 0.3), (0.9, 0.45))
    assert compare(BETTER, fields(*four, slides="aabb"), sign=1).n == 2
    assert compare(BETTER, fields(*four, slides="aaaa"), sign=1).n == 4


def test_runs_at_one_place_are_one_unit() -> None:
    twice = [replace(f, place="here") for f in fields((0.9, 0.5), (0.8, 0.4), slides="aa")]
    found = compare(BETTER, [*twice, *fields((0.7, 0.4), slides="a")], sign=1)
    assert (found.n, found.difference) == (2, pytest.approx((0.4 + 0.3) / 2))


def test_one_unit_decides_nothing_and_what_is_missing_says_why() -> None:
    assert compare(BETTER, fields((0.9, 0.1)), sign=1).verdict == UNDECIDED
    found = compare(BETTER, fields(("no tissue", 0.1)), sign=1)
    assert (found.verdict, found.difference, found.why) == (UNDECIDED, None, "no tissue")
    assert compare(Comparison("ssim", "a", "b"), fields((0.9, 0.1)), sign=1).why == "not run"


def test_a_claim_holds_with_all_of_its_comparisons_and_falls_with_one() -> None:
    both = [
        Field(s, s, {"a": {"x": 1.0 + d, "y": d}, "b": {"x": 0.0, "y": 1.0}}) for s, d in (("s", 0.0), ("t", 0.01))
    ]
    x, y, missing = (Comparison(metric, "a", "b") for metric in "xyz")
    claims = [Claim("", "", found) for found in ((x,), (x, y), (x, missing))]
    verdicts = [f.verdict for f in findings(claims, both, {"x": 1, "y": 1, "z": 1})]
    assert verdicts == [HOLDS, FAILS, UNDECIDED]
