import numpy as np
import pytest
from scipy import ndimage, stats

from chromogen.evaluation import tissue_kept
from chromogen.evaluation.tile import NO_PAIRS, NOTHING, Tile, UndefinedError, mean, pearson
from chromogen.image import Image
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains

SIDE = 160


def smooth(seed: int, sigma: float, side: int = SIDE) -> np.ndarray:
    """A random field from 0 to 1."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), sigma)
    return (field - field.min()) / np.ptp(field)


def rendered(first: np.ndarray, second: np.ndarray, matrix: np.ndarray) -> Image:
    return combine_stains(np.stack([first, second, np.zeros_like(first)], axis=2), matrix)


HEMATOXYLIN, EOSIN, ELSEWHERE = smooth(1, 3), smooth(2, 6), smooth(3, 6)
HE = rendered(HEMATOXYLIN, 0.2 + 0.5 * EOSIN, H_E)


def stained(dab: np.ndarray, hematoxylin: np.ndarray = HEMATOXYLIN) -> Tile:
    return Tile(rendered(hematoxylin, dab, H_DAB), HE)


def test_hematoxylin_r_is_scipys_of_maps_unmixed_by_least_squares() -> None:
    tile = stained(0.5 * EOSIN, 0.5 * HEMATOXYLIN + 0.5 * ELSEWHERE)

    def unmixed(image: Image, matrix: np.ndarray) -> np.ndarray:
        density = -np.log((image.reshape(-1, 3) + 1.0) / 256)
        found = np.linalg.lstsq(matrix.T, density.T, rcond=None)[0][0]
        return ndimage.gaussian_filter(found.reshape(SIDE, SIDE), 1.5, truncate=3.0)

    wanted = stats.pearsonr(unmixed(HE, H_E).ravel(), unmixed(tile.prediction, H_DAB).ravel()).statistic
    assert pearson(tissue_kept.add_hematoxylin(NO_PAIRS, tile)) == pytest.approx(wanted, abs=1e-6)
    assert 0.5 < wanted < 0.95


def test_hematoxylin_that_stays_has_r_1_and_brown_does_not_disturb_it() -> None:
    assert pearson(tissue_kept.add_hematoxylin(NO_PAIRS, stained(EOSIN))) > 0.99


def determined(tile: Tile) -> float:
    return tissue_kept.determined(tissue_kept.add_samples(tissue_kept.Samples(), tile))


def test_dab_that_follows_the_tissue_is_determined_and_dab_of_its_own_is_not() -> None:
    assert determined(stained(0.6 * (EOSIN > 0.5) * HEMATOXYLIN)) > 0.7
    assert determined(stained(0.6 * ELSEWHERE)) < 0.3


def test_determined_is_what_least_squares_with_a_penalty_gives() -> None:
    """The same by augmented least squares on features that are made pixel by pixel."""
    tile = stained(0.5 * EOSIN + 0.2 * ELSEWHERE)
    density = -np.log10((HE + 1.0) / 256)
    gray = density.mean(2)

    def blur(x: np.ndarray, sigma: float) -> np.ndarray:
        return ndimage.gaussian_filter(x, sigma, truncate=3.0)

    maps = [blur(density[..., c], s) for c in range(3) for s in (1, 2, 4, 8, 16)]
    maps += [np.sqrt(blur(gray**2, s) - blur(gray, s) ** 2) for s in (2, 4, 8)]
    every = np.s_[::3, ::3]
    x = np.stack([m[every].ravel() for m in maps], 1).astype(np.float32).astype(float)
    x = ((x - x.mean(0)) / x.std(0)).clip(-3, 3)
    quadratic = [np.ones(len(x))] + list(x.T) + [x[:, i] * x[:, j] for i in range(18) for j in range(i, 18)]
    x = np.stack(quadratic, 1)
    y = blur(tile.side("prediction").od10[..., 1], 1.5)[every].ravel()
    low, high = np.percentile(y, [1, 99])
    y = y.clip(low, high)
    rows, columns = np.indices((SIDE, SIDE))
    dark = ((rows // 48 + columns // 48) % 2 == 0)[every].ravel()
    error = spread = 0.0
    for learn in (dark, ~dark):
        penalty = np.eye(x.shape[1])
        penalty[0, 0] = 0
        weights = np.linalg.lstsq(np.vstack([x[learn], penalty]), np.r_[y[learn], np.zeros(len(penalty))])[0]
        error += ((y[~learn] - (x[~learn] @ weights).clip(low, high)) ** 2).sum()
        spread += ((y[~learn] - y[learn].mean()) ** 2).sum()
    assert determined(tile) == pytest.approx(1 - error / spread, abs=1e-5)


def test_dab_that_is_not_there_has_no_determination() -> None:
    with pytest.raises(UndefinedError, match="does not vary"):
        determined(Tile(np.full((SIDE, SIDE, 3), 150, np.uint8), HE))
    with pytest.raises(UndefinedError, match="sampled pixels"):
        determined(Tile(HE[:30, :30], HE[:30, :30]))


def test_glass_that_is_painted_is_seen() -> None:
    he = HE.copy()
    he[:, :80] = 255
    prediction = he.copy()
    prediction[:40, :80] = (255, 204, 240)
    glass = ~Tile(prediction, he).tissue
    wanted = (prediction.min(2)[glass] / 255).mean()
    found = mean(tissue_kept.add_glass(NOTHING, Tile(prediction, he)))
    assert found == pytest.approx(wanted)
    assert found == pytest.approx(1 - 0.2 / 4, abs=0.005)


def test_pink_is_foreign_to_an_ihc() -> None:
    """The part of the density along the normal of the plane of haematoxylin and DAB, by hand."""
    normal = np.cross([0.65111, 0.70119, 0.29049], [0.26917, 0.56824, 0.77759])
    shares = []
    for color in ((230, 120, 170), (150, 100, 60)):
        sums = tissue_kept.add_foreign_color(NOTHING, Tile(np.full((20, 20, 3), color, np.uint8)))
        shares.append(np.sqrt(sums[0] / sums[1]))
        density = -np.log10((np.array(color) + 1) / 256)
        wanted = abs(density @ normal) / np.linalg.norm(normal) / np.linalg.norm(density)
        assert shares[-1] == pytest.approx(wanted, rel=1e-3)
    assert shares[0] > 0.3 > 0.15 > shares[1]


def test_blocks_do_not_change_what_is_determined(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = determined(stained(0.5 * EOSIN + 0.2 * ELSEWHERE))
    monkeypatch.setattr(tissue_kept, "BLOCK", 300)
    assert determined(stained(0.5 * EOSIN + 0.2 * ELSEWHERE)) == pytest.approx(whole, abs=1e-6)


def test_edge_r_is_scipys_of_slopes_by_convolution() -> None:
    """Slopes as differences of the blurred density, instead of a derivative's kernel."""
    tile = stained(0.5 * EOSIN, 0.5 * HEMATOXYLIN + 0.5 * ELSEWHERE)

    def slopes(image: Image) -> np.ndarray:
        density = -np.log10((image + 1.0) / 256).mean(axis=2)
        y, x = np.gradient(ndimage.gaussian_filter(density, 2.0))
        return np.hypot(y, x)

    inside = np.s_[4:-4, 4:-4]
    wanted = stats.pearsonr(slopes(HE)[inside].ravel(), slopes(tile.prediction)[inside].ravel()).statistic
    assert pearson(tissue_kept.add_edges(NO_PAIRS, tile)) == pytest.approx(wanted, abs=0.01)
    assert 0.2 < wanted < 0.95


def test_edge_r_knows_no_colours() -> None:
    """A picture in which dark is bright has its edges where they were."""
    inverted = Tile((255 - HE // 2).astype(np.uint8), HE)
    assert pearson(tissue_kept.add_edges(NO_PAIRS, inverted)) > 0.8
