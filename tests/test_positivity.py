from pathlib import Path

import numpy as np
import pytest
import skimage.data

from chromogen.image import Image, read_image
from chromogen.nuclei.find import find_nuclei
from chromogen.nuclei.measure import Measurements, _means, measure
from chromogen.nuclei.positivity import (
    FIXED_OD10,
    Threshold,
    grades_of,
    is_positive,
    mixture_of,
    positive_threshold,
)
from chromogen.slides.picture import read_picture
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from chromogen.stains.glass import white_level


def measured(dab: np.ndarray, ring: np.ndarray | float = 0.02) -> Measurements:
    dab32 = np.asarray(dab, np.float32)
    ring32 = np.broadcast_to(np.float32(ring), dab32.shape)
    return Measurements(np.full_like(dab32, 0.3), dab32, np.full_like(dab32, 0.1), ring32)


def drawn(blue: int, brown: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    return scale * np.concatenate([rng.normal(0.0, 0.02, blue), rng.normal(0.7, 0.2, brown)])


def test_the_mixture_is_the_one_that_was_drawn() -> None:
    rng = np.random.default_rng(0)
    found = mixture_of(np.concatenate([rng.normal(0.0, 0.04, 3000), rng.normal(0.6, 0.2, 1000)]))
    np.testing.assert_allclose(found.means, [0, 0.6], atol=0.02)
    np.testing.assert_allclose(found.deviations, [0.04, 0.2], atol=0.02)
    np.testing.assert_allclose(found.shares, [0.75, 0.25], atol=0.01)


def test_blue_and_brown_are_parted() -> None:
    found = positive_threshold(measured(drawn(400, 100)))
    assert (found.found_from, found.doubt) == ("nuclei", "")
    assert is_positive(measured(drawn(400, 100)), found.dab_od10).sum() == pytest.approx(100, abs=2)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_paler_scan_has_as_many_positive_nuclei(scale: float) -> None:
    shares = []
    for densities in (drawn(400, 100), drawn(400, 100, scale)):
        own = measured(densities)
        shares.append(is_positive(own, positive_threshold(own).dab_od10).mean())
    assert shares[0] == pytest.approx(shares[1], abs=0.005)


@pytest.mark.parametrize(
    ("densities", "said", "share"),
    [
        (drawn(300, 0), "blue", 0.0),
        (drawn(0, 300), "brown", 1.0),
        (drawn(3, 1), "fewer than", 0.25),
        (np.zeros(0), "fewer than", None),
        (np.full(100, 0.05), "blue", 0.0),
    ],
)
def test_where_there_are_not_two_kinds_it_is_fixed_and_said(
    densities: np.ndarray, said: str, share: float | None
) -> None:
    own = measured(densities)
    found = positive_threshold(own)
    assert found.dab_od10 == FIXED_OD10
    assert found.found_from == "fixed"
    assert said in found.doubt
    if share is not None:
        assert is_positive(own, found.dab_od10).mean() == pytest.approx(share, abs=0.02)


def test_brown_cytoplasm_makes_no_nucleus_positive() -> None:
    own = measured(drawn(100, 100), ring=0.9)
    found = positive_threshold(own)
    assert "round nuclei" in found.doubt
    assert is_positive(own, found.dab_od10).mean() < 0.1


def test_a_nucleus_without_a_ring_is_judged_by_itself() -> None:
    assert is_positive(measured(np.array([0.5]), ring=np.nan), 0.2).all()


def test_grades_begin_at_their_thresholds() -> None:
    threshold = Threshold((0.2, 0.4, 0.6))
    own = measured(np.array([0.1, 0.2, 0.3, 0.5, 0.9, np.nan]))
    assert grades_of(own, threshold).tolist() == [0, 0, 1, 2, 3, 0]


def positive_share(image: Image, mpp: float) -> float:
    white = white_level(image, mpp)
    own = measure(find_nuclei(image, mpp), image, mpp, white, H_DAB)
    return float(100 * is_positive(own, positive_threshold(own).dab_od10).mean())


@pytest.mark.parametrize("name", ["22_2", "34_3"])
def test_drawn_nuclei_are_judged_as_people_judged_them(data: Path, name: str) -> None:
    image = read_image(data / "nuclei_ihc" / f"{name}.png")
    with np.load(data / "nuclei_ihc" / f"{name}_lab.npz") as file:
        labels, judged = file["lab"].astype(np.int32), file["positive"][1:]
    hematoxylin, dab = _means(separate_stains_od10(image, H_DAB, white_level(image, 0.25)), labels, labels.max())
    own = Measurements(hematoxylin, dab, hematoxylin, np.full_like(dab, np.nan))
    mine = is_positive(own, positive_threshold(own).dab_od10)
    assert 100 * mine.mean() == pytest.approx(100 * judged.mean(), abs=3)


def test_two_scanners_agree(data: Path) -> None:
    shares = [
        positive_share(read_picture(data / "exemplars" / f"OS-2-{name}.ome.tif", at_mpp=0.5).pixels, 0.5)
        for name in ("ndpi", "vsi")
    ]
    assert abs(shares[0] - shares[1]) < 2
    assert 11 < min(shares) < max(shares) < 18.5


def test_haematoxylin_alone_has_no_positive_nuclei(data: Path) -> None:
    assert positive_share(read_image(data / "nuclei_ihc" / "Bladder1_hematoxylin.png"), 0.25) < 1


def test_a_stain_of_cytoplasm_has_hardly_any_positive_nuclei() -> None:
    assert positive_share(skimage.data.immunohistochemistry(), 0.5) < 5
