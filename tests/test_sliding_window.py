"""Windows that overlap, blended."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromogen.compute.tiles import SlidingWindow, TileGrid, Window, mirrored, whole
from chromogen.image import Image
from chromogen.staining.stainer import Stainer, stain_image
from synthetic import tissue_like


def leveled(image: Image, _statistics: object = None, _location: object = None) -> Image:
    """As instance norm: every pixel depends on the whole window."""
    mean, spread = image.mean((0, 1)), image.std((0, 1)) + 1
    return np.asarray(np.rint((image - mean) / spread * 40 + 128).clip(0, 255), np.uint8)


def stainer(sliding_window: SlidingWindow) -> Stainer:
    return Stainer(
        "leveled",
        "grey",
        leveled,
        "1",
        halo_px=sliding_window.window_px,
        stride_px=sliding_window.step_px,
        sliding_window=sliding_window,
    )


def blended_slowly(sliding_window: SlidingWindow, image: Image) -> Image:
    """The whole picture, window by window, with weights in floating point: an independent reference."""
    height, width = image.shape[:2]
    side, step, blend = sliding_window.window_px, sliding_window.step_px, sliding_window.blend_px
    padded = np.pad(image, ((0, side), (0, side), (0, 0)), "symmetric")
    ramp = np.ones(side)
    for place in range(blend):
        t = (place + 0.5) / blend
        ramp[place] = ramp[-1 - place] = max(1, round(256 * t * t * (3 - 2 * t))) / 256
    total, weight = np.zeros((*padded.shape[:2], 3)), np.zeros((*padded.shape[:2], 1))
    for top in range(0, max(1, height - blend), step):
        for left in range(0, max(1, width - blend), step):
            at = np.s_[top : top + side, left : left + side]
            here = np.outer(ramp, ramp)[..., None]
            total[at] += leveled(padded[at]) * here
            weight[at] += here
    return (total[:height, :width] / weight[:height, :width]).astype(np.float64)


@pytest.mark.parametrize(("window_px", "blend_px"), [(64, 16), (64, 32), (48, 0), (50, 7)])
def test_is_the_weighted_mean_of_windows(window_px: int, blend_px: int) -> None:
    sliding_window = SlidingWindow(window_px, blend_px)
    image = tissue_like(150, 130, seed=1)
    made = stainer(sliding_window)(image)
    assert np.abs(made - blended_slowly(sliding_window, image)).max() <= 0.5 + 1e-6


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 170), st.integers(1, 170)),
    st.integers(8, 64),
    st.data(),
    st.integers(16, 120),
    st.booleans(),
)
def test_tiled_equals_untiled(
    shape: tuple[int, int], window_px: int, data: st.DataObject, core_px: int, fixed: bool
) -> None:
    sliding_window = SlidingWindow(window_px, data.draw(st.integers(0, window_px // 2)), fixed)
    image = tissue_like(*shape, seed=2)
    made = stainer(sliding_window)
    np.testing.assert_array_equal(stain_image(made, image, core_px), made(image))


def test_a_part_is_a_crop_wherever_it_lies() -> None:
    """As a region of a slide: the part looked at begins at a multiple of the step."""
    sliding_window = SlidingWindow(40, 12)
    image = tissue_like(300, 280, seed=3)
    core = Window(130, 95, 170, 160)
    outer = core.grown(40, (280, 300)).aligned(28)
    part = stainer(sliding_window).part(image[outer.at], core.seen_from(outer))
    np.testing.assert_array_equal(part, stainer(sliding_window)(image)[core.at])


def test_windows_may_come_from_many_threads() -> None:
    image = tissue_like(200, 200, seed=4)
    made = stainer(SlidingWindow(48, 12))
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(stain_image(made, image, each=pool.map), made(image))


def test_only_windows_that_show_are_painted() -> None:
    """Each once, of exactly the size, and those at the border not if the one before shows all."""
    seen: list[tuple[int, int]] = []
    sliding_window = SlidingWindow(32, 8)
    image = tissue_like(80, 81, seed=5)

    def paint(window: Window) -> Image:
        seen.append(window.size)
        return mirrored(image, window)

    sliding_window.blended(paint, image.shape, whole((81, 80)))
    assert seen == [(32, 32)] * 12  # begins at 0, 24, 48 down and 0, 24, 48, 72 across
    assert sliding_window.windows((80, 81), Window(40, 40, 50, 50)) == [
        Window(24, 24, 56, 56),
        Window(48, 24, 80, 56),
        Window(24, 48, 56, 80),
        Window(48, 48, 80, 80),
    ]


def test_what_paints_nothing_new_changes_nothing() -> None:
    """Blending the picture with itself is the picture."""
    image = tissue_like(90, 110, seed=6)
    made = SlidingWindow(32, 11).blended(partial(mirrored, image), image.shape, whole((110, 90)))
    np.testing.assert_array_equal(made, image)


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (33, 20)])
def test_small_pictures(shape: tuple[int, int]) -> None:
    """Alone in one window, as large as need be, or mirrored to the size that is wanted."""
    image = tissue_like(*shape, seed=7)
    for fixed in (True, False):
        sliding_window = SlidingWindow(64, 16, fixed)
        made = sliding_window.blended(partial(mirrored, image), image.shape, whole(shape[::-1]))
        np.testing.assert_array_equal(made, image)
        height = 64 if fixed else min(64, -(-shape[0] // 32) * 32)
        assert {window.size[1] for window in sliding_window.windows(shape, whole(shape[::-1]))} == {height}


def test_no_step_where_windows_meet() -> None:
    """A picture that grows brighter, which every window levels away: blended, the way back is spread."""
    image = np.broadcast_to(np.linspace(40, 220, 256).astype(np.uint8)[None, :, None], (64, 256, 3))

    def steepest(blend_px: int) -> int:
        made = stainer(SlidingWindow(64, blend_px))(image).astype(int)
        return int(np.abs(np.diff(made, axis=1)).max())

    assert steepest(0) > 100
    assert steepest(32) < 10


def test_meetings_are_the_middles_of_overlaps() -> None:
    cells = SlidingWindow(64, 16).cells(Window(40, 0, 160, 100))
    assert {cell.left for cell in cells} == {56, 104, 152}
    assert {cell.top for cell in cells} == {56}
    assert all(cell.right <= 160 and cell.bottom <= 100 for cell in cells)
    assert SlidingWindow(64, 0).cells(whole((64, 64))) == []


def test_every_meeting_is_in_one_part_alone() -> None:
    sliding_window, size = SlidingWindow(50, 13), (400, 300)
    lefts = [cell.left for cell in sliding_window.cells(whole(size))]
    parts = [cell.left for tile in TileGrid(size, 64, 0) for cell in sliding_window.cells(tile.core)]
    assert set(parts) == set(lefts) == {37 * k + 6 for k in range(1, 11)}


@pytest.mark.parametrize("blend_px", [-1, 33, 64])
def test_too_much_overlap_is_refused(blend_px: int) -> None:
    with pytest.raises(ValueError, match="Expected `blend` to be 0 to 32 px, half of a window of 64"):
        SlidingWindow(64, blend_px)


def test_order_does_not_matter() -> None:
    """Sums of whole numbers."""
    image = tissue_like(120, 120, seed=8)
    sliding_window = SlidingWindow(40, 20)
    windows = sliding_window.windows((120, 120), whole((120, 120)))
    assert len(windows) > 9
    random.Random(0).shuffle(windows)
    shuffled = SlidingWindow(40, 20)
    object.__setattr__(shuffled, "windows", lambda *_: windows)
    made = [
        x.blended(lambda window: leveled(mirrored(image, window)), image.shape, whole((120, 120)))
        for x in (shuffled, sliding_window)
    ]
    np.testing.assert_array_equal(*made)
