"""Slides whose pixels say where they are: an off-by-one fails exactly."""

import itertools
import os
from pathlib import Path

import numpy as np
import openslide
import PIL.Image
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from chromogen.image import Image, write_image
from chromogen.slides import slide as module
from chromogen.slides.slide import Slide, SlideError, open_slide

WIDTH, HEIGHT, MPP = 600, 440, 0.5
REGIONS = [((0, 0), (240, 240)), ((120, 60), (480, 360)), ((37, 91), (120, 60)), ((360, 200), (240, 240))]


def coordinates(width: int, height: int) -> Image:
    """Red and green count x and y up to 255 and again, blue counts the turns."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, 16 * (x // 256) + y // 256], axis=-1).astype(np.uint8)


def ramp(width: int, height: int) -> Image:
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 5, y // 5, (x + y) // 10], axis=-1).astype(np.uint8)


def waves(width: int, height: int) -> Image:
    """Red and green go up and down by 2 a pixel, in x and y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([abs(2 * x % 510 - 255), abs(2 * y % 510 - 255), 0 * x], axis=-1).astype(np.uint8)


def mean_of_blocks(image: Image, factor: int) -> Image:
    """Area average by a whole number; rows and columns that do not fill a block are left out."""
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3))), np.uint8)


def crop(image: Image, location: tuple[int, int], size: tuple[int, int]) -> Image:
    return image[location[1] : location[1] + size[1], location[0] : location[0] + size[0]]


def write_pyramid(
    path: Path, image: Image, factors: tuple[int, ...], mpp: tuple[float, float] | None = (MPP, MPP)
) -> Path:
    """A tiled TIFF with one page for each level, each the mean of level 0."""
    resolution = None if mpp is None else (1e4 / mpp[0], 1e4 / mpp[1])
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, *factors):
            tiff.write(
                mean_of_blocks(image, factor),
                tile=(128, 128),
                photometric="rgb",
                subfiletype=int(factor > 1),
                resolution=resolution if factor == 1 else None,
                resolutionunit="CENTIMETER" if resolution and factor == 1 else None,
                metadata=None,
            )
    return path


def write_svs(path: Path, image: Image) -> Path:
    description = "Aperio Image Library v11.2.1\r\n600x440 (128x128) JPEG/RGB Q=95|AppMag = 20|MPP = 0.4990"
    tifffile.imwrite(
        path, image, tile=(128, 128), photometric="rgb", compression="jpeg", description=description, metadata=None
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    image = coordinates(WIDTH, HEIGHT)
    write_pyramid(folder / "pyramid.tif", image, (2, 4))
    write_pyramid(folder / "one_level.tif", image, ())
    write_image(folder / "plain.png", image)
    return folder


@pytest.fixture(params=["pyramid.tif", "one_level.tif", "plain.png"])
def path(folder: Path, request: pytest.FixtureRequest) -> Path:
    return folder / str(request.param)


def test_every_kind_of_slide_has_the_same_face(path: Path) -> None:
    with open_slide(path) as slide:
        assert slide.path == path
        assert slide.size == (WIDTH, HEIGHT)
        assert slide.mpp == (None if path.suffix == ".png" else pytest.approx(MPP))
        assert np.array_equal(slide.read_region((0, 0), slide.size), coordinates(WIDTH, HEIGHT))
        assert repr(path.name)[1:-1] in repr(slide)


@given(data=st.data())
def test_a_region_of_level_0_is_its_crop(folder: Path, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, WIDTH - 1)), data.draw(st.integers(0, HEIGHT - 1))
    size = data.draw(st.integers(1, WIDTH - x)), data.draw(st.integers(1, HEIGHT - y))
    for name in ("pyramid.tif", "plain.png"):
        with open_slide(folder / name) as slide:
            region = slide.read_region((x, y), size)
        assert region.dtype == np.uint8
        assert np.array_equal(region, crop(coordinates(WIDTH, HEIGHT), (x, y), size))


@pytest.mark.parametrize(("location", "size"), REGIONS)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 12])
def test_a_region_at_an_mpp_is_the_area_mean_of_level_0(
    folder: Path, factor: int, location: tuple[int, int], size: tuple[int, int]
) -> None:
    expected = mean_of_blocks(crop(coordinates(WIDTH, HEIGHT), location, size), factor)
    with open_slide(folder / "one_level.tif") as slide:
        assert np.array_equal(slide.read_region(location, size, MPP * factor), expected)


@pytest.mark.parametrize(("location", "size"), [REGIONS[0], REGIONS[1], REGIONS[3]])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 12])
def test_levels_do_not_show(folder: Path, factor: int, location: tuple[int, int], size: tuple[int, int]) -> None:
    """Where a level serves, its pixels are exact; what is averaged again was rounded in between."""
    expected = mean_of_blocks(crop(coordinates(WIDTH, HEIGHT), location, size), factor)
    with open_slide(folder / "pyramid.tif") as slide:
        region = slide.read_region(location, size, MPP * factor)
    assert np.abs(region.astype(int) - expected).max() <= (0 if factor in (1, 2, 4) else 1)


