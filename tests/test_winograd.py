"""Winograd's convolutions against torch's own, in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from chromogen.style import winograd
from chromogen.style.vgg import Convolution

SIZES = ((1, 1), (4, 4), (5, 3), (16, 16), (37, 50), (9, 300))


def given(size: tuple[int, int], batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(size))
    x = torch.randn(batch, 16, *size, generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(24, 16, 3, 3, generator=generator)


def off_by(found: Tensor, right: Tensor) -> float:
    """Largest error, in units of the result's root mean square."""
    return float((found - right).abs().max() / right.square().mean().sqrt())


@pytest.mark.parametrize("size", SIZES)
def test_is_a_convolution_with_padding(size: tuple[int, int]) -> None:
    x, kernel = given(size)
    found = winograd.convolve(x, winograd.transformed(kernel), lambda band: band)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert off_by(found, F.conv2d(x.double(), kernel.double(), padding=1)) < 1e-4


def test_every_band_is_finished_and_every_image_of_a_batch_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "TILES_PER_BAND", 9)
    x, kernel = given((37, 21), batch=3)
    found = winograd.convolve(x, winograd.transformed(kernel), lambda band: band.add_(1).relu_())
    assert off_by(found, (F.conv2d(x.double(), kernel.double(), padding=1) + 1).relu()) < 1e-4


def test_any_layout_of_memory_will_do() -> None:
    x, kernel = given((20, 30))
    found = winograd.convolve(x.contiguous(), winograd.transformed(kernel), lambda band: band)
    assert off_by(found, F.conv2d(x.double(), kernel.double(), padding=1)) < 1e-4


def test_it_is_for_wide_kernels_in_fp32_on_pictures_that_are_not_tiny() -> None:
    wide, narrow = torch.empty(256, 128, 3, 3), torch.empty(64, 128, 3, 3)
    there = torch.backends.mkl.is_available()
    assert winograd.pays(torch.empty(1, 128, 32, 32), wide) is there
    assert not winograd.pays(torch.empty(1, 128, 32, 32), narrow)
    assert not winograd.pays(torch.empty(1, 128, 31, 32), wide)
    assert not winograd.pays(torch.empty(1, 128, 32, 32, dtype=torch.bfloat16), wide)


def test_a_convolution_goes_this_way_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "MIN_PAIRS", 0)
    monkeypatch.setattr(winograd, "MIN_PX", 0)
    used: list[int] = []
    real = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *given: (used.append(1), real(*given))[1])
    x, kernel = given((18, 22))
    bias = torch.linspace(-1, 1, 24)
    convolution = Convolution(kernel, bias)
    exact = x.double().requires_grad_()
    right = F.conv2d(exact, kernel.double(), bias.double(), padding=1)
    assert off_by(convolution.forward(x), right.detach().relu()) < 1e-4
    asked = torch.randn(right.shape, generator=torch.Generator().manual_seed(1))
    right.backward(asked.double())
    assert exact.grad is not None
    assert off_by(convolution.input_grad(asked), exact.grad) < 1e-4
    assert len(used) == (2 if torch.backends.mkl.is_available() else 0)
