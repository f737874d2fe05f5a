"""Every file is made here, by Pillow, tifffile, imagecodecs or by hand; what to expect is computed by numpy."""

from __future__ import annotations

import io
import json
import math
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import ImageCms

from chromogen.errors import ImageError
from chromogen.formats import decoders
from chromogen.formats.decoders import MAX_PIXELS, Raster, finish, in_bands
from chromogen.image import (
    IMAGE_SUFFIXES,
    MAX_PROVENANCE,
    WRITE_SUFFIXES,
    encode_image,
    is_image,
    list_images,
    read_image,
    read_provenance,
    resize,
    to_tensor,
    to_uint8,
    write_image,
)

Array = NDArray[Any]
Writer = Callable[[Path, Array], None]

SHARED = Path(os.environ.get("CHROMOGEN_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
HEIGHT, WIDTH = 41, 57


def smooth(dtype: str = "uint8", channels: int = 3) -> Array:
    """A picture that JPEG can hold, its four corners different, over most of the range of the dtype."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    y, x = y / (HEIGHT - 1), x / (WIDTH - 1)
    planes = [0.1 + 0.8 * x, 0.9 - 0.7 * y, 0.2 + 0.5 * x * y, 0.3 + 0.6 * y * (1 - x)][:channels]
    unit = np.stack(planes, -1) if channels > 1 else planes[0]
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1
    return (unit * top).astype(dtype)


def noise(dtype: str = "uint8", channels: int = 3, top: int | None = None) -> Array:
    """All values there are, the extremes surely."""
    limit = np.iinfo(dtype).max if top is None else top
    values = np.random.default_rng(7).integers(0, limit + 1, (HEIGHT, WIDTH, channels)).astype(dtype)
    values[0, 0], values[-1, -1] = 0, limit
    return values if channels > 1 else values[..., 0]


def thrice(grey: Array) -> Array:
    return np.stack([grey] * 3, -1)


def eight(values: Array) -> Array:
    """16 bits to 8 in exact integers: v / 257, never a tie."""
    return ((values.astype(np.int64) * 2 + 257) // 514).astype(np.uint8)


def over_white(color: Array, alpha: Array, top: int) -> Array:
    """Straight alpha over white, in exact fractions of 255, as float."""
    color, alpha = color.astype(np.float64), alpha.astype(np.float64)[..., None]
    return (color * alpha + top * (top - alpha)) / top / top * 255


def pillow(**options: Any) -> Writer:
    return lambda path, image: PIL.Image.fromarray(image).save(path, **options)


def tiff(**options: Any) -> Writer:
    def write(path: Path, image: Array) -> None:
        tifffile.imwrite(path, image, photometric="rgb", **options)

    return write


LOSSLESS: dict[str, tuple[str, Writer]] = {
    "png": (".png", pillow()),
    "bmp": (".bmp", pillow()),
    "webp": (".webp", pillow(lossless=True)),
    "pillow tiff": (".tif", pillow()),
    "pillow lzw": (".tif", pillow(compression="tiff_lzw")),
    "pillow deflate": (".tiff", pillow(compression="tiff_adobe_deflate")),
    "tiff": (".tif", tiff()),
    "tiff strips": (".tif", tiff(rowsperstrip=5)),
    "tiff big-endian": (".tif", tiff(byteorder=">")),
    "bigtiff": (".tif", tiff(bigtiff=True)),
    "lzw": (".tif", tiff(compression="lzw")),
    "lzw predictor": (".tif", tiff(compression="lzw", predictor=True)),
    "deflate": (".tif", tiff(compression="zlib")),
    "zstd tiles": (".tif", tiff(compression="zstd", tile=(16, 32))),
    "jpeg 2000": (".tif", tiff(compression="jpeg2000")),
    "webp in tiff": (".tif", tiff(compression="webp", compressionargs={"lossless": True})),
    "bigtiff tiles": (".tif", tiff(bigtiff=True, tile=(16, 16), compression="zlib")),
    "ome": (".ome.tif", tiff(ome=True, metadata={"axes": "YXS"})),
}
LOSSY: dict[str, tuple[str, Writer]] = {
    "jpeg": (".jpg", pillow(quality=95)),
    "progressive jpeg": (".jpeg", pillow(quality=95, progressive=True)),
    "webp": (".webp", pillow(quality=95)),
    "gif": (".gif", pillow()),
    "pillow jpeg in tiff": (".tif", pillow(compression="jpeg", quality=95)),
    "jpeg in tiff": (".tif", tiff(compression="jpeg", compressionargs={"level": 95})),
    "jpeg in tiff tiles": (".tif", tiff(compression="jpeg", tile=(16, 16), compressionargs={"level": 95})),
    "jpeg in tiff, 4:4:4": (".tif", tiff(compression="jpeg", subsampling=(1, 1))),
}


def made(folder: Path, kind: tuple[str, Writer], image: Array) -> Path:
    path = folder / f"a{kind[0]}"
    kind[1](path, image)
    return path


def check_form(image: Array) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    assert image.flags.writeable


def check_sentence(error: BaseException, *parts: str) -> None:
    sentence = str(error)
    assert re.fullmatch(r"Expected `\w+` (to be|to fit) .+, got .+\.", sentence), sentence
    for part in parts:
        assert part in sentence


# Reading what is fine


@pytest.mark.parametrize("kind", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_formats_come_back_exactly(kind: tuple[str, Writer], tmp_path: Path) -> None:
    image = noise()
    read = read_image(made(tmp_path, kind, image))
    check_form(read)
    assert np.array_equal(read, image)


@pytest.mark.parametrize("kind", LOSSY.values(), ids=LOSSY)
def test_lossy_formats_come_back_closely(kind: tuple[str, Writer], tmp_path: Path) -> None:
    image = smooth()
    read = read_image(str(made(tmp_path, kind, image)))
    check_form(read)
    assert np.abs(read.astype(int) - image).mean() < (12 if kind[0] == ".gif" else 3)


def test_gif_palette_is_exact(tmp_path: Path) -> None:
    indices = noise(channels=1, top=255)
    palette = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
    image = PIL.Image.fromarray(indices).convert("L")
    image.putpalette(palette.tobytes())
    for name in ("a.gif", "a.png", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), palette[indices]), name


def test_planar_tiff(tmp_path: Path) -> None:
    for dtype in ("uint8", "uint16"):
        image = noise(dtype)
        planes = np.moveaxis(image, -1, 0)
        tifffile.imwrite(
            tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", compression="zlib"
        )
        assert np.array_equal(read_image(tmp_path / "a.tif"), image if dtype == "uint8" else eight(image))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif", ".tif"])
def test_grey_is_replicated(suffix: str, tmp_path: Path) -> None:
    grey = smooth(channels=1)
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95} if suffix == ".jpg" else {}
    PIL.Image.fromarray(grey).save(tmp_path / f"a{suffix}", **options)
    read = read_image(tmp_path / f"a{suffix}")
    check_form(read)
    assert np.array_equal(read[..., 0], read[..., 1])
    assert np.array_equal(read[..., 0], read[..., 2])
    assert np.abs(read[..., 0].astype(int) - grey).max() <= (3 if suffix == ".jpg" else 0)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".gif"])
def test_thin_images(width: int, height: int, suffix: str, tmp_path: Path) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / f"a{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a{suffix}"), image)
    tifffile.imwrite(tmp_path / "b.tif", image[..., 0], photometric="minisblack")
    assert np.array_equal(read_image(tmp_path / "b.tif"), image)


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    image = noise()
    PIL.Image.fromarray(image).save(tmp_path / "really_png.tif", format="PNG")
    assert np.array_equal(read_image(tmp_path / "really_png.tif"), image)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 16])
def test_tiff_grey_of_all_bit_depths(bits: int, photometric: str, tmp_path: Path) -> None:
    top = 2**bits - 1
    grey = noise("uint8" if bits <= 8 else "uint16", 1, top)
    data = grey.astype(bool) if bits == 1 else grey
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=photometric, bitspersample=bits)
    light = top - grey.astype(int) if photometric == "miniswhite" else grey.astype(int)
    expected = (light * 510 + top) // (2 * top)  # round(v * 255 / top): top is odd, so there are no ties
    assert np.array_equal(read_image(tmp_path / "a.tif"), thrice(expected.astype(np.uint8)))


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax_compressed_tiff(compression: str, tmp_path: Path) -> None:
    grey = noise(channels=1, top=1).astype(bool)
    PIL.Image.fromarray(grey).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif"), thrice(grey * np.uint8(255)))


@pytest.mark.parametrize("scale", [257, 256])
def test_tiff_palette_of_both_conventions(scale: int, tmp_path: Path) -> None:
    indices = noise(channels=1)
    palette = np.random.default_rng(1).integers(0, 256, (3, 256))
    colormap = (palette * scale).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colormap)
    assert np.array_equal(read_image(tmp_path / "a.tif"), palette.T[indices].astype(np.uint8))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_ycbcr_jpeg_in_tiff(subsampling: tuple[int, int], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", smooth(), photometric="rgb", compression="jpeg", subsampling=subsampling)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.YCBCR
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - smooth()).mean() < 3


def test_ycbcr_tiff_without_jpeg(tmp_path: Path) -> None:
    PIL.Image.fromarray(smooth()).convert("YCbCr").save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - smooth()).max() <= 3


def test_subsampled_ycbcr_tiff_without_jpeg(tmp_path: Path) -> None:
    blocks = [(60, 90, 200), (200, 128, 128), (120, 160, 60), (90, 100, 110)]  # 2 x 2 px of one colour each
    raw = b"".join(bytes([y, y, y, y, cb, cr]) for y, cb, cr in blocks)
    y, cb, cr = np.array(blocks, float).T
    cb, cr = cb - 128, cr - 128
    colors = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1)
    (tmp_path / "a.tif").write_bytes(subsampled_tiff(8, zlib.compress(raw)))
    expected = np.clip(colors, 0, 255)[None].repeat(2, 0).repeat(2, 1)
    assert np.abs(read_image(tmp_path / "a.tif") - expected).max() <= 2
    (tmp_path / "b.tif").write_bytes(subsampled_tiff(1, raw))
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "b.tif")
    check_sentence(raised.value, "b.tif", "YCbCr")


def subsampled_tiff(compression: int, data: bytes) -> bytes:
    """8 x 2 px of YCbCr, one colour for every 2 x 2 px; Pillow and tifffile do not write such files."""
    data += bytes(len(data) % 2)
    end = 8 + len(data)
    entries = [(256, 3, 1, 8), (257, 3, 1, 2), (258, 3, 3, end), (259, 3, 1, compression), (262, 3, 1, 6)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, len(data)), (530, 3, 2, 0x20002)]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, end + 6) + data + struct.pack("<3H", 8, 8, 8) + ifd + bytes(4)


# 16 bits and floats


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png(channels: int, tmp_path: Path) -> None:
    image = noise("uint16", channels)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
    read = read_image(tmp_path / "a.png")
    check_form(read)
    if channels in (1, 3):
        assert np.array_equal(read, eight(image if channels == 3 else thrice(image)))
    else:
        color = image[..., :3] if channels == 4 else thrice(image[..., 0])
        assert np.abs(read - over_white(color, image[..., -1], 65535)).max() < 0.501


def test_16_bits_use_the_lower_byte(tmp_path: Path) -> None:
    values = np.array([[127, 128, 129, 255, 256, 385, 386, 65406, 65407, 65535]], np.uint16)
    expected = np.array([[round(int(value) / 257) for value in values[0]]], np.uint8)
    assert not np.array_equal(expected, values >> 8)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(thrice(values)))
    tifffile.imwrite(tmp_path / "a.tif", thrice(values), photometric="rgb")
    for name in ("a.png", "a.tif"):
        assert np.array_equal(read_image(tmp_path / name), thrice(expected))


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "jpeg2000"])
def test_16_bit_tiff(compression: str | None, tmp_path: Path) -> None:
    image = noise("uint16")
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif"), eight(image))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_big_endian_tiff(dtype: str, tmp_path: Path) -> None:
    image = noise(dtype) if dtype == "uint16" else smooth(dtype)
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", byteorder=">", compression=compression)
        expected = eight(image) if dtype == "uint16" else np.rint(image * 255)
        assert np.array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_float_tiff(dtype: str, channels: int, tmp_path: Path) -> None:
    image = np.random.default_rng(3).random((HEIGHT, WIDTH, channels)).astype(dtype).squeeze()
    image.flat[:2] = 0, 1
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb" if channels == 3 else "minisblack")
    wide = image.astype(np.float64 if dtype == "float64" else np.float32)
    expected = np.rint(wide * 255).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "a.tif"), expected if channels == 3 else thrice(expected))


def test_float_tiff_with_nan_says_how_many(tmp_path: Path) -> None:
    image = smooth("float32")
    image[0, 0] = np.nan, np.inf, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "a.tif")
    check_sentence(raised.value, "a.tif", "3 NaN or infinite")


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-0.5, 1.0), (0.25, 1.5)])
def test_float_tiff_out_of_range_names_the_range(low: float, high: float, tmp_path: Path) -> None:
    image = np.linspace(low, high, 300, dtype=np.float32).reshape(10, 10, 3)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "a.tif")
    check_sentence(raised.value, "a.tif", f"{low} to {high}")


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "uint64", "complex64"])
def test_other_dtypes_are_named(dtype: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((9, 8, 3), dtype), photometric="rgb")
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "a.tif")
    check_sentence(raised.value, "a.tif", dtype)


# Alpha


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_rgba_lies_on_white(suffix: str, tmp_path: Path) -> None:
    image = noise(channels=4)
    image[0, 0], image[0, 1] = (9, 9, 9, 0), (9, 8, 7, 255)
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    PIL.Image.fromarray(image).save(tmp_path / f"a{suffix}", **options)
    read = read_image(tmp_path / f"a{suffix}")
    check_form(read)
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[0, 1].tolist() == [9, 8, 7]
    assert np.abs(read - over_white(image[..., :3], image[..., 3], 255)).max() < 0.501


def test_grey_alpha_lies_on_white(tmp_path: Path) -> None:
    image = noise(channels=2)
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    for name in ("a.png", "a.tif"):
        read = read_image(tmp_path / name)
        assert np.abs(read - over_white(thrice(image[..., 0]), image[..., 1], 255)).max() < 0.501


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_transparent_colour_of_png(mode: str, tmp_path: Path) -> None:
    clear: dict[str, Any] = {"P": 0, "L": 0, "RGB": (0, 0, 0), "1": 0}
    image = PIL.Image.fromarray(np.repeat([[0, 255]], 4, 0).astype(np.uint8)).convert(mode)
    opaque = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "a.png", transparency=clear[mode])
    read = read_image(tmp_path / "a.png")
    assert (read[:, 0] == 255).all()
    assert np.array_equal(read[:, 1], opaque[:, 1])


def test_transparent_gif(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(np.repeat([[0, 1]], 4, 0).astype(np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.gif", transparency=0)
    assert np.array_equal(read_image(tmp_path / "a.gif"), np.repeat([[[255] * 3, [40, 50, 60]]], 4, 0))


def test_16_bit_png_with_transparent_colour(tmp_path: Path) -> None:
    row = struct.pack(">6H", 1, 2, 3, 1000, 2000, 60000)
    data = png(2, 1, 16, 2, b"\0" + row, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    (tmp_path / "a.png").write_bytes(data)
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [4, 8, 233]]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha", "unspecified"])
def test_tiff_alpha_of_each_kind(kind: str, dtype: str, tmp_path: Path) -> None:
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    straight = noise("uint16", 4).astype(np.float64) / 65535
    straight[0, 0], straight[0, 1] = (0, 0, 0, 0), (1, 0.5, 0, 1)
    color, alpha = straight[..., :3], straight[..., 3:]
    stored = np.concatenate([color * alpha if kind == "assocalpha" else color, alpha], -1) * top
    stored = (stored if dtype == "float32" else np.rint(stored)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=[kind])
    expected = color if kind == "unspecified" else 1 - alpha + color * alpha
    # 8-bit samples are already rounded, so the two of them may err by a level
    assert np.abs(read_image(tmp_path / "a.tif") - expected * 255).max() < (1.6 if dtype == "uint8" else 0.51)


# Orientation

TURNS: dict[int, Callable[[Array], Array]] = {  # what a viewer does to the stored pixels
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation(orientation: int, tmp_path: Path) -> None:
    image, turn = smooth(), TURNS[orientation]
    exif = PIL.Image.Exif()
    exif[274] = orientation
    how: dict[str, dict[str, Any]] = {"a.jpg": {"quality": 95}, "a.png": {}, "a.webp": {"lossless": True}}
    for name, options in how.items():
        PIL.Image.fromarray(image).save(tmp_path / name, exif=exif, **options)
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extratags=[tag])
    PIL.Image.fromarray(image).convert("YCbCr").save(tmp_path / "b.tif", tiffinfo={274: orientation})
    deep = imagecodecs.png_encode(image.astype(np.uint16) * 257)
    (tmp_path / "deep.png").write_bytes(deep[:33] + chunk(b"eXIf", exif.tobytes()[6:]) + deep[33:])
    for name in ("a.jpg", "a.png", "a.webp", "a.tif", "b.tif", "deep.png"):
        read = read_image(tmp_path / name)
        check_form(read)
        expected = turn(image)
        assert read.shape == expected.shape, name
        assert np.abs(read.astype(int) - expected).mean() < 2, name


def test_broken_exif_does_not_matter(tmp_path: Path) -> None:
    image = smooth()
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        PIL.Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
        assert read_image(tmp_path / "a.jpg").shape == image.shape
        assert read_provenance(tmp_path / "a.jpg") is None


# ICC profiles, made by hand: Pillow can only make sRGB, LAB and XYZ

ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
GAMMA = 563 / 256


def s15(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """An ICC v2 profile: 128 bytes of header, table of tags, tags."""
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": text, b"wtpt": b"XYZ " + bytes(4) + s15(0.9642, 1, 0.8249), **tags}
    tags = {name: data + bytes(-len(data) % 4) for name, data in tags.items()}
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02100000, kind, space, pcs)
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + body


def gamma_curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def adobe_rgb() -> bytes:
    columns = {b"rgb"[i : i + 1] + b"XYZ": b"XYZ " + bytes(4) + s15(*ADOBE_RGB[:, i]) for i in range(3)}
    return profile(b"RGB ", b"XYZ ", columns | {b"rgb"[i : i + 1] + b"TRC": gamma_curve(GAMMA) for i in range(3)})


def grey_gamma(gamma: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", {b"kTRC": gamma_curve(gamma)})


def cmyk_of_black_only() -> bytes:
    """A CMYK profile in which L* = 100 (1 - K), whatever the other inks."""
    ramp = bytes(range(256))
    nodes = bytes(value for node in range(16) for value in ((0 if node & 1 else 255), 128, 128))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + nodes + ramp * 3
    return profile(b"CMYK", b"Lab ", {b"A2B0": table}, b"prtr")


def encoded(linear: Array) -> Array:
    """The sRGB curve, to [0, 255]."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def from_adobe_rgb(image: Array) -> Array:
    return encoded((image / 255.0) ** GAMMA @ ADOBE_RGB.T @ np.linalg.inv(SRGB).T)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "b.tif", "deep.png"])
