import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
from numpy.typing import NDArray

from chromogen.regions.masks import MAX_LABELS, UNLABELLED, read_mask

SIZE = (24, 30)  # (H, W)
INSIDE = np.s_[3:20, 4:16]


def mask(value: float = 1, dtype: Any = np.uint8) -> NDArray[Any]:
    made = np.zeros(SIZE, dtype)
    made[INSIDE] = value
    return made


def labels(*values: float, dtype: Any = np.uint8) -> NDArray[Any]:
    """A column of five for each."""
    made = np.zeros(SIZE, dtype)
    for at, value in enumerate(values):
        made[2:20, 5 * at : 5 * at + 5] = value
    return made


def save(folder: Path, name: str, pixels: NDArray[Any], **options: Any) -> Path:
    file = folder / name
    if file.suffix == ".tif":
        tifffile.imwrite(file, pixels, **options)
    elif pixels.ndim == 3 and pixels.dtype == np.uint16:
        file.write_bytes(imagecodecs.png_encode(pixels))
    else:
        PIL.Image.fromarray(pixels).save(file, **options)
    return file


def indexed(pixels: NDArray[np.uint8], colors: list[int]) -> PIL.Image.Image:
    image = PIL.Image.fromarray(pixels, "P")
    image.putpalette(colors)
    return image


def few_bits(pixels: NDArray[np.uint8], bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    packed = np.packbits(
        ((pixels[..., None] >> np.arange(bits)[::-1]) & 1).reshape(height, -1).astype(bool), axis=1
    )
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def one_region(file: Path) -> NDArray[np.float32]:
    found = read_mask(file)
    assert list(found) == [UNLABELLED]
    assert found[UNLABELLED].dtype == np.float32
    return found[UNLABELLED]


@pytest.mark.parametrize(
    ("name", "value", "dtype"),
    [
        *(("m.png", value, np.uint8) for value in (1, 2, 17, 127, 255)),
        *(("m.png", value, np.uint16) for value in (1, 2, 255, 256, 65535)),
        *(("m.tif", value, np.uint16) for value in (1, 300, 65535)),
        *(("m.tif", 1, dtype) for dtype in (bool, np.uint8, np.int8, np.int16, np.int32, np.uint32, np.int64)),
        *(("m.tif", value, dtype) for value in (1, 255) for dtype in (np.float32, np.float64)),
        ("m.tif", 70_000, np.int32),
        ("m.bmp", 255, np.uint8),
        ("m.gif", 1, np.uint8),
    ],
)
def test_any_one_value_is_the_region(tmp_path: Path, name: str, value: float, dtype: Any) -> None:
    np.testing.assert_array_equal(one_region(save(tmp_path, name, mask(value, dtype))), mask())


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"photometric": "minisblack"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32])
def test_tiff_however_it_is_written(tmp_path: Path, dtype: Any, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(one_region(save(tmp_path, "m.tif", mask(1, dtype), **options)), mask())


def test_values_count_where_zero_is_white(tmp_path: Path) -> None:
    """ImageJ's inverting LUT: black on the screen, 255 in the file, and inside."""
    file = save(tmp_path, "m.tif", mask(255), photometric="miniswhite")
    np.testing.assert_array_equal(one_region(file), mask())


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "group4"])
def test_one_bit(tmp_path: Path, compression: str | None) -> None:
    for name, options in (("m.png", {}), ("m.tif", {"compression": compression} if compression else {})):
        PIL.Image.fromarray(mask().astype(bool)).save(tmp_path / name, **options)
        np.testing.assert_array_equal(one_region(tmp_path / name), mask())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits(tmp_path: Path, bits: int) -> None:
    (tmp_path / "m.png").write_bytes(few_bits(mask(2**bits - 1), bits))
    np.testing.assert_array_equal(one_region(tmp_path / "m.png"), mask())
    if bits > 1:
        (tmp_path / "l.png").write_bytes(few_bits(labels(1, 2, 3), bits))
        assert set(read_mask(tmp_path / "l.png")) == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "dtype", "values"),
    [
        ("l.png", np.uint8, (1, 2, 3)),
        ("l.png", np.uint8, (3, 7)),
        ("l.png", np.uint8, (50, 100)),
        ("l.png", np.uint8, (127, 255)),
        ("l.png", np.uint8, (85, 170, 255)),
        ("l.png", np.uint16, (1, 2, 300)),
        ("l.tif", np.uint16, (1, 65535)),
        ("l.tif", np.int16, (1, 2)),
        ("l.tif", np.int32, (1, 2, 100_000)),
        ("l.tif", np.uint32, (1, 2)),
        ("l.tif", np.float32, (1, 2, 3)),
        ("l.tif", np.float32, (100, 255)),
        ("l.gif", np.uint8, (1, 2)),
    ],
)
def test_few_values_are_labels(tmp_path: Path, name: str, dtype: Any, values: tuple[int, ...]) -> None:
    pixels = labels(*values, dtype=dtype)
    found = read_mask(save(tmp_path, name, pixels))
    assert tuple(found) == values
    for label, region in found.items():
        np.testing.assert_array_equal(region, pixels == label)


