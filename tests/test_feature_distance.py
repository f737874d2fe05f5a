import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.data import immunohistochemistry

from chromogen.evaluation import feature_distances
from chromogen.evaluation.feature_distances import patch_features, too_few, vgg19_fid, vgg19_kid
from chromogen.evaluation.tile import UndefinedError
from chromogen.image import to_tensor
from chromogen.stains.tissue import tissue_mask
from chromogen.style.encoder import Encoder


@pytest.fixture(autouse=True)
def few_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_distances, "DIMENSION", 6)


def features(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(seed)) + shift


def test_frechet_distance_is_scipys() -> None:
    a, b = features(80, 1), features(60, 2, 0.3) ** 2
    ma, mb = (x.double().numpy().mean(0) for x in (a, b))
    ca, cb = (np.cov(x.double().numpy().T) for x in (a, b))
    wanted = ((ma - mb) ** 2).sum() + np.trace(ca + cb - 2 * np.real(sqrtm(ca @ cb)))
    assert vgg19_fid(a, b) == pytest.approx(wanted, rel=1e-6)
    assert vgg19_fid(a, a) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_the_formula_by_loops() -> None:
    a, b = features(20, 1), features(20, 2, 0.3)

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return (float(x.double() @ y.double()) / 6 + 1) ** 3

    n = len(a)
    within = [
        sum(kernel(s[i], s[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1)) for s in (a, b)
    ]
    across = sum(kernel(x, y) for x in a for y in b) / n**2
    assert vgg19_kid(a, b) == pytest.approx(sum(within) - 2 * across, rel=1e-4)


def test_subsets_of_many_estimate_the_same() -> None:
    """The mean over subsets of an unbiased estimate is near the estimate from all."""
    a, b = features(400, 1), features(400, 2, 0.5)

    def mmd(x: torch.Tensor, y: torch.Tensor) -> float:
        k = [(u.double() @ v.double().T / 6 + 1) ** 3 for u, v in ((x, x), (y, y), (x, y))]
        within = [(m.sum() - m.trace()) / (len(m) * (len(m) - 1)) for m in k[:2]]
        return float(within[0] + within[1] - 2 * k[2].mean())

    assert vgg19_kid(a, b) == pytest.approx(mmd(a, b), rel=0.1)


def test_the_same_seed_each_time_and_nobody_elses_numbers_disturbed() -> None:
    a, b = features(150, 1), features(150, 2)
    torch.manual_seed(3)
    first, drawn = vgg19_kid(a, b), torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == drawn
    assert vgg19_kid(a, b) == first


def test_patches_are_whole_and_of_tissue(encoder: Encoder) -> None:
    image = np.asarray(immunohistochemistry()).copy()[:300, :300]
    image[:128, :128] = 255
    found = patch_features(encoder, image, tissue_mask(image))
    wanted = encoder(to_tensor(image[:128, 128:256].copy()), ["relu4_1"])["relu4_1"].mean((2, 3)) / 600
    assert found.shape == (3, 512)
    assert torch.allclose(found[0], wanted[0], atol=1e-4)
    assert len(patch_features(encoder, image[:100], tissue_mask(image[:100]))) == 0


def test_too_few_to_say() -> None:
    with pytest.raises(UndefinedError, match="fewer than two patches"):
        vgg19_fid(features(1, 1), features(9, 2))
    assert "5 patches are few" in too_few(5)
    assert too_few(12) == ""
