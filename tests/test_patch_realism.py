import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.evaluation.feature_distances import (
    CHANNELS,
    LAYERS,
    patch_precision,
    patch_statistics,
    whitened,
)
from chromogen.evaluation.tile import UndefinedError
from chromogen.image import to_tensor
from chromogen.stains.tissue import tissue_mask
from chromogen.style.encoder import Encoder


def vectors(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 9)) @ np.random.default_rng(0).normal(size=(9, 9)) + shift


def slow_precision(predicted: np.ndarray, real: np.ndarray) -> float:
    """By loops, over components from the covariance."""
    centre, unit = real.mean(0), real.std(0)
    values, columns = np.linalg.eigh(np.cov(((real - centre) / unit).T, bias=True))
    count = len(real) // 8
    axes = columns[:, ::-1][:, :count] / np.sqrt(values[::-1][:count])
    ours, theirs = (((x - centre) / unit) @ axes for x in (predicted, real))
    within = 0
    for patch in ours:
        for i, centre_of_ball in enumerate(theirs):
            near = sorted(
                float(np.linalg.norm(centre_of_ball - other)) for j, other in enumerate(theirs) if j != i
            )
            if np.linalg.norm(patch - centre_of_ball) <= near[2]:
                within += 1
                break
    return within / len(ours)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_precision_is_the_papers_by_loops(shift: float) -> None:
    predicted, real = vectors(30, 1, shift), vectors(40, 2)
    assert patch_precision(predicted, real) == slow_precision(predicted, real)


def test_the_real_set_is_within_itself_and_the_far_is_not() -> None:
    real = vectors(40, 2)
    assert patch_precision(real, real) == 1
    assert patch_precision(real + 100, real) == 0


def test_components_of_the_real_have_no_correlation_and_unit_deviation() -> None:
    real = vectors(64, 3)
    found = whitened(real, real)
    assert found.shape == (64, 8)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(8), atol=1e-9)


def test_too_few_to_say() -> None:
    for predicted, real in ((vectors(5, 1), vectors(15, 2)), (np.empty((0, 9)), vectors(40, 2))):
        with pytest.raises(UndefinedError, match="fewer than 16 real patches of 64 px"):
            patch_precision(predicted, real)


def test_patches_are_whole_of_tissue_and_measured_by_channel(encoder: Encoder) -> None:
    image = np.asarray(immunohistochemistry())[:150, :150].copy()
    image[:64, :64] = 255
    found = patch_statistics(encoder, image, tissue_mask(image))
    assert found.shape == (3, 2 * CHANNELS)
    features = encoder(to_tensor(image[:64, 64:128].copy()), LAYERS)["relu1_1"][0].numpy()
    np.testing.assert_allclose(found[0, :64], features.mean((1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[0, 64:128], features.std((1, 2)), rtol=1e-4, atol=1e-4)
    assert len(patch_statistics(encoder, image[:50], np.ones((50, 150), bool))) == 0
