"""The registered view of an IHC: pixels at the right place, tiles that fit together, the wrong slide refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import box

from chromogen.image import write_image
from chromogen.registration.registered_slide import checkerboard, open_registered, residual_map
from chromogen.registration.transform import DisplacementBlock, Piece, Quality, SlideFrame, Transform
from chromogen.slides.slide import open_slide
from synthetic import tissue_like
from test_transform import wavy

QUARTER = np.array([[0.0, -1.0, 150.0], [1.0, 0.0, 0.0]])  # a quarter turn of 300 px at 0.5 um


@pytest.fixture
def ihc(tmp_path: Path) -> Path:
    file = tmp_path / "ihc.png"
    write_image(file, tissue_like(300, 300, 3), mpp=0.5)
    return file


def to(ihc: Path, piece: Piece) -> Transform:
    with open_slide(ihc) as slide:
        target = SlideFrame(slide.size, 0.5, "file", slide.quickhash)
    return Transform(SlideFrame((300, 300), 0.5, "file", "he"), target, (piece,))


def test_a_quarter_turn_is_numpys(ihc: Path) -> None:
    with open_slide(ihc) as slide, open_registered(ihc, to(ihc, Piece(box(0, 0, 150, 150), QUARTER))) as turned:
        whole = slide.read_region((0, 0), slide.size)
        assert (turned.size, turned.mpp) == ((300, 300), 0.5)
        seen = turned.read_region((0, 0), turned.size)
    np.testing.assert_array_equal(seen, _turned(whole))


def _turned(whole: np.ndarray) -> np.ndarray:
    """Pixel (x, y) is the IHC's at (299 - y, x)."""
    y, x = np.indices((300, 300))
    return whole[x, 299 - y]


def test_tiles_are_crops_of_the_whole(ihc: Path) -> None:
    moving = Piece(box(0, 0, 150, 150), np.eye(2, 3), replace(wavy(), spacing_um=15.0))
    with open_registered(ihc, to(ihc, moving)) as slide:
        whole = slide.read_at((0, 0), slide.size, None)
        tile = slide.read_at((37, 101), (120, 90), None)
    np.testing.assert_array_equal(tile, whole[101:191, 37:157])


def test_glass_where_the_ihc_was_not_scanned(ihc: Path) -> None:
    far = np.array([[1.0, 0.0, 1e4], [0.0, 1.0, 0.0]])
    with open_registered(ihc, to(ihc, Piece(box(0, 0, 150, 150), far))) as slide:
        assert len(np.unique(slide.read_region((0, 0), slide.size).reshape(-1, 3), axis=0)) == 1


def test_another_slide_is_refused(ihc: Path) -> None:
    transform = to(ihc, Piece(box(0, 0, 150, 150), QUARTER))
    other = replace(transform, target=replace(transform.target, quickhash="other"))
    with pytest.raises(ValueError, match="Expected `ihc` to be the slide that the transform was made of"):
        open_registered(ihc, other)


def test_a_checkerboard_of_a_slide_with_itself_is_the_slide(ihc: Path) -> None:
    here = Piece(box(0, 0, 150, 150), np.eye(2, 3))
    with open_slide(ihc) as slide, open_registered(ihc, to(ihc, here)) as same:
        np.testing.assert_array_equal(checkerboard(slide, same, 300), slide.overview(300)[0])


def test_blocks_are_tinted_by_their_residual(ihc: Path) -> None:
    blocks = (DisplacementBlock((25.0, 25.0), 1.0, 0.5), DisplacementBlock((75.0, 25.0), 50.0, 0.5))
    quality = Quality(1.0, 0.5, 0.1, 0.2, blocks)
    transform = replace(to(ihc, Piece(box(0, 0, 150, 150), np.eye(2, 3))), quality=quality)
    with open_slide(ihc) as slide:
        plain, tinted = slide.overview(300)[0].astype(int), residual_map(slide, transform, 300).astype(int)
    change = tinted - plain
    left, right = change[2:98, 2:98].mean((0, 1)), change[2:98, 102:198].mean((0, 1))
    assert left[1] - left[0] > 10, "green"
    assert right[0] - right[1] > 10, "red"
    assert not change[110:].any()
    assert not change[:, 210:].any()
