"""Few slides are open at a time, and none is closed while it is read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from chromogen.compute.tiles import Window
from chromogen.slides.pool import SlidePool
from chromogen.slides.slide import LAZY_BYTES, Slide, open_slide
from chromogen.slides.source import SlideError
from chromogen.whole_slide.view import View, read_around_damage
from synthetic_slides import coordinates, synthetic_slide, write_pyramid
from test_slide_catalog import picture


class Opener:
    """Opens slides of one size, and remembers all of them."""

    def __init__(self, size: tuple[int, int] = (64, 48)) -> None:
        self._size = size
        self.opened: list[Slide] = []

    def __call__(self) -> Slide:
        self.opened.append(synthetic_slide(self._size))
        return self.opened[-1]

    def still_open(self) -> list[bool]:
        """For each slide, in the order they were opened."""
        return [is_open(slide) for slide in self.opened]


def is_open(slide: Slide) -> bool:
    try:
        return bool(slide.read_region((0, 0), (1, 1)).size)
    except SlideError:
        return False


def read(pool: SlidePool[Slide], key: str, opener: Callable[[], Slide]) -> None:
    with pool.reading(key, opener) as slide:
        assert is_open(slide)


def test_the_longest_unread_is_closed() -> None:
    pool, opener = SlidePool[Slide](2), Opener()
    for key in "abac":
        read(pool, key, opener)
    assert opener.still_open() == [True, False, True]
    pool.close()
    assert opener.still_open() == [False, False, False]


def test_a_slide_that_is_read_stays_open_and_the_pool_shrinks_when_it_is_given_back() -> None:
    pool, opener = SlidePool[Slide](1), Opener()
    with pool.reading("a", opener), pool.reading("b", opener), pool.reading("c", opener):
        assert opener.still_open() == [True, True, True]
    assert opener.still_open() == [False, False, True]
    with pool.reading("c", opener):
        pool.close()
        assert opener.still_open()[2]
    assert not opener.still_open()[2]


def test_bytes_are_bounded_but_the_last_one_stays(tmp_path: Path) -> None:
    pool, opener = SlidePool[Slide](9, 2 * LAZY_BYTES), Opener()
    for key in "abc":
        read(pool, key, opener)
    assert opener.still_open() == [False, True, True]
    tiny = SlidePool[Slide](9, 1)
    read(tiny, "a", opener)
    assert opener.still_open()[3], "else an image would be decoded for every tile of it"


def test_what_a_slide_takes_is_what_it_holds(tmp_path: Path) -> None:
    with open_slide(picture(tmp_path / "a.png")) as image, synthetic_slide((90_000, 70_000)) as slide:
        assert image.memory_bytes == 3 * image.size[0] * image.size[1]
        assert slide.memory_bytes == LAZY_BYTES, "it is read tile by tile"


def test_a_slide_that_is_forgotten_closes_with_its_last_reader() -> None:
    pool, opener = SlidePool[Slide](9), Opener()
    with pool.reading("a", opener):
        with pool.reading("a", opener):
            pool.forget("a")
        read(pool, "a", opener)
        assert opener.still_open() == [True]
    assert opener.still_open() == [False]
    pool.forget("a")


def test_a_slide_that_fits_no_more_is_opened_anew_and_stays_with_its_reader() -> None:
    pool, opener = SlidePool[Slide](9), Opener()
    with pool.reading("a", opener) as first:
        with pool.reading("a", opener, lambda slide: slide is not first) as second:
            assert second is not first
            assert opener.still_open() == [True, True]
        assert opener.still_open() == [True, True]
    assert opener.still_open() == [False, True]


def test_errors_leave_nothing_lent() -> None:
    pool, opener = SlidePool[Slide](9), Opener()

    def refuse(_slide: Slide | None = None) -> bool:
        raise OSError("Too many open files")

    with pytest.raises(OSError, match="Too many"), pool.reading("a", refuse):  # type: ignore[arg-type]
        pytest.fail("it was not opened")
    read(pool, "a", opener)
    with pytest.raises(OSError, match="Too many"), pool.reading("a", opener, refuse):
        pytest.fail("nobody knows whether it fits")
    assert opener.still_open() == [False]


def test_many_threads_open_a_slide_once() -> None:
    pool, opener, together = SlidePool[Slide](2), Opener(), Barrier(8)

    def work(_: int) -> None:
        together.wait()
        for _ in range(20):
            read(pool, "a", opener)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert len(opener.opened) == 1


def test_many_threads_read_more_slides_than_the_pool_holds(tmp_path: Path) -> None:
    """None of them meets a closed slide, and none of the tissue is taken for damage."""
    pixels = np.minimum(coordinates(256, 256), 200)
    paths = [write_pyramid(tmp_path / f"{n}.tif", pixels, compression="deflate") for n in range(8)]
    pool, opened = SlidePool[Slide](2), []

    def opener(path: Path) -> Slide:
        opened.append(open_slide(path))
        return opened[-1]

    def work(number: int) -> None:
        path = paths[number % len(paths)]
        with pool.reading(path, lambda: opener(path)) as slide:
            made, damaged = read_around_damage(View(slide, None), Window(0, 0, 256, 256))
        np.testing.assert_array_equal(made, pixels)
        assert not damaged

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(96)))
    assert sum(map(is_open, opened)) <= 2
    assert len(opened) > len(paths), "slides were closed and opened anew meanwhile"
    pool.close()
