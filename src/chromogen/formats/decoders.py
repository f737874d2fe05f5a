"""What decoders make of image files: upright, opaque pixels of 8 bits, or an ImageError whatever they throw."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from chromogen.errors import ImageError, missing, sentence, short
from chromogen.formats.ome_metadata import RGB
from chromogen.formats.tiff_pages import TURNED, FileFacts, bits_used, tiff_image
from chromogen.pixel_size import INCH_UM, MAX_DPI_MPP, plausible_mpp, resolution_mpp

if TYPE_CHECKING:
    from tifffile import TiffPage

MAX_PIXELS = 178_956_970  # Pillow's own limit; beyond it an image is a slide, or a bomb
MAX_BYTES = 12 * MAX_PIXELS  # of samples as a file has them: RGB in float32
BAND_PX = 1_000_000  # floats take several times the memory: of so many pixels at once
READ_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")  # not all of Pillow's: some start programs

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # its first bytes, and BigTIFF's
_WHITE_IS_ZERO, _PALETTE, _YCBCR = 0, 3, 6  # TIFF photometric interpretations
_TIFF_MODES = {_WHITE_IS_ZERO: "L", 1: "L", 2: "RGB", _PALETTE: "RGB", 5: "CMYK", _YCBCR: "RGB"}
FAX, JPEGS = (2, 3, 4), (6, 7, 33007, 34892)  # TIFF compressions
_LOGS = ("tifffile", "PIL.TiffImagePlugin")
_DTYPES = ("bool", "uint8", "uint16", "float16", "float32", "float64")
# Tags of TIFF and EXIF
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 274, 282, 283, 296


Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, C), C as the mode says


class Raster(NamedTuple):
    """What a decoder made of a file."""

    pixels: NDArray[Any]  # (H, W, C), from 0 to `top`
    mode: str  # "L", "RGB" or "CMYK"; a channel more than letters is alpha
    facts: FileFacts
    orientation: int
    top: int = 255
    premultiplied: bool = False


def open_file(path: Path) -> BinaryIO:
    """The file opened for reading; ImageError for a folder or an empty file, OSError for one out of reach."""
    if not path.exists():
        raise missing("path", "an existing image file", path)
    if not path.is_file():
        raise _misfit(path, "an image file", "which is a folder or device", "name a file")
    if not path.stat().st_size:
        raise _misfit(path, "an image file", "which is empty (0 bytes)", "copy or export it again")
    try:
        return path.open("rb")
    except PermissionError as error:
        message = sentence("path", "a file you may read", path, "change its permissions")
        raise PermissionError(message) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Decoders speak by exceptions only: their warnings and logs are held back."""
    logs, silence = [logging.getLogger(name) for name in _LOGS], lambda record: False
    for log in logs:
        log.addFilter(silence)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log in logs:
            log.removeFilter(silence)


def decode(path: Path, file: BinaryIO) -> tuple[Pixels, str, FileFacts]:
    """Upright, opaque 8-bit pixels, their mode, and what the file says; ImageError whatever a decoder throws."""
    try:
        with quiet():
            decoder = _decoder(file.read(25))
            file.seek(0)
            raster = decoder(path, file)
    except ImageError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise _too_large(path, "with more") from error
    except PIL.UnidentifiedImageError as error:
        problem = "in none of them, or broken at its start"
        raise _misfit(path, f"an image in {', '.join(READ_FORMATS)}", problem, "export it again") from error
    except Exception as error:  # decoders throw everything there is at broken files
        problem = f"which cannot be decoded ({short(error)})"
        raise _misfit(path, "a whole image", problem, "copy or export it again") from error
    return finish(_of_bits_used(path, raster)), raster.mode, raster.facts


def _decoder(start: bytes) -> Callable[[Path, BinaryIO], Raster]:
    if start[:4] in TIFF_SIGNATURES:
        return _decode_tiff
    return _decode_deep_png if start[:4] == b"\x89PNG" and start[24:] == b"\x10" else _decode_pillow


def _too_large(path: Path, problem: str) -> ImageError:
    return _misfit(path, f"an image of at most {MAX_PIXELS:,} px", problem, "open it as a slide")


def check_size(path: Path, width: int, height: int) -> None:
    """ImageError for an image without pixels, or with more than `MAX_PIXELS`."""
    if min(width, height) < 1:
        raise _misfit(path, "an image with pixels", f"of {width} x {height} px", "export it again")
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"of {width:,} x {height:,} px")


def _of_bits_used(path: Path, raster: Raster) -> Raster:
    """The raster with the brightest level that its samples can have, where they are whole numbers."""
    pixels = raster.pixels
    if pixels.dtype != np.uint16 or not pixels.size:
        return raster
    bits, colors = raster.top.bit_length(), pixels[..., : len(raster.mode)]
    return raster._replace(top=2 ** bits_used(path, bits, raster.facts.significant_bits, int(colors.max())) - 1)


