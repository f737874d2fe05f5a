"""Images in and out of files and tensors: sRGB uint8 (H, W, 3) on our side, whatever a lab has on the other."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import secrets
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from tifffile import TiffFile, TiffPage

Image: TypeAlias = NDArray[np.uint8]  # sRGB (H, W, 3)
PathLike: TypeAlias = str | os.PathLike[str]

MAX_PIXELS = 178_956_970  # Pillow's own limit; beyond it an image is a slide, or a bomb
MAX_PROVENANCE = 1_000_000  # characters of JSON
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")

_PNG: dict[str, Any] = {"format": "PNG"}
_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
_TIFF = {"format": "TIFF", "compression": "tiff_adobe_deflate"}
_WEBP = {"format": "WEBP", "lossless": True}
_SAVE = {".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".tif": _TIFF, ".tiff": _TIFF, ".webp": _WEBP}
WRITE_SUFFIXES = tuple(_SAVE)

_READ_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")  # not all of Pillow's: some start programs
_ORIENTATION, _DESCRIPTION, _SOFTWARE = 274, 270, 305  # tags of TIFF and EXIF
_WHITE_IS_ZERO, _PALETTE, _YCBCR = 0, 3, 6  # TIFF photometric interpretations
_TIFF_MODES = {_WHITE_IS_ZERO: "L", 1: "L", 2: "RGB", _PALETTE: "RGB", 5: "CMYK", _YCBCR: "RGB"}
_FAX, _JPEGS = (2, 3, 4), (6, 7, 33007, 34892)  # TIFF compressions
_LOGS = ("tifffile", "PIL.TiffImagePlugin")
_DTYPES = ("bool", "uint8", "uint16", "float16", "float32", "float64")


class ImageError(ValueError):
    """An image that cannot be read, or does not fit what it is wanted for."""


class _Raster(NamedTuple):
    """What a decoder made of a file."""

    pixels: NDArray[Any]  # (H, W, C), uint8 or float in [0, 1]
    mode: str  # "L", "RGB" or "CMYK"; a channel more than letters is alpha
    profile: bytes | None
    orientation: int
    premultiplied: bool = False


def read_image(path: PathLike, *, icc: bool = True) -> Image:
    """Read a PNG, JPEG, TIFF, BMP, WebP or GIF file as sRGB uint8 (H, W, 3), upright and opaque, over white.

    Grey becomes three equal channels, 16 bits `round(v / 257)`, floats in [0, 1] `round(v * 255)`. Of a stack or
    pyramid: the first plane of the first series, at full resolution. An embedded ICC profile is converted to sRGB
    (not with `icc=False`); one that does not fit the pixels is ignored with a warning.
    Raises: ImageError if broken, not a brightfield image or above `MAX_PIXELS`; OSError if missing or unreadable.
    """
    path = Path(path)
    with _open(path) as file:
        pixels, mode, profile = _decode(path, file)
    if mode == "RGB" and not (icc and profile):
        return pixels
    image = PIL.Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())
    if icc and profile:
        image = _convert_to_srgb(path, image, profile)
    return np.array(image.convert("RGB"))


def is_image(path: PathLike) -> bool:
    """Whether the name ends as an image's does, in upper or lower case."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: PathLike) -> list[Path]:
    """The images in a folder in natural order (2 before 10), without hidden ones and those in folders below.

    Raises: ImageError if there is none; FileNotFoundError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(_sentence("folder", "an existing folder", folder, "check the spelling"))
    images = [path for path in folder.iterdir() if is_image(path) and path.name[0] != "." and path.is_file()]
    if not images:
        advice = f"put files there that end in {', '.join(IMAGE_SUFFIXES)}"
        raise ImageError(_sentence("folder", "a folder of images", f"{str(folder)!r} without any", advice))
    return sorted(images, key=_natural_order)


def write_image(path: PathLike, image: Image, provenance: Mapping[str, object] | None = None) -> None:
    """Write uint8 (H, W, 3) in the format of the file's suffix, with its provenance, whole or not at all.

    Raises: ImageError if suffix, image or provenance do not fit; FileNotFoundError if the folder is missing.
    """
    path = Path(path)
    if path.is_dir():
        raise _misfit(path, "a file", "which is a folder", "add a file name")
    if not path.parent.is_dir():
        raise FileNotFoundError(_sentence("path", "in an existing folder", path, "make that folder first"))
    data = encode_image(image, path.suffix, provenance)
    temporary = path.with_name(f".chromogen-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def encode_image(image: Image, suffix: str, provenance: Mapping[str, object] | None = None) -> bytes:
    """The bytes of an image file: JPEG at quality 95 with full-resolution colour, the other formats lossless.

    The provenance is one JSON text: in PNG under the keyword "chromogen", else in tag 270 (ImageDescription),
    where tag 305 (Software) marks it as ours. Raises: ImageError if suffix, image or provenance do not fit.
    """
    options = _SAVE.get(suffix.lower())
    if not options:
        raise ImageError(_sentence("path", f"a file ending in {', '.join(_SAVE)}", repr(suffix), "rename it"))
    _check_image(image)
    metadata = {} if provenance is None else _metadata(options["format"], provenance)
    buffer = io.BytesIO()
    try:
        PIL.Image.fromarray(image).save(buffer, **options, **metadata)
    except (OSError, ValueError) as error:  # JPEG: 65,500 px, 64 kB of metadata; WebP: 16,383 px
        got = f"{image.shape[1]} x {image.shape[0]} px ({_short(error)})"
        raise ImageError(_sentence("image", f"one {options['format']} can hold", got, "write a .png")) from error
    return buffer.getvalue()


def read_provenance(path: PathLike) -> dict[str, Any] | None:
    """The provenance in a file by `write_image`; None where there is none or it is not ours.

    Raises: FileNotFoundError or ImageError if `path` is missing, a folder or empty.
    """
    with _open(Path(path)) as file, _quiet():
        try:
            with PIL.Image.open(file, formats=_READ_FORMATS) as image:
                text = _provenance_text(image)
            provenance = json.loads(text) if len(text) <= MAX_PROVENANCE else None
        except Exception:  # other people's metadata breaks in every way there is
            return None
    return provenance if isinstance(provenance, dict) else None


def to_tensor(image: Image) -> torch.Tensor:
    """Convert uint8 (H, W, 3) to float32 (1, 3, H, W) in [0, 1], contiguous, on the CPU.

    Raises: ImageError for another shape or dtype.
    """
    import torch

    _check_image(image)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)).div_(255)


def to_uint8(tensor: torch.Tensor) -> Image:
    """Convert (1, 3, H, W) of any float dtype and device to uint8 (H, W, 3): clipped to [0, 1], halves to even.

    Raises: ImageError for another shape or dtype, or NaN.
    """
    import torch

    if tensor.ndim != 4 or tensor.shape[:2] != (1, 3) or not tensor.is_floating_point():
        got = f"{tensor.dtype} {tuple(tensor.shape)}"
        raise ImageError(_sentence("tensor", "floats (1, 3, H, W)", got, "convert one image at a time"))
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    values = tensor.detach().to("cpu", wide)[0].permute(1, 2, 0)
    if lost := int(values.isnan().sum()):
        raise ImageError(_sentence("tensor", "numbers", f"{lost} NaN values", "find the step that diverged"))
    return np.ascontiguousarray((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resample uint8 (H, W, 3) to `size` (width, height) by Lanczos over all pixels that a new one covers.

    The size it has already gives an exact copy. Raises: ImageError if image or size do not fit.
    """
    _check_image(image)
    if min(size) < 1:
        raise ImageError(_sentence("size", "at least 1 x 1 px", f"{size[0]} x {size[1]}", "enlarge it"))
    if size == image.shape[1::-1]:
        return image.copy()
    return np.array(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS))