def test_a_label_of_one_pixel_is_a_label(tmp_path: Path) -> None:
    pixels = labels(1, 2)
    pixels[21, 21] = 3
    assert read_mask(save(tmp_path, "l.png", pixels))[3].sum() == 1


COLORS = [255, 255, 255, 200, 0, 0, 0, 200, 0, 9, 9, 9]


def test_of_a_palette_indices_count(tmp_path: Path) -> None:
    """QuPath's LabeledImageServer and ImageJ's glasbey write labels with colours to look at."""
    indexed(labels(1, 2), COLORS).save(tmp_path / "l.png")
    indexed(labels(1, 2), COLORS).save(tmp_path / "l.tif")
    colormap = np.random.default_rng(0).integers(0, 65535, (3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "j.tif", labels(1, 2), photometric="palette", colormap=colormap)
    for name in ("l.png", "l.tif", "j.tif"):
        assert set(read_mask(tmp_path / name)) == {1, 2}, name
    indexed(mask(2), COLORS).save(tmp_path / "m.png", transparency=0)
    np.testing.assert_array_equal(one_region(tmp_path / "m.png"), mask())


def test_of_a_grey_palette_brightness_counts(tmp_path: Path) -> None:
    """An editor that reduces black and white to a palette may put white first."""
    indexed(1 - mask(), [255, 255, 255, 0, 0, 0]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(one_region(tmp_path / "m.png"), mask())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_three_equal_channels_are_one(tmp_path: Path, name: str, dtype: Any) -> None:
    for pixels in (mask(1, dtype), mask(np.iinfo(dtype).max, dtype), labels(1, 2, dtype=dtype)):
        file = save(tmp_path, name, np.repeat(pixels[..., None], 3, axis=2))
        assert len(read_mask(file)) == len(np.unique(pixels)) - 1
        opaque = np.full(SIZE, np.iinfo(dtype).max, dtype)
        alpha = save(tmp_path, name, np.dstack([pixels, pixels, pixels, opaque]))
        assert len(read_mask(alpha)) == len(np.unique(pixels)) - 1


def test_planar_tiff(tmp_path: Path) -> None:
    pixels = np.repeat(labels(1, 2)[None], 3, axis=0)
    file = save(tmp_path, "l.tif", pixels, photometric="rgb", planarconfig="separate")
    assert set(read_mask(file)) == {1, 2}


def test_what_is_transparent_is_outside(tmp_path: Path) -> None:
    white, soft = np.full(SIZE, 255, np.uint8), mask(255)
    soft[2, 4:16], soft[20, 4:16] = 100, 7
    np.testing.assert_array_equal(
        one_region(save(tmp_path, "a.png", np.dstack([white] * 3 + [mask(255)]))), mask()
    )
    found = one_region(save(tmp_path, "b.png", np.dstack([white] * 3 + [soft])))
    np.testing.assert_allclose(found, soft / 255, atol=1e-6)
    assert set(read_mask(save(tmp_path, "c.png", np.dstack([labels(1, 2), mask(255)])))) == {1, 2}


def test_soft_borders_stay_soft(tmp_path: Path) -> None:
    fine = np.zeros((SIZE[0] * 4, SIZE[1] * 4))
    fine[np.hypot(*(np.indices(fine.shape) - np.array([48, 60])[:, None, None])) < 37.3] = 1
    shares = fine.reshape(SIZE[0], 4, SIZE[1], 4).mean((1, 3))
    for name, top, dtype in (("s.png", 255, np.uint8), ("s.png", 65535, np.uint16), ("s.tif", 65535, np.uint16)):
        found = one_region(save(tmp_path, name, np.rint(shares * top).astype(dtype)))
        np.testing.assert_allclose(found, shares, atol=0.5 / top + 1e-6)
    for whole in (1, 255):
        values = shares if whole == 1 else np.rint(shares * 255)
        found = one_region(save(tmp_path, "f.tif", (values).astype(np.float32)))
        np.testing.assert_allclose(found, shares, atol=0.01)
    np.testing.assert_allclose(one_region(save(tmp_path, "f.tif", mask(0.5, np.float32))), mask(0.5, np.float32))
    PIL.Image.fromarray(mask(255)).save(tmp_path / "m.jpg", quality=75)
    assert np.abs(one_region(tmp_path / "m.jpg") - mask()).mean() < 0.03


def test_half_covered_pixels_are_no_label(tmp_path: Path) -> None:
    pixels = mask(255)
    pixels[INSIDE[0], 16] = 128
    found = one_region(save(tmp_path, "s.png", pixels))
    assert found[5, 16] == pytest.approx(128 / 255)


def test_a_wide_gradient_is_soft(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 4)[None].repeat(12, axis=0)
    np.testing.assert_allclose(one_region(save(tmp_path, "s.png", ramp)), ramp / 255, atol=1e-6)


def instances(count: int, dtype: Any) -> NDArray[Any]:
    """As many nuclei of 4 x 4 px, with labels in no order."""
    order = np.random.default_rng(1).permutation(count) + 1
    grid = np.zeros((-(-count // 20), 20), dtype)
    grid.flat[:count] = order
    return np.kron(grid, np.pad(np.ones((4, 4), dtype), 1))


@pytest.mark.parametrize(("count", "dtype"), [(MAX_LABELS + 1, np.uint8), (255, np.uint8), (500, np.uint16)])
def test_instances_are_refused_in_words(tmp_path: Path, count: int, dtype: Any) -> None:
    with pytest.raises(ValueError, match=f"with {count} different values.*at most 32 labels"):
        read_mask(save(tmp_path, "l.png", instances(count, dtype)))


@pytest.mark.parametrize(
    ("name", "pixels", "why"),
    [
        ("m.png", mask(0), "which has no pixel inside"),
        ("m.tif", mask(-1, np.int16), "with negative values, from -1"),
        ("m.tif", labels(0.5, 3.5, dtype=np.float32), "with 2 different values, up to 3.5"),
        ("m.tif", mask(np.nan, np.float32), "with NaN or infinite values"),
        ("m.tif", np.zeros((*SIZE, 2), np.uint8), "with 2 channels"),
        ("m.tif", mask(1, np.complex64), "complex64"),
        ("m.png", np.dstack([mask(200), mask(30), mask(0)]), r"in colours, such as \(200, 30, 0\)"),
    ],
)
def test_what_is_no_mask_is_refused_in_words(tmp_path: Path, name: str, pixels: NDArray[Any], why: str) -> None:
    options = {"planarconfig": "contig", "photometric": "minisblack"} if "channels" in why else {}
    with pytest.raises(ValueError, match=why) as error:
        read_mask(save(tmp_path, name, pixels, **options))
    assert str(error.value).startswith("Expected `mask` to be an image that is white inside, or of labels, got ")


def test_labels_in_jpeg_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in a lossless format"):
        read_mask(save(tmp_path, "l.jpg", labels(40, 80, 120)))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    for name in ("m.png", "m.tif"):
        whole = save(tmp_path, name, np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8)).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="export it again"):
            read_mask(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_mask(tmp_path / "none.png")


def test_the_orientation_counts(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6
    PIL.Image.fromarray(labels(1, 2)).save(tmp_path / "l.png", exif=exif)
    assert read_mask(tmp_path / "l.png")[1].shape == SIZE[::-1]
    np.testing.assert_array_equal(read_mask(tmp_path / "l.png")[1], np.rot90(labels(1), -1))


@pytest.mark.parametrize("white", [255, 65535])
def test_labels_that_were_divided_by_white(white: int, tmp_path: Path) -> None:
    """As CellProfiler saves labels as floats."""
    labels = np.zeros((20, 30), np.float32)
    labels[2:9, 2:9], labels[11:18, 12:25] = 1, 2
    tifffile.imwrite(tmp_path / "a.tif", labels / white)
    found = read_mask(tmp_path / "a.tif")
    assert found.keys() == {1, 2}
    np.testing.assert_array_equal(found[2], labels == 2)


def test_a_page_for_each_region_is_refused_in_words(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((2, 20, 30), 255, np.uint8))
    with pytest.raises(ValueError, match="of 2 pages; save one image, with a label for each region") as error:
        read_mask(tmp_path / "a.tif")
    assert "cannot be decoded" not in str(error.value), "our own words are not wrapped"
