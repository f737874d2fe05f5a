import numpy as np
import pytest
import torch
from scipy.special import huber as scipy_huber

from chromogen.style.objective import DISTANCES, gram_mse, huber, mae, mse

BATTERY = pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)


def pair(batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, 4, 4, generator=generator), torch.randn(1, 4, 4, generator=generator)


@BATTERY
def test_zero_where_measured_is_the_reference(distance) -> None:
    x, _ = pair()
    assert distance(x, x).tolist() == [0.0]


@BATTERY
def test_positive_and_symmetric_in_sign(distance) -> None:
    x, reference = pair()
    assert distance(x, reference) > 0
    assert torch.allclose(distance(x, reference), distance(2 * reference - x, reference))


@BATTERY
def test_batch_is_item_by_item(distance) -> None:
    x, reference = pair(batch=3)
    one_by_one = [distance(item[None], reference).item() for item in x]
    assert distance(x, reference).tolist() == pytest.approx(one_by_one)


@BATTERY
def test_gradcheck(distance) -> None:
    x, reference = pair()
    assert torch.autograd.gradcheck(distance, (x.double().requires_grad_(), reference.double()))


def test_mse_is_half_the_sum_of_squares() -> None:
    x, p = (a.numpy() for a in pair())
    assert mse(torch.tensor(x), torch.tensor(p)).item() == pytest.approx(0.5 * ((x - p) ** 2).sum(), rel=1e-5)


def test_mae_is_the_sum_of_absolute_differences() -> None:
    x, p = (a.numpy() for a in pair())
    assert mae(torch.tensor(x), torch.tensor(p)).item() == pytest.approx(np.abs(x - p).sum(), rel=1e-5)


def test_huber_is_scipys_with_the_references_rms_as_delta() -> None:
    x, p = (a.numpy() for a in pair())
    wanted = scipy_huber(np.sqrt((p**2).mean()), x - p).sum()
    assert huber(torch.tensor(x), torch.tensor(p)).item() == pytest.approx(wanted, rel=1e-5)


def test_gram_mse_is_the_reports_formula_on_raw_grams() -> None:
    """1/(4 N^2 M^2) sum (G - A)^2 with G = F F^T, computed in numpy from features of 20 positions."""
    f, a = np.random.default_rng(0).random((2, 3, 20))
    raw = ((f @ f.T - a @ a.T) ** 2).sum() / (4 * 3**2 * 20**2)
    over_m = (torch.tensor(v @ v.T / 20)[None] for v in (f, a))
    assert gram_mse(*over_m).item() == pytest.approx(raw)