def test_the_coarsest_level_that_serves_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    read = module._OpenSlideSource.read

    def spy(self: module._OpenSlideSource, level: int, *where: tuple[int, int]) -> Image:
        levels.append(level)
        return read(self, level, *where)

    monkeypatch.setattr(module._OpenSlideSource, "read", spy)
    with open_slide(folder / "pyramid.tif") as slide:
        for factor in (0.5, 1, 1.9, 2, 3.9, 4, 10):
            slide.read_region((0, 0), (240, 240), MPP * factor)
    assert levels == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("size", [(1037, 811), (1039, 810)])
def test_levels_rounded_down_keep_their_place(tmp_path: Path, size: tuple[int, int]) -> None:
    """OpenSlide says such a level is 2.002 or 4.01 times smaller: far from the origin that is pixels off."""
    image = waves(*size)
    path = write_pyramid(tmp_path / "odd.tif", image, (2, 4))
    with open_slide(path) as slide:
        for factor in (2, 3, 4, 8):
            location = (size[0] - 240, size[1] - 240)
            expected = mean_of_blocks(crop(image, location, (240, 240)), factor)
            difference = np.abs(slide.read_region(location, (240, 240), MPP * factor).astype(int) - expected)
            assert difference.mean(axis=(0, 1)).max() < 2  # which is one pixel of level 0
            assert difference.max() < 8  # at turns of a wave, and where OpenSlide joins tiles
        assert slide.read_region((size[0] - 1, size[1] - 1), (1, 1), 4 * MPP).shape == (1, 1, 3)