def test_profile_is_converted(name: str, tmp_path: Path) -> None:
    image, icc = smooth(), adobe_rgb()
    if name == "b.tif":
        tifffile.imwrite(tmp_path / name, image.astype(np.uint16) * 257, photometric="rgb", iccprofile=icc)
    elif name == "deep.png":
        data = imagecodecs.png_encode(image.astype(np.uint16) * 257)
        embedded = chunk(b"iCCP", b"test\0\0" + zlib.compress(icc))
        (tmp_path / name).write_bytes(data[:33] + embedded + data[33:])
    else:
        how: dict[str, dict[str, Any]] = {
            "a.jpg": {"quality": 100, "subsampling": 0},
            "a.webp": {"lossless": True},
        }
        options = how.get(name, {})
        PIL.Image.fromarray(image).save(tmp_path / name, icc_profile=icc, **options)
    jpeg = name == "a.jpg"  # its errors grow in the dark
    read = read_image(tmp_path / name)
    check_form(read)
    assert np.abs(read - from_adobe_rgb(image)).max() <= (20 if jpeg else 2)
    assert np.abs(read - from_adobe_rgb(image)).mean() < 1
    assert np.abs(from_adobe_rgb(image) - image).mean() > 5
    assert np.abs(read_image(tmp_path / name, icc=False).astype(int) - image).max() <= (4 if jpeg else 0)