def _sentence(argument: str, expectation: str, got: object, advice: str) -> str:
    shown = repr(str(got)) if isinstance(got, Path) else got
    return f"Expected `{argument}` to be {expectation}, got {shown}; {advice}."


def _misfit(path: Path, expectation: str, problem: str, advice: str) -> ImageError:
    return ImageError(_sentence("path", expectation, f"{str(path)!r} {problem}", advice))


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_image(image: Image) -> None:
    shape, dtype = tuple(getattr(image, "shape", ())), getattr(image, "dtype", type(image))
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise ImageError(_sentence("image", "a uint8 array (H, W, 3)", f"{dtype} {shape}", "convert it first"))


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name.casefold())  # every second part is a number
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def _metadata(file_format: str, provenance: Mapping[str, object]) -> dict[str, Any]:
    text = json.dumps(dict(provenance), default=_plain)
    if len(text) > MAX_PROVENANCE:
        limit = f"at most {MAX_PROVENANCE:,} characters of JSON"
        raise ImageError(_sentence("provenance", limit, f"{len(text):,}", "leave out what is long"))
    versions = provenance.get("versions")
    version = versions.get("chromogen") if isinstance(versions, Mapping) else None
    software = f"chromogen {version}" if version else "chromogen"
    if file_format != "PNG":
        exif = PIL.Image.Exif()
        exif[_DESCRIPTION], exif[_SOFTWARE] = text, software
        return {"exif": exif}
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_itxt("chromogen", text)
    if "notice" in provenance:
        chunks.add_text("Description", str(provenance["notice"]))
    if version:
        chunks.add_text("Software", software)
    return {"pnginfo": chunks}


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _provenance_text(image: PIL.Image.Image) -> str:
    if image.format == "PNG":
        return str(image.info["chromogen"])
    tags = image.getexif()
    return str(tags[_DESCRIPTION]) if str(tags[_SOFTWARE]).startswith("chromogen") else ""


