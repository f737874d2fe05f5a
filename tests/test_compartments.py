import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from chromogen.evaluation import nuclei
from chromogen.evaluation.nuclei import NOT_PLACED, PlacedPair
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.image import Image
from chromogen.nuclei.outlines import RAYS, Nuclei
from chromogen.stains.deconvolution import H_DAB, combine_stains

SIDE = 96
CENTRES = [(20.0, 20.0), (26.0, 40.0), (75.0, 24.0)]  # x, y
RADIUS_PX = 5.0


def discs(centres: list[tuple[float, float]]) -> Nuclei:
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    rays = RADIUS_PX * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    at = np.array(centres, np.float32).reshape(-1, 2)
    return Nuclei(at, (at[:, None] + rays).astype(np.float32), np.ones(len(at), np.float32), 1.0)


def stained(seed: int, dab_od10: float = 0.3) -> Image:
    rng = np.random.default_rng(seed)
    amounts = np.stack(
        [np.full((SIDE, SIDE), 0.3), rng.gamma(1.0, dab_od10, (SIDE, SIDE)), np.zeros((SIDE, SIDE))], 2
    )
    return combine_stains(amounts * np.log(10))


def with_nuclei(prediction: Image, real: Image, centres: list[tuple[float, float]] = CENTRES) -> Tile:
    """A tile of 1 um per pixel, all tissue over white glass, whose nuclei are known."""
    tile = Tile(prediction, real=real, mpp=1.0)
    tile.__dict__.update(prediction_nuclei=discs(centres), real_nuclei=discs(CENTRES))
    return tile


def slow_distances_um(tile: Tile) -> np.ndarray:
    """From every pixel to the nearest pixel of a nucleus, one by one."""
    within = {(y, x) for y in range(SIDE) for x in range(SIDE) if tile.real_from_nuclei_um[y, x] == 0}
    assert 3 * 60 < len(within) < 3 * 90
    at = np.array(sorted(within))
    return np.array([[np.hypot(*(at - (y, x)).T).min() for x in range(SIDE)] for y in range(SIDE)])


def test_distances_and_far_dab_are_those_of_single_pixels() -> None:
    tile = with_nuclei(stained(1), stained(2, 0.5))
    pair = nuclei.add_compartments(PlacedPair(), tile)
    away = slow_distances_um(tile)
    where = (away == 0, (away > 0) & (away <= 4), away > 4)
    for index, mask in enumerate(where):
        ours, real = (dab[mask & tile.tissue] for dab in (tile.prediction_dab_od10, tile.real_dab_od10))
        assert nuclei.distance(pair, index) == pytest.approx(wasserstein_distance(ours, real), abs=0.001)
    far = tile.real_dab_od10[away > 20]
    assert nuclei.far_percent(pair.real) == pytest.approx(100 * far.sum() / tile.real_dab_od10.sum())
    assert nuclei.far_od10(pair.real) == pytest.approx(far.mean())


def test_the_same_picture_is_at_no_distance() -> None:
    pair = nuclei.add_compartments(PlacedPair(), with_nuclei(stained(1), stained(1)))
    assert [nuclei.distance(pair, index) for index in range(3)] == [0, 0, 0]


def test_dab_in_nuclei_alone_is_not_far() -> None:
    tile = with_nuclei(stained(1), stained(1))
    tile.__dict__["prediction_dab_od10"] = 0.5 * (tile.prediction_from_nuclei_um == 0)
    placed = nuclei.add_predicted_compartments(NOT_PLACED, tile)
    assert nuclei.far_percent(placed) == 0
    assert nuclei.far_od10(placed) == 0


def test_without_nuclei_all_is_far() -> None:
    pair = nuclei.add_compartments(PlacedPair(), with_nuclei(stained(1), stained(2), centres=[]))
    assert nuclei.far_percent(pair.predicted) == 100
    with pytest.raises(UndefinedError, match="the prediction has no nuclei"):
        nuclei.distance(pair, 0)
    with pytest.raises(UndefinedError, match="no DAB"):
        nuclei.far_percent(NOT_PLACED)


def test_the_he_says_where_tissue_is_and_nuclei_are_tissue_anyway() -> None:
    """A grey virtual stain passes for a pen's mark in its own tissue mask."""
    grey = np.full((SIDE, SIDE, 3), (140, 138, 139), np.uint8)
    tile = Tile(grey, he=stained(1), mpp=1.0)
    alone = Tile(grey, mpp=1.0)
    for each in (tile, alone):
        each.__dict__["prediction_nuclei"] = discs(CENTRES)
    counts = [nuclei.add_predicted_compartments(NOT_PLACED, each).histograms.sum(axis=1) for each in (tile, alone)]
    away = slow_distances_um(with_nuclei(stained(1), stained(1)))
    assert counts[0].tolist() == [(away == 0).sum(), ((away > 0) & (away <= 4)).sum(), (away > 4).sum()]
    assert counts[1][:2].tolist() == counts[0][:2].tolist()


def test_a_tinted_glass_is_no_dab() -> None:
    """A scanner's grey glass must not count as a pale stain far from nuclei."""
    glass = np.full((SIDE, SIDE, 3), (232, 226, 216), np.uint8)
    glass[40:56, 40:56] = combine_stains(np.array([0.3, 0.4, 0.0]) * np.log(10), H_DAB, (232, 226, 216))
    assert Tile(glass, mpp=1.0).prediction_dab_od10[:20].max() < 0.01