def test_white_stays_white_through_profiles(tmp_path: Path) -> None:
    image = np.full((4, 5, 4), 255, np.uint8)
    image[0, 0] = 0
    PIL.Image.fromarray(image).save(tmp_path / "a.png", icc_profile=adobe_rgb())
    assert (read_image(tmp_path / "a.png") == 255).all()


def test_grey_profile(tmp_path: Path) -> None:
    grey = smooth(channels=1)
    PIL.Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=grey_gamma(1.8))
    expected = encoded((grey / 255.0) ** (461 / 256))
    assert np.abs(read_image(tmp_path / "a.png") - thrice(expected)).max() <= 2


def test_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    image = noise()
    columns = {b"rgb"[i : i + 1] + b"XYZ": b"XYZ " + bytes(4) + s15(*SRGB[:, i]) for i in range(3)}
    steps = np.arange(1024) / 1023
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    curve = b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.rint(linear * 65535).astype(int))
    by_hand = profile(b"RGB ", b"XYZ ", columns | {b"rgb"[i : i + 1] + b"TRC": curve for i in range(3)})
    for icc in (srgb_profile(), by_hand):
        PIL.Image.fromarray(image).save(tmp_path / "a.png", icc_profile=icc)
        assert np.array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("icc", [b"nonsense", adobe_rgb()[:200], grey_gamma(2.2), cmyk_of_black_only()])
