"""Regions as polygons: gaps, specks, holes, and areas against the cells they are of."""

import numpy as np
import pytest
from scipy import ndimage
from shapely.geometry import Point

from chromogen.labels.squares import NEGATIVE, POSITIVE, classes_of, regions_of

TISSUE = np.pad(np.ones((60, 80), bool), 5)


def test_brown_nuclei_near_each_other_are_one_region() -> None:
    brown = np.zeros_like(TISSUE)
    brown[20:50:6, 15:45:6] = True
    brown = ndimage.binary_dilation(brown)
    near, far = (classes_of(TISSUE, brown, gap, 40) for gap in (10, 2))
    assert ndimage.label(near == POSITIVE)[1] == 1
    assert (near[22:42, 17:37] == POSITIVE).all()
    assert not (far == POSITIVE).any()
    assert (near[~TISSUE] == 0).all()


def test_the_outer_border_stays_where_it_is() -> None:
    brown = np.zeros_like(TISSUE)
    brown[20:50, 15:45] = True
    np.testing.assert_array_equal(classes_of(TISSUE, brown, 10, 40) == POSITIVE, brown)


def test_a_speck_has_no_class() -> None:
    brown = np.zeros_like(TISSUE)
    brown[30:33, 30:33] = True
    found = classes_of(TISSUE, brown, 2, 40)
    assert (found[brown] == 0).all()
    assert found[20, 20] == NEGATIVE


def test_outlines_are_those_of_the_cells() -> None:
    y, x = np.indices(TISSUE.shape)
    away = np.hypot(y - 35, x - 45)
    classes = np.where(away < 24, POSITIVE, NEGATIVE) * TISSUE * (away > 8)
    regions, numbers = regions_of(classes.astype(np.uint8))
    assert [region.positive for region in regions] == [False, True]
    for region in regions:
        assert region.polygon.is_valid
        assert region.polygon.area == pytest.approx((numbers == region.number).sum(), rel=0.02)
    ring = regions[1].polygon
    assert len(ring.interiors) == 1
    assert not ring.contains(Point(45.5, 35.5))


def test_nothing_has_no_regions() -> None:
    nothing = np.zeros((8, 8), bool)
    assert regions_of(classes_of(nothing, nothing, 4, 10))[0] == []
