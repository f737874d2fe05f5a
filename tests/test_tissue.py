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
from chromogen.stains.tissue import background, densest_window, tissue_mask, tissue_reach_px

AFAR_MPP = 20.0  # of an overview: the pictures here are some millimetres wide
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
    assert np.mean(tissue_mask(painted(picture), AFAR_MPP) != wanted) < 0.02


@pytest.mark.parametrize("level", [255, 240, 200, 128])
@pytest.mark.parametrize("noise", [0, 3])
def test_glass_is_no_tissue(level: int, noise: float) -> None:
    assert not tissue_mask(painted(glass(level, noise=noise)), AFAR_MPP).any()


@pytest.mark.parametrize("color", [PINK, PURPLE, PALE_BROWN])
@pytest.mark.parametrize("noise", [0, 10])
def test_a_view_full_of_tissue_is_all_tissue(color: tuple[int, int, int], noise: float) -> None:
    assert tissue_mask(painted(glass(0, noise=noise) + color), AFAR_MPP).all()


def test_specks_and_gaps_are_removed_but_not_lumina() -> None:
    picture = glass(245)
    picture[disc(90)] = PINK
    picture[disc(50)] = 245
    picture[40:46, 140:146] = 245
    picture[10:12, 10:12] = PURPLE
    mask = tissue_mask(painted(picture), 0.5)
    assert not mask[:30, :30].any()
    assert mask[38:50, 138:150].all()
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
    mask = tissue_mask(view, AFAR_MPP)
    assert mask[stroke].mean() < 0.08  # pale ink over tissue keeps a rim
    assert np.mean(mask[~stroke] != tissue[~stroke]) < 0.03


@pytest.mark.parametrize("ink", ["green", "blue", "black"])
def test_more_ink_than_tissue(ink: str) -> None:
    """Pale blue ink is told from bluish haematoxylin only beside other tissue."""
    picture, tissue = glass(240), disc(15)
    picture[tissue] = PALE_BROWN
    view = drawn(picture, lambda pen: pen.rectangle((5, 5, 120, 195), fill=INKS[ink]))
    assert np.mean(tissue_mask(view, AFAR_MPP) != tissue) < 0.02


@pytest.mark.parametrize("dark", [FOLD, DENSE_DAB, (15, 5, 18)])
def test_dark_folds_are_tissue_and_hide_no_pale_one(dark: tuple[int, int, int]) -> None:
    picture, tissue = glass(240), disc(70)
    picture[tissue] = (228, 204, 217)
    picture[80:110, 120:180] = dark
    assert np.mean(tissue_mask(painted(picture), AFAR_MPP) != tissue) < 0.03


@pytest.mark.parametrize("color", [HEMATOXYLIN, (200, 205, 225), (70, 75, 120), (156, 169, 191), (60, 80, 140)])
def test_a_section_of_haematoxylin_alone_is_tissue(color: tuple[int, int, int]) -> None:
    """A negative IHC is blue all over, but not as ink is."""
    picture, tissue = glass(240), disc(70)
    picture[tissue] = color
    assert np.mean(tissue_mask(painted(picture), AFAR_MPP) != tissue) < 0.03


@pytest.mark.parametrize("inside", [240, 225])
def test_an_air_bubble_on_glass_is_no_tissue(inside: int) -> None:
    picture, tissue = glass(240), disc(40)
    picture[tissue] = PINK
    view = drawn(
        picture, lambda pen: pen.ellipse((10, 10, 90, 90), outline=(150,) * 3, fill=(inside,) * 3, width=4)
    )
    mask = tissue_mask(view, AFAR_MPP)
    assert not mask[:100, :100].any()
    assert np.mean(mask != tissue) < 0.02


@pytest.mark.parametrize("inside", [150, 215])
def test_a_grey_bubble_that_touches_tissue_is_no_tissue(inside: int) -> None:
    picture, tissue = glass(240, noise=1), disc(70)
    picture[tissue] = PINK
    bubble = np.zeros_like(tissue)
    bubble[60:140, 5:100] = True
    picture[bubble & ~tissue] = inside
    assert np.mean(tissue_mask(painted(picture), AFAR_MPP) != tissue) < 0.02


def test_a_bubble_over_tissue_leaves_it_tissue() -> None:
    picture, tissue = glass(240), disc(90)
    picture[tissue] = PINK
    view = drawn(picture, lambda pen: pen.ellipse((120, 70, 180, 130), outline=(120, 100, 110), width=3))
    assert np.mean(tissue_mask(view, AFAR_MPP) != tissue) < 0.02


def test_glass_with_a_cover_slip_and_a_bubble_has_no_tissue() -> None:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.line([(0, 15), (300, 18)], fill=(120, 120, 122), width=5)
        pen.ellipse((100, 60, 200, 160), outline=(140, 140, 140), width=5)

    assert not tissue_mask(drawn(glass(240), draw), AFAR_MPP).any()


