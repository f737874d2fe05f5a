"""Tissue on painted glass and on real slides; the richest window against a plain search."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageDraw

from chromogen.image import Image, read_image
from chromogen.slides.slide import open_slide
from chromogen.stains.tissue import densest_window, tissue_mask

PINK, PURPLE, PALE_BROWN = (225, 140, 180), (110, 70, 150), (225, 205, 180)


def glass(level: int, size: tuple[int, int] = (200, 300), noise: float = 2) -> NDArray[np.float64]:
    return level + np.random.default_rng(0).normal(0, noise, (*size, 1)) * np.ones(3)


def painted(picture: NDArray[np.float64]) -> Image:
    return picture.clip(0, 255).astype(np.uint8)


def disc(radius: float, size: tuple[int, int] = (200, 300)) -> NDArray[np.bool_]:
    y, x = np.indices(size)
    return np.asarray((x - size[1] / 2) ** 2 + (y - size[0] / 2) ** 2 < radius**2)


@pytest.mark.parametrize("color", [PINK, PURPLE, PALE_BROWN])
@pytest.mark.parametrize("level", [255, 240, 200])
def test_a_disc_on_glass(level: int, color: tuple[int, int, int]) -> None:
    picture, wanted = glass(level), disc(70)
    picture[wanted] = color
    assert np.mean(tissue_mask(painted(picture)) != wanted) < 0.02


@pytest.mark.parametrize("level", [255, 240, 200, 128])
@pytest.mark.parametrize("noise", [0, 3])
def test_glass_is_no_tissue(level: int, noise: float) -> None:
    assert not tissue_mask(painted(glass(level, noise=noise))).any()


@pytest.mark.parametrize("color", [PINK, PURPLE, PALE_BROWN])
@pytest.mark.parametrize("noise", [0, 10])
def test_a_view_full_of_tissue_is_all_tissue(color: tuple[int, int, int], noise: float) -> None:
    assert tissue_mask(painted(glass(0, noise=noise) + color)).all()


def test_specks_and_holes_are_removed_but_not_lumina() -> None:
    picture = glass(245)
    picture[disc(80)] = PINK
    picture[disc(20)] = 245
    picture[40:43, 140:143] = 245
    picture[10:13, 10:13] = PURPLE
    mask = tissue_mask(painted(picture))
    assert not mask[:30, :30].any()
    assert mask[38:45, 138:145].all()
    assert not mask[100, 150]


INKS = {"green": (20, 140, 80), "blue": (30, 60, 160), "ballpoint": (40, 60, 150), "black": (25, 25, 30)}
FOLD, DENSE_DAB, HEMATOXYLIN = (45, 15, 50), (45, 25, 12), (150, 155, 180)


def drawn(picture: NDArray[np.float64], draw: Callable[[ImageDraw.ImageDraw], object]) -> Image:
    """The picture as light falls through, with something drawn on it, softened as optics do."""
    image = PIL.Image.fromarray(painted(picture))
    draw(ImageDraw.Draw(image))
    return np.array(image.filter(PIL.ImageFilter.GaussianBlur(0.7)))


@pytest.mark.parametrize("ink", INKS)
def test_ink_is_no_tissue_beside_it_or_on_it(ink: str) -> None:
    picture, tissue = glass(240), disc(70)
    picture[tissue] = PINK
    line = [(10, 20), (290, 180)]
    view = drawn(picture, lambda pen: pen.line(line, fill=INKS[ink], width=8))
    stroke = drawn(glass(255, noise=0), lambda pen: pen.line(line, fill=(0, 0, 0), width=8))[..., 0] < 200
    mask = tissue_mask(view)
    assert mask[stroke].mean() < 0.08  # pale ink over tissue keeps a rim
    assert np.mean(mask[~stroke] != tissue[~stroke]) < 0.03


@pytest.mark.parametrize("ink", ["green", "blue", "black"])
def test_more_ink_than_tissue(ink: str) -> None:
    """Pale blue ink is told from bluish haematoxylin only beside other tissue."""
    picture, tissue = glass(240), disc(15)
    picture[tissue] = PALE_BROWN
    view = drawn(picture, lambda pen: pen.rectangle((5, 5, 120, 195), fill=INKS[ink]))
    assert np.mean(tissue_mask(view) != tissue) < 0.02


@pytest.mark.parametrize("dark", [FOLD, DENSE_DAB, (15, 5, 18)])
def test_dark_folds_are_tissue_and_hide_no_pale_one(dark: tuple[int, int, int]) -> None:
    picture, tissue = glass(240), disc(70)
    picture[tissue] = (228, 204, 217)
    picture[80:110, 120:180] = dark
    assert np.mean(tissue_mask(painted(picture)) != tissue) < 0.03


@pytest.mark.parametrize("color", [HEMATOXYLIN, (200, 205, 225), (70, 75, 120), (156, 169, 191), (60, 80, 140)])
def test_a_section_of_haematoxylin_alone_is_tissue(color: tuple[int, int, int]) -> None:
    """A negative IHC is blue all over, but not as ink is."""
    picture, tissue = glass(240), disc(70)
    picture[tissue] = color
    assert np.mean(tissue_mask(painted(picture)) != tissue) < 0.03


@pytest.mark.parametrize("inside", [240, 225])
def test_an_air_bubble_on_glass_is_no_tissue(inside: int) -> None:
    picture, tissue = glass(240), disc(40)
    picture[tissue] = PINK
    view = drawn(
        picture, lambda pen: pen.ellipse((10, 10, 90, 90), outline=(150,) * 3, fill=(inside,) * 3, width=4)
    )
    mask = tissue_mask(view)
    assert not mask[:100, :100].any()
    assert np.mean(mask != tissue) < 0.02


def test_a_bubble_over_tissue_leaves_it_tissue() -> None:
    picture, tissue = glass(240), disc(90)
    picture[tissue] = PINK
    view = drawn(picture, lambda pen: pen.ellipse((120, 70, 180, 130), outline=(120, 100, 110), width=3))
    assert np.mean(tissue_mask(view) != tissue) < 0.02


def test_glass_with_a_cover_slip_and_a_bubble_has_no_tissue() -> None:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.line([(0, 15), (300, 18)], fill=(120, 120, 122), width=5)
        pen.ellipse((100, 60, 200, 160), outline=(140, 140, 140), width=5)

    assert not tissue_mask(drawn(glass(240), draw)).any()


def test_a_view_in_black_and_white() -> None:
    picture, wanted = glass(240), disc(70)
    picture[wanted] = 120
    assert np.mean(tissue_mask(painted(picture)) != wanted) < 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_tiny_views(size: tuple[int, int]) -> None:
    assert tissue_mask(np.full((*size, 3), PURPLE, np.uint8)).all()
    assert not tissue_mask(np.full((*size, 3), 255, np.uint8)).any()


@pytest.mark.parametrize("view", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)])
def test_what_is_no_view(view: Image) -> None:
    with pytest.raises(ValueError, match=r"`overview` to be uint8 \(H, W, 3\), got"):
        tissue_mask(view)


def test_a_real_core(data: Path) -> None:
    with open_slide(data / "he" / "instanseg_tma_core.tif") as slide:
        mask = tissue_mask(slide.overview(512)[0])
    assert 0.5 < mask.mean() < 0.9
    assert not any(mask[corner].any() for corner in np.ix_([0, -1], [0, -1]))
    assert mask[mask.shape[0] // 2, mask.shape[1] // 4]


@pytest.mark.parametrize("name", ["torchstain_source.png", "torchstain_target.png", "hgsc_nest.jpg"])
def test_real_tissue_without_glass(data: Path, name: str) -> None:
    assert tissue_mask(read_image(data / "he" / name)).mean() > 0.95


def test_a_real_slide_of_mostly_glass(data: Path) -> None:
    with open_slide(data / "slides" / "crc_ihc_pyramid.tif") as slide:
        mask = tissue_mask(slide.overview(1024)[0])
    assert 0.01 < mask.mean() < 0.2


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 9))
def test_densest_window_is_what_a_search_finds(seed: int, w: int, h: int) -> None:
    weight = np.random.default_rng(seed).integers(-1, 4, (9, 12))
    sums = {(x, y): weight[y : y + h, x : x + w].sum() for y in range(10 - h) for x in range(13 - w)}
    assert densest_window(weight, (w, h)) == max(sums, key=lambda corner: sums[corner])


@pytest.mark.parametrize("value", [0.1, 0, -0.7, True])
def test_of_equal_windows_the_first(value: float) -> None:
    assert densest_window(np.full((70, 90), value), (13, 7)) == (0, 0)


def test_a_mask_can_be_weighed() -> None:
    mask = np.zeros((300, 400), bool)
    mask[200:260, 310:350] = True
    assert densest_window(mask, (40, 60)) == (310, 200)


@pytest.mark.parametrize("size", [(0, 1), (5, 1), (1, 4)])
def test_windows_that_do_not_fit(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="within 1 x 1 and 4 x 3, got"):
        densest_window(np.ones((3, 4)), size)
