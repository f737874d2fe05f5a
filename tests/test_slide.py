"""One battery over every reader, on slides whose pixels say where they are: an off-by-one fails exactly."""

import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from chromogen.image import Image, write_image
from chromogen.slides import slide as module
from chromogen.slides.slide import Slide, open_slide
from chromogen.slides.source import About, SlideError
from synthetic_slides import (
    MPP,
    SyntheticSource,
    coordinates,
    coordinates_at,
    crop,
    mean_of_blocks,
    paint_coordinates,
    ramp,
    synthetic_slide,
    write_ome_tiff,
    write_ome_zarr,
    write_pyramid,
    write_svs,
)

WIDTH, HEIGHT = 600, 440
REGIONS = [((0, 0), (240, 240)), ((120, 60), (480, 360)), ((37, 91), (120, 60)), ((360, 200), (240, 240))]


def waves(width: int, height: int) -> Image:
    """Red and green go up and down by 2 a pixel, in x and y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([abs(2 * x % 510 - 255), abs(2 * y % 510 - 255), 0 * x], axis=-1).astype(np.uint8)


KINDS = {
    "pyramid.tif": lambda path, image: write_pyramid(path, image, (2, 4)),
    "one_level.tif": lambda path, image: write_pyramid(path, image),
    "stripes.tif": lambda path, image: write_pyramid(path, image, tile=None),
    "lzw.tif": lambda path, image: write_pyramid(path, image, (4,), compression="lzw", predictor=True),
    "jpeg2000.ome.tif": lambda path, image: write_ome_tiff(path, image, (2,), compression="jpeg2000"),
    "channels.ome.tif": lambda path, image: write_ome_tiff(path, np.moveaxis(image, -1, 0), (2, 4)),
    "ngff_0.5.zarr": lambda path, image: write_ome_zarr(path, image, (2, 4)),
    "ngff_0.4.zarr": lambda path, image: write_ome_zarr(path, image, (4,), axes="tczyx", zarr_format=2),
    "yxc.zarr": lambda path, image: write_ome_zarr(path, image, (2,), axes="yxc"),
    "plain.png": lambda path, image: write_image(path, image),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    image = coordinates(WIDTH, HEIGHT)
    for name, write in KINDS.items():
        write(folder / name, image)
    return folder


@pytest.fixture(scope="module")
def slides(folder: Path) -> Iterator[dict[str, Slide]]:
    """One of each kind, open."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_slide(folder / name)) for name in KINDS}


@pytest.fixture(params=KINDS)
def path(folder: Path, request: pytest.FixtureRequest) -> Path:
    return folder / str(request.param)


def test_every_kind_of_slide_has_the_same_face(path: Path) -> None:
    with open_slide(path) as slide:
        assert slide.path == path
        assert slide.size == (WIDTH, HEIGHT)
        assert slide.mpp == (None if path.suffix == ".png" else pytest.approx(MPP))
        assert slide.level_sizes[0] == slide.size
        assert slide.bounds == ((0, 0), slide.size)
        assert len(slide.quickhash) == 64
        assert np.array_equal(slide.read_region((0, 0), slide.size), coordinates(WIDTH, HEIGHT))
        assert repr(path.name)[1:-1] in repr(slide)


@settings(max_examples=30)
@given(data=st.data())
def test_a_region_of_level_0_is_its_crop(slides: dict[str, Slide], data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, WIDTH - 1)), data.draw(st.integers(0, HEIGHT - 1))
    size = data.draw(st.integers(1, WIDTH - x)), data.draw(st.integers(1, HEIGHT - y))
    for slide in slides.values():
        region = slide.read_region((x, y), size)
        assert region.dtype == np.uint8
        assert np.array_equal(region, crop(coordinates(WIDTH, HEIGHT), (x, y), size))


@given(data=st.data())
def test_what_is_read_at_an_mpp_is_a_crop_of_the_whole(slides: dict[str, Slide], data: st.DataObject) -> None:
    """In every bit, at every resolution, whatever levels there are."""
    mpp = data.draw(st.floats(0.2, 5.0))
    slide = slides[data.draw(st.sampled_from(["pyramid.tif", "one_level.tif", "ngff_0.4.zarr", "yxc.zarr"]))]
    width, height = slide.size_at(mpp)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    size = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    whole = slide.read_at((0, 0), (width, height), mpp)
    assert np.array_equal(slide.read_at((x, y), size, mpp), crop(whole, (x, y), size))


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


