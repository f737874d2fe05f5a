import numpy as np
import pytest
from scipy import stats
from skimage.data import immunohistochemistry

from chromogen.evaluation import feature_distances
from chromogen.evaluation.feature_distances import NO_COLORS, NO_PROFILES, Grams
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.image import to_tensor
from chromogen.stains.tissue import tissue_mask
from chromogen.style.encoder import Encoder
from synthetic import tissue_like

IHC = np.ascontiguousarray(immunohistochemistry()[:128, :160])
OTHER = np.ascontiguousarray(immunohistochemistry()[300:428, 300:460])


def test_gram_error_is_numpys_over_tissue(encoder: Encoder) -> None:
    ours, style = OTHER.copy(), IHC.copy()
    ours[:, :48] = 255
    tile = Tile(ours, real=style)
    found = feature_distances.gram_errors(feature_distances.add_grams(encoder, Grams(), tile))

    def gram(image: np.ndarray, layer: str) -> np.ndarray:
        tissue = tissue_mask(image)
        features = encoder(to_tensor(image), [layer])[layer][0].double().numpy()
        step = image.shape[0] // features.shape[1]
        h, w = features.shape[1:]
        share = tissue.reshape(h, step, w, step).mean((1, 3))
        return np.einsum("chw,dhw,hw->cd", features, features, share) / share.sum()

    for layer in ("relu1_1", "relu3_1", "relu5_1"):
        g, a = gram(ours, layer), gram(style, layer)
        assert found[layer] == pytest.approx(((g - a) ** 2).sum() / (a**2).sum(), rel=1e-4)


def test_white_is_no_style(encoder: Encoder) -> None:
    """A tile of which 40 % are painted white is still in its own style; white counted in, it would not be."""
    whole = np.asarray(immunohistochemistry())
    painted = whole.copy()
    painted[:, :205] = 255
    found = feature_distances.gram_error(feature_distances.add_grams(encoder, Grams(), Tile(painted, real=whole)))
    same = feature_distances.gram_error(feature_distances.add_grams(encoder, Grams(), Tile(whole, real=whole)))
    assert same == pytest.approx(0, abs=1e-6)
    assert found < 0.15


def test_sliced_wasserstein_is_scipys_along_every_direction() -> None:
    tile = Tile(OTHER, real=IHC)
    densities = [
        -np.log10((side.image[side.tissue] + 1.0) / 256) @ feature_distances._directions().T
        for side in (tile.side("prediction"), tile.side("real"))
    ]
    wanted = np.mean(
        [stats.wasserstein_distance(a, b) for a, b in zip(densities[0].T, densities[1].T, strict=True)]
    )
    found = feature_distances.sliced_wasserstein(feature_distances.add_colors(NO_COLORS, tile))
    assert found == pytest.approx(wanted, abs=2e-3)
    assert found > 0.01


def test_the_profile_of_a_real_ihc_is_the_one_that_was_measured_before() -> None:
    """scikit-image's, by another program: brown goes where nuclei lie dense."""
    image = np.asarray(immunohistochemistry())
    tile = Tile(image, image, image)
    found = feature_distances.profile(feature_distances.add_profiles(NO_PROFILES, tile)[1])
    assert found == pytest.approx([0.25, 0.63, 0.94, 1.05, 1.09, 1.20, 1.29, 1.56], abs=0.06)


def test_profiles_are_those_of_quantiles() -> None:
    tile = Tile(OTHER, tissue_like(128, 160, seed=3), IHC)
    density = feature_distances.nuclear_texture_od10(tile, IHC)
    tissue = tile.side("real").tissue
    eighth = np.searchsorted(np.quantile(density[tissue], np.arange(1, 8) / 8), density)
    dab = np.maximum(tile.side("real").od10[..., 1], 0)
    means = np.array([dab[tissue & (eighth == i)].mean() for i in range(8)])
    found = feature_distances.profile(feature_distances.add_profiles(NO_PROFILES, tile)[1])
    assert found == pytest.approx(means / means.mean(), abs=0.03)


def test_a_prediction_with_the_brown_in_the_wrong_tissue_is_told_apart() -> None:
    image = np.asarray(immunohistochemistry())
    right, wrong = Tile(image, image, image), Tile(np.ascontiguousarray(image[::-1]), image, image)
    both = [feature_distances.add_profiles(NO_PROFILES, tile) for tile in (right, wrong)]
    errors = [feature_distances.profile_error(profiles) for profiles in both]
    assert errors[0] == pytest.approx(0, abs=1e-9)
    assert errors[1] > 0.2


def test_what_has_no_stain_has_no_distance(encoder: Encoder) -> None:
    white = np.full_like(IHC, 255)
    with pytest.raises(UndefinedError, match="no tissue"):
        feature_distances.gram_error(feature_distances.add_grams(encoder, Grams(), Tile(white, real=IHC)))
    with pytest.raises(UndefinedError, match="no tissue"):
        feature_distances.sliced_wasserstein(feature_distances.add_colors(NO_COLORS, Tile(IHC, real=white)))
    with pytest.raises(UndefinedError, match="no real IHC"):
        feature_distances.add_grams(encoder, Grams(), Tile(IHC))
