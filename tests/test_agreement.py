import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from skimage import metrics

from chromogen.evaluation import agreement
from chromogen.evaluation.agreement import NO_DAB, THRESHOLDS_OD10
from chromogen.evaluation.tile import NO_OVERLAP, NO_PAIRS, NOTHING, Tile, UndefinedError, dice, mean, pearson
from chromogen.image import Image
from chromogen.stains.deconvolution import combine_stains
from synthetic import tissue_like


def noisy(image: Image, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


REAL = tissue_like(180, 200, seed=1)
TILE = Tile(noisy(REAL, 2), real=REAL)


def test_psnr_is_scikit_images() -> None:
    wanted = metrics.peak_signal_noise_ratio(REAL, TILE.prediction)
    assert agreement.psnr(agreement.add_squared_error(NOTHING, TILE)) == pytest.approx(wanted)
    with pytest.raises(UndefinedError, match="infinite"):
        agreement.psnr(agreement.add_squared_error(NOTHING, Tile(REAL, real=REAL)))


def test_ssim_is_scikit_images() -> None:
    """Ours takes in the border that scikit-image leaves out of its mean."""
    options = {"channel_axis": 2, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, local = metrics.structural_similarity(REAL, TILE.prediction, data_range=255, full=True, **options)
    framed = Tile(TILE.prediction, real=REAL, halo=(8, 8, 8, 8))
    assert mean(agreement.add_ssim(NOTHING, framed)) == pytest.approx(local[8:-8, 8:-8].mean(), abs=1e-5)


def test_ms_ssim_is_wangs_formula() -> None:
    """Five scales, halved by means of four, contrast at each and luminance at the last."""
    x, y = (image.astype(float) / 255 for image in (TILE.prediction, REAL))

    def parts(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        def blur(v: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(v, (1.5, 1.5, 0), truncate=3.5)

        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
        contrast = (2 * cov + 0.03**2) / (va + vb + 0.03**2)
        whole = contrast * (2 * ma * mb + 0.01**2) / (ma**2 + mb**2 + 0.01**2)
        inner = np.s_[5:-5, 5:-5]
        return contrast[inner].mean(), whole[inner].mean()

    wanted = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        contrast, whole = parts(x, y)
        wanted *= (whole if scale == 4 else contrast) ** weight
        h, w = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
        x, y = (v[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3)) for v in (x, y))
    assert mean(agreement.add_ms_ssim(NOTHING, TILE)) == pytest.approx(wanted, abs=2e-3)


def test_small_pictures_have_no_similarity() -> None:
    with pytest.raises(UndefinedError, match="smaller than 11 px"):
        agreement.add_ssim(NOTHING, Tile(REAL[:5], real=REAL[:5]))
    with pytest.raises(UndefinedError, match="smaller than 176 px"):
        agreement.add_ms_ssim(NOTHING, Tile(REAL[:175], real=REAL[:175]))


def brown(densities_od10: np.ndarray) -> Image:
    drawn = np.zeros((*densities_od10.shape, 3))
    drawn[..., 0], drawn[..., 1] = 0.2, densities_od10  # bluer than any glass
    return combine_stains(drawn * np.log(10))


STEPS = np.repeat(np.repeat([[0.0, 0.3], [0.5, 0.8]], 40, 0), 40, 1)


def test_dab_is_counted_as_a_pathologist_would() -> None:
    """A quarter each of none, weak, moderate and strong."""
    tile = Tile(brown(STEPS), real=brown(STEPS / 10))
    predicted, real = (agreement.add_dab(NO_DAB, tile.side(name)) for name in ("prediction", "real"))
    assert agreement.dab_od10(predicted) == pytest.approx(0.4, abs=0.01)
    assert agreement.miod(predicted) == pytest.approx((0.3 + 0.5 + 0.8) / 3, abs=0.01)
    assert [agreement.dab_positive_percent(predicted, level) for level in range(3)] == pytest.approx([75, 50, 25])
    assert agreement.pixel_h_score(predicted) == pytest.approx(25 * (1 + 2 + 3))
    assert agreement.dab_positive_percent(real) == 0
    with pytest.raises(UndefinedError, match=r"no DAB above 0\.2"):
        agreement.miod(real)


def test_dab_maps_are_compared_as_scipy_would() -> None:
    tile = Tile(brown(STEPS), real=brown(np.roll(STEPS, 10, axis=1)), mpp=2.0)
    both = [tile.side(name).od10 for name in ("prediction", "real")]
    for blur_um in (0, 8):
        maps = [od[..., 1] for od in both]
        if blur_um:
            maps = [ndimage.gaussian_filter(m, 4, truncate=3.0) for m in maps]
        wanted = stats.pearsonr(*(m.ravel() for m in maps)).statistic
        assert pearson(agreement.add_dab_pairs(NO_PAIRS, tile, blur_um)) == pytest.approx(wanted, abs=1e-6)
    a, b = (od[..., 1] > THRESHOLDS_OD10[0] for od in both)
    wanted = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert dice(agreement.add_dab_overlap(NO_OVERLAP, tile)) == pytest.approx(wanted)


LARGE = noisy(tissue_like(120, 130, seed=5), 6)


@settings(max_examples=20)
@given(st.integers(-12, 12), st.integers(-12, 12))
def test_a_shift_is_found_and_undone(x: int, y: int) -> None:
    whole = np.pad(LARGE, ((20, 20), (20, 20), (0, 0)), mode="wrap")
    moved = whole[20 + y : 140 + y, 20 + x : 150 + x]
    shift = agreement.best_shift(LARGE, moved, radius_px=18)
    assert shift == (x, y)
    ours, real = agreement.overlapping(LARGE, moved, shift)
    assert ours.shape == real.shape == (120 - abs(y), 130 - abs(x), 3)
    assert np.array_equal(ours, real)


def test_large_pictures_are_shifted_at_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "SHIFTED_AT_MOST_PX", 50)
    whole = np.pad(LARGE, ((20, 20), (20, 20), (0, 0)), mode="wrap")
    x, y = agreement.best_shift(LARGE, whole[14:134, 29:159], radius_px=18)
    assert (x, y) == (9, -6), "a multiple of three"


def test_no_shift_beyond_the_radius() -> None:
    moved = np.roll(LARGE, 15, axis=1)
    x, y = agreement.best_shift(LARGE, moved, radius_px=5)
    assert np.hypot(x, y) <= 5


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5)])
def test_tiny_and_flat_pictures_are_not_moved(size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 200, np.uint8)
    assert agreement.best_shift(flat, flat, radius_px=10) == (0, 0)
    assert agreement.overlapping(flat, flat, (0, 0))[0].shape == flat.shape