def test_profile_that_does_not_fit_warns(icc: bytes, tmp_path: Path) -> None:
    image = noise()
    PIL.Image.fromarray(image).save(tmp_path / "a.png", icc_profile=icc)
    with pytest.warns(UserWarning, match="Expected the ICC profile") as caught:
        read = read_image(tmp_path / "a.png")
    assert np.array_equal(read, image)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert "a.png" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert np.array_equal(read_image(tmp_path / "a.png", icc=False), image)


def cmyk_files(folder: Path, inks: Array, **options: Any) -> list[Path]:
    image = PIL.Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
    image.save(folder / "a.jpg", quality=100, subsampling=0, **options)
    image.save(folder / "a.tif", **options)
    tifffile.imwrite(
        folder / "b.tif", inks, photometric="separated", compression="lzw", iccprofile=options.get("icc_profile")
    )
    return [folder / "a.jpg", folder / "a.tif", folder / "b.tif"]


def test_cmyk_without_profile(tmp_path: Path) -> None:
    inks = smooth(channels=4)
    light = 255.0 - inks
    expected = light[..., :3] * light[..., 3:] / 255
    for path in cmyk_files(tmp_path, inks):
        read = read_image(path)
        check_form(read)
        assert np.abs(read - expected).max() <= (8 if path.suffix == ".jpg" else 1.01)


def test_cmyk_with_profile(tmp_path: Path) -> None:
    inks = smooth(channels=4)
    lightness = 100 * (1 - inks[..., 3] / 255.0)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    for path in cmyk_files(tmp_path, inks, icc_profile=cmyk_of_black_only()):
        slack = 4 if path.suffix == ".jpg" else 2
        assert np.abs(read_image(path) - thrice(encoded(luminance))).max() <= slack


# Stacks, series and channels


@pytest.mark.parametrize("axes", ["CYX", "ZCYX", "CZYX", "TZCYX", "TCZYX"])
@pytest.mark.parametrize("kind", ["ome", "plain"])
def test_channels_in_pages(axes: str, kind: str, tmp_path: Path) -> None:
    shape = {"C": 3, "Z": 4, "T": 2, "Y": HEIGHT, "X": WIDTH}
    stack = np.random.default_rng(5).integers(0, 256, [shape[axis] for axis in axes]).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stack,
        photometric="minisblack",
        planarconfig=None,
        ome=kind == "ome",
        metadata={"axes": axes},
    )
    first = stack[tuple(slice(None) if axis in "CYX" else 0 for axis in axes)]
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(first, 0, -1))


@pytest.mark.parametrize("axes", ["ZYXS", "TZYXS", "ZYX"])
def test_first_plane_of_a_stack(axes: str, tmp_path: Path) -> None:
    shape = {"Z": 3, "T": 2, "Y": HEIGHT, "X": WIDTH, "S": 3}
    stack = np.random.default_rng(5).integers(0, 256, [shape[axis] for axis in axes]).astype(np.uint8)
    photometric = "rgb" if "S" in axes else "minisblack"
    for ome in (True, False):
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric=photometric, ome=ome, metadata={"axes": axes})
        first = stack.reshape(-1, *stack.shape[axes.index("Y") :])[0]
        assert np.array_equal(read_image(tmp_path / "a.tif"), first if "S" in axes else thrice(first))


