"""Tiles cover a picture exactly: once, aligned, and with halos that end at its borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.compute.tiles import ALIGNED_PX, TileGrid, Window, outer_px, whole


@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 200), st.integers(0, 100))
def test_cores_cover_every_pixel_once_and_halos_stay_inside(w: int, h: int, core_px: int, halo_px: int) -> None:
    grid = TileGrid((w, h), core_px, halo_px)
    covered = np.zeros((h, w), int)
    tiles = list(grid)
    assert len(tiles) == len(grid)
    for tile in tiles:
        covered[tile.core.at] += 1
        assert (tile.core.left % ALIGNED_PX, tile.core.top % ALIGNED_PX) == (0, 0)
        assert max(tile.core.size) <= max(core_px, ALIGNED_PX)
        assert tile.outer == tile.core.grown(halo_px, (w, h)).aligned(ALIGNED_PX)
        assert max(tile.outer.size) <= outer_px(max(tile.core.size), halo_px)
        assert 0 <= tile.outer.left <= tile.core.left
        assert tile.core.right <= tile.outer.right <= w
    assert (covered == 1).all()


def test_a_window_is_the_same_pixels_from_wherever_it_is_seen() -> None:
    picture = np.arange(60 * 90).reshape(60, 90)
    for tile in TileGrid((90, 60), 32, 16):
        assert np.array_equal(picture[tile.outer.at][tile.inner.at], picture[tile.core.at])


def test_windows_of_coarser_layers_end_where_these_do() -> None:
    """A picture 90 px wide has 45, 22 and 11 positions: halves round down."""
    assert [whole((90, 60)).coarser(stride).right for stride in (1, 2, 4, 8)] == [90, 45, 22, 11]
    assert Window(16, 32, 90, 60).coarser(4).size == (18, 7)


@pytest.mark.parametrize("side", [1, 15, 16, 63, 64, 65, 150, 1000])
def test_tiles_are_even(side: int) -> None:
    sizes = [tile.core.size[0] for tile in TileGrid((side, 10), 64, 32)]
    assert sum(sizes) == side
    assert max(sizes) <= 64
    assert max(sizes[:-1], default=0) - min(sizes[:-1], default=0) == 0


def test_a_window_is_placed_where_it_was_seen_from() -> None:
    outer = Window(16, 32, 80, 90)
    assert Window(20, 40, 30, 50).seen_from(outer).placed_in(outer) == Window(20, 40, 30, 50)


@pytest.mark.parametrize("other", [Window(10, 10, 20, 20), Window(0, 10, 5, 40), Window(40, 40, 50, 50)])
def test_what_windows_share_is_what_masks_share(other: Window) -> None:
    window = Window(5, 8, 30, 25)
    masks = np.zeros((2, 60, 60), bool)
    masks[0][window.at] = masks[1][other.at] = True
    common = window.common(other)
    assert common.area_px == np.count_nonzero(masks.all(0))
    assert masks.all(0)[common.at].all()
