import numpy as np
import pytest

from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.stains.deconvolution import combine_stains
from synthetic import tissue_like

IMAGE = tissue_like(40, 60, seed=1)


def test_lengths_follow_the_size_of_a_pixel() -> None:
    assert Tile(IMAGE, mpp=0.25).px(2.0) == 8
    assert Tile(IMAGE).px(2.0) == 4, "half a um where it is not known"


def test_only_the_core_counts() -> None:
    tile = Tile(IMAGE, halo=(1, 2, 3, 4))
    assert np.array_equal(tile.core(IMAGE), IMAGE[2:36, 1:57])
    assert np.array_equal(Tile(IMAGE).core(IMAGE), IMAGE)


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="`real` to be as large as the prediction, 60 x 40 px, got 60 x 39 px"):
        Tile(IMAGE, real=IMAGE[:39])


def test_tissue_is_the_he_s() -> None:
    white = np.full_like(IMAGE, 255)
    assert not Tile(IMAGE, he=white).tissue.any()
    assert Tile(white, he=IMAGE).tissue.all()
    assert Tile(IMAGE).tissue.all()


def test_densities_have_base_10() -> None:
    drawn = np.zeros((4, 5, 3))
    drawn[..., :2] = [0.3, 0.6]
    tile = Tile(combine_stains(drawn * np.log(10)))
    assert tile.side("prediction").od10 == pytest.approx(drawn, abs=0.01)
    with pytest.raises(UndefinedError, match="no H&E"):
        tile.side("he")
