import pytest
import torch

from chromogen.style import gram
from chromogen.style.gram import MeanGram


def by_autograd(x: torch.Tensor) -> torch.Tensor:
    vectors = x.flatten(2)
    return vectors @ vectors.transpose(1, 2) / vectors.shape[2]


@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (2, 16, 70, 90), (1, 4, 64, 64), (1, 3, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient_are_autograds(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.rand(shape).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.rand(shape[0], shape[1], shape[1])
    found, wanted = MeanGram.apply(x), by_autograd(x)
    assert torch.allclose(found, wanted, atol=1e-5)
    gradients = [torch.autograd.grad((g * upstream).sum(), x)[0] for g in (found, wanted)]
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-9)


def test_bf16_adds_up_in_fp32() -> None:
    """Ten thousand positions added in bf16 alone would lose whole percents; rounding of the features stays."""
    x = torch.rand(1, 8, 100, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    found, wanted = MeanGram.apply(x), by_autograd(x.double())
    assert found.dtype == torch.float32
    assert ((found - wanted).norm() / wanted.norm()).item() < 2e-3


def test_parts_do_not_change_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 4, 30, 11)
    whole = MeanGram.apply(x)
    monkeypatch.setattr(gram, "POSITIONS_PER_PART", 32)
    assert torch.allclose(MeanGram.apply(x), whole, atol=1e-6)
