import json
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from chromogen.nuclei.outlines import RAYS, Nuclei
from chromogen.nuclei.positivity import Measurements, Threshold, fixed_threshold, positive_threshold
from chromogen.nuclei.scores import (
    FIELD_UM,
    MIN_FIELDS,
    added,
    allred,
    h_score,
    pixel_histograms,
    positive_percent,
    scores,
)
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10

MPP = 0.5
OF_GRADE = np.array([0.0, 0.3, 0.5, 0.9, np.nan])  # DAB of nuclei of 0, 1+, 2+, 3+, and of none that shows
THRESHOLD = fixed_threshold(0.2, 0.4, 0.6)
WHITE = np.full(3, 240.0)


def at(places_um: np.ndarray) -> Nuclei:
    centres = (np.asarray(places_um, np.float32) / MPP).reshape(-1, 2)
    count = len(centres)
    return Nuclei(centres, np.zeros((count, RAYS, 2), np.float32), np.ones(count, np.float32), MPP)


def graded(grades: Sequence[int] | np.ndarray) -> Measurements:
    dab = OF_GRADE[np.asarray(grades, int)]
    return Measurements(np.full(len(dab), 30.0), np.full(len(dab), 0.2), dab, 0 * dab, 0 * dab)


def spread(grades: np.ndarray, fields: int) -> Nuclei:
    """Nuclei in so many fields along a row, in turn."""
    return at(np.stack([(np.arange(len(grades)) % fields + 0.5) * FIELD_UM, np.full(len(grades), 9.0)], axis=1))


def test_shares_and_h_score_are_those_of_every_nucleus_counted() -> None:
    grades = np.random.default_rng(0).integers(0, 4, 57)
    counts = np.bincount(grades, minlength=4)
    assert positive_percent(counts) == pytest.approx(100 * np.mean([grade > 0 for grade in grades]))
    assert h_score(counts) == pytest.approx(100 * np.mean(grades))


@pytest.mark.parametrize(
    ("counts", "score"),
    [  # as Allred's table has them: the share's score plus that of the intensity
        ((50, 0, 0, 0), 0 + 0),
        ((199, 1, 0, 0), 1 + 1),
        ((99, 0, 1, 0), 2 + 2),
        ((90, 0, 0, 10), 2 + 3),
        ((89, 11, 0, 0), 3 + 1),
        ((2, 0, 1, 0), 3 + 2),
        ((60, 20, 20, 0), 4 + 2),
        ((1, 0, 0, 2), 4 + 3),
        ((30, 0, 0, 70), 5 + 3),
        ((0, 60, 10, 0), 5 + 1),
    ],
)
def test_allred_is_that_of_the_table(counts: tuple[int, ...], score: int) -> None:
    assert allred(np.array(counts)) == score


def test_allred_is_exact_at_its_borders() -> None:
    for nuclei in (1, 2, 3, 10, 30, 99, 300):
        for positive in range(nuclei + 1):
            share = Fraction(positive, nuclei)
            bounds = [share > 0, share >= Fraction(1, 100), share > Fraction(1, 10)]
            bounds += [share > Fraction(1, 3), share > Fraction(2, 3)]
            assert allred(np.array([nuclei - positive, 0, positive, 0])) == sum(bounds) + (2 if positive else 0)


def test_nuclei_that_show_no_dab_of_their_own_count_in_no_score() -> None:
    grades = np.array([0, 0, 1, 3, 4, 4])
    found = scores(spread(grades, 2), graded(grades), THRESHOLD)
    assert found.grades == (2, 1, 0, 1)
    assert found.positive_percent is not None
    assert found.positive_percent.value == 50


def test_intervals_over_fields_are_those_of_scipy() -> None:
    generator = np.random.default_rng(2)
    grades, fields = generator.integers(0, 4, 600), 20
    found = scores(spread(grades, fields), graded(grades), THRESHOLD)
    by_field = grades.reshape(-1, fields).T
    expected = stats.bootstrap(
        (by_field.mean(axis=1) * 100,), np.mean, method="percentile", n_resamples=4000, random_state=3
    ).confidence_interval
    assert (found.resampled, found.fields, found.doubts) == ("fields", fields, ())
    assert found.h_score is not None
    assert found.h_score.interval == pytest.approx(tuple(expected), abs=1.5)


def test_fields_that_differ_widen_the_interval() -> None:
    grades = np.repeat([0, 1], 200)
    mixed = scores(spread(grades, 20), graded(grades), THRESHOLD).positive_percent
    order = np.argsort(np.arange(400) % 20, kind="stable")
    apart = scores(spread(grades, 20).take(order), graded(grades), THRESHOLD).positive_percent
    assert mixed is not None
    assert apart is not None
    assert mixed.value == apart.value == 50
    assert mixed.interval == (50, 50)
    assert apart.interval is not None
    assert apart.interval[0] < 32 < 68 < apart.interval[1]


