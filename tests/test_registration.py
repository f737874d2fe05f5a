"""How far a pair is apart, and whether it is one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from chromogen.image import Image
from chromogen.stains.deconvolution import Array
from chromogen.stains.registration import correlations, displacement, pair_shift
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


def test_what_does_not_vary_has_no_correlation() -> None:
    a = np.random.default_rng(0).normal(size=(16, 16))
    a[:, :8] = 1.0
    found = correlations(a, a[::-1])
    assert np.isnan(found[0, -8]), "only what is flat overlaps"
    assert np.isfinite(found[0, 4])
    assert np.isnan(correlations(a, np.ones_like(a))).all()


def moved(shift: tuple[float, float], side: int = 96) -> tuple[Array, Array]:
    """Smooth maps (2, H, W) of one tissue, the second shifted by fractions of a pixel, by Fourier transform."""
    rng = np.random.default_rng(5)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=(side, side)), 3, mode="wrap") for _ in range(2)])
    transform = [np.fft.fft2(one) for one in field]
    there = [np.fft.ifft2(ndimage.fourier_shift(one, (-shift[1], -shift[0]))).real for one in transform]
    return field, np.stack(there)


def by_hand(ours: Array, theirs: Array, x: int, y: int) -> tuple[float, float]:
    """The vertex of a parabola through Pearson's correlations of what overlaps, by least squares."""

    def fit(x: int, y: int) -> float:
        pairs = zip(ours, theirs, strict=True)
        height, width = ours.shape[1:]
        left = np.s_[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        right = np.s_[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
        return float(np.mean([np.corrcoef(a[left].ravel(), b[right].ravel())[0, 1] for a, b in pairs]))

    lines = [fit(x + d, y) for d in (-1, 0, 1)], [fit(x, y + d) for d in (-1, 0, 1)]
    (a, b, _), (c, d, _) = (np.polyfit((-1, 0, 1), line, 2) for line in lines)
    return x - b / (2 * a), y - d / (2 * c)


@pytest.mark.parametrize(
    ("shift", "radius", "peak"),
    [
        ((2.9, 4.1), 5, (3, 4)),  # its neighbours (4, 4) and (3, 5) are beyond the fence
        ((-3.8, 3.1), 5, (-4, 3)),
        ((4.8, 0.3), 5, (5, 0)),  # and here it is a side of the square
        ((0.2, -5.3), 5, (0, -5)),
        ((1.2, -0.7), 5, (1, -1)),  # nowhere near
        ((0.4, 0.2), 0, (0, 0)),  # no other shift is allowed
    ],
)
def test_a_peak_at_the_fence_is_found_to_a_fraction_of_a_pixel(
    shift: tuple[float, float], radius: int, peak: tuple[int, int]
) -> None:
    ours, theirs = moved(shift)
    x, y, fit = pair_shift(ours, theirs, radius)
    assert (x, y) == pytest.approx(by_hand(ours, theirs, *peak), abs=1e-6)
    assert np.hypot(x - shift[0], y - shift[1]) < 0.1
    assert fit > 0.9


@pytest.mark.parametrize("shift", [(7.0, 0.0), (6.0, 6.0), (0.3, -8.0)])
def test_a_peak_beyond_the_fence_is_not_gone_to(shift: tuple[float, float]) -> None:
    x, y, _ = pair_shift(*moved(shift), 5)
    assert np.hypot(round(x), round(y)) <= 5
    assert np.hypot(x, y) < 5.1


def test_a_map_that_is_flat_does_not_weigh() -> None:
    """Of two maps, for instance red light where there is no haematoxylin, the other says all there is."""
    ours, theirs = moved((2.9, 4.1))
    alone = pair_shift(ours[:1], theirs[:1], 5)
    flat = np.zeros_like(ours[:1])
    assert pair_shift(np.concatenate([ours[:1], flat]), np.concatenate([theirs[:1], flat]), 5) == alone
    assert pair_shift(flat, flat, 5) == (0.0, 0.0, 0.0)


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


def grey(field: Array) -> Image:
    """A picture (H, W, 3) of densities."""
    density = (0.4 + 0.1 * field).clip(0)[..., None] * np.ones(3)
    return np.asarray(240 * 10**-density, np.uint8)


@pytest.mark.parametrize("seed", range(2))
def test_chance_moves_no_block_of_sections_that_lie_on_each_other(seed: int) -> None:
    """Neighbouring sections share half of what varies, and of many shifts one fits a little better than none."""
    tissue, ours, theirs = (
        ndimage.gaussian_filter(noise, 4) * 14 for noise in np.random.default_rng(seed).normal(size=(3, 240, 240))
    )
    found = displacement(grey(tissue + ours), grey(tissue + theirs), 1.0)
    assert np.hypot(*found.shift_px) < 4
    assert found.residual_px < 4
    thirds = zip(np.split(tissue, 3), (-9, 0, 9), strict=True)
    moved = np.concatenate([np.roll(third, by, 1) for third, by in thirds])
    assert displacement(grey(tissue), grey(moved), 1.0).residual_px > 4


def test_lengths_follow_the_pixels() -> None:
    """Twice as many pixels, each half as large: twice the shift."""
    pair = drawn_pair(4, "pink", 256, (20.0, -12.0))
    he, ihc = (np.ascontiguousarray(ndimage.zoom(x, (2, 2, 1), order=1)) for x in (pair.he, pair.ihc))
    coarse, fine = displacement(pair.he, pair.ihc, MPP), displacement(he, ihc, MPP / 2)
    np.testing.assert_allclose(fine.shift_px, 2 * np.array(coarse.shift_px), atol=4)


def test_blank_and_tiny_pictures_fit_nothing() -> None:
    blank = np.full((80, 90, 3), 240, np.uint8)
    found = displacement(blank, blank, MPP)
    assert (found.shift_px, found.confidence, found.correlation) == ((0, 0), 0, 0), (
        "no shift is read out of nothing"
    )
    assert displacement(blank[:20, :20], blank[:20, :20], 2.0).confidence == 0
