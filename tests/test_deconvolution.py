import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import color

from chromogen.stains.deconvolution import (
    DAB,
    H_DAB,
    H_E,
    HEMATOXYLIN,
    combine_stains,
    densities_od10,
    optical_density,
    optical_density_od10,
    separate_stains,
    separate_stains_od10,
    stain_matrix,
)
from synthetic import tissue_like


@pytest.mark.parametrize("matrix", [H_E, H_DAB], ids=["H&E", "H-DAB"])
def test_rows_are_unit_vectors_and_the_third_is_neither(matrix: np.ndarray) -> None:
    assert np.linalg.norm(matrix, axis=1) == pytest.approx([1, 1, 1])
    assert matrix[2] @ matrix[0] == pytest.approx(0, abs=1e-12)
    assert matrix[2] @ matrix[1] == pytest.approx(0, abs=1e-12)


def test_qupaths_vectors_are_unit_already() -> None:
    assert H_DAB[0] == pytest.approx(HEMATOXYLIN, abs=2e-5)
    assert H_DAB[1] == pytest.approx(DAB, abs=2e-5)


def test_density_of_white_and_black() -> None:
    image = np.array([[[255, 255, 255], [0, 0, 0], [127, 127, 127]]], np.uint8)
    assert optical_density(image)[0, :, 0] == pytest.approx([0, np.log(256), np.log(2)])
    assert optical_density_od10(image)[0, :, 0] == pytest.approx([0, 2.408, 0.301], abs=1e-3)


def test_concentrations_are_scikit_images_up_to_their_unit() -> None:
    """scikit-image measures density in units of ln(1e6), and clips what is negative."""
    image = tissue_like(20, 30, seed=3)
    theirs = color.separate_stains((image + 1.0) / 256, np.linalg.inv(H_DAB))
    assert separate_stains(image).clip(0) == pytest.approx(theirs * -np.log(1e-6), abs=1e-9)


def test_base_10_is_the_natural_one_by_its_logarithm() -> None:
    image = tissue_like(8, 8, seed=4)
    assert separate_stains_od10(image, H_E) * np.log(10) == pytest.approx(separate_stains(image, H_E))


@given(st.lists(st.floats(0, 1.5), min_size=3, max_size=3))
def test_what_is_combined_comes_apart_again(parts: list[float]) -> None:
    parts[2] *= 0.1
    found = separate_stains(combine_stains(np.array([[parts]])))
    image = combine_stains(found)
    assert np.abs(image.astype(int) - combine_stains(np.array([[parts]]))).max() <= 1


def test_stains_of_one_colour_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="another colour"):
        stain_matrix(HEMATOXYLIN, HEMATOXYLIN)


@pytest.mark.parametrize("white", [255.0, (240.0, 238.5, 245.0)])
def test_densities_from_a_table_are_the_formulas(white: float | tuple[float, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    wanted = optical_density_od10(image, white).transpose(2, 0, 1)
    np.testing.assert_allclose(densities_od10(image, white), wanted, atol=1e-6)
