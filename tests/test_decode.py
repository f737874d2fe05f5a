import numpy as np
import pytest

from chromogen.nuclei.outlines import Prediction, decoded, labels_of, prediction_of, strongest
from nucleus_fields import outlines_at
from test_outlines import circles


def ellipses(shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Six nuclei, of which some touch."""
    y, x = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for value, (cy, cx, a, b) in enumerate(
        [(20, 20, 9, 6), (20, 38, 8, 8), (60, 30, 12, 5), (70, 70, 7, 10), (30, 100, 10, 10), (52, 100, 6, 11)], 1
    ):
        labels[((y - cy) / b) ** 2 + ((x - cx) / a) ** 2 <= 1] = value
    return labels


def test_what_the_network_learns_gives_the_nuclei_back() -> None:
    drawn = ellipses()
    depth, radii = outlines_at(drawn)
    found = labels_of(
        decoded(Prediction(depth, lambda rows, columns: radii[:, rows, columns].T), 2, 0.5), drawn.shape
    )
    assert len(np.unique(found)) == len(np.unique(drawn))
    for value in range(1, drawn.max() + 1):
        mine = found == np.bincount(found[drawn == value]).argmax()
        assert (mine & (drawn == value)).sum() / (mine | (drawn == value)).sum() > 0.85


def test_nothing_deep_is_no_nucleus() -> None:
    assert len(decoded(prediction_of(np.full((1, 33, 8, 9), -20, np.float32)), 2, 0.5)) == 0


def test_of_two_outlines_of_one_nucleus_the_more_confident_is_kept() -> None:
    assert strongest(circles([(20, 20), (23, 20), (60, 20)], [8, 8, 8])).tolist() == [True, False, True]


def test_touching_nuclei_are_both_kept() -> None:
    assert strongest(circles([(20, 20), (34, 20)], [8, 8])).all()


def test_a_small_outline_within_a_large_one_is_dropped() -> None:
    assert strongest(circles([(20, 20), (24, 20)], [12, 3])).tolist() == [True, False]


@pytest.mark.parametrize("far", [(200, 20), (20, 300)])
def test_what_is_kept_never_depends_on_what_is_far(far: tuple[int, int]) -> None:
    near = circles([(20, 20), (23, 20)], [8, 8])
    both = circles([(20, 20), (23, 20), far], [8, 8, 8])
    assert strongest(both)[:2].tolist() == strongest(near).tolist()
