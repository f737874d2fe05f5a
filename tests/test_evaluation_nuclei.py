import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linprog

from chromogen.evaluation import nuclei
from chromogen.evaluation.metrics import NUCLEI_MEASURES, PREDICTED_NUCLEI, TISSUE_MEASURES
from chromogen.evaluation.scores import score, tiles
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.image import Image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.outlines import Agreement, Nuclei
from chromogen.nuclei.positivity import FIXED_OD10, Measurements
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains

NO_NUCLEI = Agreement(0, 0, 0)
SIDE = 224
CENTRES = [(y, x) for y in range(24, SIDE, 32) for x in range(24, SIDE, 32)]
LN10 = np.log(10)


def picture(blue: list[tuple[int, int]], brown: list[tuple[int, int]], stains: np.ndarray = H_DAB) -> Image:
    """Nuclei of 7 px at (y, x), blue or brown, over pale matter."""
    y, x = np.indices((SIDE, SIDE))

    def discs(centres: list[tuple[int, int]]) -> np.ndarray:
        drawn = np.any([np.zeros((SIDE, SIDE), bool), *(np.hypot(y - a, x - b) < 7 for a, b in centres)], axis=0)
        return ndimage.gaussian_filter(drawn.astype(float), 0.8)

    chromatin = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=y.shape), 1.2)
    texture = (1 + 0.2 * chromatin / chromatin.std()).clip(0.2)
    grain = np.random.default_rng(0).normal(0, 0.01, (SIDE, SIDE, 3))
    hematoxylin = 0.05 + 0.35 * discs(blue) + 0.25 * discs(brown)  # brown nuclei are counterstained too
    amounts = np.stack([hematoxylin, 0.7 * discs(brown), 0 * y], axis=2) * texture[..., None]
    return combine_stains((amounts + grain).clip(0) * LN10, stains)


HE = picture(CENTRES, [], H_E)


def test_nuclei_that_stay_or_turn_brown_are_kept_and_those_that_go_are_not() -> None:
    for prediction in (picture(CENTRES, []), picture([], CENTRES), picture(CENTRES[::2], CENTRES[1::2])):
        assert nuclei.kept(nuclei.add_kept(NO_NUCLEI, Tile(prediction, HE))) > 0.95
    half = nuclei.add_kept(NO_NUCLEI, Tile(picture(CENTRES[::2], []), HE))
    assert nuclei.kept(half) == pytest.approx(25 / 49, abs=0.03)
    assert nuclei.f1(half) == pytest.approx(2 * 25 / (25 + 49), abs=0.03)


def test_counts_and_shares_of_virtual_and_real() -> None:
    prediction, real = picture(CENTRES[10:], CENTRES[:10]), picture(CENTRES[20:], CENTRES[:20])
    found = score((PREDICTED_NUCLEI, *NUCLEI_MEASURES), [Tile(prediction, real=real, mpp=0.5)])
    assert found["predicted_positive_nuclei"] == pytest.approx(100 * 10 / 49, abs=2.5)
    assert found["real_positive_nuclei"] == pytest.approx(100 * 20 / 49, abs=2.5)
    assert found["positive_nuclei_difference"] == pytest.approx(100 * 10 / 49, abs=4)
    seen = nuclei.add_nuclei(nuclei.Seen(), Tile(prediction, mpp=0.5).side("prediction"))
    assert found["predicted_nuclei_per_mm2"] == pytest.approx(49 / seen.tissue_mm2, rel=0.05)


def seen(dab: list[float]) -> nuclei.Seen:
    values = np.array(dab)
    return nuclei.Seen((Measurements(values, values, values, values, values),))


def transported(a: list[float], b: list[float]) -> float:
    """The least work that moves one distribution to the other, as a linear program."""
    cost = abs(np.subtract.outer(a, b)).ravel()
    rows = [np.kron(np.eye(len(a))[i], np.ones(len(b))) for i in range(len(a))]
    columns = [np.kron(np.ones(len(a)), np.eye(len(b))[j]) for j in range(len(b))]
    wanted = [*[1 / len(a)] * len(a), *[1 / len(b)] * len(b)]
    return float(linprog(cost, A_eq=np.array(rows + columns), b_eq=wanted).fun)


def test_distance_of_dab_is_the_least_work() -> None:
    a, b = [0.0, 0.1, 0.5, 0.9], [0.2, 0.3, 0.7]
    assert nuclei.dab_distance((seen(a), seen(b))) == pytest.approx(transported(a, b), abs=1e-6)


def test_spread_is_that_of_stained_cells_wherever_their_dab_is() -> None:
    nuclear, ring = np.linspace(0.1, 0.9, 40), np.full(40, np.nan)
    ring[:10] = 0.7
    blank = np.zeros(40)
    found = nuclei.dab_spread(nuclei.Seen((Measurements(blank, blank, nuclear, blank, ring),)))
    cells = [max(0.7 if i < 10 else 0.0, dab) for i, dab in enumerate(nuclear)]
    stained = [dab for dab in cells if dab > 0.2]
    mean = sum(stained) / len(stained)
    wanted = (sum((dab - mean) ** 2 for dab in stained) / len(stained)) ** 0.5 / mean
    assert found == pytest.approx(wanted)
    assert nuclei.dab_spread(seen([0.5] * 30)) == pytest.approx(0)
    with pytest.raises(UndefinedError, match="fewer than 20 stained cells"):
        nuclei.dab_spread(seen([0.5] * 19 + [0.1] * 30))


