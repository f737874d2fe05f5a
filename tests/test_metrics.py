"""One battery over all metrics: they stream, they never give NaN, and they say why there is no value."""

import math

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.evaluation.metrics import (
    CREDIBLE_ALONE,
    CREDIBLE_BESIDE_REAL,
    NUCLEI_MEASURES,
    PREDICTED_DAB,
    PREDICTED_NUCLEI,
    REAL_MEASURES,
    TISSUE_MEASURES,
    Measure,
    style_measures,
)
from chromogen.evaluation.scores import score, tiles
from chromogen.evaluation.tile import Tile
from chromogen.image import Image
from chromogen.style.encoder import Encoder

CREDIBLE = (*CREDIBLE_ALONE, *CREDIBLE_BESIDE_REAL)
SIZE = (210, 227)  # no multiples of anything
IMAGE = np.asarray(immunohistochemistry())
CORNERS = ((0, 0), (9, 4), (150, 170))
PREDICTION, HE, REAL = (np.ascontiguousarray(IMAGE[y : y + SIZE[0], x : x + SIZE[1]]) for y, x in CORNERS)


@pytest.fixture(scope="module")
def measures(encoder: Encoder) -> tuple[Measure, ...]:
    alone = (*TISSUE_MEASURES, PREDICTED_DAB, PREDICTED_NUCLEI)
    return (*style_measures(encoder), *alone, *NUCLEI_MEASURES, *REAL_MEASURES, *CREDIBLE)


EXACT = 1e-6
# Thresholds and similarities of tiles are their own.
CLOSE = {
    "hematoxylin_r": 1e-4,
    "dab_pearson_32um": 0.02,
}


def test_tiles_add_up_to_the_whole(measures: tuple[Measure, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(measures, [Tile(PREDICTION, HE, REAL)])
    monkeypatch.setattr("chromogen.evaluation.scores.CORE_PX", 128)
    cut = list(tiles(PREDICTION, HE, REAL, mpp=None))
    assert len(cut) == 4
    for name, value in score(measures, cut).items():
        wanted = whole[name]
        if name in {"background_whiteness", "ms_ssim"}:
            continue
        tolerance = CLOSE.get(name, 0.02 if name.startswith("gram") or name == "style_error" else 1e-4)
        assert value == pytest.approx(wanted, rel=tolerance, abs=EXACT), name


def test_multi_scale_similarity_of_tiles_is_near_the_wholes(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 40, IMAGE.shape)
    prediction = np.clip(IMAGE + noise, 0, 255).astype(np.uint8)
    whole = Tile(prediction, real=IMAGE)
    monkeypatch.setattr("chromogen.evaluation.scores.CORE_PX", 256)
    cut = list(tiles(prediction, None, IMAGE, None))
    assert len(cut) == 4
    a, b = (score(REAL_MEASURES, each)["ms_ssim"] for each in ([whole], cut))
    assert a == pytest.approx(b, abs=0.05)


WHITE, BLACK = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)
GREY, PIXEL = np.full((64, 64, 3), 128, np.uint8), np.full((1, 1, 3), 90, np.uint8)
PIECE = np.ascontiguousarray(HE[:64, :64])
LINE = np.ascontiguousarray(HE[:1])
ODD = [
    (WHITE, WHITE, WHITE),
    (BLACK, BLACK, BLACK),
    (GREY, PIECE, GREY),
    (PIECE, WHITE, WHITE),
    (WHITE, PIECE, PIECE),
    (PIXEL, PIXEL, PIXEL),
    (LINE, LINE, LINE),
    (PIECE, None, PIECE),
    (PIECE, PIECE, None),
    (PIECE, None, None),
]


@pytest.mark.parametrize("pictures", ODD, ids=range(len(ODD)))
def test_no_picture_gives_nan(
    measures: tuple[Measure, ...], pictures: tuple[Image, Image | None, Image | None]
) -> None:
    found = score(measures, [Tile(*pictures)])
    for name, value in found.items():
        assert (isinstance(value, float) and math.isfinite(value)) or (isinstance(value, str) and value), name


def test_a_missing_picture_is_named(measures: tuple[Measure, ...]) -> None:
    found = score(measures, [Tile(PIECE)])
    assert found["hematoxylin_r"] == "no H&E"
    assert found["psnr"] == "no real IHC"
    assert found["dab_profile"] == "no H&E and no real IHC"
    assert isinstance(found["predicted_dab_od10"], float)


def test_names_are_their_own_and_all_is_said(measures: tuple[Measure, ...]) -> None:
    values = [value for measure in measures for value in measure.values]
    assert len({value.name for value in values}) == len(values)
    for value in values:
        assert value.better in {"higher", "lower", "neither"}
        assert value.says
        assert value.extent


def test_the_real_thing_scores_best(encoder: Encoder) -> None:
    measures = (*style_measures(encoder), *REAL_MEASURES, *CREDIBLE_BESIDE_REAL)
    same, other = (score(measures, [Tile(picture, REAL, REAL)]) for picture in (REAL, PREDICTION))
    assert same.pop("psnr") == "the pictures are equal: the ratio is infinite"
    better = {value.name: value.better for measure in measures for value in measure.values if value.name in same}
    for name, which in better.items():
        if which == "higher":
            assert same[name] == pytest.approx(1, abs=1e-5)
            assert other[name] < 1, name
        if which == "lower":
            assert same[name] == pytest.approx(0, abs=1e-5)
            assert other[name] > 0, name
