"""Convolutions in 8-bit integers: exact sums of bytes, and nearly the network in fp32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import immunohistochemistry
from torch import Tensor, nn

from chromogen.nuclei import network as module
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.integers import LEVELS, IntegerConvolution, bytes_of, has_integer_convolution, peaks_joined
from chromogen.nuclei.network import PEAKS, network_from
from chromogen.nuclei.outlines import NETWORK_MPP, WEIGHTS, agreement, labels_of
from nucleus_peaks import with_peaks

HERE = has_integer_convolution(torch.device("cpu"))
needs_integers = pytest.mark.skipif(not HERE, reason="torch has no convolution of bytes here")
GIVEN, MADE = 3.0, 5.0


def convolution(channels: int, out: int, dilation: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, out, 3, padding=dilation, dilation=dilation)


def by_hand(layer: nn.Conv2d, levels: Tensor, made: float | None) -> Tensor:
    """The same in float64, whose sums of such whole numbers are exact."""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()  # type: ignore[union-attr]
    steps = weight.abs().amax((1, 2, 3)) / 127
    whole = (weight / steps.view(-1, 1, 1, 1)).round()
    around = layer.dilation[0]
    sums = nn.functional.conv2d(levels.double(), whole, padding=around, dilation=around)
    value = (sums * (steps * GIVEN / LEVELS).view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)).relu()
    return value if made is None else (value * LEVELS / made).clamp(0, LEVELS)


@needs_integers
@pytest.mark.parametrize(("channels", "out", "dilation"), [(12, 32, 1), (33, 7, 2), (128, 64, 1)])
def test_sums_of_bytes_are_exact(channels: int, out: int, dilation: int) -> None:
    layer = convolution(channels, out, dilation)
    given = bytes_of(torch.rand(2, channels, 13, 18) * 1.2 * GIVEN, GIVEN)
    floats = IntegerConvolution(layer, GIVEN, None)(given)
    torch.testing.assert_close(floats, by_hand(layer, given, None).float(), rtol=1e-4, atol=1e-5)
    made = IntegerConvolution(layer, GIVEN, MADE)(given)
    assert made.dtype == torch.uint8
    assert (made.double() - by_hand(layer, given, MADE)).abs().max() <= 0.51


@needs_integers
def test_the_highest_bytes_by_the_highest_weights_do_not_overflow() -> None:
    """Without instructions for it, two products are added up in 16 bits."""
    layer = convolution(64, 8)
    with torch.no_grad():
        layer.weight.copy_(
            torch.where(torch.arange(8).view(-1, 1, 1, 1) % 2 == 0, 1.0, -1.0).expand_as(layer.weight)
        )
        assert layer.bias is not None
        layer.bias.zero_()
    given = torch.full((1, 64, 9, 9), LEVELS, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    made = IntegerConvolution(layer, GIVEN, None)(given)
    assert made[0, 0, 4, 4].item() == pytest.approx(64 * 9 * GIVEN, rel=1e-5)
    assert made[0, 1].max() == 0


def test_bytes_end_at_their_peak() -> None:
    found = bytes_of(torch.tensor([-1.0, 0.0, 1.5, 3.0, 9.0]).view(1, 5, 1, 1), GIVEN)
    assert found.flatten().tolist() == [0, 0, 64, 127, 127]
    assert peaks_joined([1, 2, 3, 4], [(0, 2), (1, 3)]) == [3, 4, 3, 4]


def test_the_networks_find_the_same_nuclei(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "choose_precision", lambda _precision, _device: "fp32")
    weights, image = load_file(WEIGHTS), immunohistochemistry()
    plain = {name: weight for name, weight in weights.items() if name != PEAKS}
    integers, fp32 = (nuclei_of_image(image, NETWORK_MPP, network_from(w, views=1)) for w in (weights, plain))
    assert len(fp32) > 100
    found = agreement(*(labels_of(nuclei, image.shape[:2]) for nuclei in (fp32, integers)))
    assert found.f1 > 0.93
    assert (not np.array_equal(fp32.centres_px, integers.centres_px)) == HERE


@pytest.mark.parametrize("why", ["no operator", "bf16"])
def test_elsewhere_the_network_stays_in_floats(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_integer_convolution", lambda _device: why != "no operator")
    monkeypatch.setattr(module, "choose_precision", lambda *_: "bf16" if why == "bf16" else "fp32")
    network, enter = module._made_fast(load_file(WEIGHTS), torch.device("cpu"))
    assert enter(torch.rand(1, 12, 8, 8)).dtype == (torch.bfloat16 if why == "bf16" else torch.float32)
    assert not any(isinstance(layer, IntegerConvolution) for layer in network.modules())


def test_peaks_are_those_of_the_pictures() -> None:
    weights, image = load_file(WEIGHTS), immunohistochemistry()[:128, :128]
    paler = (255 - (255 - image.astype(float)) / 2).astype(np.uint8)
    found = with_peaks(weights, [(image, NETWORK_MPP)])
    assert found.keys() == weights.keys()
    assert with_peaks(weights, [(paler, NETWORK_MPP)])[PEAKS][0] < found[PEAKS][0]
    assert torch.equal(
        with_peaks(weights, [(image, NETWORK_MPP), (paler, NETWORK_MPP)])[PEAKS][0], found[PEAKS][0]
    )
    assert (found[PEAKS] > 0).all()