def test_a_missing_density_is_left_out_and_no_nuclei_are_said() -> None:
    assert nuclei.dab_distance((seen([0.1, np.nan]), seen([0.3]))) == pytest.approx(0.2)
    with pytest.raises(UndefinedError, match="no nuclei"):
        nuclei.dab_distance((seen([0.1]), nuclei.Seen()))
    with pytest.raises(UndefinedError, match="no nuclei"):
        nuclei.percent_above_threshold(nuclei.Seen())
    with pytest.raises(UndefinedError, match="no nuclei in the H&E"):
        nuclei.kept(NO_NUCLEI)


def test_a_nucleus_counts_in_one_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = picture(CENTRES, [])
    monkeypatch.setattr("chromogen.evaluation.scores.CORE_PX", 112)
    cut = list(tiles(prediction, None, None, 0.5))
    assert len(cut) > 1
    parts = nuclei.Seen()
    for tile in cut:
        parts = nuclei.add_nuclei(parts, tile.side("prediction"))
    whole = nuclei.add_nuclei(nuclei.Seen(), Tile(prediction, mpp=0.5).side("prediction"))
    assert len(parts.measured) == len(whole.measured) == 49
    np.testing.assert_allclose(np.sort(parts.dab_od10), np.sort(whole.dab_od10), atol=1e-4)


def test_pixels_too_large_for_nuclei_are_said() -> None:
    found = score([PREDICTED_NUCLEI], [Tile(picture(CENTRES, []), mpp=4.0)])
    assert found["predicted_nuclei_per_mm2"] == "pixels of 4 um do not show nuclei"


def test_a_pair_on_both_sides_of_a_border_is_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prediction lies 2 px to the right, so that of some pairs the centres belong to two tiles."""
    he, prediction = (
        picture([(y, x - 9) for y, x in CENTRES], [], H_E),
        picture([(y, x - 7) for y, x in CENTRES], []),
    )
    monkeypatch.setattr("chromogen.evaluation.scores.CORE_PX", 112)
    cut = list(tiles(prediction, he, None, 0.5))
    assert len(cut) > 1
    parts = NO_NUCLEI
    for tile in cut:
        parts = nuclei.add_kept(parts, tile)
    assert parts == nuclei.add_kept(NO_NUCLEI, Tile(prediction, he, mpp=0.5))
    assert nuclei.kept(parts) > 0.95


def test_the_share_is_counted_above_the_threshold_that_is_reported() -> None:
    prediction, real = picture(CENTRES[10:], CENTRES[:10]), picture(CENTRES[20:], CENTRES[:20])
    tile = Tile(prediction, real=real, mpp=0.5)
    ours, theirs = (nuclei.add_nuclei(nuclei.Seen(), tile.side(name)) for name in ("prediction", "real"))
    for side in (ours, theirs):
        above = [dab for dab in side.measured.second_od10 if dab > nuclei.threshold_od10(side)]
        assert nuclei.percent_above_threshold(side) == pytest.approx(100 * len(above) / len(side.measured))
        assert side.threshold.source == "found"
    assert nuclei.positive_difference((ours, theirs)) == nuclei.positive_difference((theirs, ours)) > 0


@pytest.mark.parametrize("centres", [[], [(100, 100)]])
def test_no_nuclei_and_one_nucleus(centres: list[tuple[int, int]]) -> None:
    alone = picture([], centres)
    found = score((PREDICTED_NUCLEI, *NUCLEI_MEASURES), [Tile(alone, real=picture(CENTRES, []), mpp=0.5)])
    if centres:
        assert found["predicted_positive_nuclei"] == 100
        assert found["predicted_nuclei_threshold_od10"] == FIXED_OD10[0], (
            "a single nucleus shows no two populations"
        )
    else:
        assert found["predicted_positive_nuclei"] == found["predicted_nuclei_threshold_od10"] == "no nuclei"
        assert found["predicted_nuclei_per_mm2"] == "no tissue"
        for name in ("positive_nuclei_difference", "nuclei_dab_distance_od10"):
            assert found[name] == "no nuclei in the prediction"


def test_pixels_of_unknown_size_are_taken_as_half_a_um() -> None:
    prediction = picture(CENTRES[10:], CENTRES[:10])
    known, unknown = (score([PREDICTED_NUCLEI], [Tile(prediction, mpp=mpp)]) for mpp in (0.5, None))
    assert known == unknown


def test_nuclei_of_a_tile_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(image: Image, mpp: float, white: np.ndarray) -> Nuclei:
        asked.append(image)
        return nuclei_of_image(image, mpp, white=white)

    monkeypatch.setattr("chromogen.evaluation.tile.nuclei_of_image", counted)
    kept = [measure for measure in TISSUE_MEASURES if measure.update is nuclei.add_kept]
    score((*kept, PREDICTED_NUCLEI, *NUCLEI_MEASURES), [Tile(picture(CENTRES, []), HE, picture([], CENTRES))])
    assert len(asked) == 3, "H&E, prediction and real IHC"
