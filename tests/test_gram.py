import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from chromogen.style import gram
from chromogen.style.gram import position_shares, preconditioner
from chromogen.style.objective import gram_matrix


def by_autograd(x: torch.Tensor) -> torch.Tensor:
    vectors = x.flatten(2)
    return vectors @ vectors.transpose(1, 2) / vectors.shape[2]


@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (2, 16, 70, 90), (1, 4, 64, 64), (1, 3, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient_are_autograds(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.rand(shape).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.rand(shape[0], shape[1], shape[1])
    found, wanted = gram_matrix(x), by_autograd(x)
    assert torch.allclose(found, wanted, atol=1e-5)
    gradients = [torch.autograd.grad((g * upstream).sum(), x)[0] for g in (found, wanted)]
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-9)


def test_bf16_adds_up_in_fp32() -> None:
    """Ten thousand positions added in bf16 alone would lose whole percents; rounding of the features stays."""
    x = torch.rand(1, 8, 100, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    found, wanted = gram_matrix(x), by_autograd(x.double())
    assert found.dtype == torch.float32
    assert ((found - wanted).norm() / wanted.norm()).item() < 2e-3


def test_parts_do_not_change_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 4, 30, 11)
    whole = gram_matrix(x)
    monkeypatch.setattr(gram, "POSITIONS_PER_PART", 32)
    assert torch.allclose(gram_matrix(x), whole, atol=1e-6)


def gram_of(rank: int, channels: int = 6, seed: int = 0) -> torch.Tensor:
    x = torch.rand(rank, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x.T @ x / rank)[None].float()


def bures(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Wasserstein distance of two centred normal distributions, by SciPy."""
    return float(np.trace(a + b - 2 * np.real(sqrtm(a @ b))))


def test_the_preconditioner_is_half_the_curvature_of_the_wasserstein_distance() -> None:
    """Along a small difference D the distance is <D, P D> / (4 s), where s scales P to the strongest variance."""
    gram = gram_of(rank=50)
    a = gram[0].double().numpy()
    added = 3.0 * np.trace(a) / len(a)
    scale = (a**2).sum() / np.trace(a) + added
    rng = np.random.default_rng(1)
    for _ in range(5):
        d = rng.normal(size=a.shape) * 1e-3
        d = d + d.T
        p_d = preconditioner(gram)(torch.from_numpy(d).float()[None])[0].double().numpy()
        damped = a + added * np.eye(len(a))
        assert (d * p_d).sum() / (4 * scale) == pytest.approx(bures(damped + d, damped), rel=0.02)


def test_heavy_damping_changes_nothing() -> None:
    gradient = torch.rand(1, 6, 6)
    assert torch.allclose(preconditioner(gram_of(50), damping=1e6)(gradient), gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gram", [torch.zeros(1, 6, 6), gram_of(rank=1), torch.full((1, 6, 6), 1e9)])
def test_a_style_without_variance_does_not_break_it(gram: torch.Tensor) -> None:
    found = preconditioner(gram)(torch.rand(1, 6, 6))
    assert found.isfinite().all()


@pytest.mark.parametrize("size", [(20, 24), (31, 47), (16, 17), (100, 33)])
def test_shares_fit_every_layer_of_odd_pictures(size: tuple[int, int]) -> None:
    height, width = size
    while min(height, width) >= 1:
        shares = position_shares(torch.ones(1, 1, *size), (height, width))
        assert torch.equal(shares, torch.ones(1, height * width, 1))
        height, width = height // 2, width // 2
