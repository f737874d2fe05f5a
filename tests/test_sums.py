import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from chromogen.evaluation.tile import (
    NO_OVERLAP,
    NO_PAIRS,
    NOTHING,
    UndefinedError,
    add_overlap,
    add_pairs,
    add_values,
    dice,
    mean,
    pearson,
)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_pearson_in_parts_is_scipys_of_the_whole(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, 60)
    y = 0.3 * x + rng.normal(size=60)
    sums = NO_PAIRS
    for part in np.array_split(np.arange(60), parts):
        sums = add_pairs(sums, x[part], y[part])
    assert pearson(sums) == pytest.approx(pearsonr(x, y).statistic, abs=1e-9)


def test_dice_and_mean_by_hand() -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert dice(add_overlap(NO_OVERLAP, a, b)) == pytest.approx(0.5)
    assert mean(add_values(add_values(NOTHING, np.array([1.0, 2.0])), np.array([6.0]))) == pytest.approx(3)


def test_what_has_no_value_says_why() -> None:
    constant, nothing = np.ones(5), np.zeros(4, bool)
    with pytest.raises(UndefinedError, match="does not vary"):
        pearson(add_pairs(NO_PAIRS, constant, np.arange(5)))
    with pytest.raises(UndefinedError, match="no pixels"):
        pearson(NO_PAIRS)
    with pytest.raises(UndefinedError, match="empty"):
        dice(add_overlap(NO_OVERLAP, nothing, nothing))
    with pytest.raises(UndefinedError, match="no pixels"):
        mean(NOTHING)
