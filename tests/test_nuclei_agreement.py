import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from chromogen.nuclei.outlines import Agreement, agreement


def squares(corners: list[tuple[int, int]], side: int = 6) -> np.ndarray:
    labels = np.zeros((40, 50), int)
    for value, (y, x) in enumerate(corners, 1):
        labels[y : y + side, x : x + side] = 3 * value  # gaps between labels do not count
    return labels


def by_assignment(found: np.ndarray, drawn: np.ndarray) -> int:
    """Matches by the best one-to-one assignment over plain sets of pixels."""
    pixels = [[set(np.flatnonzero(of == v)) for v in np.unique(of[of > 0])] for of in (found, drawn)]
    iou = np.array([[len(a & b) / len(a | b) for b in pixels[1]] for a in pixels[0]])
    rows, columns = linear_sum_assignment(-iou)
    return int((iou[rows, columns] > 0.5).sum())


def test_matches_are_those_of_the_best_assignment() -> None:
    found = squares([(2, 2), (12, 10), (20, 30), (30, 4)])
    drawn = squares([(3, 2), (12, 13), (20, 31), (30, 40), (2, 40)])
    assert agreement(found, drawn) == Agreement(by_assignment(found, drawn), 4, 5)
    assert agreement(found, drawn).matched == 2


def test_precision_recall_and_f1() -> None:
    seen = Agreement(6, 8, 12)
    assert (seen.precision, seen.recall) == (0.75, 0.5)
    assert seen.f1 == pytest.approx(2 / (1 / 0.75 + 1 / 0.5))
    assert seen + Agreement(1, 2, 3) == Agreement(7, 10, 15)


def test_no_nuclei_at_all() -> None:
    nothing = agreement(np.zeros((4, 5), int), np.zeros((4, 5), int))
    assert (nothing.matched, nothing.found, nothing.drawn) == (0, 0, 0)
    assert np.isnan(nothing.f1)


def test_a_nucleus_that_covers_the_whole_picture() -> None:
    assert agreement(np.ones((4, 5), int), np.full((4, 5), 7)) == Agreement(1, 1, 1)