@pytest.mark.parametrize("mpp", [0.2, 0.25, 0.7, 1.0, 1.75])
def test_tiles_fit_together(folder: Path, mpp: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two halves are the whole, and so are many blocks, at finer and coarser resolution."""
    with open_slide(folder / "one_level.tif") as slide:
        whole = slide.read_region((20, 10), (280, 140), mpp).astype(int)
        halves = [slide.read_region((x, 10), (140, 140), mpp) for x in (20, 160)]
        assert np.abs(np.concatenate(halves, axis=1) - whole).max() <= 1
        monkeypatch.setattr(module, "BLOCK_PX", 30)
        assert np.abs(slide.read_region((20, 10), (280, 140), mpp) - whole).max() <= 1


def test_a_finer_mpp_is_interpolated(tmp_path: Path) -> None:
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (64, 256, 3))
    path = write_pyramid(tmp_path / "ramp.tif", levels, ())
    with open_slide(path) as slide:
        row = slide.read_region((100, 10), (20, 20), MPP / 4)[40, :, 0].astype(int)
    assert row.shape == (80,)
    assert np.abs(row - (100 - 0.375 + np.arange(80) / 4)).max() <= 1


@pytest.mark.parametrize("max_px", [1, 100, 601, 5000])
def test_overview(path: Path, max_px: int) -> None:
    with open_slide(path) as slide:
        image, downsample = slide.overview(max_px)
    assert max(image.shape[:2]) == min(max_px, WIDTH)
    assert downsample == pytest.approx(WIDTH / image.shape[1])
    mean = coordinates(WIDTH, HEIGHT).mean(axis=(0, 1))
    assert np.abs(image.mean(axis=(0, 1)) - mean).max() <= 1


@pytest.mark.parametrize(
    ("location", "size"),
    [
        ((-1, 0), (9, 9)),
        ((0, -1), (9, 9)),
        ((592, 0), (9, 9)),
        ((0, 432), (9, 9)),
        ((0, 0), (0, 9)),
        ((9, 9), (9, -1)),
    ],
)
def test_a_region_outside_is_refused(path: Path, location: tuple[int, int], size: tuple[int, int]) -> None:
    with (
        open_slide(path) as slide,
        pytest.raises(SlideError, match=r"inside the slide, got .*; clip it to 600 x 440"),
    ):
        slide.read_region(location, size)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), 1000.0])
def test_an_mpp_that_cannot_be_is_refused(path: Path, mpp: float) -> None:
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"`mpp` to be from 0.05 to 20 um/px"):
        slide.read_region((0, 0), (9, 9), mpp)


def test_an_mpp_of_a_slide_without_is_refused(folder: Path) -> None:
    with (
        open_slide(folder / "plain.png") as slide,
        pytest.raises(SlideError, match="does not say its own, got 1.0"),
    ):
        slide.read_region((0, 0), (9, 9), 1.0)


def test_an_overview_of_nothing_is_refused(path: Path) -> None:
    with open_slide(path) as slide, pytest.raises(SlideError, match="at least 1, got 0"):
        slide.overview(0)


@pytest.mark.parametrize(
    ("stated", "mpp"),
    [
        (None, None),
        ((0.25, 0.25), 0.25),
        ((0.5, 0.505), 0.5025),
        ((0.5, 0.52), None),
        ((0.04, 0.04), None),
        ((25.0, 25.0), None),
    ],
)
def test_mpp_is_believed_only_if_it_can_be(
    tmp_path: Path, stated: tuple[float, float] | None, mpp: float | None
) -> None:
    path = write_pyramid(tmp_path / "slide.tif", coordinates(64, 64), (), stated)
    with open_slide(path) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp, rel=1e-4))


def test_aperio_says_its_mpp(tmp_path: Path) -> None:
    with open_slide(write_svs(tmp_path / "slide.svs", ramp(WIDTH, HEIGHT))) as slide:
        assert slide.mpp == 0.499
        assert slide.size == (WIDTH, HEIGHT)


def test_a_closed_slide_is_not_read(path: Path) -> None:
    with open_slide(path) as slide:
        pass
    slide.close()
    with pytest.raises(SlideError, match=r"open, got '.*' after close\(\)"):
        slide.read_region((0, 0), (9, 9))


def test_transparency_shows_the_background_of_the_slide(monkeypatch: pytest.MonkeyPatch) -> None:
    class Half:
        level_dimensions, level_downsamples = ((2, 1),), (1.0,)
        properties = {"openslide.background-color": "C8D2DC"}  # noqa: RUF012

        def __init__(self, _path: Path) -> None: ...

        def read_region(self, _location: object, _level: int, _size: object) -> PIL.Image.Image:
            return PIL.Image.fromarray(np.array([[[9, 9, 9, 255], [0, 0, 0, 0]]], np.uint8), "RGBA")

    monkeypatch.setattr(openslide, "OpenSlide", Half)
    slide = Slide("half.svs", module._OpenSlideSource(Path("half.svs")))
    assert slide.read_region((0, 0), (2, 1)).tolist() == [[[9, 9, 9], [200, 210, 220]]]


def test_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match="an existing slide, got 'nowhere.svs'; check"):
        open_slide("nowhere.svs")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="got the folder"):
        open_slide(tmp_path)


@pytest.mark.parametrize("name", ["text.svs", "text.tif", "text.png", "text"])
def test_text_by_another_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is not a slide " * 99)
    with pytest.raises(SlideError, match=rf"^Expected .*{name}.*; .*\.$"):
        open_slide(tmp_path / name)


def test_a_slide_cut_off_at_its_start(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "cut.svs", ramp(WIDTH, HEIGHT))
    os.truncate(path, 100)
    with pytest.raises(
        SlideError, match=r"whole slide or image, got '.*cut.svs' \(.*\); copy or export it again\.$"
    ):
        open_slide(path)


def test_a_slide_cut_off_at_its_end(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "cut.svs", ramp(WIDTH, HEIGHT), (2,))
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(SlideError, match="whole slide or image, got .*cut.svs"), open_slide(path) as slide:
        slide.read_region((0, 0), slide.size, 2 * MPP)


def test_a_slide_damaged_among_its_pixels(tmp_path: Path) -> None:
    """The error comes in mid-read, and comes again."""
    path = write_svs(tmp_path / "damaged.svs", ramp(WIDTH, HEIGHT))
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[7]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(64))
    with open_slide(path) as slide:
        assert slide.read_region((0, 0), (100, 100)).shape == (100, 100, 3)
        for _ in range(2):
            with pytest.raises(SlideError, match="whole slide or image, got .*damaged.svs"):
                slide.read_region((0, 0), slide.size)


def test_a_tiff_that_only_openslide_refuses_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "lossless.tif"
    tifffile.imwrite(path, coordinates(256, 128), tile=(128, 128), photometric="rgb", compression="zstd")
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_region((9, 8), (100, 50)), coordinates(256, 128)[8:58, 9:109])


@pytest.mark.parametrize(
    ("name", "size", "mpp"),
    [
        ("boxes.tiff", (300, 250), None),
        ("boxes_0.dcm", (16, 16), 0.499),
        ("small.svs", (16, 16), 0.499),
        ("crc_ihc_pyramid.tif", (4222, 7168), None),
    ],
)
def test_real_slides(data: Path, name: str, size: tuple[int, int], mpp: float | None) -> None:
    with open_slide(data / "slides" / name) as slide:
        assert slide.size == size
        assert slide.mpp == mpp
        image, downsample = slide.overview(200)
        assert image.shape[:2] == (round(size[1] / downsample), round(size[0] / downsample))
        assert slide.read_region((1, 2), (9, 8)).shape == (8, 9, 3)


def test_a_real_pyramid_is_the_same_tissue_at_every_level(data: Path) -> None:
    with open_slide(data / "slides" / "crc_ihc_pyramid.tif") as slide:
        slide.mpp = 0.5  # what it says is 1000
        fine = mean_of_blocks(slide.read_region((1200, 1000), (1024, 1024)), 16)
        coarse = slide.read_region((1200, 1000), (1024, 1024), 8.0)
    inside, likeness = slice(1, -1), {}
    for x, y in itertools.product((-1, 0, 1), repeat=2):
        shifted = np.roll(coarse, (y, x), axis=(0, 1))[inside, inside]
        likeness[x, y] = np.corrcoef(shifted.ravel(), fine[inside, inside].ravel())[0, 1]
    assert max(likeness, key=lambda shift: likeness[shift]) == (0, 0)
    assert likeness[0, 0] > 0.95
