"""Maps: means over masks, coarser and finer, and the guided filter against its definition."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from chromogen.staining.maps import coarser, finer, guided_filter, looked_up, mean_over, ramp, smooth


def test_a_mean_over_a_mask_knows_only_the_mask() -> None:
    x = np.full((40, 40), 9.0, np.float32)
    mask = np.zeros((40, 40), np.float32)
    mask[:, :20], x[:, :20] = 1, 2
    np.testing.assert_allclose(mean_over(x, mask, 3)[:, :24], 2, rtol=1e-5)


@pytest.mark.parametrize("shape", [(40, 32), (41, 35), (3, 2), (1, 1)])
def test_coarser_squares_are_means_and_finer_ones_join_them(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape, np.float32)
    plane = 0.5 * x - 0.25 * y
    squares = coarser(plane, 4)
    assert squares.shape == (-(-shape[0] // 4), -(-shape[1] // 4))
    assert finer(squares, 4, shape).shape == shape
    if shape == (40, 32):
        np.testing.assert_allclose(squares[2, 3], plane[8:12, 12:16].mean())
        np.testing.assert_allclose(finer(squares, 4, shape)[2:-2, 2:-2], plane[2:-2, 2:-2], atol=1e-5)


def test_a_ramp() -> None:
    np.testing.assert_allclose(ramp(np.array([0.0, 0.2, 0.3, 0.9]), 0.2, 0.4), [0, 0, 0.5, 1], rtol=1e-6)


def test_the_guided_filter_is_the_local_linear_model() -> None:
    rng = np.random.default_rng(0)
    x, a, b = (rng.normal(size=(24, 24)).astype(np.float32) for _ in range(3))
    size, eps = 5, 0.01
    found = guided_filter(x, (a, b), 2, eps, by=1)
    slopes = np.zeros((24, 24, 3))
    for row, column in np.ndindex(24, 24):
        rows, columns = (np.arange(at - 2, at + 3) for at in (row, column))
        inside = np.ix_(_mirrored(rows, 24), _mirrored(columns, 24))
        guides = np.stack([a[inside].ravel(), b[inside].ravel()], 1).astype(np.float64)
        centred = guides - guides.mean(0)
        cov = centred.T @ centred / len(guides) + eps * np.eye(2)
        slope = np.linalg.solve(cov, centred.T @ x[inside].ravel() / len(guides))
        slopes[row, column] = *slope, x[inside].mean() - slope @ guides.mean(0)
    mean = [uniform_filter(slopes[..., i], size) for i in range(3)]
    np.testing.assert_allclose(found, mean[0] * a + mean[1] * b + mean[2], atol=2e-4)


def _mirrored(places: np.ndarray, side: int) -> np.ndarray:
    places = np.where(places < 0, -1 - places, places)
    return np.where(places >= side, 2 * side - 1 - places, places)


def test_the_guided_filter_takes_a_blurred_border_to_the_edge() -> None:
    edge = np.zeros((64, 64), np.float32)
    edge[:, 32:] = 1
    blurred = gaussian_filter(edge, 6)
    brought = guided_filter(blurred, (edge, edge * 0), 10, 1e-4, by=2)
    step, before = (m[32, 33] - m[32, 30] for m in (brought, blurred))
    assert step > 2.5 * before


@pytest.mark.parametrize(("sigma_px", "off"), [(0.5, 1e-3), (1.2, 5e-3), (2.0, 0.04), (5.0, 0.03), (20.0, 0.05)])
@pytest.mark.parametrize("shape", [(90, 131), (200, 64), (1, 1)])
def test_smoothing_is_a_gaussians(shape: tuple[int, int], sigma_px: float, off: float) -> None:
    """Of a tissue's own texture, which is smooth over a pixel or two."""
    x = gaussian_filter(np.random.default_rng(0).normal(size=shape), 1.5).astype(np.float32) + 1
    wanted = gaussian_filter(x, sigma_px, mode="nearest", truncate=4)
    assert np.abs(smooth(x, sigma_px) - wanted).mean() < off * max(x.std(), 1e-6) + 1e-6


def test_a_table_is_an_interpolation() -> None:
    x = np.linspace(-1, 4, 5000, dtype=np.float32).reshape(50, 100)
    at, values = (0.0, 0.5, 0.6, 3.0), (1.0, 3.0, 2.0, 7.0)
    np.testing.assert_allclose(looked_up(x, at, values), np.interp(x, at, values), atol=0.01)
    np.testing.assert_allclose(looked_up(x, (2.0,), (5.0,)), 5)
