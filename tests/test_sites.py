import numpy as np
import pytest

from chromogen.image import Image
from chromogen.nuclei.sites import ELSEWHERE, SITES, site_share
from chromogen.stains.deconvolution import H_E, combine_stains

MPP = 0.5


def cells(*centres: tuple[int, int]) -> Image:
    """An H&E of 64 x 96 px with nuclei of radius 6 px at (x, y)."""
    rows, columns = np.mgrid[:64, :96]
    stains = np.full((64, 96, 3), (0.2, 0.6, 0.0))
    for x, y in centres:
        stains[np.hypot(rows - y, columns - x) <= 6] = (1.8, 0.3, 0.0)
    return combine_stains(stains, H_E)


TWO = cells((34, 32), (60, 32))


def test_a_nuclear_marker_sits_in_nuclei_and_a_cytoplasmic_one_does_not() -> None:
    nuclear, cytoplasm = (site_share(TWO, site, MPP) for site in ("nuclear", "cytoplasm"))
    assert nuclear[32, 34] > 0.95
    assert nuclear[32, 47] == pytest.approx(ELSEWHERE["nuclear"], abs=0.01)
    assert cytoplasm[32, 34] == pytest.approx(ELSEWHERE["cytoplasm"], abs=0.05)
    assert cytoplasm[32, 47] > 0.99


def test_a_membrane_lies_midway_between_nuclei() -> None:
    share = site_share(TWO, "membrane", MPP)
    assert share[32, 47] > 0.9
    assert share[32, 40] < 0.2
    assert share[32, 34] == pytest.approx(ELSEWHERE["membrane"], abs=0.05)
    assert share[5, 90] == pytest.approx(ELSEWHERE["membrane"], abs=0.05)


def test_any_is_everywhere() -> None:
    assert (site_share(TWO, "any", MPP) == 1).all()


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("image", [np.full((20, 30, 3), 255, np.uint8), cells((48, 32)), TWO[:1, :1]])
def test_shares_are_shares_on_blank_lonely_and_tiny_pictures(site: str, image: Image) -> None:
    share = site_share(image, site, MPP)
    assert share.shape == image.shape[:2]
    assert share.dtype == np.float32
    assert 0 <= share.min() <= share.max() <= 1


def test_an_unknown_site_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean nuclear"):
        site_share(TWO, "nuclaer", MPP)


@pytest.mark.parametrize("site", SITES[1:])
def test_pixels_too_large_for_nuclei_are_refused(site: str) -> None:
    with pytest.raises(ValueError, match="`mpp` to be at most 2 um/px"):
        site_share(TWO, site, 2.5)
