import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.data import immunohistochemistry

from chromogen.image import to_tensor
from chromogen.stains.deconvolution import H_DAB, separate_stains
from chromogen.style.objective import (
    STATISTICS,
    gram_matrix,
    hematoxylin_density,
    laplacian,
    masked_gram_matrix,
    neighbor_differences,
    self_similarity,
)

BATTERY = pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(1)


@BATTERY
def test_batch_is_item_by_item(statistic) -> None:
    x = torch.rand(3, 3, 5, 6)
    whole = statistic(x)
    assert torch.allclose(whole, torch.cat([statistic(item[None]) for item in x]))


@BATTERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_measures_in_float32(statistic, dtype: torch.dtype) -> None:
    assert statistic(torch.rand(1, 3, 4, 4).to(dtype)).dtype == torch.float32


@BATTERY
def test_gradient_is_the_slope(statistic) -> None:
    x = (0.3 + 0.4 * torch.rand(1, 3, 3, 3)).requires_grad_()
    direction = torch.randn_like(x)
    weights = torch.randn_like(statistic(x))
    (statistic(x) * weights).sum().backward()
    assert x.grad is not None
    slope = ((statistic(x + 1e-2 * direction) - statistic(x - 1e-2 * direction)) * weights).sum() / 2e-2
    off = slope.detach() - (x.grad * direction).sum()
    assert off.abs() < 1e-2 * x.grad.norm() * direction.norm() + 1e-3


def test_gram_matrix_is_the_reports_over_positions() -> None:
    f = np.random.default_rng(0).random((3, 4, 5))
    g = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            g[i, j] = sum(f[i, y, x] * f[j, y, x] for y in range(4) for x in range(5))
    measured = gram_matrix(torch.tensor(f, dtype=torch.float32)[None])[0]
    np.testing.assert_allclose(measured.numpy(), g / 20, rtol=1e-5)


def test_gram_matrix_adds_up_over_tiles() -> None:
    x = torch.rand(1, 3, 6, 10)
    left, right = x[..., :4], x[..., 4:]
    assert torch.allclose(gram_matrix(x), 0.4 * gram_matrix(left) + 0.6 * gram_matrix(right), atol=1e-6)


def test_neighbor_differences_by_hand() -> None:
    found = neighbor_differences(torch.tensor([[[[1.0, 4.0], [2.0, 8.0]]]]))
    assert found.tolist() == [[[[3.0, 0.0], [6.0, 0.0]], [[1.0, 4.0], [0.0, 0.0]]]]


def test_a_masked_gram_is_a_weighted_mean_by_a_loop() -> None:
    features, mask = torch.rand(1, 3, 4, 5, dtype=torch.float64), torch.rand(1, 1, 8, 10, dtype=torch.float64)
    wanted, weight = np.zeros((3, 3)), 0.0
    for y in range(4):
        for x in range(5):
            share = mask[0, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean().item()
            f = features[0, :, y, x].numpy()
            wanted, weight = wanted + share * np.outer(f, f), weight + share
    np.testing.assert_allclose(masked_gram_matrix(features, mask)[0].numpy(), wanted / weight, rtol=1e-5)


def test_a_mask_of_all_is_no_mask_and_one_of_nothing_gives_nothing() -> None:
    features = torch.rand(1, 3, 5, 7)
    torch.testing.assert_close(masked_gram_matrix(features, torch.ones(1, 1, 5, 7)), gram_matrix(features))
    torch.testing.assert_close(masked_gram_matrix(features, torch.ones(1, 1, 11, 15)), gram_matrix(features))
    assert (masked_gram_matrix(features, torch.zeros(1, 1, 5, 7)) == 0).all()


def test_what_a_mask_hides_has_no_gradient() -> None:
    features, mask = torch.rand(1, 3, 4, 6, requires_grad=True), torch.zeros(1, 1, 4, 6)
    mask[..., :3] = 1
    masked_gram_matrix(features, mask).sum().backward()
    assert features.grad is not None
    assert (features.grad[..., 3:] == 0).all()
    assert (features.grad[..., :3] > 0).all()


def test_laplacian_is_scipys() -> None:
    x = torch.rand(2, 3, 7, 9)
    wanted = -ndimage.laplace(x.numpy(), mode="nearest", axes=(2, 3))
    np.testing.assert_allclose(laplacian(x).numpy(), wanted, atol=1e-5)


def test_hematoxylin_density_is_numpys_separation_blurred() -> None:
    image = np.asarray(immunohistochemistry())[:64, :80]
    wanted = ndimage.gaussian_filter(separate_stains(image, H_DAB)[..., 0], 1.5, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(hematoxylin_density(to_tensor(image))[0, 0].numpy(), wanted, atol=2e-3)


def test_self_similarity_is_the_cosines_of_centred_features_by_a_loop() -> None:
    features = torch.rand(1, 5, 3, 4)
    vectors = features[0].flatten(1).T.numpy() - features[0].flatten(1).mean(1).numpy()
    found = self_similarity(features)[0].numpy()
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            assert found[i, j] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)


def test_self_similarity_knows_no_colours_and_bounded_size() -> None:
    features = torch.rand(1, 5, 60, 50)
    assert self_similarity(features).shape == (1, 576, 576)
    torch.testing.assert_close(self_similarity(features), self_similarity(3 * features + 1), atol=1e-4, rtol=0)
