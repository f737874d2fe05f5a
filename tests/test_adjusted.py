"""More or less of a virtual stain without a new run."""

import numpy as np
import pytest

from chromogen.app.view.pictures import adjusted
from chromogen.image import resize
from chromogen.stains.deconvolution import H_DAB, separate_stains
from test_densities import IHC

HE = IHC[::-1].copy()


def test_the_ends_are_the_pictures() -> None:
    np.testing.assert_array_equal(adjusted(HE, IHC, 1, 1), IHC)
    assert np.abs(adjusted(HE, IHC, 0, 1).astype(int) - HE).max() <= 1


def test_densities_are_mixed() -> None:
    half = adjusted(np.full((1, 1, 3), 255, np.uint8), np.full((1, 1, 3), 63, np.uint8), 0.5, 1)
    assert half.tolist() == [[[127, 127, 127]]], "half the density of a quarter of the light is half of the light"


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.5])
def test_dab_is_multiplied(amount: float) -> None:
    before = separate_stains(IHC, H_DAB)
    after = separate_stains(adjusted(HE, IHC, 1, amount), H_DAB)
    brown = (before[..., 1] > 0.3) & (before[..., 1] < 0.9) & (before[..., :1] > 0.1).all(axis=2)
    assert np.abs(after[..., 1] - amount * before[..., 1])[brown].max() < 0.08
    assert np.abs(after[..., 0] - before[..., 0])[brown].max() < 0.08


def test_a_result_of_another_size_is_laid_on_its_he() -> None:
    small = resize(IHC, (128, 128))
    assert adjusted(HE, small, 0.5, 1).shape == small.shape
