"""Randomness by place: the same wherever a window begins, of mean 0 and deviation 1, smooth, another by seed."""

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.stats import kstest

from chromogen.staining.maps import SPREAD, _hashed_normals, normal_at, normal_field


def test_every_window_draws_the_same() -> None:
    whole = normal_field((0, 0), (200, 150), 7.3, seed=3)
    part = normal_field((61, 40), (80, 70), 7.3, seed=3)
    np.testing.assert_allclose(part, whole[40:110, 61:141], atol=1e-5)


def test_points_have_what_the_field_has() -> None:
    field = normal_field((1000, -20), (40, 30), 5.0, seed=9)
    places = np.array([[1000.5, -19.5], [1017.5, -3.5], [1039.5, 9.5]])
    np.testing.assert_allclose(
        normal_at(places, 5.0, seed=9), [field[0, 0], field[16, 17], field[29, 39]], atol=1e-4
    )


def test_it_is_a_b_spline_over_the_nodes() -> None:
    nodes = _hashed_normals(np.arange(-1, 12)[:, None], np.arange(-1, 12)[None], 4)
    knots = np.arange(-3, 14) * 1.0  # node i's spline is centred on i
    down = BSpline(knots, nodes.astype(np.float64), 3)
    column = down(np.array([5.25]))  # over all columns
    along = BSpline(knots, column[0], 3)(np.array([6.5]))
    found = normal_at(np.array([[6.5 * 8, 5.25 * 8]]), 8.0, seed=4)
    np.testing.assert_allclose(found, along / SPREAD, rtol=1e-4)


def test_nodes_are_normal_and_unrelated() -> None:
    nodes = _hashed_normals(np.arange(300)[:, None], np.arange(300)[None], 1)
    assert kstest(nodes.ravel(), "norm").pvalue > 0.01
    for other in (
        np.roll(nodes, 1, 0),
        np.roll(nodes, 1, 1),
        nodes.T,
        _hashed_normals(np.arange(300)[:, None], np.arange(300)[None], 2),
    ):
        off = ~np.eye(300, dtype=bool)
        assert abs(np.corrcoef(nodes[off], other[off])[0, 1]) < 0.015


@pytest.mark.parametrize("length_px", [2.4, 36.0])
def test_its_mean_is_0_and_its_deviation_1(length_px: float) -> None:
    fields = [normal_field((0, 0), (400, 400), length_px, seed) for seed in range(12)]
    assert abs(np.mean(fields)) < 0.15
    assert np.std(fields) == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(fields[0], axis=0)).max() < 6.5 / length_px