def _open(path: Path) -> BinaryIO:
    if not path.exists():
        raise FileNotFoundError(_sentence("path", "an existing image file", path, "check the spelling"))
    if not path.is_file():
        raise _misfit(path, "an image file", "which is a folder or device", "name a file")
    if not path.stat().st_size:
        raise _misfit(path, "an image file", "which is empty (0 bytes)", "copy or export it again")
    try:
        return path.open("rb")
    except PermissionError as error:
        message = _sentence("path", "a file you may read", path, "change its permissions")
        raise PermissionError(message) from error


@contextmanager
def _quiet() -> Iterator[None]:
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


def _decode(path: Path, file: BinaryIO) -> tuple[Image, str, bytes | None]:
    """Upright, opaque 8-bit pixels with their mode and ICC profile; ImageError whatever a decoder throws."""
    try:
        with _quiet():
            decode = _decoder(file.read(25))
            file.seek(0)
            raster = decode(path, file)
            return _finish(raster), raster.mode, raster.profile
    except ImageError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise _too_large(path, "with more") from error
    except PIL.UnidentifiedImageError as error:
        problem = "in none of them, or broken at its start"
        raise _misfit(path, f"an image in {', '.join(_READ_FORMATS)}", problem, "export it again") from error
    except Exception as error:  # decoders throw everything there is at broken files
        problem = f"which cannot be decoded ({_short(error)})"
        raise _misfit(path, "a whole image", problem, "copy or export it again") from error


def _decoder(start: bytes) -> Callable[[Path, BinaryIO], _Raster]:
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _decode_tiff
    return _decode_deep_png if start[:4] == b"\x89PNG" and start[24:] == b"\x10" else _decode_pillow


def _too_large(path: Path, problem: str) -> ImageError:
    return _misfit(path, f"an image of at most {MAX_PIXELS:,} px", problem, "open it as a slide")


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < 1:
        raise _misfit(path, "an image with pixels", f"of {width} x {height} px", "export it again")
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"of {width:,} x {height:,} px")


