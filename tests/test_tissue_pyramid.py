"""What networks see of tissue."""

import numpy as np
import torch
from scipy import ndimage

from chromogen.style.tissue_pyramid import FAR, FEATURES, doubled, halved, smoothed, tissue_pyramid


def test_steps_are_interpolation_and_binomial() -> None:
    x = torch.randn(1, 2, 12, 16)
    kernel = np.array([1, 2, 1]) / 4
    wanted = ndimage.correlate(x[0, 0].numpy(), np.outer(kernel, kernel), mode="nearest")
    np.testing.assert_allclose(smoothed(x)[0, 0], wanted, atol=1e-6)
    assert doubled(x).shape == (1, 2, 24, 32)
    wanted = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(doubled(x), wanted, atol=1e-6)
    np.testing.assert_allclose(halved(x), x.numpy().reshape(1, 2, 6, 2, 8, 2).mean((3, 5)), atol=1e-6)


def test_even_tissue_has_its_own_level_everywhere_and_no_texture() -> None:
    basis = torch.tensor([0.7, 0.4, 0.2]).view(1, 3, 1, 1).expand(1, 3, 16, 24)
    found = tissue_pyramid(basis)
    assert found.shape == (1, FEATURES, 16, 24)
    near, third, fourth = found[0, 4:7], found[0, 7:10], found[0, FAR : FAR + 3]
    for level in (found[0, :3], near, third, fourth):
        np.testing.assert_allclose(level, basis[0], atol=1e-6)
    np.testing.assert_allclose(found[0, [3, 10, 14]], 0, atol=1e-6)


def test_the_far_feature_is_haematoxylin_that_is_not_near() -> None:
    basis = torch.zeros(1, 3, 64, 64)
    basis[:, 0, 32:, 32:] = 1
    far, at_once = tissue_pyramid(basis)[0, FAR], basis[0, 0]
    assert 0 < far[28, 48] < 1
    assert at_once[28, 48] == 0
    assert far[8, 8] == 0


def test_it_sees_54_px_of_full_resolution_and_so_27_um() -> None:
    farthest = 0
    for place in range(80, 96):
        density = torch.rand(1, 3, 176, 176, dtype=torch.float64, requires_grad=True)
        doubled(tissue_pyramid(halved(density)))[0, :, place, place].abs().sum().backward()
        assert density.grad is not None
        seen = density.grad[0].abs().sum(0).nonzero()
        farthest = max(farthest, int((seen - place).abs().max()))
    assert farthest == 54