def test_ome_planar_samples(tmp_path: Path) -> None:
    planes = np.moveaxis(noise(), -1, 0)
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": "SYX"}}
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, ome=True, **options)
    assert np.array_equal(read_image(tmp_path / "a.ome.tif"), noise())


def test_first_level_of_a_pyramid(tmp_path: Path) -> None:
    image = noise()
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(image, photometric="rgb", subifds=1, tile=(16, 16), compression="zlib")
        writer.write(image[::2, ::2], photometric="rgb", subfiletype=1, tile=(16, 16), compression="zlib")
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(image, photometric="rgb", metadata=None)
        writer.write(image[::2, ::2], photometric="rgb", metadata=None)
    for name in ("a.ome.tif", "b.tif"):
        assert np.array_equal(read_image(tmp_path / name), image)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [PIL.Image.fromarray(np.full((8, 9, 3), value, np.uint8)) for value in (50, 200)]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert (read_image(tmp_path / name) == 50).all(), name


@pytest.mark.parametrize("channels", [2, 4, 5, 7])
@pytest.mark.parametrize("layout", ["samples", "ome pages", "imagej", "planar"])
def test_other_numbers_of_channels_are_named(channels: int, layout: str, tmp_path: Path) -> None:
    planes = np.ones((channels, 20, 30), np.uint16)
    options: dict[str, dict[str, Any]] = {
        "samples": {"planarconfig": "contig"},
        "planar": {"planarconfig": "separate"},
        "ome pages": {"ome": True, "metadata": {"axes": "CYX"}},
        "imagej": {"imagej": True, "metadata": {"axes": "CYX"}},
    }
    data = np.moveaxis(planes, 0, -1) if layout == "samples" else planes
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", **options[layout])
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "a.tif")
    check_sentence(raised.value, "a.tif", f"{channels} channels")


def test_more_than_alpha_beside_rgb(tmp_path: Path) -> None:
    options: dict[str, Any] = {"photometric": "rgb", "extrasamples": ["unassalpha", "unspecified"]}
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 30, 5), np.uint8), **options)
    with pytest.raises(ImageError, match="5 channels"):
        read_image(tmp_path / "a.tif")


def test_colours_that_are_none_of_ours(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(), photometric="cielab")
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "a.tif")
    check_sentence(raised.value, "a.tif", "CIELAB")


# Reading what is not fine


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, kind: int, raw: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        read_image(tmp_path / "no.png")
    check_sentence(raised.value, "Expected `path` to be an existing image file", "no.png'", "check the spelling")


