import numpy as np
import pytest
import torch

from chromogen.compute.tiles import TileGrid, whole
from chromogen.image import to_tensor, to_uint8
from chromogen.stains.deconvolution import H_DAB, H_E, concentrations_of
from chromogen.style.canvas import FEATURES, LocalStain, TissueFeatures
from synthetic import tissue_like

PICTURE = to_tensor(tissue_like(64, 80, seed=1))
AMOUNTS = concentrations_of(to_tensor(tissue_like(64, 80, seed=2)), H_DAB)[:, :2]


def tissue_features(picture: torch.Tensor, amounts: torch.Tensor, mpp: float = 0.5) -> torch.Tensor:
    size = picture.shape[3], picture.shape[2]
    grid = TileGrid(size, 32 * max(size), 0)
    return TissueFeatures(to_uint8(picture), H_E, amounts, mpp, grid, torch.empty(0))(whole(size))


def test_features_are_z_scores_of_what_lies_around() -> None:
    found = tissue_features(PICTURE, AMOUNTS)
    assert found.shape == (1, FEATURES, 64, 80)
    assert found.mean((2, 3)).abs().max() < 1e-4
    assert found.std((2, 3)).sub(1).abs().max() < 1e-3


def test_features_turn_with_the_tissue() -> None:
    turned = tissue_features(PICTURE.flip(2, 3), AMOUNTS.flip(2, 3)).flip(2, 3)
    torch.testing.assert_close(turned, tissue_features(PICTURE, AMOUNTS), atol=1e-3, rtol=1e-3)


def test_a_picture_of_one_colour_has_finite_features() -> None:
    assert tissue_features(torch.full((1, 3, 40, 40), 0.5), torch.zeros(1, 2, 40, 40)).isfinite().all()


def test_a_network_is_a_function_of_a_pixels_features() -> None:
    network = LocalStain(5)
    features = torch.rand(1, 5, 6, 7)
    assert (network(features) == 0).all(), "at first nothing changes"
    torch.nn.init.normal_(network.head.weight)
    found = network(features)
    assert found.shape == (1, 2, 6, 7)
    one = network(features[..., 2:3, 4:5])
    torch.testing.assert_close(found[..., 2:3, 4:5], one)


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_features_know_the_size_of_a_pixel(mpp: float) -> None:
    """Enlarged twice, at half the size of a pixel, the tissue has about the features it had."""
    given = [
        torch.nn.functional.interpolate(x, scale_factor=0.5 / mpp, mode="bicubic") for x in (PICTURE, AMOUNTS)
    ]
    features = tissue_features(given[0].clamp(0, 1), given[1], mpp)
    found = torch.nn.functional.interpolate(features, PICTURE.shape[2:], mode="area")
    wanted = tissue_features(PICTURE, AMOUNTS)
    for channel in (9, FEATURES - 2):
        assert np.corrcoef(found[0, channel].flatten(), wanted[0, channel].flatten())[0, 1] > 0.95
