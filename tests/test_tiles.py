"""Tiles cover a slide exactly, at every level."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.app.view.opened import Opened, opened
from chromogen.app.view.pictures import (
    TILE_PX,
    Address,
    NoSuchTileError,
    as_jpeg,
    as_png,
    read_window,
    thumbnail,
    tile,
    tile_levels,
    window_of,
)
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.image import write_image
from test_slide import coordinates, mean_of_blocks, write_pyramid


@pytest.fixture
def slide(tmp_path: Path) -> Iterator[Opened]:
    write_image(tmp_path / "a.png", coordinates(1300, 700))
    slide = opened(SlideCatalog([tmp_path]).entries()[0])
    yield slide
    slide.slide.close()


def test_tiles_of_level_0_are_the_slide(slide: Opened) -> None:
    finest = tile_levels(slide.size) - 1
    rows = [
        np.concatenate([read_window(slide, *window_of(slide.size, Address(finest, x, y))) for x in range(3)], 1)
        for y in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(rows), coordinates(1300, 700))


def test_coarse_tiles_are_means(slide: Opened) -> None:
    coarse = read_window(slide, *window_of(slide.size, Address(tile_levels(slide.size) - 2, 0, 0)))
    assert coarse.shape == (350, 512, 3)
    wanted = mean_of_blocks(coordinates(1300, 700), 2)[:, :512].astype(int)
    assert np.abs(coarse.astype(int) - wanted).max() <= 1


def test_without_a_pixel_size_levels_are_coarser_all_the_same(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "p.tif", coordinates(2048, 1024), (2, 4), mpp=None)
    slide = opened(SlideCatalog([path]).entries()[0])
    assert slide.mpp is None
    assert read_window(slide, *window_of(slide.size, Address(0, 0, 0))).shape == (256, 512, 3)
    slide.slide.close()


@given(st.tuples(st.integers(1, 200_000), st.integers(1, 200_000)), st.data())
def test_levels_end_in_one_tile_and_tile_the_slide(size: tuple[int, int], data: st.DataObject) -> None:
    levels = tile_levels(size)
    window, step = window_of(size, Address(0, 0, 0))
    assert (window.left, window.top, window.right, window.bottom) == (0, 0, *size)
    assert max(size) <= TILE_PX * step
    assert levels == 1 or max(size) * 2 > TILE_PX * step
    level = data.draw(st.integers(0, levels - 1))
    step = 2 ** (levels - 1 - level)
    across, down = (-(-side // (TILE_PX * step)) for side in size)
    last, _ = window_of(size, Address(level, across - 1, down - 1))
    assert (last.right, last.bottom) == size
    for beyond in (Address(level, across, 0), Address(level, 0, down), Address(levels, 0, 0), Address(-1, 0, 0)):
        with pytest.raises(NoSuchTileError):
            window_of(size, beyond)


def test_tiles_and_thumbnails_are_jpeg_of_the_right_size(slide: Opened) -> None:
    with PIL.Image.open(io.BytesIO(tile(slide, Address(0, 0, 0)))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (325, 175))
    with PIL.Image.open(io.BytesIO(thumbnail(slide))) as picture:
        assert max(picture.size) == 256


def test_colours_survive() -> None:
    image = np.full((64, 64, 3), (150, 80, 120), np.uint8)
    image[:, 32:] = 90, 60, 140
    jpeg = np.asarray(PIL.Image.open(io.BytesIO(as_jpeg(image))), int)
    assert np.abs(jpeg - image).max() <= 3
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(as_png(image)))), image)
