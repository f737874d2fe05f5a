import numpy as np
import pytest
from scipy import ndimage

from chromogen.nuclei.outlines import RAYS, Nuclei, labels_of, no_nuclei
from chromogen.nuclei.positivity import RING_UM, Measurements, joined_measurements, measure, ring_labels
from chromogen.stains.deconvolution import H_DAB, combine_stains, separate_stains_od10

MPP = 0.5
WHITE = np.array([240.0, 236.0, 231.0])
ANGLES = 2 * np.pi * np.arange(RAYS) / RAYS
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def circles(centres: list[tuple[float, float]], radius_px: float = 6.0, mpp: float = MPP) -> Nuclei:
    at = np.array(centres, np.float32).reshape(-1, 2)
    outlines = (at[:, None] + radius_px * CIRCLE).astype(np.float32)
    return Nuclei(at, outlines, np.linspace(0.9, 0.6, len(at), dtype=np.float32), mpp)


def scattered(count: int, side_px: int) -> Nuclei:
    generator = np.random.default_rng(3)
    return circles([tuple(at) for at in generator.uniform(0, side_px, (count, 2))], 5.0)


def noise(side_px: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (side_px, side_px, 3), np.uint8)


def painted(
    nuclei: Nuclei, amounts: np.ndarray, cytoplasm: tuple[float, float], shape: tuple[int, int]
) -> np.ndarray:
    labels = labels_of(nuclei, shape)
    od10 = np.concatenate([[cytoplasm], amounts])[labels]
    return combine_stains(np.log(10) * np.dstack([od10, np.zeros(shape)]), H_DAB, WHITE)


def test_amounts_that_were_painted_are_measured() -> None:
    nuclei = circles([(20, 20), (60, 25), (40, 55)])
    amounts = np.array([[0.3, 0.0], [0.2, 0.6], [0.25, 0.1]])
    found = measure(nuclei, painted(nuclei, amounts, (0.05, 0.04), (80, 80)), MPP, WHITE, H_DAB)
    assert np.stack([found.hematoxylin_od10, found.second_od10], axis=1) == pytest.approx(amounts, abs=0.01)
    assert found.ring_hematoxylin_od10 == pytest.approx([0.05] * 3, abs=0.01)
    assert found.ring_second_od10 == pytest.approx([0.04] * 3, abs=0.01)
    assert found.area_um2 == pytest.approx([np.pi * 9] * 3, rel=0.01)


def test_means_are_those_of_scipy() -> None:
    nuclei, image = scattered(40, 120), noise(120)
    found = measure(nuclei, image, MPP, WHITE, H_DAB)
    labels, index = labels_of(nuclei, (120, 120)), np.arange(1, 41)
    rings = ring_labels(labels, RING_UM / MPP)
    od10 = separate_stains_od10(image, H_DAB, WHITE)
    for values, where, stain in (
        (found.hematoxylin_od10, labels, 0),
        (found.second_od10, labels, 1),
        (found.ring_hematoxylin_od10, rings, 0),
        (found.ring_second_od10, rings, 1),
    ):
        seen = np.isin(index, where)
        assert values[seen] == pytest.approx(ndimage.mean(od10[..., stain], where, index[seen]))
        assert np.isnan(values[~seen]).all()


def test_a_ring_belongs_to_the_nearest_nucleus_and_has_no_pixel_of_any() -> None:
    labels = labels_of(scattered(40, 90), (90, 90))
    rings = ring_labels(labels, 6.0)
    assert not (rings[labels > 0]).any()
    at = np.argwhere(labels > 0)
    for row, column in np.argwhere(labels == 0)[::7]:
        distance = np.hypot(*(at - (row, column)).T)
        nearest = {labels[tuple(place)] for place in at[distance == distance.min()]}
        assert rings[row, column] in (nearest if distance.min() <= 6 else {0})


def test_a_nucleus_measures_the_same_in_every_window() -> None:
    nuclei, image = scattered(200, 300), noise(300)
    whole = measure(nuclei, image, MPP, WHITE, H_DAB)
    for x, y in ((0, 0), (83, 41), (140, 140)):
        core = ((nuclei.centres_px >= (x + 30, y + 30)) & (nuclei.centres_px < (x + 130, y + 130))).all(axis=1)
        near = ((nuclei.centres_px >= (x, y)) & (nuclei.centres_px < (x + 160, y + 160))).all(axis=1)
        shuffled = np.random.default_rng(x).permutation(np.flatnonzero(near))
        seen = nuclei.take(shuffled).moved((-x, -y))
        found = measure(seen, image[y : y + 160, x : x + 160], MPP, WHITE, H_DAB).take(core[shuffled])
        expected = whole.take(shuffled[core[shuffled]])
        for name, values in vars(found).items():
            assert values == pytest.approx(vars(expected)[name], nan_ok=True), name


def test_a_nucleus_that_others_surround_or_cover_has_nan() -> None:
    crowded = circles([(20, 20), (20, 20)])
    found = measure(crowded, noise(40), MPP, WHITE, H_DAB)
    assert np.isnan(found.second_od10).tolist() == [False, True]
    filled = circles([(2, 2)], 30.0)
    assert np.isnan(measure(filled, noise(5), MPP, WHITE, H_DAB).ring_second_od10).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (40, 50, 3)])
def test_no_nuclei_measure_as_none(shape: tuple[int, int, int]) -> None:
    found = measure(no_nuclei(MPP), np.full(shape, 240, np.uint8), MPP, WHITE, H_DAB)
    assert len(found) == 0


def test_parts_join_in_order() -> None:
    found = measure(scattered(10, 60), noise(60), MPP, WHITE, H_DAB)
    joined = joined_measurements([found.take(np.arange(4)), found.take(np.arange(4, 10))])
    assert np.array_equal(joined.second_od10, found.second_od10, equal_nan=True)
    assert len(joined_measurements([])) == 0
    assert isinstance(joined, Measurements)


def test_nuclei_in_the_pixels_of_another_picture_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"^Expected `mpp` to be 0\.25, as the nuclei have it, got 0\.5"):
        measure(circles([(9, 9)], mpp=0.25), noise(20), MPP, WHITE, H_DAB)