def test_few_fields_are_said_and_nuclei_resampled() -> None:
    grades = np.repeat([0, 2], [300, 100])
    found = scores(spread(grades, MIN_FIELDS - 1), graded(grades), THRESHOLD)
    assert found.resampled == "nuclei"
    assert f"fewer than {MIN_FIELDS} fields of 250 um" in found.doubts[0]
    low, high = 100 * stats.binom.ppf([0.025, 0.975], 400, 0.25) / 400
    assert found.positive_percent is not None
    assert found.positive_percent.interval == pytest.approx((low, high), abs=0.5)


def test_neither_order_nor_run_changes_a_score() -> None:
    grades = np.random.default_rng(4).integers(0, 4, 300)
    nuclei, measured = spread(grades, 12), graded(grades)
    mixed = np.random.default_rng(5).permutation(300)
    assert scores(nuclei, measured, THRESHOLD) == scores(nuclei.take(mixed), measured.take(mixed), THRESHOLD)


@pytest.mark.parametrize("grades", [[], [4]])
def test_no_nuclei_have_no_score(grades: list[int]) -> None:
    found = scores(spread(np.array(grades), 1), graded(grades), THRESHOLD)
    assert (found.positive_percent, found.h_score, found.allred, found.resampled) == (None, None, None, "nothing")
    assert (found.fields, found.grades) == (0, (0, 0, 0, 0))


def test_one_nucleus_has_a_score_without_interval() -> None:
    found = scores(spread(np.array([3]), 1), graded([3]), THRESHOLD)
    assert (found.positive_percent, found.h_score, found.allred) == ((100, None), (300, None), (8, None))


def test_an_h_and_e_has_no_scores_and_says_so() -> None:
    grades = np.zeros(100, int)
    found = scores(spread(grades, 9), graded(grades), positive_threshold(graded(grades), "h-e"))
    assert found.positive_percent is None
    assert "an H&E has no DAB" in found.doubts[0]


def picture(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(6)
    return generator.integers(20, 241, (*shape, 3), np.uint8), generator.random(shape) < 0.7


@pytest.mark.parametrize("threshold_od10", [0.2, 0.3113])
def test_the_share_by_pixel_is_that_of_unmix(threshold_od10: float) -> None:
    image, tissue = picture((300, 400))
    found = scores(at(np.zeros((0, 2))), graded([]), fixed_threshold(threshold_od10), histograms(image, tissue))
    dab = separate_stains_od10(image, H_DAB, WHITE)[tissue][:, 1]
    assert found.pixel_percent is not None
    assert found.pixel_percent.value == pytest.approx(100 * (dab > threshold_od10).mean(), abs=0.1)
    assert found.pixel_percent.interval is None


def histograms(
    image: np.ndarray, tissue: np.ndarray, location: tuple[int, int] = (0, 0), mpp: float = MPP
) -> dict[tuple[int, int], np.ndarray]:
    return pixel_histograms(image, tissue, mpp, WHITE, H_DAB, location)


def test_pixels_of_parts_add_up_to_those_of_the_whole() -> None:
    image, tissue = picture((90, 120))
    whole = histograms(image, tissue, mpp=7)
    parts = [
        histograms(image[y : y + 45, x : x + 50], tissue[y : y + 45, x : x + 50], (x, y), 7)
        for y in (0, 45)
        for x in (0, 50, 100)
    ]
    joined = added(parts)
    assert joined.keys() == whole.keys()
    assert len(whole) == 12
    assert all(np.array_equal(joined[field], counts) for field, counts in whole.items())
    found = scores(at(np.zeros((0, 2))), graded([]), THRESHOLD, joined).pixel_percent
    assert found is not None
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_no_tissue_has_no_share_by_pixel() -> None:
    image, tissue = picture((5, 4))
    assert histograms(image, np.zeros_like(tissue)) == {}
    assert scores(at(np.zeros((0, 2))), graded([]), THRESHOLD, {}).pixel_percent is None


def test_scores_are_json() -> None:
    grades = np.array([0, 1, 2, 3] * 30)
    found = scores(spread(grades, 9), graded(grades), THRESHOLD)
    facts = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert facts["positive_percent"]["value"] == 75
    assert facts["threshold"] == {"grades_od10": [0.2, 0.4, 0.6], "source": "fixed", "doubt": ""}
    assert facts["pixel_percent"] is None
    assert facts["grades"] == [30, 30, 30, 30]
    assert isinstance(found.threshold, Threshold)
