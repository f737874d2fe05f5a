"""TIFF of all layouts: compressions, strips, bit depths, metadata, damage."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from chromogen.compute.memory import LruCache
from chromogen.image import Image
from chromogen.slides import tiff_reader as module
from chromogen.slides.slide import open_slide
from chromogen.slides.source import ImageSource, SlideError
from synthetic_slides import MPP, coordinates, crop, ramp, write_ome_tiff, write_pyramid, write_svs

LAYOUTS = {
    "zstd": {"compression": "zstd"},
    "deflate": {"compression": "deflate", "predictor": True},
    "jpeg": {"compression": "jpeg", "compressionargs": {"level": 98}},
    "planes": {"planarconfig": "separate"},
    "strips of 7 rows": {"tile": None, "rowsperstrip": 7, "compression": "lzw"},
    "one strip": {"tile": None},
    "one strip for each colour": {"tile": None, "planarconfig": "separate"},
    "big-endian planes": {"tile": None, "planarconfig": "separate", "byteorder": ">"},
}


def read(path: Path, location: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> Image:
    with open_slide(path) as slide:
        return slide.read_region(location, size or slide.size)


def write(path: Path, image: Image, **options: object) -> Path:
    byteorder = options.pop("byteorder", "<")
    layout = {"tile": (64, 48), "photometric": "rgb", "metadata": None, **options}
    if options.get("planarconfig"):
        image = np.moveaxis(image, -1, 0)
    tifffile.imwrite(path, image, byteorder=byteorder, **layout)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    image = ramp(300, 200)
    path = write(tmp_path / "slide.tif", image, **LAYOUTS[layout])
    with open_slide(path) as slide:
        assert isinstance(slide._source, module.TiffSource)
        for location, size in [((0, 0), (300, 200)), ((61, 62), (90, 70)), ((299, 199), (1, 1))]:
            region = slide.read_region(location, size).astype(int)
            assert np.abs(region - crop(image, location, size)).max() <= (12 if layout == "jpeg" else 0)


@pytest.mark.parametrize("rare", ["float", "palette", "cmyk", "rotated"])
def test_what_slides_never_are_is_read_as_an_image(tmp_path: Path, rare: str) -> None:
    path, grey = tmp_path / "rare.tif", np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    if rare == "float":
        tifffile.imwrite(path, grey / np.float32(255), photometric="minisblack")
    elif rare == "palette":
        tifffile.imwrite(
            path, grey, photometric="palette", colormap=np.tile(257 * np.arange(256, dtype=np.uint16), (3, 1))
        )
    elif rare == "cmyk":
        tifffile.imwrite(path, np.repeat(grey[..., None], 4, axis=2), photometric="separated")
    else:
        tifffile.imwrite(path, grey, photometric="minisblack", extratags=[(274, "H", 1, 3, True)])
    with open_slide(path) as slide:
        assert isinstance(slide._source, ImageSource)
        assert slide.size == (200, 100)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = coordinates(300, 200)[..., 0]
    path = write(tmp_path / "grey.tif", grey, photometric="minisblack")
    assert np.array_equal(read(path), np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bits_of_rgb(tmp_path: Path) -> None:
    deep = coordinates(300, 200).astype(np.uint16) * 257 + 60
    deep[deep < 60] = 65535
    path = write(tmp_path / "deep.tif", deep)
    assert np.array_equal(read(path), np.rint(deep / 257).astype(np.uint8))


def test_alpha_shows_white(tmp_path: Path) -> None:
    image = np.dstack([coordinates(100, 80), np.full((80, 100), 255, np.uint8)])
    image[:40, :, 3] = 0
    region = read(write(tmp_path / "alpha.tif", image, extrasamples=["unassalpha"]))
    assert (region[:40] == 255).all()
    assert np.array_equal(region[40:], image[40:, :, :3])


def test_tiles_that_are_not_there_are_white(tmp_path: Path) -> None:
    path = write(tmp_path / "sparse.tif", coordinates(300, 200), compression="deflate")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        counts = list(tiff.pages.first.databytecounts)
        counts[1] = 0
        tiff.pages.first.tags["TileByteCounts"].overwrite(counts)
    region = read(path)
    assert (region[:64, 48:96] == 255).all()
    assert np.array_equal(region[64:], coordinates(300, 200)[64:])


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.zeros((4, 90, 100), np.uint16), {"metadata": {"axes": "CYX"}}),
        (np.zeros((3, 90, 100), np.uint16), {"metadata": {"axes": "CYX"}}),
        (np.zeros((2, 90, 100), np.uint8), {"metadata": {"axes": "CYX"}}),
        (
            np.zeros((3, 90, 100), np.uint8),
            {"metadata": {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}},
        ),
    ],
)
def test_fluorescence_is_refused(tmp_path: Path, image: Image, options: dict[str, object]) -> None:
    path = tmp_path / "fluorescence.ome.tif"
    tifffile.imwrite(path, image, tile=(64, 64), photometric="minisblack", **options)
    with pytest.raises(SlideError, match=r"a brightfield (slide|image), got .*fluorescence.* export it as RGB"):
        open_slide(path)


@pytest.mark.parametrize(
    "names", [["Red", "Green", "Blue"], ["Channel 0", "Channel 1", "Channel 2"], ["R", "G", "B"]]
)
def test_channels_that_a_camera_saw(tmp_path: Path, names: list[str]) -> None:
    image = np.moveaxis(coordinates(200, 150), -1, 0)
    path = write_ome_tiff(tmp_path / "rgb.ome.tif", image, metadata={"Channel": {"Name": names}})
    assert np.array_equal(read(path), coordinates(200, 150))


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [
        (0.25, "µm", 0.25),
        (250.0, "nm", 0.25),
        (0.00025, "mm", 0.25),
        (0.25, "pixel", None),
        (0.0, "µm", None),
        (-1.0, "µm", None),
    ],
)
def test_the_mpp_of_ome_xml(tmp_path: Path, size: float, unit: str, mpp: float | None) -> None:
    sizes = {"PhysicalSizeX": size, "PhysicalSizeXUnit": unit, "PhysicalSizeY": size, "PhysicalSizeYUnit": unit}
    path = write_ome_tiff(tmp_path / "slide.ome.tif", ramp(100, 80), metadata=sizes)
    with open_slide(path) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp))
        assert slide.about.format == "OME-TIFF"
        assert slide.properties["ome.SizeX"] == "100"


@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER"])
def test_the_mpp_of_tags(tmp_path: Path, unit: str) -> None:
    per_unit = {"INCH": 25_400, "CENTIMETER": 10_000}[unit] / 0.25
    path = write(tmp_path / "slide.tif", ramp(100, 80), resolution=(per_unit, per_unit), resolutionunit=unit)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.25)


def test_no_tags_no_mpp(tmp_path: Path) -> None:
    path = write(tmp_path / "slide.tif", ramp(100, 80), resolutionunit="NONE")
    with open_slide(path) as slide:
        assert (slide.mpp, slide.stated_mpp) == (None, None)


def test_levels_are_those_of_the_same_picture(tmp_path: Path) -> None:
    """Not the macro image beside it, nor a mask, nor the next of a stack."""
    path, image = tmp_path / "pages.tif", coordinates(512, 256)
    layout = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, **layout)
        tiff.write(image[::4, ::4], subfiletype=1, **layout)
        tiff.write(image[:100, :100], subfiletype=1, **layout)
        tiff.write(image[::2, ::2], **layout)
        tiff.write(image[::8, ::8], subfiletype=9, **layout)
        tiff.write(image[::8, ::8, 0], subfiletype=1, tile=(64, 64), photometric="minisblack", metadata=None)
        tiff.write(image, **layout)
    with open_slide(path) as slide:
        assert slide.level_sizes == ((512, 256), (256, 128), (128, 64))


def test_a_tiff_cut_short_is_refused_at_once(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "cut.tif", coordinates(600, 440), (2,))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)
    with pytest.raises(SlideError, match=r"cut.tif' \(.*\); copy or export it again"):
        open_slide(path)


def test_rows_that_no_file_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "high.tif", coordinates(100, 80), tile=None, rowsperstrip=80)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageLength", "RowsPerStrip"):
            tiff.pages.first.tags[name].overwrite(60_000)
    with pytest.raises(SlideError, match=r"high.tif' \(cut short\)"):
        open_slide(path)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_wrong_is_said_in_one_way(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random among the tags and pixels of a file: read, or refused in a sentence."""
    rng = np.random.default_rng(seed)
    path = [write_pyramid, write_ome_tiff, write_svs][seed % 3](
        tmp_path / "damaged.svs", coordinates(200, 150), (2,)
    )
    content = bytearray(path.read_bytes())
    for at in rng.choice([*range(400), *range(len(content) - 2000, len(content))], 4):
        content[at] = rng.integers(256)
    path.write_bytes(content)
    said = "Expected `path` to be whole."
    try:
        with warnings.catch_warnings(action="ignore"), open_slide(path) as slide:
            assert slide.read_region((0, 0), (1, 1)).shape == (1, 1, 3)
    except SlideError as error:
        said = str(error)
    assert said.startswith("Expected `")
    assert "\n" not in said


