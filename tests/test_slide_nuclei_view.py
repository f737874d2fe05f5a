"""Nuclei as the page gets them: whatever the view, the same nuclei with the same verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, box

from chromogen.app.view import slide_nuclei as module
from chromogen.app.view.processes import WorkerProcess
from chromogen.app.view.slide_nuclei import (
    GradedNuclei,
    NotWantedError,
    NucleusFinder,
    SlideSource,
    WindowGrid,
    window_grid_of,
)
from chromogen.image import Image, write_image
from chromogen.nuclei import find
from chromogen.nuclei.outlines import Prediction
from chromogen.nuclei.positivity import Measurements, Threshold, fixed_threshold
from chromogen.nuclei.scores import scores
from test_densities import IHC
from test_slide_nuclei import dark_spots

ALL = box(0, 0, 10_000, 10_000)


class Spots:
    """In place of the network: `dark_spots`, and a count of the windows that it is shown."""

    windows = 0

    def __call__(self, densities: NDArray[np.float32]) -> Prediction:
        self.windows += 1
        return dark_spots(densities)


@pytest.fixture
def spots(monkeypatch: pytest.MonkeyPatch) -> Spots:
    spots = Spots()
    monkeypatch.setattr(WorkerProcess, "call", lambda _self, work, *arguments: work(*arguments))
    monkeypatch.setattr(module, "built_in", lambda: spots)
    monkeypatch.setattr(find, "CORE_PX", 224)
    return spots


def source(folder: Path, image: Image, mpp: float = 0.5, stains: Any = "h-dab") -> SlideSource:
    write_image(folder / "a.png", image, mpp=mpp)
    return SlideSource(folder / "a.png", "1", mpp, stains)


def within(finder: NucleusFinder, slide: SlideSource, region: Any, is_wanted: Any = None) -> GradedNuclei:
    return anyio.run(finder.within, slide, region, is_wanted)


def test_a_view_shows_what_the_whole_slide_shows_there(
    tmp_path: Path, spots: Spots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def median(measured: Measurements, _stains: str) -> Threshold:
        return fixed_threshold(float(np.median(measured.second_od10)))

    monkeypatch.setattr(module.positivity, "positive_threshold", median)
    slide = source(tmp_path, IHC)
    whole = within(NucleusFinder(WorkerProcess()), slide, ALL)
    assert len(whole.nuclei) > 100
    assert 0 < whole.numbers.positive_nuclei < len(whole.nuclei)  # type: ignore[operator]
    scored, numbers = scores(whole.nuclei, whole.measured, whole.threshold), whole.numbers
    assert scored.h_score is not None
    assert scored.h_score.interval == (numbers.h_score_low, numbers.h_score_high)
    assert scored.h_score.interval[0] < numbers.h_score < scored.h_score.interval[1]  # type: ignore[operator]
    for view in (box(0, 0, 100, 90), box(130, 77.5, 400, 301), box(200, 200, 260, 512)):
        seen, expected = within(NucleusFinder(WorkerProcess()), slide, view), whole.within(view)
        assert seen.threshold == whole.threshold
        np.testing.assert_array_equal(seen.nuclei.outlines_px, expected.nuclei.outlines_px)
        np.testing.assert_array_equal(seen.grades, expected.grades)


def test_each_window_is_searched_once(tmp_path: Path, spots: Spots) -> None:
    finder, slide = NucleusFinder(WorkerProcess()), source(tmp_path, IHC)
    within(finder, slide, ALL)
    assert spots.windows == 9
    within(finder, slide, box(0, 0, 300, 300))
    assert spots.windows == 9
    within(finder, SlideSource(slide.path, "2", slide.mpp, "h-dab"), box(0, 0, 90, 90))
    assert spots.windows == 9 + module.SAMPLED_WINDOWS + 1, "another version of the file is another slide"


@pytest.mark.parametrize("mpp", [0.22, 0.5, 1.0])
def test_nuclei_lie_in_pixels_of_level_0(tmp_path: Path, spots: Spots, mpp: float) -> None:
    found = within(NucleusFinder(WorkerProcess()), source(tmp_path, IHC[:300, :200], mpp), ALL)
    assert found.nuclei.mpp == mpp
    assert (found.nuclei.outlines_px >= 0).all()
    assert (found.nuclei.outlines_px <= (200, 300)).all()


def test_an_he_has_nuclei_and_none_is_positive(tmp_path: Path, spots: Spots) -> None:
    found = within(
        NucleusFinder(WorkerProcess()), source(tmp_path, IHC, stains="h-e"), box(0, 0, 100, 100)
    ).numbers
    assert found.nuclei > 0
    assert found.positive_nuclei is found.positive_nuclei_percent is found.nuclei_threshold_od10 is None
    assert spots.windows == 1, "an H&E needs no threshold"


def test_glass_is_not_searched(tmp_path: Path, spots: Spots) -> None:
    found = within(
        NucleusFinder(WorkerProcess()), source(tmp_path, np.full((300, 300, 3), 240, np.uint8)), ALL
    ).numbers
    assert (found.nuclei, found.positive_nuclei, found.positive_nuclei_percent, spots.windows) == (0, 0, None, 0)


@pytest.mark.parametrize(
    ("mpp", "words"),
    [
        (2.5, "at most 2 um/px, where nuclei show"),
        (0.5, "at most 0.05 mm2 for nuclei, got 0.0655 mm2; take a smaller one"),
    ],
)
def test_what_shows_no_nuclei_or_too_many_is_refused(
    tmp_path: Path, spots: Spots, monkeypatch: pytest.MonkeyPatch, mpp: float, words: str
) -> None:
    monkeypatch.setattr(module, "MAX_MM2", 0.05)
    with pytest.raises(ValueError, match=words):
        within(NucleusFinder(WorkerProcess()), source(tmp_path, IHC, mpp), ALL)
    assert spots.windows == 0


@pytest.mark.parametrize("region", [box(600, 600, 700, 700), box(512, 0, 600, 90), MultiPolygon()])
def test_beside_the_slide_there_are_none(tmp_path: Path, spots: Spots, region: Any) -> None:
    assert within(NucleusFinder(WorkerProcess()), source(tmp_path, IHC), region).numbers.nuclei == 0


def test_a_file_that_is_gone_says_so_without_its_folder(tmp_path: Path, spots: Spots) -> None:
    with pytest.raises(ValueError, match="existing slide") as error:
        within(
            NucleusFinder(WorkerProcess()), SlideSource(tmp_path / "gone.png", "1", 0.5, "h-dab"), box(0, 0, 9, 9)
        )
    assert str(tmp_path) not in str(error.value)


def test_what_nobody_waits_for_is_left(tmp_path: Path, spots: Spots) -> None:
    answers = iter([True, True, True])

    async def is_wanted() -> bool:
        return next(answers, False)

    with pytest.raises(NotWantedError):
        within(NucleusFinder(WorkerProcess()), source(tmp_path, IHC), ALL, is_wanted)
    assert spots.windows == 2, "the survey, and two windows"


def test_the_sample_is_spread_over_the_windows_with_tissue(tmp_path: Path, spots: Spots) -> None:
    sliding_window = WindowGrid((100, 100), (100, 100), tuple(range(100, 140)))
    assert sliding_window.sample() == [105, 115, 125, 135]
    assert WindowGrid((9, 9), (9, 9), (3, 7)).sample() == [3, 7]
    assert WindowGrid((9, 9), (9, 9), ()).sample() == []
    assert window_grid_of(source(tmp_path, IHC)).with_tissue == tuple(range(9))


def test_numbers_in_words() -> None:
    assert module.in_words(module.NucleusNumbers(1)) == "1 nucleus in view."
    scored = module.NucleusNumbers(
        1200,
        300,
        25.0,
        20.0,
        31.0,
        40.0,
        30.0,
        52.0,
        0.25,
        nuclei_threshold_source="found",
        nuclei_doubt="few fields",
    )
    assert module.in_words(scored) == (
        "1,200 nuclei in view, 25.0 % positive (DAB above 0.25, found from the slide’s nuclei). "
        "H-score 40 (30 to 52). 95 % interval of the share: 20.0 to 31.0 %. In doubt: few fields."
    )