def test_the_coarsest_level_that_serves_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []
    source = SyntheticSource((WIDTH, HEIGHT), factors=(1, 2, 4))
    read = source.read

    def spy(level: int, *where: tuple[int, int]) -> Image:
        levels.append(level)
        return read(level, *where)

    monkeypatch.setattr(source, "read", spy)
    slide = Slide("synthetic", source)
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
        pytest.raises(SlideError, match=r"known for '.*', got none in the file; give it with --mpp \(0.25 at 40x"),
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
    """The error comes in mid-read, and comes again; what is whole can be read all the same."""
    path = write_svs(tmp_path / "damaged.svs", ramp(WIDTH, HEIGHT))
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[7]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(64))
    with open_slide(path) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match="whole slide or image, got .*damaged.svs"):
                slide.read_region((0, 0), slide.size)
            assert np.abs(slide.read_region((9, 9), (90, 90)) - ramp(99, 99)[9:, 9:].astype(int)).max() < 9


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


@pytest.mark.parametrize("name", KINDS)
def test_threads_read_what_one_reads(slides: dict[str, Slide], name: str) -> None:
    image, slide = coordinates(WIDTH, HEIGHT), slides[name]
    corners = [(x, y) for x in range(0, 500, 50) for y in range(0, 300, 50)]
    with ThreadPoolExecutor(4) as pool:
        regions = pool.map(lambda corner: slide.read_region(corner, (100, 140)), corners)
    for corner, region in zip(corners, regions, strict=True):
        assert np.array_equal(region, crop(image, corner, (100, 140)))


@pytest.mark.parametrize("broken", ["damaged.svs", "damaged.tif"])
def test_threads_meet_damage_only_where_it_is(tmp_path: Path, broken: str) -> None:
    image = ramp(WIDTH, HEIGHT)
    if broken.endswith("svs"):
        path = write_svs(tmp_path / broken, image)
    else:
        path = write_pyramid(tmp_path / broken, image, compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.dataoffsets[7]  # of the tile at 256, 128
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(64))
    corners = 3 * [(x, y) for x in range(0, 500, 64) for y in range(0, 384, 64)]

    def read(corner: tuple[int, int]) -> bool:
        try:
            region = slide.read_region(corner, (32, 32))
        except SlideError:
            return False
        return np.abs(region - crop(image, corner, (32, 32)).astype(int)).max() < 9

    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        whole = list(pool.map(read, corners))
    assert whole == [not (256 <= x < 384 and 128 <= y < 256) for x, y in corners]


@pytest.mark.parametrize(("factors", "factor"), [((1,), 28), ((1, 16), 16), ((1, 3, 7), 21), ((1, 2, 4, 14), 28)])
def test_levels_may_be_missing(factors: tuple[int, ...], factor: int) -> None:
    slide = synthetic_slide((2000, 1200), paint_coordinates, factors=factors)
    expected = mean_of_blocks(coordinates_at((336, 336, 672, 336)), factor)
    region = slide.read_region((336, 336), (672, 336), factor * MPP)
    assert np.abs(region.astype(int) - expected).max() <= 1


