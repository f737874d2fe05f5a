"""Which nuclei two sections share: points with a known share in common, a known shift, and none at all."""

import numpy as np
import pytest
from numpy.typing import NDArray

from chromogen.labels.squares import SURE, by_chance, common_shift_um, partners

Array = NDArray[np.float64]
SIDE_UM, SHIFT_UM = 250.0, np.array([6.0, -4.0])


def nuclei(count: int, rng: np.random.Generator) -> Array:
    """Points no nearer to each other than 7 um."""
    found = np.zeros((0, 2))
    while len(found) < count:
        at = rng.uniform(0, SIDE_UM, 2)
        if not len(found) or np.hypot(*(found - at).T).min() > 7:
            found = np.vstack([found, at])
    return found


def pair(count: int, share: float, seed: int = 0) -> tuple[Array, Array, int]:
    """Two sections of which the first `n` nuclei are the same."""
    rng = np.random.default_rng(seed)
    ours, same = nuclei(count, rng), round(share * count)
    theirs = np.concatenate([ours[:same] + SHIFT_UM, nuclei(count - same, rng)])
    return ours, theirs + rng.normal(0, 0.7, theirs.shape), same


@pytest.mark.parametrize(("count", "share"), [(60, 1.0), (60, 0.5), (400, 0.4)])
def test_the_shift_of_what_both_share_is_found(count: int, share: float) -> None:
    ours, theirs, same = pair(count, share)
    shift, surely = common_shift_um(ours, theirs)
    assert surely > SURE
    np.testing.assert_allclose(shift, SHIFT_UM, atol=1)
    partner, away = partners(ours, theirs - shift, 3.0)
    assert (partner[:same] == np.arange(same)).mean() > 0.9
    assert np.nanmax(away) <= 3


@pytest.mark.parametrize("seed", range(4))
def test_other_nuclei_share_no_shift(seed: int) -> None:
    ours, theirs, _ = pair(150, 0.0, seed)
    assert common_shift_um(ours, theirs)[1] < SURE


def test_chance_pairs_as_many_as_the_density_says() -> None:
    """About n points times the share of the area that lies within 3 um of the others."""
    ours, theirs, _ = pair(150, 0.0)
    expected = 150 * 150 * np.pi * 9 / SIDE_UM**2
    assert 0.5 * expected < by_chance(ours, theirs, 3.0) < 1.3 * expected


def test_partners_are_the_nearest_of_each_other() -> None:
    ours, theirs = np.array([[0.0, 0], [2, 0], [50, 0]]), np.array([[1.8, 0.0], [90, 0]])
    partner, away = partners(ours, theirs, 3.0)
    np.testing.assert_array_equal(partner, [-1, 0, -1])
    np.testing.assert_allclose(away, [np.nan, 0.2, np.nan])


def test_nobody_has_no_partner() -> None:
    none = np.zeros((0, 2))
    assert common_shift_um(none, none)[1] < SURE
    assert partners(np.ones((2, 2)), none, 3.0)[0].tolist() == [-1, -1]
    assert len(partners(none, np.ones((2, 2)), 3.0)[0]) == 0
