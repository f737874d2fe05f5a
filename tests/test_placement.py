"""How slides lie on one another: where a stain was made, else by pixel sizes, else by a guess that says so."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from chromogen.app.view.opened import Opened, opened
from chromogen.app.view.pictures import Address, difference_tile
from chromogen.app.view.placement import placement_between
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.app.view.stains import Stain, stain_view
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from synthetic_slides import write_pyramid
from test_densities import IHC

Size = tuple[int, int]
Lying = Callable[[Path], Opened]
REGION = (101, 53, 301, 260)


@pytest.fixture
def lying() -> Iterator[Lying]:
    """Opens slides, and closes them after the test."""
    with ExitStack() as after:

        def lie(path: Path) -> Opened:
            slide = opened(SlideCatalog([path]).entries()[0])
            after.callback(slide.slide.close)
            return slide

        yield lie


def blank(folder: Path, name: str, size: Size, mpp: float | None) -> Path:
    pixels = np.full((size[1], size[0], 3), 200, np.uint8)
    pixels[0, 0] = len(name), size[0] % 256, size[1] % 256  # no two slides are of one content
    return write_pyramid(folder / name, pixels, mpp=mpp and (mpp, mpp))


@pytest.mark.parametrize(
    ("first", "second", "scale", "says"),
    [
        (((256, 256), 0.253), ((512, 512), 0.253), 1.0, "by their pixel sizes"),
        (((512, 512), 0.25), ((256, 256), 1.0), 0.25, "by their pixel sizes"),
        (((512, 256), 0.25), ((256, 512), 0.5), 0.5, "by their pixel sizes"),
        (((512, 256), None), ((256, 128), None), 0.5, "by a guess: neither file states a pixel size, and both"),
        (((512, 256), None), ((256, 256), None), 1.0, "by a guess: pixel on pixel"),
        (((512, 256), 0.25), ((256, 128), None), 1.0, "by a guess: its file does not state a pixel size, so 0.25"),
        (((256, 128), None), ((512, 256), 0.5), 1.0, "by a guess: the first one's file does not state"),
    ],
)
def test_pixel_sizes_decide_and_a_guess_says_so(
    tmp_path: Path,
    lying: Lying,
    first: tuple[Size, float | None],
    second: tuple[Size, float | None],
    scale: float,
    says: str,
) -> None:
    one, other = lying(blank(tmp_path, "a.tif", *first)), lying(blank(tmp_path, "bb.tif", *second))
    placed = placement_between(one, other)
    assert placed.scale == pytest.approx(scale)
    assert placed.by.startswith(says)
    assert placed.is_guess == ("guess" in says)
    assert placed.offset == (0, 0)


@pytest.fixture
def he(tmp_path: Path) -> Path:
    """A slide at another pixel size than stainers work at, with sides that are no multiples."""
    return write_pyramid(tmp_path / "he.tif", IHC[:401, :507], mpp=(0.253, 0.253))


def stained(he: Path, name: str, region: tuple[int, int, int, int] | None, *, anonymous: bool = False) -> Path:
    job = SlideJob(SlideFile(he), Stainer.from_pretrained("identity"), region, mask_tissue=False)
    out = he.parent / name
    stain_slide(job, Output(out, "deflate", anonymous=anonymous))
    return out


def difference(one: Opened, other: Opened) -> NDArray[np.int_]:
    placed = placement_between(one, other)
    data = difference_tile(one, other, Address(0, 0, 0), ("h-dab", "h-dab"), placed)
    return np.asarray(PIL.Image.open(io.BytesIO(data))).astype(int) - 128


@pytest.mark.parametrize("region", [None, REGION])
@pytest.mark.parametrize("anonymous", [False, True])
def test_a_stain_lies_where_it_was_made(
    he: Path, lying: Lying, region: tuple[int, int, int, int] | None, anonymous: bool
) -> None:
    made = stained(he, "made.ome.tif", region, anonymous=anonymous)
    renamed = made.rename(made.with_name("another name.tif"))
    one, other = lying(he), lying(renamed)
    placed = placement_between(one, other)
    assert not placed.is_guess
    assert placed.scale == pytest.approx(0.253 / 0.5)
    there = difference(one, other)
    x, y, w, h = region or (0, 0, 507, 401)
    within = there[y + 8 : y + h - 8, x + 8 : x + w - 8]
    assert np.abs(within[..., 1]).mean() < 6, "the stain changes nothing, so nothing differs but sharpness"
    assert np.median(within[..., 2]) > 100, "structure lies on structure"
    back = placement_between(other, one)
    assert back.scale == pytest.approx(1 / placed.scale)
    corner = [placed.scale * at + shift for at, shift in zip((x, y), placed.offset, strict=True)]
    assert np.abs(corner).max() < 1
    there_and_back = [back.scale * at + shift for at, shift in zip(corner, back.offset, strict=True)]
    assert there_and_back == pytest.approx([x, y])


def test_two_stains_of_one_slide_lie_on_each_other(he: Path, lying: Lying) -> None:
    one, other = lying(stained(he, "all.ome.tif", None)), lying(stained(he, "part.ome.tif", REGION))
    placed = placement_between(one, other)
    assert placed.scale == pytest.approx(1)
    assert placed.offset == (-51, -26)
    assert np.abs(difference(one, other)[30:150, 60:190, 1]).max() == 0


def test_a_stained_view_lies_in_its_place(he: Path, lying: Lying) -> None:
    folder = he.parent / "view"
    folder.mkdir()
    asked = Stain("i", "0" * 16, "he.tif", str(he), "identity", "identity", None, REGION[:2], REGION[2:])
    stain_view(asked, folder)
    placed = placement_between(lying(he), lying(folder / "result.png"))
    assert (placed.scale, placed.offset) == (pytest.approx(0.506), (-51, -26))


def test_what_lies_outside_of_a_part_is_glass(he: Path, lying: Lying) -> None:
    there = difference(lying(he), lying(stained(he, "part.ome.tif", REGION)))
    alone = difference(lying(he), lying(blank(he.parent, "glass.tif", (8, 8), 0.253)))
    np.testing.assert_array_equal(there[20:50, :, 1], alone[20:50, :, 1])
    np.testing.assert_array_equal(there[50:, :98, 1], alone[50:, :98, 1])