def _decode_pillow(path: Path, file: BinaryIO) -> _Raster:
    with PIL.Image.open(file, formats=_READ_FORMATS) as image:
        _check_size(path, *image.size)
        mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
        pixels = np.asarray(image.convert(f"{mode}A" if image.has_transparency_data else mode))
        return _Raster(np.atleast_3d(pixels), mode, image.info.get("icc_profile"), _exif_orientation(image))


def _decode_deep_png(path: Path, file: BinaryIO) -> _Raster:
    """A PNG of 16 bits, of which Pillow would drop the lower 8."""
    import imagecodecs

    with PIL.Image.open(file, formats=["PNG"]) as image:
        _check_size(path, *image.size)
        image.verify()  # the decoder below would only print that a checksum is wrong
        profile, orientation = image.info.get("icc_profile"), _exif_orientation(image)
    file.seek(0)
    pixels = _unit(np.atleast_3d(imagecodecs.png_decode(file.read())), 65535)
    return _Raster(pixels, "L" if pixels.shape[2] < 3 else "RGB", profile, orientation)


def _exif_orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF is no reason to refuse the pixels
        return 1


def _decode_tiff(path: Path, file: BinaryIO) -> _Raster:
    import tifffile

    with tifffile.TiffFile(file, _multifile=False) as tiff:
        planes = _first_planes(tiff)
        page = planes[0].keyframe
        _check_tiff(path, page)
        mode, alpha = _tiff_channels(path, page, page.samplesperpixel * len(planes))
        if any(_is_cut(plane, tiff.filehandle.size) for plane in planes):
            raise _misfit(path, "a whole image", "which is cut short", "copy or export it again")
        if page.compression in _FAX or (page.photometric == _YCBCR and page.compression not in _JPEGS):
            return _decode_pillow(path, file)  # has libtiff, which knows them
        pixels = np.concatenate([plane.asarray(squeeze=False) for plane in planes])  # (C, Z, H, W, S)
        pixels = np.moveaxis(pixels[:, 0], 0, -1).reshape(page.imagelength, page.imagewidth, -1)
        pixels = _tiff_levels(path, page, pixels[..., : len(mode) + bool(alpha)])
        orientation = page.tags.valueof(_ORIENTATION, 1)
        return _Raster(pixels, mode, page.iccprofile, orientation, premultiplied=alpha == 1)


def _first_planes(tiff: TiffFile) -> list[Any]:
    """The pages that hold the first plane: one with all samples, or one for each channel of a stack."""
    page = tiff.pages.first
    if "S" in page.axes or not (page.is_ome or page.is_imagej or page.is_shaped):
        return [page]
    _check_chain(tiff)
    series = tiff.series[0]
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    if "C" not in axes:
        return [series.pages[0]]
    at = axes.index("C")
    step = math.prod(shape[at + 1 : axes.index("Y")])
    return [series.pages[channel * step] for channel in range(shape[at])]


def _check_chain(tiff: TiffFile) -> None:
    """ValueError for pages chained in a circle, which tifffile would follow for hours."""
    layout, file, offset, seen = tiff.tiff, tiff.filehandle, tiff.pages.first.offset, set[int]()
    while offset:
        if offset in seen:
            raise ValueError("its pages run in a circle")
        seen.add(offset)
        file.seek(offset)
        (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        file.seek(offset + layout.tagnosize + tags * layout.tagsize)
        (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))


def _check_tiff(path: Path, page: TiffPage) -> None:
    _check_size(path, page.imagewidth, page.imagelength * page.imagedepth)
    if math.prod(page.chunks) > 4 * MAX_PIXELS:
        raise _too_large(path, f"in tiles of {page.chunks}")
    if page.is_subsampled and page.compression == 1:  # which nothing here can decode
        raise _misfit(path, "in RGB", "in uncompressed subsampled YCbCr", "export it as RGB")
    if str(page.dtype) not in _DTYPES:
        advice = "save it as uint8, uint16 or float"
        raise _misfit(path, "of unsigned 8 or 16 bit or float samples", f"of {page.dtype}", advice)