def _decode_pillow(path: Path, file: BinaryIO) -> Raster:
    with PIL.Image.open(file, formats=READ_FORMATS) as image:
        check_size(path, *image.size)
        mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
        wanted = f"{mode}A" if image.has_transparency_data else mode
        pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
        # Pillow turns a TIFF while it loads it, and forgets the orientation then.
        return Raster(np.atleast_3d(pixels), mode, _pillow_facts(image), _exif(image, _ORIENTATION, 1))


def _decode_deep_png(path: Path, file: BinaryIO) -> Raster:
    """A PNG of 16 bits, of which Pillow would drop the lower 8."""
    import imagecodecs

    with PIL.Image.open(file, formats=["PNG"]) as image:
        check_size(path, *image.size)
        image.verify()  # the decoder below would only print that a checksum is wrong
        facts, orientation = _pillow_facts(image), _exif(image, _ORIENTATION, 1)
    file.seek(0)
    pixels = np.atleast_3d(imagecodecs.png_decode(file.read()))
    return Raster(pixels, "L" if pixels.shape[2] < 3 else "RGB", facts, orientation, 65535)


def _pillow_facts(image: PIL.Image.Image) -> FileFacts:
    """The ICC profile, and the pixel size where the resolution is one of a microscope: others are of print."""
    unit_um = {2: INCH_UM, 3: 10_000.0}.get(_exif(image, _RESOLUTION_UNIT, 2))
    stated = resolution_mpp(_exif(image, _X_RESOLUTION, None), _exif(image, _Y_RESOLUTION, None), unit_um)
    across, down = image.info.get("dpi") or (None, None)
    both = (stated, resolution_mpp(across, down, INCH_UM))
    mpp = next((mpp for mpp in both if plausible_mpp(mpp, MAX_DPI_MPP)), None)
    turned = mpp is not None and _exif(image, _ORIENTATION, 1) in TURNED
    return FileFacts(mpp=mpp[::-1] if mpp and turned else mpp, icc_profile=image.info.get("icc_profile"))


def _exif(image: PIL.Image.Image, tag: int, default: Any) -> Any:
    try:
        return image.getexif().get(tag, default)
    except Exception:  # broken EXIF is no reason to refuse the pixels
        return default


def _decode_tiff(path: Path, file: BinaryIO) -> Raster:
    import tifffile

    with tifffile.TiffFile(file, _multifile=False) as tiff:
        image = tiff_image(path, tiff)
        planes, page = image.planes, image.planes[0].keyframe
        _check_tiff(path, page, len(planes))
        mode, alpha = tiff_channels(path, page, page.samplesperpixel * len(planes))
        if any(is_cut(plane, tiff.filehandle.size) for plane in planes):
            raise _misfit(path, "a whole image", "which is cut short", "copy or export it again")
        if page.compression in FAX or (page.photometric == _YCBCR and page.compression not in JPEGS):
            return _decode_pillow(path, file)._replace(facts=image.facts)  # has libtiff, which knows them
        samples = in_order(_samples(planes)[..., : len(mode) + bool(alpha)], image.order)
        pixels, top = tiff_levels(path, page, samples)
        return Raster(pixels, mode, image.facts, page.tags.valueof(_ORIENTATION, 1), top, alpha == 1)


def in_order(samples: NDArray[Any], order: tuple[int, ...]) -> NDArray[Any]:
    """Samples (H, W, C) with those of three colours in the order red, green, blue."""
    if order == RGB or samples.shape[2] < len(order):
        return samples
    return samples[..., [*order, *range(len(order), samples.shape[2])]]


def _samples(planes: list[Any]) -> NDArray[Any]:
    """All samples of a page, or of one page for each channel, (H, W, C), with no second copy on the way."""
    samples: NDArray[Any] = planes[0].asarray(squeeze=False)  # (C, Z, H, W, S)
    if len(planes) > 1:
        first, count = samples, len(samples)
        samples = np.empty((count * len(planes), *first.shape[1:]), first.dtype)
        for number, plane in enumerate(planes):
            samples[number * count : (number + 1) * count] = first if number == 0 else plane.asarray(squeeze=False)
    return np.moveaxis(samples[:, 0], 0, -1).reshape(*samples.shape[2:4], -1)


