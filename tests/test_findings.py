from dataclasses import replace

import pytest

from chromogen.study.experiments import FAILS, HOLDS, UNDECIDED, Claim, Comparison, ScoredField, compare, findings

BETTER = Comparison("edge_r", "a", "b")


def fields(*pairs: tuple[float | str, float | str], slides: str | None = None) -> list[ScoredField]:
    """Fields where a and b scored so, each of a slide of its own unless named."""
    names = slides or "abcdefgh"
    return [
        ScoredField(str(i), names[i], {"a": {"edge_r": a}, "b": {"edge_r": b}}) for i, (a, b) in enumerate(pairs)
    ]


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
    alone = compare(BETTER, fields((0.9, 0.1)), sign=1)
    assert (alone.verdict, alone.why) == (UNDECIDED, "one place alone has no interval")
    found = compare(BETTER, fields(("no tissue", 0.1)), sign=1)
    assert (found.verdict, found.difference, found.why) == (UNDECIDED, None, "no tissue")
    assert compare(Comparison("ssim", "a", "b"), fields((0.9, 0.1)), sign=1).why == "not run"


def judged(*scores: dict[str, tuple[float, float]]) -> str:
    """The verdict on "a is better than b" by all metrics, each given as a's and b's score in every slide."""
    slides = [
        ScoredField(str(i), str(i), {side: {m: pair[k] for m, pair in s.items()} for k, side in enumerate("ab")})
        for i, s in enumerate(scores)
    ]
    claim = Claim("", "", tuple(Comparison(metric, "a", "b") for metric in scores[0]))
    (found,) = findings([claim], slides, dict.fromkeys(scores[0], 1))
    return found.verdict


def test_the_better_one_is_better_by_a_metric_and_worse_by_none() -> None:
    up, down, same = (0.9, 0.5), (0.5, 0.9), (0.5, 0.5)
    assert judged({"x": up, "y": same}, {"x": up, "y": same}) == HOLDS
    assert judged({"x": up, "y": down}, {"x": up, "y": down}) == UNDECIDED
    assert judged({"x": down, "y": same}, {"x": down, "y": same}) == FAILS
    assert judged({"x": same, "y": same}, {"x": same, "y": same}) == UNDECIDED


def test_a_claim_of_several_pairs_holds_with_all_of_them_and_falls_with_one() -> None:
    slides = [
        ScoredField(s, s, {"a": {"x": 2.0 + d}, "b": {"x": 1.0}, "c": {"x": 3.0}})
        for s, d in (("s", 0), ("t", 0.01))
    ]
    pairs = {name: Comparison("x", "a", name) for name in "bcd"}
    claims = [Claim("", "", tuple(pairs[name] for name in names)) for names in ("b", "bc", "bd")]
    assert [f.verdict for f in findings(claims, slides, {"x": 1})] == [HOLDS, FAILS, UNDECIDED]
