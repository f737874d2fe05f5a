"""Monge-Kantorovich against an independent matrix square root, its property, and pictures without colour."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.linalg import inv, sqrtm

from chromogen.image import Image, read_image
from chromogen.stains.appearance import (
    MAX_GAIN,
    Moments,
    color_moments,
    match_colors,
    monge_kantorovich_map,
)


def random_colors(seed: int, height: int = 40, width: int = 30) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(0, 0.06, (3, 3)) + 0.05 * np.eye(3)
    return np.asarray(rng.uniform(0.3, 0.7, 3) + rng.normal(size=(height, width, 3)) @ mixing.T)


def mapped(pixels: NDArray[np.float64], style: Moments) -> NDArray[np.float64]:
    matrix, offset = monge_kantorovich_map(color_moments(pixels), style)
    return np.asarray(pixels @ matrix.T + offset)


def test_moments_are_what_numpy_says() -> None:
    colors = random_colors(0)
    mean, covariance = color_moments(colors)
    np.testing.assert_allclose(mean, colors.mean(axis=(0, 1)))
    np.testing.assert_allclose(covariance, np.cov(colors.reshape(-1, 3), rowvar=False, ddof=0))


def test_moments_of_uint8_are_in_fractions_of_white() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for ours, wanted in zip(color_moments(image), color_moments(image / 255), strict=True):
        np.testing.assert_allclose(ours, wanted)


@pytest.mark.parametrize("shape", [(5, 4), (0, 3), (4, 4, 4)])
def test_moments_of_no_colours(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`pixels` to be colours"):
        color_moments(np.zeros(shape))


@pytest.mark.parametrize("seed", range(5))
def test_map_is_the_closed_form_of_the_paper(seed: int) -> None:
    content, style = color_moments(random_colors(seed)), color_moments(random_colors(seed + 100))
    root = sqrtm(content[1])
    wanted = inv(root) @ sqrtm(root @ style[1] @ root) @ inv(root)
    matrix, offset = monge_kantorovich_map(content, style)
    np.testing.assert_allclose(matrix, wanted.real, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(offset, style[0] - wanted.real @ content[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_mapped_pixels_have_the_moments_of_the_style(seed: int) -> None:
    style = color_moments(random_colors(seed + 100))
    mean, covariance = color_moments(mapped(random_colors(seed), style))
    np.testing.assert_allclose(mean, style[0], atol=1e-12)
    np.testing.assert_allclose(covariance, style[1], atol=1e-10)


def test_map_to_itself_is_the_identity() -> None:
    moments = color_moments(random_colors(1))
    matrix, offset = monge_kantorovich_map(moments, moments)
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(offset, 0, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (20, 30)])
def test_one_colour_is_only_shifted(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (200, 30, 90), np.uint8)
    style = color_moments(random_colors(3))
    matrix, _ = monge_kantorovich_map(color_moments(image), style)
    np.testing.assert_array_equal(matrix, np.eye(3))
    assert np.abs(match_colors(image, style) - style[0] * 255).max() <= 0.5


def test_style_of_one_colour_gives_that_colour() -> None:
    matched = match_colors(
        (random_colors(4) * 255).astype(np.uint8), color_moments(np.full((4, 4, 3), 77, np.uint8))
    )
    assert np.all(matched == 77)


def test_grey_takes_the_colours_that_go_with_its_brightness() -> None:
    grey = np.repeat(np.random.default_rng(0).integers(60, 200, (50, 50, 1), dtype=np.uint8), 3, axis=2)
    brown = np.array([0.7, 0.5, 0.3]) + np.linspace(-0.2, 0.2, 99)[:, None] * [0.6, 0.8, 1.0]
    matched = match_colors(grey, color_moments(brown))
    assert np.abs(matched.mean(axis=(0, 1)) - [178.5, 127.5, 76.5]).max() < 1
    assert np.all(np.ptp(matched, axis=(0, 1)) > [50, 60, 80])


def test_noise_of_rounding_is_not_made_colour() -> None:
    rng = np.random.default_rng(0)
    grey = rng.uniform(0.2, 0.8, (60, 60, 1)) + rng.normal(0, 1e-3, (60, 60, 3))
    matrix, _ = monge_kantorovich_map(color_moments(grey), color_moments(rng.uniform(size=(60, 60, 3))))
    assert np.linalg.norm(matrix, 2) <= MAX_GAIN * (1 + 1e-9)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5).map(lambda s: (*s, 3))),
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5).map(lambda s: (*s, 3))),
)
def test_any_two_pictures_can_be_matched(content: Image, style: Image) -> None:
    matrix, offset = monge_kantorovich_map(color_moments(content), color_moments(style))
    assert np.isfinite(matrix).all()
    assert np.isfinite(offset).all()
    matched = match_colors(content, color_moments(style))
    assert matched.shape == content.shape
    assert matched.dtype == np.uint8


@given(st.integers(0, 2**32 - 1))
def test_map_is_symmetric_and_folds_nothing_over(seed: int) -> None:
    matrix, _ = monge_kantorovich_map(color_moments(random_colors(seed)), color_moments(random_colors(seed // 2)))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12


def test_real_tiles(data: Path) -> None:
    content, style = (read_image(data / "pairs" / "mist" / f"ER_{name}.png") for name in ("he", "ihc"))
    unclipped = color_moments(mapped(content / 255, color_moments(style)))
    for ours, wanted in zip(unclipped, color_moments(style), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-9)
    assert (
        np.abs(match_colors(content, color_moments(style)).mean(axis=(0, 1)) - style.mean(axis=(0, 1))).max() < 5
    )
