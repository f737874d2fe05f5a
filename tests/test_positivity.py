from pathlib import Path

import numpy as np
import pytest
import skimage.data
from scipy import ndimage, optimize, stats

from chromogen.image import Image, read_image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.positivity import (
    FIXED_OD10,
    MIN_NUCLEI,
    NOT_GRADED,
    Measurements,
    fixed_threshold,
    grades_of,
    measure,
    nothing_measured,
    positive_threshold,
    two_populations,
)
from chromogen.slides.slide import read_picture
from chromogen.stains.deconvolution import H_DAB, combine_stains, separate_stains, separate_stains_od10
from chromogen.stains.glass import white_level


def measured(dab: np.ndarray, hematoxylin: float | np.ndarray = 0.25, ring: float = 0.02) -> Measurements:
    dab = np.asarray(dab, np.float64)
    full = np.ones(len(dab))
    return Measurements(30 * full, full * hematoxylin, dab, 0.05 * full, full * ring)


def blue(count: int, at: float = 0.0) -> np.ndarray:
    return np.random.default_rng(1).normal(at, 0.03, count)


def brown(count: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(2).gamma(9, 0.8 / 9, count)


def of_picture(image: Image, mpp: float) -> Measurements:
    return measure(nuclei_of_image(image, mpp), image, mpp, white_level(image, mpp), H_DAB)


def share(found: Measurements) -> float:
    return 100 * float((grades_of(found, positive_threshold(found)) >= 1).mean())


def test_the_mixture_is_the_likeliest() -> None:
    drawn = np.random.default_rng(5)
    values = np.concatenate([drawn.normal(0.2, 0.1, 300), drawn.normal(0.9, 0.1, 100)])

    def unlikely(at: np.ndarray) -> float:
        low, high, deviation, part = at
        density = (1 - part) * stats.norm.pdf(values, low, deviation) + part * stats.norm.pdf(
            values, high, deviation
        )
        return -float(np.log(density).sum())

    best = optimize.minimize(unlikely, (0.25, 0.85, 0.12, 0.3), method="Nelder-Mead").x
    assert two_populations(values)[:4] == pytest.approx(best, abs=2e-3)


def test_the_border_is_where_both_are_as_likely() -> None:
    mixture = two_populations(np.concatenate([blue(900, 0.2), blue(100, 0.5)]))
    low = (1 - mixture.high_share) * stats.norm.pdf(mixture.border, mixture.low, mixture.deviation)
    high = mixture.high_share * stats.norm.pdf(mixture.border, mixture.high, mixture.deviation)
    assert low == pytest.approx(high)


@pytest.mark.parametrize("positive", [1, 20, 300, 900, 990])
def test_blue_and_brown_are_told_apart_whatever_their_shares(positive: int) -> None:
    found = measured(np.concatenate([blue(1000 - positive), brown(positive)]))
    threshold = positive_threshold(found)
    assert (threshold.source, threshold.doubt) == ("found", "")
    assert share(found) == pytest.approx(positive / 10, abs=1)


def test_a_scanner_that_shows_less_and_shifted_dab_changes_no_grade() -> None:
    dab = np.concatenate([blue(800), brown(200)])
    other = measured(0.5 * dab - 0.06, 0.125)
    first, second = (grades_of(found, positive_threshold(found)) for found in (measured(dab), other))
    assert positive_threshold(other).source == "found"
    assert np.array_equal(first, second)
    assert set(first) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("dab", "positive", "doubt"),
    [
        (blue(500), 0, "the nuclei do not fall into two populations|there are no brown nuclei"),
        (brown(500) + 0.3, 100, "the nuclei do not fall into two populations|there are no blue nuclei"),
        (np.concatenate([brown(250, 0.4) + 0.3, brown(250, 2) + 0.5]), 100, "there are no blue nuclei"),
        (np.concatenate([blue(400), blue(100, 0.11)]), 0, "there are no brown nuclei|two populations"),
        (np.concatenate([blue(400) / 9, brown(100, 0.1)]), 0, "there are no brown nuclei"),
        (np.full(50, 0.01), 0, "two populations"),
        (np.array([0.7]), 100, f"fewer than {MIN_NUCLEI} nuclei were found"),
        (np.full(3, np.nan), 0, "no nucleus was found"),
    ],
)
def test_where_there_are_no_two_populations_the_threshold_is_fixed_and_says_so(
    dab: np.ndarray, positive: float, doubt: str
) -> None:
    found = measured(dab)
    threshold = positive_threshold(found)
    assert (threshold.source, threshold.grades_od10) == ("fixed", FIXED_OD10)
    assert any(words in threshold.doubt for words in doubt.split("|"))
    assert threshold.doubt.endswith("so the threshold is fixed at 0.2")
    assert share(found) == pytest.approx(positive, abs=1)


