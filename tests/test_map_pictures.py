"""Maps that the page lays on a slide."""

import io

import numpy as np
import PIL.Image
import pytest

from chromogen.app.view.pictures import HATCH_PX, LINE_PX, MAX_ALPHA, unlike_picture, where_picture
from chromogen.staining.confidence import LEVEL, SQUARE_PX, heat_map, levels_in


def alpha(png: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(png)))[..., 3]


def test_the_more_is_stained_the_more_opaque_it_is() -> None:
    values = np.zeros((10, 14), np.uint8)
    values[:, 6:10], values[:, 10:] = 128, 255
    seen = alpha(where_picture(values))
    assert seen.shape == (5, 7)
    assert seen[2].tolist() == [0, 0, 0, round(128 * MAX_ALPHA / 255), round(128 * MAX_ALPHA / 255), 150, 150]


@pytest.mark.parametrize(("width", "height"), [(48, 32), (41, 27), (16 * 5000, 16)])
def test_what_was_left_out_is_hatched_and_covers_the_picture(width: int, height: int) -> None:
    level = round(1 + 254 * (np.log10(LEVEL / 100) / 5 + 1))  # a hundred times too far
    levels = np.full((-(-height // SQUARE_PX), -(-width // SQUARE_PX)), 255, np.uint8)
    levels[:, 1], levels[0, 0] = level, 0
    seen = alpha(unlike_picture(levels, (width, height)))
    side_px = max(1, min(SQUARE_PX, 4096 // max(levels.shape)))
    assert seen.shape == (round(height * side_px / SQUARE_PX), round(width * side_px / SQUARE_PX))
    hatched = seen[:, side_px : 2 * side_px]
    assert hatched.min() > 0
    if side_px == SQUARE_PX:
        assert (hatched > 200).mean() == pytest.approx(LINE_PX / HATCH_PX, abs=0.03)
    assert not seen[:, :side_px].any(), "glass, and what is like the exemplar's"


def test_a_heat_map_says_the_levels_that_it_was_made_of() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(levels_in(heat_map(levels)), levels)
    assert not levels_in(np.full((2, 2, 3), 7, np.uint8)).any(), "none of its colours"