def _check_tiff(path: Path, page: TiffPage, planes: int) -> None:
    check_size(path, page.imagewidth, page.imagelength * page.imagedepth)
    if page.is_subsampled and page.compression == 1:  # which nothing here can decode
        raise _misfit(path, "in RGB", "in uncompressed subsampled YCbCr", "export it as RGB")
    if str(page.dtype) not in _DTYPES:
        advice = "save it as uint8, uint16 or float"
        raise _misfit(path, "of unsigned 8 or 16 bit or float samples", f"of {page.dtype}", advice)
    samples = planes * max(math.prod(page.chunks), math.prod(page.shape))
    if samples * np.dtype(str(page.dtype)).itemsize > MAX_BYTES:
        got = f"of {page.shape} {page.dtype} in tiles of {page.chunks}"
        raise _misfit(path, f"an image of at most {MAX_BYTES / 1e9:.1f} GB of samples", got, "open it as a slide")


def tiff_channels(path: Path, page: TiffPage, channels: int) -> tuple[str, int]:
    """Colour mode, and kind of alpha: 0 none, 1 premultiplied, 2 straight. Raises: ImageError for another."""
    mode = _TIFF_MODES.get(page.photometric, "")
    if not mode:
        raise _misfit(path, "in grey, RGB, CMYK or YCbCr", f"in {page.photometric!r}", "export it as RGB")
    if mode == "L" and channels == 3:
        mode = "RGB"
    if channels == (1 if page.photometric == _PALETTE else len(mode)):
        return mode, 0
    alpha = page.extrasamples[0] if page.extrasamples else 2 * (mode == "RGB")
    if channels != len(mode) + 1 or channels > 4 or (mode == "L" and not alpha):
        problem = f"with {channels} channels (fluorescence or multiplex)"
        raise _misfit(path, "a brightfield image", problem, "export it as RGB")
    return mode, alpha


def is_cut(plane: TiffPage, file_size: int) -> bool:
    """Whether data is missing that tifffile would fill in, or the bit depth, which it would take for 1."""
    page, ends = plane.keyframe, map(sum, zip(plane.dataoffsets, plane.databytecounts, strict=True))
    missing = len(plane.dataoffsets) < math.prod(page.chunked) or max(ends) > file_size
    return missing or (page.bitspersample == 1 < page.samplesperpixel)


def tiff_levels(path: Path, page: TiffPage, pixels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Samples (H, W, C) as a raster has them, through the palette, white on top; and that top.

    Raises: ImageError for floats outside 0 to 1.
    """
    if page.photometric == _PALETTE:
        colors = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        return colors[pixels[..., 0].astype(np.uint16)], 255
    top = 2**page.bitspersample - 1
    if pixels.dtype.kind == "f":
        _check_floats(path, pixels)
        top = 1
    if page.photometric == _WHITE_IS_ZERO:
        pixels[..., 0] = top - pixels[..., 0]
    return pixels, top


def _check_floats(path: Path, pixels: NDArray[np.floating[Any]]) -> None:
    if lost := pixels.size - np.count_nonzero(np.isfinite(pixels)):
        raise _misfit(path, "an image of numbers", f"with {lost} NaN or infinite values", "replace them")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise _misfit(path, "of floats in [0, 1]", f"with values from {low} to {high}", "rescale it")


def _unit(pixels: NDArray[Any], top: int) -> NDArray[Any]:
    unit: NDArray[Any] = np.divide(pixels, top, dtype=np.promote_types(pixels.dtype, np.float32))
    return unit


def finish(raster: Raster) -> Pixels:
    """Opaque over white, as light comes through a slide; 8 bits; upright."""
    pixels, channels = raster.pixels, len(raster.mode)
    if raster.top != 255 or pixels.shape[2] > channels:
        pixels = in_bands(lambda band: _opaque(band, raster), pixels, channels)
    return np.require(upright(pixels, raster.orientation), np.uint8, ["C", "W"])


def in_bands(work: Callable[[NDArray[Any]], Pixels], pixels: NDArray[Any], channels: int) -> Pixels:
    """What `work` makes of (H, W, C), uint8 (H, W, channels), a few rows at once."""
    made = np.empty((*pixels.shape[:2], channels), np.uint8)
    rows = max(1, BAND_PX // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        made[top : top + rows] = work(pixels[top : top + rows])
    return made


def _opaque(band: NDArray[Any], raster: Raster) -> Pixels:
    unit, channels = np.minimum(_unit(band, raster.top), 1), len(raster.mode)
    if band.shape[2] > channels:
        color, alpha = unit[..., :channels], unit[..., channels:]
        unit = np.clip(color + 1 - alpha if raster.premultiplied else 1 - (1 - color) * alpha, 0, 1)
    opaque: Pixels = np.rint(unit * 255).astype(np.uint8)
    return opaque


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turned and mirrored as the EXIF and TIFF orientations 2 to 8 ask."""
    if orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def _misfit(path: Path, expectation: str, problem: str, advice: str) -> ImageError:
    return ImageError(sentence("path", expectation, f"{str(path)!r} {problem}", advice))