def test_pages_in_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path / "circle.tif", coordinates(100, 80))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        first, tags = page.offset, len(page.tags)
    with path.open("r+b") as file:
        file.seek(first + 2 + 12 * tags)
        file.write(first.to_bytes(4, "little"))
    with pytest.raises(SlideError, match="its pages run in a circle"):
        open_slide(path)


def test_a_strip_too_large_to_decode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "strip.tif", coordinates(100, 80), tile=None, compression="deflate", rowsperstrip=80)
    monkeypatch.setattr("chromogen.slides.source.MAX_SEGMENT_BYTES", 1000)
    with pytest.raises(SlideError, match=r"8,000 px in one piece; export it as a tiled pyramid"):
        open_slide(path)


def test_a_huge_scan_in_a_rare_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "rare.tif", np.zeros((90, 100), np.float32), photometric="minisblack")
    monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    with pytest.raises(SlideError, match="8 or 16 bit RGB, got .* of 9,000 px"):
        open_slide(tmp_path / "rare.tif")


def test_little_is_read_of_a_strip_without_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read_bytes = write(tmp_path / "strip.tif", coordinates(1000, 800), tile=None), []
    decode = module._Segments.decode

    def spy(self: module._Segments, data: bytes, index: int) -> Image:
        read_bytes.append(len(data))
        return decode(self, data, index)

    monkeypatch.setattr(module._Segments, "decode", spy)
    region = read(path, (900, 700), (20, 10))
    assert np.array_equal(region, crop(coordinates(1000, 800), (900, 700), (20, 10)))
    assert sum(read_bytes) <= 2 * module.BAND_ROWS * 3000


def test_the_same_tile_is_decoded_once_while_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = module._Segments.decode
    monkeypatch.setattr(
        module._Segments, "decode", lambda self, data, index: decoded.append(index) or decode(self, data, index)
    )
    path = write(tmp_path / "slide.tif", coordinates(96, 64), compression="deflate")
    with open_slide(path) as slide:
        for _ in range(3):
            slide.read_region((0, 0), (96, 64))
        assert decoded == [0, 1]
        monkeypatch.setattr(slide._source, "_recent", LruCache(64 * 48 * 3, module._bytes))
        for _ in range(2):
            slide.read_region((0, 0), (96, 64))
    assert decoded == [0, 1, 0, 1, 0, 1]


def test_sub_ifds_are_levels(tmp_path: Path) -> None:
    image = coordinates(2000, 1500)
    path = write_ome_tiff(tmp_path / "own.ome.tif", image, (2, 4, 8, 16))
    with open_slide(path) as slide:
        assert slide.level_sizes == ((2000, 1500), (1000, 750), (500, 375), (250, 187), (125, 93))
        assert slide.mpp == MPP
