"""How far a pair is apart, and whether it is one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from chromogen.stains.registration import correlations, displacement
from drawn_pairs import drawn_pair

MPP = 0.5


def test_correlations_are_pearsons_over_the_overlap() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 21, 17))
    found = correlations(a, b)
    for y, x in ((0, 0), (3, -2), (-5, 4), (6, 6)):
        ours = a[max(y, 0) : 21 + min(y, 0), max(x, 0) : 17 + min(x, 0)]
        theirs = b[max(-y, 0) : 21 - max(y, 0), max(-x, 0) : 17 - max(x, 0)]
        assert found[y, x] == pytest.approx(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])


@pytest.mark.parametrize(("seed", "rule"), [(0, "pink"), (1, "pale"), (2, "pink"), (3, "pale")])
def test_a_pair_is_found_where_it_was_moved_to(seed: int, rule: str) -> None:
    pair = drawn_pair(seed, rule, 320)
    found = displacement(pair.he, pair.ihc, MPP)
    assert 10 <= np.hypot(*pair.shift_px) <= 50
    assert np.hypot(*np.subtract(found.shift_px, pair.shift_px)) < 5
    assert found.confidence > 0.3


def test_other_tissue_does_not_fit() -> None:
    pairs = [drawn_pair(seed, "pink", 320) for seed in range(5)]
    wrong = [displacement(a.he, b.ihc, MPP).confidence for a in pairs for b in pairs if a is not b]
    right = [displacement(pair.he, pair.ihc, MPP).confidence for pair in pairs]
    assert max(wrong) < 0.2
    assert np.mean(np.array(wrong) < 0.1) > 0.8
    assert min(right) > 2 * max(wrong)


def test_bent_sections_are_known_by_what_is_left() -> None:
    left = [
        np.mean(
            [
                displacement((p := drawn_pair(s, "pink", 384, (12.0, 5.0), bent)).he, p.ihc, MPP).residual_px
                for s in (1, 2)
            ]
        )
        for bent in (0.1, 25.0)
    ]
    assert left[1] > left[0] + 2


def test_lengths_follow_the_pixels() -> None:
    """Twice as many pixels, each half as large: twice the shift."""
    pair = drawn_pair(4, "pink", 256, (20.0, -12.0))
    he, ihc = (np.ascontiguousarray(ndimage.zoom(x, (2, 2, 1), order=1)) for x in (pair.he, pair.ihc))
    coarse, fine = displacement(pair.he, pair.ihc, MPP), displacement(he, ihc, MPP / 2)
    np.testing.assert_allclose(fine.shift_px, 2 * np.array(coarse.shift_px), atol=4)


def test_blank_and_tiny_pictures_fit_nothing() -> None:
    blank = np.full((80, 90, 3), 240, np.uint8)
    assert displacement(blank, blank, MPP).confidence == 0
    assert displacement(blank[:20, :20], blank[:20, :20], 2.0).confidence == 0