def test_a_view_in_black_and_white() -> None:
    picture, wanted = glass(240), disc(70)
    picture[wanted] = 120
    assert np.mean(tissue_mask(painted(picture), AFAR_MPP) != wanted) < 0.02


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
        view, step = slide.overview(512)
        mask = tissue_mask(view, slide.need_mpp() * step)
    assert mask.mean() == pytest.approx(0.73, abs=0.02)
    assert not mask[np.ix_([0, -1], [0, -1])].any()
    assert mask[mask.shape[0] // 2, mask.shape[1] // 4]


@pytest.mark.parametrize("name", ["torchstain_source.png", "torchstain_target.png", "hgsc_nest.jpg"])
def test_real_tissue_without_glass(data: Path, name: str) -> None:
    assert tissue_mask(read_image(data / "he" / name)).mean() > 0.95


def test_two_scans_of_one_pale_field_have_one_share_at_any_size(data: Path) -> None:
    """Nuclei alone take light; between them the tissue is as bright as glass. The lumina are a seventh or so."""
    for side in (300, 700):
        shares = []
        for scanner in ("ndpi", "vsi"):
            with open_slide(data / "exemplars" / f"OS-2-{scanner}.ome.tif") as slide:
                view, step = slide.overview(side)
                shares.append(tissue_mask(view, slide.need_mpp() * step).mean())
        assert shares == pytest.approx([0.86, 0.86], abs=0.03)
        assert abs(shares[0] - shares[1]) < 0.03


@pytest.mark.parametrize("coarser", [1, 2, 8, 40])
def test_the_share_is_the_same_at_any_scale(coarser: int) -> None:
    """Stained cells 12 um apart cover a quarter of 1.4 mm, seen under lenses from 0.75 to 30 um per pixel."""
    side = 1920
    y, x = np.indices((side, side)) * 0.75
    cells = np.maximum(np.sin(2 * np.pi * x / 12) * np.sin(2 * np.pi * y / 12), 0) * ((x < 720) & (y < 720))
    light = 238 * 10 ** -np.multiply.outer(cells, (0.45, 0.3, 0.15))
    view = painted(light.reshape(side // coarser, coarser, side // coarser, coarser, 3).mean((1, 3)) + 0.5)
    assert tissue_mask(view, 0.75 * coarser).mean() == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize(
    "cast", [(255, 255, 255), (238, 236, 240), (212, 212, 212), (245, 240, 222), (226, 221, 233)]
)
@pytest.mark.parametrize("padding", [0, 60])
def test_glass_of_any_white_may_be_padded_with_another(cast: tuple[int, int, int], padding: int) -> None:
    picture, tissue = glass(0) + cast, disc(60)
    picture[tissue] *= np.array((0.75, 0.6, 0.85))
    picture[:, 300 - padding :] = 255
    assert np.mean(tissue_mask(painted(picture), AFAR_MPP) != tissue) < 0.02


@pytest.mark.parametrize(
    "color", [(242, 242, 242), (235, 235, 235), (192, 192, 192), (255, 255, 255), (90, 120, 90)]
)
@pytest.mark.parametrize("mpp", [0.5, AFAR_MPP])
def test_flat_padding_of_any_colour_is_no_tissue_and_no_glass(color: tuple[int, int, int], mpp: float) -> None:
    picture, tissue = glass(0) + np.array((228, 223, 229)), disc(60)
    picture[tissue] *= np.array((0.75, 0.6, 0.85))
    unpadded = tissue_mask(painted(picture), mpp)
    padded = np.full((320, 480, 3), color, np.uint8)
    padded[60:260, 90:390] = painted(picture)
    assert np.mean(tissue_mask(padded, mpp)[60:260, 90:390] != unpadded) < 0.01
    assert tissue_mask(padded, mpp).sum() == pytest.approx(unpadded.sum(), rel=0.02)


def test_a_real_picture_that_was_turned_and_padded(data: Path) -> None:
    turned, own = (read_image(data / f"pairs/lung-lesion/CD31{name}") for name in ("_aligned.png", ".jpg"))
    assert background(turned, 3.48).white == pytest.approx(background(own, 3.48).white, abs=2)
    assert tissue_mask(turned, 3.48).mean() == pytest.approx(0.63, abs=0.02)


def test_flat_glass_without_other_glass_in_view_is_glass() -> None:
    picture = glass(245, noise=0)
    picture[disc(70)] = np.random.default_rng(0).uniform(0.6, 1.0, (int(disc(70).sum()), 1)) * PINK
    seen = background(painted(picture), 2.0)
    assert seen.white.tolist() == [245] * 3
    assert not seen.marks.any()


@pytest.mark.parametrize("mpp", [0.3, 1.0, 8.0])
def test_a_part_is_cut_out_of_the_whole(mpp: float) -> None:
    picture = glass(236, (500, 520), noise=4)
    picture[100:400, 90:380] *= np.random.default_rng(1).uniform(0.6, 1.0, (300, 290, 3))
    view = painted(picture)
    seen, halo = background(view, mpp), tissue_reach_px(mpp)
    whole = seen.tissue(view, mpp)
    top, left, size = 210, 190, 100
    y, x = (max(0, at - halo) for at in (top, left))
    bottom, right = min(500, top + size + halo), min(520, left + size + halo)
    part = seen.tissue(view[y:bottom, x:right], mpp, (x / 520, y / 500, right / 520, bottom / 500))
    np.testing.assert_array_equal(
        part[top - y : top - y + size, left - x : left - x + size], whole[top : top + size, left : left + size]
    )


def test_a_part_leaves_out_the_marks_of_the_whole() -> None:
    picture = glass(240)
    picture[disc(70)] = PINK
    view = drawn(picture, lambda pen: pen.rectangle((5, 5, 60, 195), fill=INKS["green"]))
    seen = background(view, AFAR_MPP)
    part = seen.tissue(view[40:160, :150], AFAR_MPP, (0, 0.2, 0.5, 0.8))
    assert not part[:, :65].any()
    np.testing.assert_array_equal(part[2:-2, :-2], seen.tissue(view, AFAR_MPP)[42:158, :148])


def test_haematoxylin_that_is_as_blue_as_ink_is_tissue(data: Path) -> None:
    with open_slide(data / "exemplars" / "OS-2-ndpi.ome.tif") as slide:
        view, step = slide.overview(800)
        assert not background(view, slide.need_mpp() * step).marks.any()


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
