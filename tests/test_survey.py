from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromogen.compute.tiles import Window, whole
from chromogen.image import Image
from chromogen.whole_slide import survey as survey_module
from chromogen.whole_slide import view as view_module
from chromogen.whole_slide.survey import TissueShare, survey
from chromogen.whole_slide.view import view_at
from synthetic_slides import GLASS, Box, SyntheticSource, paint_tissue, synthetic_slide


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "OVERVIEW_PX", 500)


RNG = np.random.default_rng(0)
SHARE = TissueShare(RNG.integers(0, 256, (31, 45), dtype=np.uint8), (907, 613), (45, 31))


@settings(max_examples=40)
@given(st.data())
def test_a_part_of_the_map_gives_the_same_shares(data: st.DataObject) -> None:
    left = data.draw(st.integers(0, 906))
    top = data.draw(st.integers(0, 612))
    window = Window(left, top, data.draw(st.integers(left + 1, 907)), data.draw(st.integers(top + 1, 613)))
    at = SHARE.part(window).at(window)
    np.testing.assert_array_equal(at, SHARE.at(whole((907, 613)))[window.at])


def test_shares_are_interpolated_between_the_maps_pixels() -> None:
    """Against numpy's interpolation, column by column and row by row."""
    full = SHARE.at(whole(SHARE.size)).astype(float)
    x = (np.arange(907) + 0.5) * 45 / 907 - 0.5
    y = (np.arange(613) + 0.5) * 31 / 613 - 0.5
    rows = np.stack([np.interp(x, np.arange(45), row) for row in SHARE.values.astype(float)])
    expected = np.stack([np.interp(y, np.arange(31), column) for column in rows.T], axis=1)
    assert np.abs(full - expected).max() < 2


def test_tissue_is_found_with_a_margin_and_glass_with_its_colour() -> None:
    slide = synthetic_slide((2000, 1500))
    seen = survey(view_at(slide, 0.5))
    assert seen.white == (GLASS, GLASS, GLASS)
    assert seen.tissue_fraction == pytest.approx(np.pi / 4 * 0.81, abs=0.02)
    assert seen.share is not None
    share = seen.share.at(whole((2000, 1500)))
    y, x = np.mgrid[:1500, :2000]
    inside = ((x - 1000) / 900) ** 2 + ((y - 750) / 675) ** 2 <= 1
    assert (share[inside] == 255).all()
    assert share[:10].max() == 0
    assert seen.sample.shape == (1024, 1024, 3)


def test_without_a_mask_all_is_tissue() -> None:
    assert survey(view_at(synthetic_slide((500, 400)), 0.5), mask_tissue=False).share is None


def paint_glass(source: SyntheticSource, _level: int, box: Box) -> Image:
    return np.full((box[3], box[2], 3), GLASS, np.uint8)


def test_bare_glass_is_all_skipped() -> None:
    seen = survey(view_at(synthetic_slide((1500, 1000), paint_glass), 0.5))
    assert seen.tissue_fraction == 0
    assert seen.share is not None
    assert not seen.share.values.any()


def test_the_sample_is_all_of_a_small_slide() -> None:
    slide = synthetic_slide((600, 500))
    seen = survey(view_at(slide, 0.5))
    np.testing.assert_array_equal(seen.sample, slide.read_region((0, 0), (600, 500)))


def test_the_sample_is_of_tissue() -> None:
    seen = survey(view_at(synthetic_slide((6_000, 3_000)), 0.5))
    assert (seen.sample.min(axis=2) < GLASS - 15).mean() > 0.8


def test_a_broken_tile_does_not_stop_the_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = synthetic_slide((1700, 1300), paint_tissue, factors=(1,), broken=[(800, 600, 200, 200)])
    monkeypatch.setattr(view_module, "open_slide", lambda _path: nullcontext(slide))
    seen = survey(view_at(slide, 0.5))
    assert seen.tissue_fraction > 0.5
    assert seen.share is not None
    assert (seen.share.at(Window(800, 600, 1000, 800)) == 255).all(), "nobody knows better"


def test_a_slide_of_more_than_the_coarsest_mpp_is_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "OVERVIEW_PX", 16)
    seen = survey(view_at(synthetic_slide((4000, 2000)), 0.5))
    assert seen.share is not None
    assert seen.share.shape == (100, 50)