def test_a_slide_of_any_size() -> None:
    slide = synthetic_slide((60_000, 60_000), paint_coordinates)
    assert np.array_equal(slide.read_region((59_000, 48_000), (9, 8)), coordinates_at((59_000, 48_000, 9, 8)))
    overview, downsample = synthetic_slide((60_000, 60_000)).overview(400)
    assert (overview.shape, downsample) == ((400, 400, 3), 150)
    assert overview[0, 0].tolist() == [245, 245, 245]
    assert overview[200, 200].mean() < 220


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("name", KINDS)
def test_slides_of_a_pixel_or_a_row(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    if ".tif" in name and "stripes" not in name and "plain" not in name:
        write_pyramid(tmp_path / name, coordinates(*size))
    elif name.endswith("zarr"):
        write_ome_zarr(tmp_path / name, coordinates(*size))
    else:
        KINDS[name](tmp_path / name, coordinates(*size))
    with open_slide(tmp_path / name, mpp=MPP) as slide:
        assert np.array_equal(slide.read_region((0, 0), size), coordinates(*size))
        assert slide.overview(1000)[0].shape == (size[1], size[0], 3)
        assert slide.read_at((0, 0), slide.size_at(20.0), 20.0).size >= 3


def test_the_mpp_that_is_given_counts(folder: Path) -> None:
    with open_slide(folder / "pyramid.tif", mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_from, slide.stated_mpp) == (0.25, "option", pytest.approx((MPP, MPP)))
        assert slide.size_at(0.5) == (300, 220)
    with open_slide(folder / "pyramid.tif") as slide:
        assert (slide.need_mpp(), slide.mpp_from) == (pytest.approx(MPP), "file")


@pytest.mark.parametrize("mpp", [0.0, -0.5, float("nan"), float("inf"), 500.0])
def test_a_given_mpp_must_be_one(folder: Path, mpp: float) -> None:
    with pytest.raises(SlideError, match="`mpp` to be from 0.05 to 20 um/px, got .*; check its unit"):
        open_slide(folder / "plain.png", mpp=mpp)


@pytest.mark.parametrize(
    ("stated", "objective", "said"),
    [
        (None, None, r"got none in the file; give it with --mpp \(0.25 at 40x, 0.5 at 20x\)\."),
        ((1000.0, 1000.0), 20.0, r"got 1000 x 1000 um/px in the file, which cannot be; .*\(0.5, if .* at 20x\)\."),
        ((0.5, 0.6), None, r"got 0.5 x 0.6 um/px in the file, which cannot be; give it with --mpp"),
        ((0.0, 0.0), None, r"got 0 x 0 um/px in the file, which cannot be"),
        ((-0.5, -0.5), None, r"got -0.5 x -0.5 um/px in the file, which cannot be"),
        ((float("nan"), 0.5), None, r"got nan x 0.5 um/px in the file, which cannot be"),
    ],
)
def test_no_mpp_says_what_helps(stated: tuple[float, float] | None, objective: float | None, said: str) -> None:
    slide = Slide("x.svs", SyntheticSource((9, 9), mpp=stated, about=About("svs", objective=objective)))
    assert slide.mpp is None
    with pytest.raises(SlideError, match=f"^Expected `mpp` to be known for 'x.svs', {said}"):
        slide.need_mpp()


def swapped_profile() -> bytes:
    """An ICC profile whose red is sRGB's with half of the gamma: easy to see."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    at = profile.index(b"rXYZ", 128)
    other = profile.index(b"gXYZ", 128)
    swapped = bytearray(profile)
    swapped[at : at + 4], swapped[other : other + 4] = b"gXYZ", b"rXYZ"
    return bytes(swapped)


@pytest.mark.parametrize("kind", ["tif", "ome.tif", "svs", "png"])
def test_colours_are_converted_by_the_profile_of_the_slide(tmp_path: Path, kind: str) -> None:
    image, profile = ramp(256, 256), swapped_profile()
    path = tmp_path / f"slide.{kind}"
    if kind == "png":
        PIL.Image.fromarray(image).save(path, icc_profile=profile)
    elif kind == "svs":
        write_svs(path, image, iccprofile=profile)
    else:
        (write_ome_tiff if kind == "ome.tif" else write_pyramid)(path, image, iccprofile=profile)
    with open_slide(path) as slide, open_slide(path, icc=False) as raw:
        converted, plain = slide.read_region((0, 0), (256, 256)), raw.read_region((0, 0), (256, 256))
        assert slide.about.icc_profile
        assert raw.about.icc_profile
    assert np.abs(plain - image.astype(int)).max() < 9
    assert np.abs(converted[..., :2] - image[..., 1::-1].astype(int)).mean() < 4


def test_a_broken_profile_is_said_and_left(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", ramp(64, 64), iccprofile=b"no profile")
    with pytest.warns(UserWarning, match="ICC profile of '.*slide.tif' to fit"), open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), (64, 64)), ramp(64, 64))


def test_the_content_names_a_slide_not_its_file(folder: Path, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other_name"
    (shutil.copytree if path.is_dir() else shutil.copy)(path, copy.with_suffix(path.suffix))
    KINDS[path.name](tmp_path / path.name, np.roll(coordinates(WIDTH, HEIGHT), 1, axis=0))
    with (
        open_slide(path) as slide,
        open_slide(copy.with_suffix(path.suffix)) as same,
        open_slide(tmp_path / path.name) as other,
    ):
        assert slide.quickhash == same.quickhash != other.quickhash


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").touch()
    with pytest.raises(SlideError, match=r"empty \(0 bytes\); copy or export it again"):
        open_slide(tmp_path / "empty.svs")
