"""Landmarks: least squares against closed forms and numpy, mirrors, the one that is wrong, and what bends."""

from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import box

from chromogen.registration.align import by_affine, fitted_landmarks, refined_by
from chromogen.registration.fitting import fitted_spline, zero_spline
from chromogen.registration.transform import Piece, SlideFrame, Transform
from chromogen.stains.deconvolution import Array

SOURCE, TARGET = SlideFrame((4000, 3000), 0.5, "file", "he"), SlideFrame((3500, 3000), 0.25, "file", "ihc")
PLACES = np.random.default_rng(3).uniform(100, 1400, (8, 2))


def turned(degrees: float, scale: float = 1.0, mirror: float = 1.0) -> Array:
    at = np.radians(degrees)
    linear = scale * np.array([[np.cos(at), -np.sin(at)], [np.sin(at), np.cos(at)]]) * [mirror, 1]
    return np.column_stack([linear, [120.0, -45.0]])


def moved(affine: Array, places: Array) -> Array:
    return np.asarray(places @ affine[:, :2].T + affine[:, 2])


@pytest.mark.parametrize("affine", [turned(0), turned(37, 1.04), turned(-120, 0.9), turned(15, 1.02, -1)])
@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_exact_landmarks_give_the_map_back(affine: Array, kind: str) -> None:
    found = fitted_landmarks(PLACES, moved(affine, PLACES), kind)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.affine, affine, atol=1e-9)
    assert found.rms_um < 1e-9
    assert found.doubtful is None


def test_the_similarity_is_the_best_of_its_kind() -> None:
    """Complex least squares, t = a s + b, is the same problem by other means."""
    target = moved(turned(20, 1.03), PLACES) + np.random.default_rng(4).normal(0, 8, PLACES.shape)
    s, t = PLACES @ [1, 1j], target @ [1, 1j]
    (a, b), *_ = np.linalg.lstsq(np.column_stack([s, np.ones_like(s)]), t, rcond=None)
    found = fitted_landmarks(PLACES, target)
    np.testing.assert_allclose(found.affine, [[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], atol=1e-9)
    assert found.rms_um == pytest.approx(np.sqrt(np.mean(np.abs(a * s + b - t) ** 2)))
    assert fitted_landmarks(PLACES, target, "affine").rms_um < found.rms_um


def test_two_landmarks_turn_and_do_not_mirror() -> None:
    found = fitted_landmarks(PLACES[:2], moved(turned(15, 1.02, -1), PLACES[:2]))
    assert np.linalg.det(found.affine[:, :2]) > 0
    assert found.rms_um < 1e-9


@pytest.mark.parametrize("wrong", range(5))
@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_a_wrong_landmark_is_named(wrong: int, kind: str) -> None:
    target = moved(turned(10), PLACES[:6]) + np.random.default_rng(5).normal(0, 3, (6, 2))
    assert fitted_landmarks(PLACES[:6], target, kind).doubtful is None  # type: ignore[arg-type]
    target[wrong] += (150, -90)
    assert fitted_landmarks(PLACES[:6], target, kind).doubtful == wrong  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_right_landmarks_are_rarely_doubted(kind: str) -> None:
    rng = np.random.default_rng(8)
    named = 0
    for _ in range(200):
        places = rng.uniform(0, 2000, (7, 2))
        target = moved(turned(25), places) + rng.normal(0, 12, places.shape)
        named += fitted_landmarks(places, target, kind).doubtful is not None  # type: ignore[arg-type]
    assert named <= 8, "one in a hundred by chance"


def test_too_few_to_tell_name_no_landmark() -> None:
    target = moved(turned(10), PLACES[:3])
    target[0] += 200
    found = fitted_landmarks(PLACES[:3], target)
    assert found.rms_um > 20
    assert found.doubtful is None


@pytest.mark.parametrize(
    ("places", "kind", "says"),
    [
        (PLACES[:1], "similarity", "at least 2 pairs, got 1"),
        (PLACES[:2], "affine", "at least 3 pairs, got 2"),
        (np.full((4, 2), 7.0), "similarity", "places apart"),
        (np.outer(np.arange(4.0), [3, 4]), "affine", "not on one line"),
        (PLACES, "rigid", "similarity"),
    ],
)
def test_landmarks_that_say_nothing_are_refused(places: Array, kind: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fitted_landmarks(places, places + 5, kind)  # type: ignore[arg-type]


def test_a_registration_that_bends_is_corrected_and_still_bends() -> None:
    spline = fitted_spline(zero_spline(np.zeros(2), np.full(2, 2000.0), 200.0), lambda p: 20 * np.sin(p / 300))
    pieces = (Piece(box(0, 0, 900, 1500), turned(3), spline), Piece(box(1000, 0, 2000, 1500), turned(-5, 1.1)))
    found = Transform(SOURCE, TARGET, pieces)
    correction = turned(2, 1.01)
    corrected, fit = refined_by(found, PLACES, moved(correction, found.forward_um(PLACES)), "similarity")
    assert fit.rms_um < 1e-9
    grid = np.random.default_rng(6).uniform(0, 2000, (50, 2))
    np.testing.assert_allclose(corrected.forward_um(grid), moved(correction, found.forward_um(grid)), atol=1e-8)
    assert [piece.outline for piece in corrected.pieces] == [piece.outline for piece in pieces]


def test_by_an_affine_a_whole_slide_moves() -> None:
    found = by_affine(SOURCE, TARGET, turned(30))
    np.testing.assert_allclose(found.forward_px(PLACES), moved(turned(30), PLACES * 0.5) / 0.25)
    assert replace(found, pieces=()).pieces == ()
    assert found.pieces[0].outline.bounds == (0, 0, 2000, 1500)