def test_folder_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    for name, word in (("folder.png", "folder"), ("empty.png", "empty")):
        for read in (read_image, read_provenance):
            with pytest.raises(ImageError) as raised:
                read(tmp_path / name)
            check_sentence(raised.value, name, word)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, LOSSLESS["png"], noise())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError) as raised:
        read_image(path)
    check_sentence(raised.value, "a.png", "permissions")


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"x", b"patient,stain\n1,HE\n" * 40, bytes(4000), b"II*\0", b"MM\0+" + bytes(99)]
)
def test_not_an_image(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ImageError) as raised:
        read_image(path)
    check_sentence(raised.value, path.name)
    assert read_provenance(path) is None


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", (LOSSLESS | LOSSY).values(), ids=LOSSLESS | LOSSY)
def test_truncated(kind: tuple[str, Writer], cut: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = made(tmp_path, kind, noise())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(ImageError) as raised:
        read_image(path)
    check_sentence(raised.value, path.name)
    read_provenance(path)
    assert not caplog.records


@pytest.mark.parametrize("kind", (LOSSLESS | LOSSY).values(), ids=LOSSLESS | LOSSY)
def test_the_last_bytes_missing_gives_an_error_or_the_whole_image(
    kind: tuple[str, Writer], tmp_path: Path
) -> None:
    path = made(tmp_path, kind, smooth())
    data, whole = path.read_bytes(), read_image(path)
    for cut in (1, 2, 5, 9, 13, 17, 30, 60):
        path.write_bytes(data[:-cut])
        try:
            read = read_image(path)
        except ImageError:
            continue
        assert np.array_equal(read, whole), cut


def test_16_bit_png_truncated_or_with_a_wrong_checksum(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = imagecodecs.png_encode(noise("uint16"))
    spoilt = [data[: int(len(data) * part)] for part in (0.01, 0.3, 0.6, 0.9)] + [data[:-15]]
    broken = bytearray(data)
    broken[len(data) // 2] ^= 255
    for content in (*spoilt, bytes(broken)):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ImageError) as raised:
            read_image(tmp_path / "a.png")
        check_sentence(raised.value, "a.png")
    assert not any(capfd.readouterr())


def test_tiff_that_lost_strips_or_bit_depth(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(), photometric="rgb", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages.first.tags
        counts, depth = [tags[324].offset + 4, tags[325].offset + 4], tags[258].offset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for count in counts:
        struct.pack_into("<I", data, count, 8)
    (tmp_path / "few.tif").write_bytes(data)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<H", data, depth, 257)  # any other tag
    (tmp_path / "depth.tif").write_bytes(data)
    for name in ("few.tif", "depth.tif"):
        with pytest.raises(ImageError) as raised:
            read_image(tmp_path / name)
        check_sentence(raised.value, name)


def test_pages_in_a_circle(tmp_path: Path) -> None:
    stack = np.zeros((2, 3, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "ZCYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, second = file.pages[0].offset, file.pages[1].offset
        tags = len(file.pages[1].aspage().tags)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", data, second + 2 + 12 * tags, first)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match="circle"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0)])
def test_no_pixels(bits: int, width: int, height: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height, bits, 0, b""))
    (tmp_path / "a.tif").write_bytes(lying_tiff(width, height))
    (tmp_path / "a.bmp").write_bytes(lying_bmp(width, height))
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + struct.pack("<HH3B", width, height, 0, 0, 0) + b";")
    for name in ("a.png", "a.tif", "a.bmp", "a.gif"):
        with pytest.raises(ImageError) as raised:
            read_image(tmp_path / name)
        check_sentence(raised.value, name)


def lying_tiff(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 9), np.uint8), photometric="minisblack", compression="zlib")
    data = bytearray(buffer.getvalue())
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as file:
        tags = file.pages.first.tags
        for tag, value in ((256, width), (257, height), (278, height)):
            struct.pack_into("<HI", data, tags[tag].offset + 2, 4, 1)
            struct.pack_into("<I", data, tags[tag].offset + 8, value)
    return bytes(data)


def lying_bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHH6I", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 12, 0, 0, 54) + header + bytes(12)


def lying_jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("L", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


@pytest.mark.parametrize(("width", "height"), [(13_378, 13_377), (20_000, 12_000), (60_000, 60_000)])
def test_too_many_pixels_is_found_before_decoding(width: int, height: int, tmp_path: Path) -> None:
    assert width * height > MAX_PIXELS
    files = {
        "a.png": png(width, height, 8, 0, b"\0"),
        "deep.png": png(width, height, 16, 2, b"\0"),
        "a.jpg": lying_jpeg(width, height),
        "a.bmp": lying_bmp(width, height),
        "a.tif": lying_tiff(width, height),
        "a.gif": b"GIF89a" + struct.pack("<HH3B", width, height, 0, 0, 0) + b"," + bytes(9) + b"\x02\0;",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as raised:
            read_image(tmp_path / name)
        check_sentence(raised.value, name, "178,956,970", "slide")


def test_huge_tiles_of_a_small_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(), photometric="rgb", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        places = [file.pages.first.tags[tag].offset for tag in (322, 323)]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for place in places:
        struct.pack_into("<HII", data, place + 2, 4, 1, 60_000)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "a.tif")
    check_sentence(raised.value, "a.tif", "60000", "slide")


def test_a_large_image_below_the_limit_gives_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, LOSSLESS["png"], noise())
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    assert np.array_equal(read_image(path), noise())


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535), ("float32", 1), ("float64", 1)])
def test_floats_and_alpha_take_little_memory(dtype: str, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BAND_PX", 2000)
    pixels = (np.random.default_rng(0).random((400, 500, 4)) * top).astype(dtype)
    tracemalloc.start()
    opaque = finish(Raster(pixels, "RGB", None, 1, top))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 400 * 500  # 3 bytes a pixel are the result
    unit = pixels / np.float64(top)
    wanted = 255 * (1 - (1 - unit[..., :3]) * unit[..., 3:])
    assert np.abs(opaque - wanted).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_bands_join_to_the_whole(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "BAND_PX", 9 * rows)
    pixels = np.random.default_rng(0).integers(0, 200, (40, 9, 3), np.uint8)
    assert np.array_equal(in_bands(lambda band: band[..., :1] + 5, pixels, 1), pixels[..., :1] + 5)


@pytest.mark.parametrize("tile", [None, (1024, 1024)])
def test_samples_that_take_too_much_memory(
    tile: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 8 if tile else 100
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((side, side, 3), np.float64), photometric="rgb", tile=tile)
    monkeypatch.setattr(decoders, "MAX_BYTES", 1024 * 1024 * 24 - 1 if tile else 100 * 100 * 24 - 1)
    with pytest.raises(
        ImageError, match=r"at most 0\.0 GB of samples, got .* (in tiles of|of \(100, 100, 3\) float64)"
    ):
        read_image(tmp_path / "a.tif")
    monkeypatch.setattr(decoders, "MAX_BYTES", decoders.MAX_BYTES + 1)
    assert read_image(tmp_path / "a.tif").shape == (side, side, 3)


def test_text_bomb_in_png(tmp_path: Path) -> None:
    bomb = chunk(b"zTXt", b"chromogen\0\0" + zlib.compress(bytes(3_000_000)))
    (tmp_path / "a.png").write_bytes(png(1, 1, 8, 0, b"\0\0", bomb))
    assert read_provenance(tmp_path / "a.png") is None
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["png", "deflate", "ome", "zstd tiles", "webp"])
def test_spoilt_bytes_give_an_image_or_an_image_error(kind: str, tmp_path: Path) -> None:
    path = made(tmp_path, LOSSLESS[kind], noise())
    data, random = path.read_bytes(), np.random.default_rng(11)
    for _ in range(60):
        spoilt = bytearray(data)
        for place in random.integers(0, min(len(data), 400), 3):
            spoilt[place] = random.integers(0, 256)
        path.write_bytes(spoilt)
        try:
            check_form(read_image(path))
        except ImageError as error:
            check_sentence(error, path.name)
        read_provenance(path)


# Names


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "x.ome.tif", "b.Jpeg", "c d.webp", "é.GIF", "a.bmp", "a.TIFF"])
def test_is_image(name: str) -> None:
    assert is_image(name)
    assert is_image(Path("folder") / name)


@pytest.mark.parametrize("name", ["a.txt", "png", ".png", "a.png.txt", "a.svs", "", "a"])
def test_is_not_image(name: str) -> None:
    assert not is_image(name)


def test_list_images(tmp_path: Path) -> None:
    names = ["tile_1.png", "Tile_2.PNG", "tile_10.jpg", "tile_10a.tif", "x.webp"]
    for name in [*names, "notes.txt", ".hidden.png", "2.csv"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "below.png").touch()
    assert [path.name for path in list_images(tmp_path)] == names
    assert list_images(str(tmp_path))[0] == tmp_path / "tile_1.png"


def test_list_images_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError) as raised:
        list_images(tmp_path)
    check_sentence(raised.value, str(tmp_path), ".webp")
    for path in (tmp_path / "no", tmp_path / "notes.txt"):
        with pytest.raises(FileNotFoundError) as missing:
            list_images(path)
        check_sentence(missing.value, path.name)


# Writing

PROVENANCE = {
    "notice": "virtual stain, research use only: Ω „µm“",
    "versions": {"chromogen": "0.1.0", "torch": "2.6"},
    "content": "Łódź 組織 \U0001f52c",
    "losses": [1.5, 2, None, True],
    "nested": {"a": {"b": [1]}},
}


@pytest.mark.parametrize("suffix", [*WRITE_SUFFIXES, ".PNG", ".Tif"])
def test_write_and_read(suffix: str, tmp_path: Path) -> None:
    image, path = smooth(), tmp_path / f"out{suffix}"
    write_image(path, image, PROVENANCE)
    assert read_provenance(path) == PROVENANCE
    read = read_image(path)
    slack = 4 if suffix.startswith(".jp") else 0
    assert np.abs(read.astype(int) - image).max() <= slack
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == encode_image(image, suffix, PROVENANCE)


