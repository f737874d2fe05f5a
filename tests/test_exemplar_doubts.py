"""What of a reference IHC makes a poor look is said, and a good IHC is not doubted."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from chromogen.image import Image, resize
from chromogen.slides.slide import read_picture
from chromogen.staining.exemplar import exemplar_of, reference_tissue
from chromogen.staining.looks import doubts_of, sharpness
from chromogen.staining.stainer import builtin_ihc
from chromogen.staining.tissue import MPP
from chromogen.stains.deconvolution import H_DAB, combine_stains, estimate_stains, separate_stains
from chromogen.stains.glass import white_level


@pytest.fixture(scope="module")
def ki67(data: Path) -> Image:
    return read_picture(data / "exemplars" / "OS-2-ndpi.ome.tif", at_mpp=MPP).pixels[:500, :500]


def said(ihc: Image, site: str = "auto") -> str:
    reference = reference_tissue(ihc)
    return "; ".join(doubts_of(ihc, reference, exemplar_of(reference, site)))


def with_dab(ihc: Image, times: float, more: float) -> Image:
    """The same picture with another amount of DAB."""
    white = white_level(ihc, MPP)
    matrix = estimate_stains(ihc, H_DAB, white).matrix
    amounts = separate_stains(ihc, matrix, white)
    amounts[..., 1] = times * amounts[..., 1] + more
    return combine_stains(amounts, matrix, white)


def blurred(image: Image) -> Image:
    return np.rint(gaussian_filter(image.astype(float), (2.5, 2.5, 0))).astype(np.uint8)


def test_good_exemplars_are_not_doubted(ki67: Image) -> None:
    assert said(builtin_ihc()) == ""
    assert said(ki67) == ""


@pytest.mark.parametrize("name", ["ER", "PR", "Ki67"])
def test_exemplars_of_another_lab_are_not_doubted(data: Path, name: str) -> None:
    assert said(read_picture(data / "pairs" / "mist" / f"{name}_ihc.png").pixels, "nuclear") == ""


def test_a_blurred_exemplar_is_doubted(ki67: Image) -> None:
    assert "looks blurred" in said(blurred(ki67))
    assert "looks blurred" in said(blurred(builtin_ihc()))


def test_nuclei_show_a_wrong_pixel_size(ki67: Image) -> None:
    assert "small nuclei" in said(resize(ki67, (250, 250)))
    large = said(resize(ki67[:250, :250], (500, 500)))
    assert "large nuclei" in large
    assert "check its pixel size" in large


def test_a_small_field_is_doubted(ki67: Image) -> None:
    assert "shows only" in said(ki67[300:364, 300:364], "cytoplasm")


def test_an_h_e_is_doubted(data: Path) -> None:
    he = read_picture(data / "exemplars" / "OS-1-detail.ome.tif", at_mpp=MPP).pixels
    assert "looks like an H&E" in said(he, "cytoplasm")


def test_dab_everywhere_is_doubted() -> None:
    everywhere = said(with_dab(builtin_ihc(), 0.2, 1.4))
    assert "hardly any clean background" in everywhere


def test_dab_nowhere_is_doubted_or_refused(data: Path) -> None:
    assert "two stains of nearly one colour" in said(with_dab(builtin_ihc(), 0.0, 0.05))
    her2 = read_picture(data / "pairs" / "mist" / "HER2_ihc.png").pixels
    with pytest.raises(ValueError, match="hardly any second stain"):
        said(her2)


def test_sharpness_is_a_ratio_of_contrasts() -> None:
    """It does not ask how strongly a picture is stained, and falls where detail is lost."""
    grain = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    there = np.ones(grain.shape, np.bool_)
    sharp = sharpness(grain, there)
    assert sharpness(3 * grain, there) == pytest.approx(sharp, rel=1e-4)
    soft = np.asarray(gaussian_filter(grain, 2.0), np.float32)
    assert sharpness(soft, there) < 0.3 * sharp