def test_no_nuclei_have_a_fixed_threshold_and_no_grade() -> None:
    threshold = positive_threshold(nothing_measured())
    assert threshold.doubt.startswith("no nucleus was found")
    assert len(grades_of(nothing_measured(), threshold)) == 0


def test_dab_around_the_nuclei_is_doubted() -> None:
    dab = np.concatenate([blue(300), brown(100)])
    assert (
        "100 % of the positive nuclei have as much DAB around" in positive_threshold(measured(dab, ring=2.0)).doubt
    )
    crowded = measured(dab, ring=2.0)
    crowded.ring_second_od10[::2] = np.nan
    assert "100 % of the positive nuclei" in positive_threshold(crowded).doubt
    few = positive_threshold(measured(brown(5) + 0.3, ring=2.0)).doubt
    assert few.startswith("fewer than 20 nuclei")
    assert "cytoplasm or membranes" in few


def test_an_h_and_e_has_no_positive_nuclei() -> None:
    found = measured(brown(100))
    threshold = positive_threshold(found, "h-e")
    assert (threshold.grades_od10, threshold.positive_od10, threshold.source) == (None, None, "none")
    assert "an H&E has no DAB" in threshold.doubt
    assert (grades_of(found, threshold) == NOT_GRADED).all()


def test_grades_begin_above_their_thresholds() -> None:
    found = measured(np.array([-0.1, 0.2, 0.21, 0.4, 0.41, 0.6, 0.61, np.nan]))
    assert grades_of(found, fixed_threshold(0.2, 0.4, 0.6)).tolist() == [0, 0, 1, 1, 2, 2, 3, NOT_GRADED]


def test_one_fixed_threshold_gives_the_others() -> None:
    assert fixed_threshold(0.15).grades_od10 == pytest.approx((0.15, 0.3, 0.45))
    assert fixed_threshold(0.15).positive_od10 == 0.15


@pytest.mark.parametrize("grades", [(), (0.0,), (-0.1,), (0.2, 0.4), (0.2, 0.2, 0.6), (float("nan"),)])
def test_thresholds_that_do_not_rise_are_an_error(grades: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^Expected `threshold` to be one density above 0, or three that rise"):
        fixed_threshold(*grades)


@pytest.mark.parametrize("name", ["22_2", "34_3"])
def test_the_share_of_drawn_nuclei_is_as_drawn(data: Path, name: str) -> None:
    image = read_image(data / "nuclei_ihc" / f"{name}.png")
    drawn = np.load(data / "nuclei_ihc" / f"{name}_lab.npz")
    labels = np.unique(drawn["lab"])[1:]
    od10 = separate_stains_od10(image, H_DAB, white_level(image, 0.25))
    hematoxylin, dab = (ndimage.mean(od10[..., stain], drawn["lab"], labels) for stain in (0, 1))
    found = measured(dab, hematoxylin)
    assert positive_threshold(found).source == "found"
    assert share(found) == pytest.approx(100 * drawn["positive"][labels].mean(), abs=1.5)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
def test_pale_dab_changes_no_share(data: Path, scale: float) -> None:
    image = read_image(data / "pairs" / "mist" / "ER_ihc.png")
    nuclei, white = nuclei_of_image(image, 0.47), white_level(image, 0.47)
    amounts = separate_stains(image, H_DAB, white) * (1, scale, 1)
    pale = measure(nuclei, combine_stains(amounts, H_DAB, white), 0.47, white, H_DAB)
    assert positive_threshold(pale).source == "found"
    assert share(pale) == pytest.approx(share(measure(nuclei, image, 0.47, white, H_DAB)), abs=2)


@pytest.mark.slow
def test_two_scanners_agree_on_the_same_field(data: Path) -> None:
    shares = [
        share(of_picture(read_picture(data / "exemplars" / f"OS-2-{scanner}.ome.tif", at_mpp=0.5).pixels, 0.5))
        for scanner in ("ndpi", "vsi")
    ]
    assert all(11 < percent < 18 for percent in shares)
    assert abs(shares[0] - shares[1]) < 1


def test_haematoxylin_alone_has_no_positive_nuclei(data: Path) -> None:
    found = of_picture(read_image(data / "nuclei_ihc" / "Bladder1_hematoxylin.png"), 0.25)
    assert positive_threshold(found).source == "fixed"
    assert share(found) == 0


def test_a_cytoplasmic_stain_is_doubted() -> None:
    found = of_picture(skimage.data.immunohistochemistry(), 0.5)
    assert "cytoplasm or membranes" in positive_threshold(found).doubt