@pytest.mark.parametrize("suffix", WRITE_SUFFIXES)
def test_write_without_provenance(suffix: str, tmp_path: Path) -> None:
    write_image(str(tmp_path / f"a{suffix}"), smooth())
    assert read_provenance(tmp_path / f"a{suffix}") is None
    write_image(tmp_path / f"a{suffix}", smooth(), {})
    assert read_provenance(tmp_path / f"a{suffix}") == {}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image=arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
    suffix=st.sampled_from([suffix for suffix in WRITE_SUFFIXES if not suffix.startswith(".jp")]),
    provenance=st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3),
)
def test_roundtrip(image: Array, suffix: str, provenance: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, image, provenance)
    assert np.array_equal(read_image(path), image)
    assert read_provenance(path) == provenance


def test_formats_written(tmp_path: Path) -> None:
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
    for suffix, name in formats.items():
        with PIL.Image.open(io.BytesIO(encode_image(smooth(), suffix))) as image:
            assert image.format == name
            assert image.mode == "RGB"
    jpeg = encode_image(smooth(), ".jpg")
    at = jpeg.index(b"\xff\xc0")
    assert jpeg[at + 11] == 0x11, "the luma of 4:4:4 is not sampled finer than the chroma"
    with tifffile.TiffFile(io.BytesIO(encode_image(smooth(), ".tif"))) as file:
        assert file.pages.first.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_where_the_provenance_is(tmp_path: Path) -> None:
    with PIL.Image.open(io.BytesIO(encode_image(smooth(), ".png", PROVENANCE))) as image:
        assert isinstance(image.info["chromogen"], PIL.PngImagePlugin.iTXt)
        assert json.loads(image.info["chromogen"]) == PROVENANCE
        assert image.info["Description"] == PROVENANCE["notice"]
        assert image.info["Software"] == "chromogen 0.1.0"
    with PIL.Image.open(io.BytesIO(encode_image(smooth(), ".png", {"a": 1}))) as image:
        assert set(image.info) == {"chromogen"}
    for suffix in (".jpg", ".tif", ".webp"):
        with PIL.Image.open(io.BytesIO(encode_image(smooth(), suffix, PROVENANCE))) as image:
            assert json.loads(image.getexif()[270]) == PROVENANCE
            assert image.getexif()[305] == "chromogen 0.1.0"
    with tifffile.TiffFile(io.BytesIO(encode_image(smooth(), ".tif", PROVENANCE))) as file:
        assert json.loads(file.pages.first.description) == PROVENANCE


def test_provenance_of_numpy_and_paths(tmp_path: Path) -> None:
    facts = {"loss": np.float32(0.5), "seed": np.int64(3), "vectors": np.eye(2), "file": Path("a/b")}
    write_image(tmp_path / "a.png", smooth(), facts)
    expected = {"loss": 0.5, "seed": 3, "vectors": [[1, 0], [0, 1]], "file": str(Path("a/b"))}
    assert read_provenance(tmp_path / "a.png") == expected


def test_provenance_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as raised:
        write_image(tmp_path / "a.png", smooth(), {"trace": "x" * MAX_PROVENANCE})
    check_sentence(raised.value, "1,000,000")
    with pytest.raises(ImageError) as raised:
        write_image(tmp_path / "a.jpg", smooth(), {"trace": "x" * 70_000})
    check_sentence(raised.value, "JPEG", "write a .png")
    assert not list(tmp_path.iterdir())
    write_image(tmp_path / "a.png", smooth(), {"trace": "x" * 900_000})
    assert read_provenance(tmp_path / "a.png") == {"trace": "x" * 900_000}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[1, 2]",
        "3",
        "{",
        '{"a": ',
        "[" * 100_000,
        "9" * 10_000,
        '{"a": "' + "x" * 2_000_000 + '"}',
    ],
    ids=lambda text: text[:9],
)
def test_odd_provenance_is_none(text: str, tmp_path: Path) -> None:
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_itxt("chromogen", text)
    PIL.Image.fromarray(smooth()).save(tmp_path / "a.png", pnginfo=chunks)
    tags: dict[int, str] = {270: text, 305: "chromogen 0.1.0"}
    PIL.Image.fromarray(smooth()).save(tmp_path / "a.tif", tiffinfo=tags)
    for name in ("a.png", "a.tif"):
        assert read_provenance(tmp_path / name) is None


