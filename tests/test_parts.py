"""Connected parts of masks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import remove_small_objects

from chromogen.stains.parts import large_parts

MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(mask=MASKS, least_px=st.integers(1, 20))
def test_large_parts_are_scikit_images(mask: np.ndarray, least_px: int) -> None:
    np.testing.assert_array_equal(large_parts(mask, least_px), remove_small_objects(mask, max_size=least_px - 1))


def test_a_part_may_be_asked_for_by_an_area_that_is_no_whole_number() -> None:
    mask = np.array([[True, True, False, True]])
    assert large_parts(mask, 1.5).tolist() == [[True, True, False, False]]
    assert not large_parts(mask, 2.5).any()