def _tiff_channels(path: Path, page: TiffPage, channels: int) -> tuple[str, int]:
    """Colour mode, and kind of alpha: 0 none, 1 premultiplied, 2 straight."""
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


def _is_cut(plane: TiffPage, file_size: int) -> bool:
    """Whether data is missing that tifffile would fill in, or the bit depth, which it would take for 1."""
    page, ends = plane.keyframe, map(sum, zip(plane.dataoffsets, plane.databytecounts, strict=True))
    missing = len(plane.dataoffsets) < math.prod(page.chunked) or max(ends) > file_size
    return missing or (page.bitspersample == 1 < page.samplesperpixel)


def _tiff_levels(path: Path, page: TiffPage, pixels: NDArray[Any]) -> NDArray[Any]:
    """Samples as a raster has them: through the palette, white on top, uint8 or float in [0, 1]."""
    if page.photometric == _PALETTE:
        colors: NDArray[np.uint16] = np.asarray(page.colormap).T[pixels[..., 0].astype(int)]
        return (colors >> 8).astype(np.uint8)
    top = 2**page.bitspersample - 1
    if pixels.dtype.kind == "f":
        _check_floats(path, pixels)
        top = 1
    if page.photometric == _WHITE_IS_ZERO:
        pixels[..., 0] = top - pixels[..., 0]
    return pixels if top == 255 else _unit(pixels, top)


def _check_floats(path: Path, pixels: NDArray[np.floating[Any]]) -> None:
    if lost := pixels.size - np.count_nonzero(np.isfinite(pixels)):
        raise _misfit(path, "an image of numbers", f"with {lost} NaN or infinite values", "replace them")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise _misfit(path, "of floats in [0, 1]", f"with values from {low} to {high}", "rescale it")


def _unit(pixels: NDArray[Any], top: int) -> NDArray[Any]:
    unit: NDArray[Any] = np.divide(pixels, top, dtype=np.promote_types(pixels.dtype, np.float32))
    return unit


def _finish(raster: _Raster) -> Image:
    """Opaque over white, as light comes through a slide; 8 bits; upright."""
    pixels, channels = raster.pixels, len(raster.mode)
    if pixels.shape[2] > channels:
        unit = _unit(pixels, 255) if pixels.dtype == np.uint8 else pixels
        color, alpha = unit[..., :channels], unit[..., channels:]
        pixels = np.clip(color + 1 - alpha if raster.premultiplied else 1 - (1 - color) * alpha, 0, 1)
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels * 255).astype(np.uint8)
    return np.require(_upright(pixels, raster.orientation), np.uint8, ["C", "W"])


def _upright(pixels: Image, orientation: int) -> Image:
    """Turned and mirrored as the EXIF and TIFF orientations 2 to 8 ask."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def _convert_to_srgb(path: Path, image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """Through the ICC profile; untouched where it is sRGB within rounding, or does not fit (with a warning)."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        probe = _probe(image.mode)
        change = np.asarray(transform.apply(probe), int) - np.asarray(probe.convert("RGB"), int)
        return transform.apply(image) if np.abs(change).max() > 2 else image
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError) as error:
        problem = f"one that does not ({_short(error)}); its colours are read as sRGB"
        warnings.warn(f"Expected the ICC profile of {str(path)!r} to fit its pixels, got {problem}.", stacklevel=3)
        return image


def _probe(mode: str) -> PIL.Image.Image:
    """Colours all over the space of a mode, 15 levels apart."""
    levels = 15 * np.indices((18,) * len(mode), np.uint8).reshape(len(mode), -1)
    return PIL.Image.frombytes(mode, (levels.shape[1], 1), levels.T.tobytes())
