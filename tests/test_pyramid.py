import hypothesis.extra.numpy as np_strategies
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromogen.compute.tiles import Window, whole, windows_of
from chromogen.image import Image
from chromogen.slides import pyramid
from chromogen.slides.pyramid import halved, level_sizes, pyramid_blocks
from synthetic import ArrayPixels, WherePixels

SIDES = st.integers(1, 75)


def means(image: Image) -> Image:
    """The reference, pixel by pixel: the mean of those of 2 x 2 pixels that exist, halves to even."""
    height, width = image.shape[:2]
    rows = [
        [image[y : y + 2, x : x + 2].reshape(-1, 3).mean(axis=0, dtype=np.float64) for x in range(0, width, 2)]
        for y in range(0, height, 2)
    ]
    return np.rint(rows).astype(np.uint8)


@given(np_strategies.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_a_half_is_made_of_means(image: Image) -> None:
    np.testing.assert_array_equal(halved(image), means(image))


def test_level_after_level_gets_neither_lighter_nor_darker() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    coarse = image
    for _ in range(7):
        coarse = halved(coarse)
    assert coarse.shape == (8, 8, 3)
    assert abs(coarse.mean() - image.mean()) < 0.1


def test_white_stays_white() -> None:
    assert (halved(np.full((5, 7, 3), 255, np.uint8)) == 255).all()


@settings(max_examples=60)
@given(SIDES, SIDES, st.sampled_from([4, 8]))
def test_blocks_make_up_the_levels_of_the_whole(width: int, height: int, smallest_px: int) -> None:
    image = WherePixels((width, height)).read(whole((width, height)))
    levels = [np.zeros((h, w, 3), np.uint8) for w, h in level_sizes((width, height), smallest_px)]
    times = [np.zeros(level.shape[:2], int) for level in levels]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "BLOCK_PX", 8)
        for block in pyramid_blocks(ArrayPixels(image), smallest_px):
            levels[block.level][block.window.at] = block.image
            times[block.level][block.window.at] += 1
    assert all((count == 1).all() for count in times)
    expected = image
    for level in levels:
        np.testing.assert_array_equal(level, expected)
        expected = means(expected)
    assert max(levels[-1].shape) <= smallest_px


@given(SIDES, SIDES, st.integers(1, 20))
def test_windows_cover_every_pixel_once(width: int, height: int, side_px: int) -> None:
    times = np.zeros((height, width), int)
    for window in windows_of((width, height), side_px):
        assert max(window.size) <= side_px
        times[window.at] += 1
    assert (times == 1).all()


@pytest.mark.parametrize(
    "answer", [np.zeros((3, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_read_must_fit(answer: Image) -> None:
    class Wrong:
        size = (4, 4)

        def read(self, _window: Window) -> Image:
            return answer

    with pytest.raises(ValueError, match="Expected `pixels.read` to be uint8"):
        list(pyramid_blocks(Wrong(), 8))
