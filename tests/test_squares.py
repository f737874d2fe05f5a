"""Nuclei matched square by square: a slide on one half of which the sections are the same."""

import numpy as np
from numpy.typing import NDArray

from chromogen.labels.squares import SIDE_UM, matched_nuclei
from test_coincidence import nuclei

Array = NDArray[np.float64]


def half_shared() -> tuple[Array, Array]:
    """Two squares side by side: the left has the same nuclei, 5 um away, the right has others."""
    rng = np.random.default_rng(1)
    left, right, others = (nuclei(150, rng) for _ in range(3))
    move = np.array([SIDE_UM, 0])
    return np.concatenate([left, right + move]), np.concatenate([left + np.array([5, 0]), others + move])


def test_each_square_decides_for_itself() -> None:
    he, ihc = half_shared()
    positive = np.arange(len(ihc)) % 3 == 0
    found = matched_nuclei(he, ihc, positive, np.array([2 * SIDE_UM, SIDE_UM]), 3.0)
    same, other = found.squares
    assert same.shift_um == (5.0, 0.0)
    assert other.shift_um is None
    assert other.matched == 0
    inside = he[:150, 0] < SIDE_UM - 10
    assert (found.partner[:150][inside] == np.arange(150)[inside]).mean() > 0.97
    assert (found.partner[150:] == -1).all()
    assert np.isnan(found.distance_um[150:]).all()
    assert same.nuclei + other.nuclei == len(ihc)
    assert same.positive + other.positive == positive.sum()


def test_no_partner_serves_two() -> None:
    """Also across the border of squares."""
    he, ihc = half_shared()
    found = matched_nuclei(he - 3, ihc - 3, np.zeros(len(ihc), bool), np.array([2 * SIDE_UM, SIDE_UM]), 3.0)
    taken = found.partner[found.partner >= 0]
    assert len(taken) == len(set(taken.tolist()))


def test_squares_without_nuclei() -> None:
    none = np.zeros((0, 2))
    found = matched_nuclei(none, none, np.zeros(0, bool), np.array([300.0, 100.0]), 3.0)
    assert [square.place for square in found.squares] == [(0, 0), (1, 0)]
    assert len(found.partner) == 0
