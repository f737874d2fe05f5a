import numpy as np
import pytest

from chromogen.nuclei.scores import Counts, allred, h_score, positive_percent, scores_of


def counts(*of: int) -> Counts:
    return np.array(of, float)


def h_score_by_hand(zero: int, one: int, two: int, three: int) -> float:
    total = zero + one + two + three
    return 100 * one / total + 2 * 100 * two / total + 3 * 100 * three / total


def allred_by_hand(zero: int, one: int, two: int, three: int) -> int:
    """As the table of Allred et al. 1998 is read at a microscope."""
    positive = one + two + three
    if positive == 0:
        return 0
    share = positive / (zero + positive)
    limits = [(0.01, 1), (0.1, 2), (1 / 3, 3), (2 / 3, 4), (1.0, 5)]
    proportion = next(score for limit, score in limits if share <= limit)
    return proportion + int(np.floor((one + 2 * two + 3 * three) / positive + 0.5))


CASES = [
    (90, 5, 3, 2),
    (0, 0, 0, 7),
    (10, 0, 0, 0),
    (999, 1, 0, 0),
    (1, 1, 1, 1),
    (40, 30, 20, 10),
    (30, 60, 0, 0),
]


@pytest.mark.parametrize("case", CASES)
def test_formulas_are_those_of_the_papers(case: tuple[int, int, int, int]) -> None:
    assert positive_percent(counts(*case)) == pytest.approx(100 * sum(case[1:]) / sum(case))
    assert h_score(counts(*case)) == pytest.approx(h_score_by_hand(*case))
    assert allred(counts(*case)) == allred_by_hand(*case)


def test_scores_of_many_at_once_are_those_of_each() -> None:
    every = np.array(CASES, float)
    for formula in (positive_percent, h_score, allred):
        np.testing.assert_allclose(formula(every), [formula(counts(*case)) for case in CASES])


def test_intervals_hold_the_value_and_come_of_fields() -> None:
    rng = np.random.default_rng(2)
    grades = rng.choice(4, 2000, p=[0.8, 0.1, 0.05, 0.05])
    found = scores_of(grades, rng.uniform(0, 2000, (2000, 2)))
    assert found is not None
    assert (found.drawn, found.fields) == ("fields", 64)
    assert found.grades == tuple(np.bincount(grades, minlength=4))
    index = found.positive_percent
    assert index.low is not None
    assert index.high is not None
    assert index.low < index.value < index.high
    # of independent nuclei the interval is the binomial one
    assert index.high - index.low == pytest.approx(2 * 1.96 * 100 * np.sqrt(0.2 * 0.8 / 2000), rel=0.3)


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    centres = rng.uniform(0, 2000, (2000, 2))
    hot_spots = np.where(centres[:, 0] < 500, 3, 0)
    scattered = rng.permutation(hot_spots)

    def width(grades: np.ndarray) -> float:
        found = scores_of(grades, centres)
        assert found is not None
        return float(found.positive_percent.high or 0) - float(found.positive_percent.low or 0)

    assert width(hot_spots) > 2 * width(scattered)


def test_few_fields_draw_nuclei_and_say_so() -> None:
    found = scores_of(np.array([0, 0, 1, 3]), np.zeros((4, 2)))
    assert found is not None
    assert (found.drawn, found.fields) == ("nuclei", 1)
    assert found.as_dict()["h_score"]["value"] == 100


def test_one_nucleus_and_none() -> None:
    one = scores_of(np.array([2]), np.zeros((1, 2)))
    assert one is not None
    assert one.positive_percent.value == 100
    assert scores_of(np.zeros(0, int), np.zeros((0, 2))) is None


def test_the_same_nuclei_give_the_same_intervals() -> None:
    rng = np.random.default_rng(5)
    grades, centres = rng.integers(0, 4, 300), rng.uniform(0, 3000, (300, 2))
    assert scores_of(grades, centres) == scores_of(grades, centres)