def test_provenance_of_others_is_none(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", smooth(), photometric="rgb")  # its description is JSON too
    PIL.Image.fromarray(smooth()).save(tmp_path / "b.tif", tiffinfo={270: '{"a": 1}', 305: "ImageJ"})
    PIL.Image.fromarray(smooth()).save(tmp_path / "a.gif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert json.loads(file.pages.first.description)
    for name in ("a.tif", "b.tif", "a.gif"):
        assert read_provenance(tmp_path / name) is None
    with pytest.raises(FileNotFoundError):
        read_provenance(tmp_path / "no.png")


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gif", "a.svs", ".png"])
def test_write_unknown_suffix(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as raised:
        write_image(tmp_path / name, smooth())
    check_sentence(raised.value, *WRITE_SUFFIXES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "image",
    [
        smooth("float32"),
        smooth("uint16"),
        smooth(channels=1),
        smooth(channels=4),
        np.zeros((0, 5, 3), np.uint8),
        [[1, 2, 3]],
        None,
    ],
    ids=["float", "uint16", "grey", "rgba", "no rows", "list", "None"],
)
def test_images_that_are_not_ours(image: Any, tmp_path: Path) -> None:
    uses: list[Callable[[], object]] = [
        lambda: write_image(tmp_path / "a.png", image),
        lambda: encode_image(image, ".png"),
        lambda: to_tensor(image),
        lambda: resize(image, (3, 3)),
    ]
    for use in uses:
        with pytest.raises(ImageError) as raised:
            use()
        check_sentence(raised.value, "uint8 array (H, W, 3)")
    assert not list(tmp_path.iterdir())


def test_write_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write_image(tmp_path / "no" / "a.png", smooth())
    check_sentence(raised.value, "existing folder", "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError) as refused:
        write_image(tmp_path / "folder.png", smooth())
    check_sentence(refused.value, "folder.png")


def test_too_large_for_the_format() -> None:
    image = np.zeros((1, 16_400, 3), np.uint8)
    with pytest.raises(ImageError) as raised:
        encode_image(image, ".webp")
    check_sentence(raised.value, "WEBP", "16400 x 1", "write a .png")
    with pytest.raises(ImageError) as raised:
        encode_image(np.zeros((70_000, 1, 3), np.uint8), ".jpg")
    check_sentence(raised.value, "JPEG")


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()])
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_failure_leaves_the_old_file(
    failure: BaseException, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_image(path, smooth())
    before = path.read_bytes()

    def fail(*_: object) -> None:
        hidden = [file.name for file in tmp_path.iterdir() if file != path]
        assert sorted(hidden) == [".chromogen-a.png.lock", ".chromogen-a.png.tmp"]
        raise failure

    monkeypatch.setattr(step, fail)
    with pytest.raises(type(failure)):
        write_image(path, noise())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == before


def test_overwriting(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", smooth(), {"a": 1})
    write_image(tmp_path / "a.png", noise(), {"b": 2})
    assert np.array_equal(read_image(tmp_path / "a.png"), noise())
    assert read_provenance(tmp_path / "a.png") == {"b": 2}


@pytest.mark.skipif(sys.platform == "win32", reason="no umask on Windows")
def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_image(tmp_path / "a.png", smooth())
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    view = smooth()[::-1, ::2]
    write_image(tmp_path / "a.png", view)
    assert np.array_equal(read_image(tmp_path / "a.png"), view)


# Tensors


def test_to_tensor() -> None:
    image = noise()
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, HEIGHT, WIDTH)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    expected = image.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    assert np.array_equal(tensor.numpy(), expected)
    assert (float(tensor.min()), float(tensor.max())) == (0.0, 1.0)


def test_to_tensor_of_views() -> None:
    image = noise()
    frozen = image.copy()
    frozen.flags.writeable = False
    assert torch.equal(to_tensor(frozen), to_tensor(image))
    assert torch.equal(to_tensor(image[::-1]), to_tensor(image).flip(2))
    to_tensor(image).zero_()
    assert np.array_equal(image, noise())


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_tensor_roundtrip(image: Array) -> None:
    back = to_uint8(to_tensor(image))
    check_form(back)
    assert np.array_equal(back, image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_to_uint8_of_every_float(dtype: torch.dtype) -> None:
    values = (torch.arange(256, dtype=torch.float64) / 255).to(dtype).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    expected = np.rint(values[0, 0].to(torch.float64).numpy() * 255)
    read = to_uint8(values)
    check_form(read)
    assert np.abs(read[..., 0] - expected).max() <= (dtype == torch.float32)
    assert to_uint8(values.requires_grad_()).shape == (16, 16, 3)


def test_to_uint8_clips_and_rounds_halves_to_even() -> None:
    values = torch.tensor([-math.inf, -1, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.0, 7, math.inf], dtype=torch.float64)
    values = values.reshape(1, 1, 2, 4).expand(1, 3, 2, 4)
    assert to_uint8(values)[..., 1].ravel().tolist() == [0, 0, 0, 2, 2, 255, 255, 255]


def test_to_uint8_of_channels_last() -> None:
    tensor = to_tensor(noise()).to(memory_format=torch.channels_last)
    check_form(to_uint8(tensor))
    assert np.array_equal(to_uint8(tensor), noise())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4, 5),
        torch.zeros(2, 3, 4, 5),
        torch.zeros(1, 4, 4, 5),
        torch.zeros(1, 3, 4, 5, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 5, dtype=torch.complex64),
        torch.full((1, 3, 4, 5), math.nan),
    ],
)
def test_to_uint8_refuses(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="Expected") as raised:
        to_uint8(tensor)
    check_sentence(raised.value, "`tensor`")


# Resizing


def test_resize_to_the_same_size_is_a_copy() -> None:
    image = noise()
    same = resize(image, (WIDTH, HEIGHT))
    assert np.array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_resize_orders_width_before_height() -> None:
    resized = resize(noise(), (20, 10))
    check_form(resized)
    assert resized.shape == (10, 20, 3)


def test_shrinking_does_not_alias() -> None:
    checks = np.indices((240, 240)).sum(0) % 2 * 255
    small = resize(thrice(checks).astype(np.uint8), (24, 24))
    assert np.abs(small[2:-2, 2:-2] - 127.5).max() < 3
    assert abs(resize(noise(), (5, 5)).mean() - noise().mean()) < 8


def test_enlarging_keeps_flat_colour() -> None:
    flat = np.full((5, 6, 3), (200, 30, 90), np.uint8)
    assert (resize(flat, (13, 17)) == (200, 30, 90)).all()


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_resize_to_nothing(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError) as raised:
        resize(noise(), size)
    check_sentence(raised.value, "`size`")


# Manners


def test_import_is_light() -> None:
    script = (
        "import sys, chromogen.image; print([m for m in ('torch', 'tifffile', 'imagecodecs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_broken_tiff_says_nothing_on_stderr(tmp_path: Path) -> None:
    path = made(tmp_path, LOSSLESS["pillow lzw"], noise())
    path.write_bytes(path.read_bytes()[:-5])
    script = (
        "import sys, chromogen.image as i\n"
        "try: i.read_image(sys.argv[1])\n"
        "except i.ImageError: print('refused')\n"
        "i.read_provenance(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("refused", "")


def test_warnings_of_others_are_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path, LOSSLESS["png"], noise())
    with warnings.catch_warnings():
        before = list(warnings.filters)
        read_image(path)
        assert list(warnings.filters) == before


# Real images


def shared(name: str) -> Path:
    path = SHARED / "he" / name
    if not path.exists():
        pytest.skip(f"{path} is absent: the shared images are not part of the repository")
    return path


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("torchstain_source.png", (584, 438)),
        ("torchstain_target.png", (587, 441)),
        ("instanseg_tma_core.tif", (1380, 1484)),
        ("hgsc_nest.jpg", (1500, 1500)),
        ("hgsc_stromal_he.jpg", (1500, 1500)),
    ],
)
def test_real_images(name: str, size: tuple[int, int]) -> None:
    path = shared(name)
    image = read_image(path)
    check_form(image)
    assert image.shape[:2] in (size, size[::-1])
    with PIL.Image.open(path) as stored:
        opaque = PIL.Image.new("RGBA", stored.size, "white")
        opaque.alpha_composite(stored.convert("RGBA"))
    assert np.abs(read_image(path, icc=False).astype(int) - np.asarray(opaque.convert("RGB"))).max() <= 1
    red, green, blue = image.reshape(-1, 3).mean(0)
    assert green < min(red, blue), "haematoxylin and eosin take most from green"
    assert read_provenance(path) is None
