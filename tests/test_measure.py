import numpy as np
from scipy import ndimage
from skimage.morphology import disk

from chromogen.nuclei.measure import RING_UM, joined_measurements, measure, rings
from chromogen.nuclei.outlines import labels_of, no_nuclei
from chromogen.stains.deconvolution import H_DAB, combine_stains, separate_stains_od10
from test_outlines import circles

MPP = 0.5
SHAPE = (60, 90)
LN10 = np.log(10)


def picture() -> np.ndarray:
    """Haematoxylin that grows to the right, DAB that grows downwards."""
    y, x = np.indices(SHAPE)
    return combine_stains(np.stack([0.2 + x / 300, 0.1 + y / 200, 0 * x], axis=2) * LN10, H_DAB)


def test_means_are_those_of_pixels_inside_and_around() -> None:
    image, nuclei = picture(), circles([(20, 20), (60, 35)], [8, 6])
    found = measure(nuclei, image, MPP, 255.0, H_DAB)
    density = separate_stains_od10(image, H_DAB, 255.0)
    labels = labels_of(nuclei, SHAPE)
    for value in (1, 2):
        inside = labels == value
        around = ndimage.distance_transform_edt(~inside) <= RING_UM / MPP
        np.testing.assert_allclose(found.hematoxylin_od10[value - 1], density[inside, 0].mean(), rtol=1e-5)
        np.testing.assert_allclose(found.dab_od10[value - 1], density[inside, 1].mean(), rtol=1e-5)
        np.testing.assert_allclose(found.ring_dab_od10[value - 1], density[around & ~inside, 1].mean(), rtol=1e-5)


def test_rings_keep_out_of_neighbours() -> None:
    labels = labels_of(circles([(20, 20), (34, 20)], [6, 6]), SHAPE)
    around = rings(labels, MPP)
    assert not (around[labels > 0]).any()
    dilated = ndimage.binary_dilation(labels == 1, disk(round(RING_UM / MPP)))
    assert ((around == 1) <= dilated).all()
    assert (around == 2)[20, 27]
    assert (around == 1)[20, 26]


def test_a_nucleus_is_measured_alike_in_any_window() -> None:
    image, nuclei = picture(), circles([(20, 20), (60, 35)], [8, 6])
    whole = measure(nuclei, image, MPP, 255.0, H_DAB)
    part = measure(nuclei.moved((-40, -10)), image[10:, 40:], MPP, 255.0, H_DAB)
    np.testing.assert_allclose(part.dab_od10[1], whole.dab_od10[1], rtol=1e-6)
    np.testing.assert_allclose(part.ring_hematoxylin_od10[1], whole.ring_hematoxylin_od10[1], rtol=1e-6)


def test_a_covered_nucleus_has_no_density() -> None:
    found = measure(circles([(20, 20), (20, 20)], [9, 4]), picture(), MPP, 255.0, H_DAB)
    assert np.isfinite(found.dab_od10[0])
    assert np.isnan(found.dab_od10[1])


def test_nothing_to_measure() -> None:
    nothing = measure(no_nuclei(MPP), picture(), MPP, 255.0, H_DAB)
    assert len(nothing) == 0
    assert len(joined_measurements([nothing, nothing])) == 0


def test_parts_are_joined_and_taken_in_order() -> None:
    found = measure(circles([(20, 20), (60, 35)], [8, 6]), picture(), MPP, 255.0, H_DAB)
    both = joined_measurements([found, found.take(np.array([1]))])
    assert both.dab_od10.tolist() == [*found.dab_od10.tolist(), found.dab_od10[1]]
