"""A function that keeps its latest results."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from chromogen.image import Image
from chromogen.onnx_models.remembered import Remembered
from synthetic import tissue_like

PICTURES = [tissue_like(16, 16, seed=seed) for seed in range(4)]


class Counted:
    """The negative of a picture, and how often it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Image) -> Image:
        self.calls += 1
        time.sleep(0.01)
        return np.asarray(255 - image, np.uint8)


def test_makes_it_once() -> None:
    function = Counted()
    remembered = Remembered(function)
    for picture in [*PICTURES, *PICTURES]:
        np.testing.assert_array_equal(remembered(picture.copy()), 255 - picture)
    assert function.calls == len(PICTURES)


def test_forgets_the_oldest() -> None:
    function = Counted()
    remembered = Remembered(function, most_bytes=2 * PICTURES[0].nbytes)
    for number in (0, 1, 0, 2, 0, 1):  # 1 went when 2 came: 0 had been asked for since
        remembered(PICTURES[number])
    assert function.calls == 4


def test_shape_counts() -> None:
    """The same bytes in another shape are another picture."""
    remembered = Remembered(lambda image: image)
    flat = np.zeros((2, 8, 3), np.uint8)
    assert remembered(flat).shape == (2, 8, 3)
    assert remembered(flat.reshape(4, 4, 3)).shape == (4, 4, 3)


def test_of_many_threads_one_makes_it() -> None:
    function = Counted()
    remembered = Remembered(function)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(remembered, [PICTURES[0]] * 16))
    assert function.calls == 1
    assert all((picture == 255 - PICTURES[0]).all() for picture in made)


def test_a_failure_is_not_kept() -> None:
    results = [ZeroDivisionError("once"), PICTURES[1]]

    def fails_once(_image: Image) -> Image:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    remembered = Remembered(fails_once)
    with pytest.raises(ZeroDivisionError, match="once"):
        remembered(PICTURES[0])
    np.testing.assert_array_equal(remembered(PICTURES[0]), PICTURES[1])
