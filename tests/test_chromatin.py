import numpy as np
import pytest

from chromogen.evaluation import tissue_kept
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.evaluation.tissue_kept import NO_CHROMATIN, add_chromatin
from chromogen.image import Image
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains_od10
from test_compartments import CENTRES, RADIUS_PX, SIDE, discs

Y, X = np.indices((SIDE, SIDE)) + 0.5
NUCLEI = np.any([np.hypot(X - x, Y - y) < RADIUS_PX for x, y in CENTRES], axis=0)
TEXTURE = np.random.default_rng(0).normal(0, 0.2, (SIDE, SIDE)).clip(-0.5, 0.5)
WHITE = 255.0


def picture(hematoxylin: np.ndarray, second: np.ndarray, stains: np.ndarray = H_DAB) -> Image:
    amounts = np.stack([hematoxylin * NUCLEI, second * NUCLEI, 0 * X], axis=2)
    return combine_stains(amounts * np.log(10), stains)


HE = picture(0.4 * (1 + TEXTURE), 0 * X, H_E)


def sums(prediction: Image) -> np.ndarray:
    tile = Tile(prediction, HE, mpp=1.0)
    tile.side("he").__dict__["nuclei"] = discs(CENTRES)
    return add_chromatin(NO_CHROMATIN, tile)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("dab", [False, True])
@pytest.mark.parametrize(("contrast", "kept"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_contrast_is_kept_whatever_stain_shows_it_and_however_strong(
    dab: bool, strength: float, contrast: float, kept: float
) -> None:
    density = strength * 0.4 * (1 + contrast * TEXTURE)
    prediction = picture(0 * X, density) if dab else picture(density, 0 * X)
    assert tissue_kept.contrast_kept(sums(prediction)) == pytest.approx(kept, abs=0.04)


def test_both_numbers_are_those_of_single_nuclei() -> None:
    prediction = picture(0.2 * (1 + np.roll(TEXTURE, 1)) + 0.1 * TEXTURE, 0.3 * (1 + TEXTURE))
    before = separate_stains_od10(HE, H_E)[..., 0]
    after = separate_stains_od10(prediction, H_DAB)[..., :2].sum(axis=2)
    a: list[float] = []
    b: list[float] = []
    residuals: list[tuple[float, float]] = []
    for x, y in CENTRES:
        inner = np.hypot(X - x, Y - y) < RADIUS_PX - 1.5  # a ring of a pixel or so does not count
        a, b = [*a, *before[inner]], [*b, *after[inner]]
        residuals += list(
            zip(before[inner] - before[inner].mean(), after[inner] - after[inner].mean(), strict=True)
        )
    deviations = np.array(residuals)
    spread = np.sqrt((deviations**2).mean(axis=0))
    wanted = spread[1] / np.mean(b) / (spread[0] / np.mean(a))
    assert tissue_kept.contrast_kept(sums(prediction)) == pytest.approx(wanted, rel=0.1)
    assert tissue_kept.pattern_kept(sums(prediction)) == pytest.approx(np.corrcoef(deviations.T)[0, 1], abs=0.05)


def test_noise_has_contrast_and_no_pattern() -> None:
    noise = np.random.default_rng(9).normal(0, 0.2, (SIDE, SIDE)).clip(-0.5, 0.5)
    found = sums(picture(0.4 * (1 + noise), 0 * X))
    assert tissue_kept.contrast_kept(found) == pytest.approx(1, abs=0.2)
    assert abs(tissue_kept.pattern_kept(found)) < 0.3


def test_an_outline_that_is_a_pixel_off_is_no_contrast() -> None:
    assert tissue_kept.contrast_kept(sums(np.roll(picture(0.4 + 0 * X, 0 * X), 1, axis=0))) < 0.35


def test_why_there_is_no_number() -> None:
    with pytest.raises(UndefinedError, match="no nuclei in the H&E"):
        tissue_kept.contrast_kept(NO_CHROMATIN)
    with pytest.raises(UndefinedError, match="the prediction shows nothing where the H&E has nuclei"):
        tissue_kept.contrast_kept(sums(np.full_like(HE, 255)))
