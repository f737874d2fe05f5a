"""From images to what networks take, and back."""

import numpy as np
import pytest
import torch

from chromogen.style.slide_densities import STRIDE_PX, density_from, image_from, mixed, padded
from synthetic import tissue_like

IMAGE = tissue_like(37, 50, seed=6)
WHITE = (250.0, 240.0, 245.0)


def test_densities_are_beer_lamberts_over_the_slides_white() -> None:
    wanted = -np.log((IMAGE + 1.0) / (np.array(WHITE) + 1))
    np.testing.assert_allclose(density_from(IMAGE, WHITE)[0], wanted.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_the_image_comes_back() -> None:
    np.testing.assert_array_equal(image_from(density_from(IMAGE, WHITE), WHITE), IMAGE)


@pytest.mark.parametrize("shape", [(37, 50), (1, 1), (16, 32)])
def test_padding_goes_on_with_the_border_to_the_right_and_below(shape: tuple[int, int]) -> None:
    image = IMAGE[: shape[0], : shape[1]]
    found = padded(image)
    assert [side % STRIDE_PX for side in found.shape[:2]] == [0, 0]
    assert all(np.subtract(found.shape, image.shape) < STRIDE_PX)
    rows, columns = (np.minimum(np.arange(found.shape[i]), image.shape[i] - 1) for i in (0, 1))
    np.testing.assert_array_equal(found, image[np.ix_(rows, columns)])


def test_amounts_are_a_product_with_the_matrix() -> None:
    density, matrix = torch.rand(2, 3, 4, 5), np.random.default_rng(0).random((3, 2))
    wanted = np.einsum("bchw,cs->bshw", density.numpy(), matrix)
    np.testing.assert_allclose(torch.cat(mixed(density, matrix), 1), wanted, rtol=1e-5)
