from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from chromogen.image import read_image, to_tensor, to_uint8
from chromogen.stains import deconvolution
from chromogen.stains.deconvolution import (
    H_DAB,
    H_E,
    blurred,
    combine_stains,
    concentrations_of,
    density_of,
    optical_density,
    picture_from,
    rendered,
    separate_stains,
    tissue_share,
)
from chromogen.stains.tissue import tissue_mask
from synthetic import tissue_like

IMAGE = tissue_like(20, 28, seed=5)


def planes(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)[None]


@pytest.mark.parametrize("matrix", [H_E, H_DAB], ids=["H&E", "H-DAB"])
def test_tensors_say_what_arrays_say(matrix: np.ndarray) -> None:
    picture = to_tensor(IMAGE).double()
    torch.testing.assert_close(density_of(picture), planes(optical_density(IMAGE)), rtol=1e-5, atol=1e-6)
    wanted = planes(separate_stains(IMAGE, matrix))
    torch.testing.assert_close(concentrations_of(picture, matrix), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("white", [255.0, 240.0])
def test_a_picture_comes_back_from_its_density(white: float) -> None:
    seen = np.minimum(IMAGE, int(white))
    density = planes(optical_density(seen, white))
    wanted = planes(seen / 255)
    torch.testing.assert_close(picture_from(density, white), wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(picture_from(density, torch.full((1, 3, 1, 1), white).double()), wanted)


def test_rendering_is_the_way_back() -> None:
    concentrations = concentrations_of(to_tensor(IMAGE).double(), H_DAB)
    assert (to_uint8(rendered(concentrations, H_DAB)) == IMAGE).all()
    two = np.concatenate([np.random.default_rng(0).random((6, 7, 2)), np.zeros((6, 7, 1))], axis=2)
    assert (to_uint8(rendered(planes(two)[:, :2], H_DAB)) == combine_stains(two, H_DAB)).all()


def test_both_ways_have_the_right_gradient() -> None:
    picture = (0.1 + 0.8 * torch.rand(1, 3, 3, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: concentrations_of(x, H_E), picture)
    parts = (0.1 + 0.5 * torch.rand(1, 2, 3, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: rendered(c, H_DAB), parts)


@pytest.mark.parametrize("sigma_px", [0.5, 2.0, 9.0])
def test_blurring_is_scipys(sigma_px: float) -> None:
    x = torch.rand(2, 3, 20, 28, dtype=torch.float64)
    wanted = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma_px, sigma_px), mode="nearest", truncate=3.0)
    np.testing.assert_allclose(blurred(x, sigma_px).numpy(), wanted, atol=1e-3)


def test_tissue_is_what_is_not_white() -> None:
    image = np.full((40, 120, 3), 245, np.uint8)
    image[:, :60] = (200, 120, 190)
    share = tissue_share(to_tensor(image))
    assert share.shape == (1, 1, 40, 120)
    assert (share[..., :60] == 1).all()
    assert (share[..., 70:] == 0).all()


PICTURES = (
    "he/hgsc_nest.jpg",
    "he/torchstain_source.png",
    "pairs/mist/ER_he.png",
    "pairs/mist/HER2_ihc.png",
    "nuclei_ihc/22_2.png",
    "pairs/lung-lesion/he.jpg",
)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_losses_and_masks_share_one_tissue(data: Path, name: str, mpp: float) -> None:
    image = read_image(data / name)[:400, :400]
    share, mask = tissue_share(to_tensor(image), mpp)[0, 0].numpy(), tissue_mask(image, mpp)
    assert (share == mask).mean() > 0.995, "they differ by marks alone"


@pytest.mark.parametrize("white", [255, 236, 210])
def test_losses_and_masks_share_one_tissue_beside_glass(white: int) -> None:
    image = np.full((160, 200, 3), white, np.uint8)
    image[:, :120] = tissue_like(160, 120, seed=5).astype(float) * white / 255
    share, mask = tissue_share(to_tensor(image))[0, 0].numpy(), tissue_mask(image)
    assert share.mean() == pytest.approx(mask.mean(), abs=0.01)
    assert mask.mean() == pytest.approx(0.6, abs=0.02)


def test_tissue_is_what_is_darker_than_the_pictures_own_glass() -> None:
    image = np.full((96, 96, 3), (226, 221, 228), np.uint8)
    image[:, :48] = tissue_like(96, 48, seed=3)
    share = tissue_share(to_tensor(image))
    assert (share[..., 60:] == 0).all()
    assert share[..., :36].min() > 0


def test_of_a_large_picture_a_part_of_the_pixels_tells_its_glass(monkeypatch: pytest.MonkeyPatch) -> None:
    white = np.array([232, 228, 235])
    image = np.full((300, 200, 3), white, np.uint8)
    image[60:240, 40:160] = tissue_like(180, 120, seed=1)
    whole = tissue_share(to_tensor(image))
    monkeypatch.setattr(deconvolution, "OVERVIEW_PX", 100)
    torch.testing.assert_close(tissue_share(to_tensor(image)), whole)
    assert whole[..., :40, :].max() == 0  # glass darker than the threshold would be without its white
