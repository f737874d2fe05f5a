import numpy as np
import pytest
from scipy import stats

from chromogen.evaluation.agreement import bootstrap, mean_of, student_interval


def test_the_bootstrap_resamples_groups() -> None:
    values, groups = [1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    assert bootstrap(values, ["a"] * 4) is None
    low, high = bootstrap(values, groups)
    assert (low, high) == (1.0, 5.0), "with two groups, a resample of one alone is common"
    rng = np.random.default_rng(1)
    many = rng.normal(10, 2, 400)
    low, high = bootstrap(list(many), [str(i) for i in range(400)])
    assert (low, high) == pytest.approx((many.mean() - 1.96 * 0.1, many.mean() + 1.96 * 0.1), abs=0.05)


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(0).normal(1, 2, 7)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(list(values)) == pytest.approx(tuple(wanted))
    assert student_interval([1.0]) is None


def test_a_mean_says_how_many_it_is_of_or_why_there_is_none() -> None:
    found = mean_of([("a", 1.0), ("b", 3.0), ("b", "no tissue")])
    assert (found["mean"], found["n"]) == (2.0, 2)
    assert found["ci95"] == bootstrap([1.0, 3.0], ["a", "b"])
    assert mean_of([("a", "no tissue")]) == {"mean": None, "ci95": None, "n": 0, "why": "no tissue"}
