import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from chromogen.evaluation import nuclei
from chromogen.evaluation.nuclei import NOT_PLACED, Placed
from chromogen.evaluation.tile import Pair, Tile, UndefinedError
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
    for name, at in (("prediction", centres), ("real", CENTRES)):
        tile.side(name).__dict__["nuclei"] = discs(at)
    return tile


def placed_in(tile: Tile) -> Pair[Placed]:
    predicted, real = (nuclei.add_compartments(NOT_PLACED, tile.side(name)) for name in ("prediction", "real"))
    return predicted, real


def slow_distances_um(tile: Tile) -> np.ndarray:
    """From every pixel to the nearest pixel of a nucleus, one by one."""
    within = {(y, x) for y in range(SIDE) for x in range(SIDE) if tile.side("real").from_nuclei_um[y, x] == 0}
    assert 3 * 60 < len(within) < 3 * 90
    at = np.array(sorted(within))
    return np.array([[np.hypot(*(at - (y, x)).T).min() for x in range(SIDE)] for y in range(SIDE)])


def test_distances_and_far_dab_are_those_of_single_pixels() -> None:
    tile = with_nuclei(stained(1), stained(2, 0.5))
    pair = placed_in(tile)
    away = slow_distances_um(tile)
    where = (away == 0, (away > 0) & (away <= 4), away > 4)
    for index, mask in enumerate(where):
        ours, real = (
            dab[mask & tile.tissue] for dab in (tile.side(name).dab_od10 for name in ("prediction", "real"))
        )
        assert nuclei.distance(pair, index) == pytest.approx(wasserstein_distance(ours, real), abs=0.001)
    real_dab = tile.side("real").dab_od10
    far = real_dab[away > 20]
    assert nuclei.far_percent(pair[1]) == pytest.approx(100 * far.sum() / real_dab.sum())
    assert nuclei.far_od10(pair[1]) == pytest.approx(far.mean())


def test_the_same_picture_is_at_no_distance() -> None:
    pair = placed_in(with_nuclei(stained(1), stained(1)))
    assert [nuclei.distance(pair, index) for index in range(3)] == [0, 0, 0]


def test_dab_in_nuclei_alone_is_not_far() -> None:
    tile = with_nuclei(stained(1), stained(1))
    side = tile.side("prediction")
    side.__dict__["dab_od10"] = 0.5 * (side.from_nuclei_um == 0)
    placed = nuclei.add_compartments(NOT_PLACED, side)
    assert nuclei.far_percent(placed) == 0
    assert nuclei.far_od10(placed) == 0


def test_without_nuclei_all_is_far() -> None:
    pair = placed_in(with_nuclei(stained(1), stained(2), centres=[]))
    assert nuclei.far_percent(pair[0]) == 100
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
        each.side("prediction").__dict__["nuclei"] = discs(CENTRES)
    sides = [each.side("prediction") for each in (tile, alone)]
    counts = [nuclei.add_compartments(NOT_PLACED, side).histograms.sum(axis=1) for side in sides]
    away = slow_distances_um(with_nuclei(stained(1), stained(1)))
    assert counts[0].tolist() == [(away == 0).sum(), ((away > 0) & (away <= 4)).sum(), (away > 4).sum()]
    assert counts[1][:2].tolist() == counts[0][:2].tolist()


def test_a_tinted_glass_is_no_dab() -> None:
    """A scanner's grey glass must not count as a pale stain far from nuclei."""
    glass = np.full((SIDE, SIDE, 3), (232, 226, 216), np.uint8)
    glass[40:56, 40:56] = combine_stains(np.array([0.3, 0.4, 0.0]) * np.log(10), H_DAB, (232, 226, 216))
    assert Tile(glass, mpp=1.0).side("prediction").dab_od10[:20].max() < 0.01
