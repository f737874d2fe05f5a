"""The network that says where: what it sees of an H&E, whatever the slide's own strengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from chromogen.staining.where_network import (
    AROUND_CELLS,
    CELL_PX,
    FEATURES,
    MAPS,
    STRIDE_PX,
    Architecture,
    WhereNetwork,
    density_from,
    features_of,
    level_map,
    slide_stains,
)
from chromogen.stains.deconvolution import H_E, combine_stains, optical_density, separate_stains
from synthetic import drawn, tissue_like

HE = tissue_like(192, 128, seed=3)


def network(seed: int = 0, width: int = 8) -> WhereNetwork:
    """With weights by chance."""
    torch.manual_seed(seed)
    return WhereNetwork(Architecture(width, 1)).eval().requires_grad_(False)


def test_densities_are_those_of_a_table() -> None:
    white = np.array([240.0, 235.0, 250.0])
    found = density_from(HE, white)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, optical_density(HE, white), atol=1e-6)


def test_features_are_means_over_cells_and_their_blurs() -> None:
    """By numpy and SciPy: haematoxylin, eosin, density and grain, and what lies around."""
    strength = np.array([1.3, 0.8])
    white = np.full(3, 255.0)
    amounts = separate_stains(HE, H_E, white)[..., :2] / strength
    density = optical_density(HE, white).mean(2)

    def cells(x: np.ndarray) -> np.ndarray:
        height, width = x.shape
        return x.reshape(height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX).swapaxes(1, 2)

    parts = [cells(amounts[..., 0]), cells(amounts[..., 1]), cells(density)]
    here = [*(part.mean((2, 3)) for part in parts), parts[0].std((2, 3))]
    wanted = here + [
        ndimage.gaussian_filter(x, sigma, mode="nearest", radius=round(3 * sigma))
        for sigma in AROUND_CELLS
        for x in here
    ]
    found = features_of(density_from(HE, white), torch.tensor(strength))[0].numpy()
    assert found.shape == (FEATURES, HE.shape[0] // CELL_PX, HE.shape[1] // CELL_PX)
    assert len(wanted) == FEATURES
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_another_strength_of_both_stains_is_nothing_new() -> None:
    """A slide stained 1.3 times as strongly, by its own strengths; densities alone tell."""
    rng = np.random.default_rng(0)
    amounts = ndimage.gaussian_filter(rng.uniform(0, 1, (96, 96, 3)), (3, 3, 0)) * (1.5, 1.0, 0)
    pale, strong = (combine_stains(gain * amounts, H_E) for gain in (0.7, 0.9))
    found = [
        features_of(density_from(image, look.white), torch.tensor(look.strength))
        for image, look in ((x, slide_stains(x)) for x in (pale, strong))
    ]
    for at in (0, 1, 3):
        np.testing.assert_allclose(found[0][:, at::MAPS].numpy(), found[1][:, at::MAPS].numpy(), atol=0.06)


def test_glass_alone_has_usual_strengths() -> None:
    look = slide_stains(np.full((64, 64, 3), 250, np.uint8))
    assert look.strength == (1.5, 1.0)
    assert hash(look) == hash(slide_stains(np.full((64, 64, 3), 250, np.uint8)))


@pytest.mark.parametrize("size", [(16, 16), (64, 160)])
def test_levels_are_coarse_and_between_none_and_all(size: tuple[int, int]) -> None:
    image = drawn(192, 2)[: size[0], : size[1]]
    found = level_map(network(), image, slide_stains(image))
    assert found.shape == (size[0] // STRIDE_PX, size[1] // STRIDE_PX)
    assert found.dtype == np.float32
    assert 0 < found.min() <= found.max() < 1


@pytest.mark.parametrize("wrong", [(0, 1), (2000, 1), (8, 0), (8, 99)])
def test_networks_that_make_no_sense(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="1 to 16 layers of 1 to 1024 channels"):
        Architecture(*wrong)
