"""Images in and out of files and tensors: sRGB uint8 (H, W, 3) on our side, whatever a lab has on the other."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
from numpy.typing import NDArray
from PIL.TiffImagePlugin import IFDRational

from chromogen.errors import ImageError, missing, sentence, short
from chromogen.files import write_whole
from chromogen.formats.decoders import MAX_PIXELS, READ_FORMATS, decode, in_bands, open_file, quiet
from chromogen.formats.tiff_pages import FileFacts
from chromogen.pixel_size import INCH_UM

if TYPE_CHECKING:
    import torch
    from PIL.ImageCms import ImageCmsTransform

Image: TypeAlias = NDArray[np.uint8]  # sRGB (H, W, 3)
PathLike: TypeAlias = str | os.PathLike[str]

MAX_PROVENANCE = 1_000_000  # characters of JSON
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")

_PNG: dict[str, Any] = {"format": "PNG", "compress_type": zlib.Z_RLE}  # of tissue half the time, and as small
_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
_TIFF = {"format": "TIFF", "compression": "tiff_adobe_deflate"}
_WEBP = {"format": "WEBP", "lossless": True}
_SAVE = {".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".tif": _TIFF, ".tiff": _TIFF, ".webp": _WEBP}
WRITE_SUFFIXES = tuple(_SAVE)

_DESCRIPTION, _SOFTWARE = 270, 305  # tags of TIFF and EXIF
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _CENTIMETRE = 282, 283, 296, 3


def read_image(path: PathLike, *, icc: bool = True) -> Image:
    """Read a PNG, JPEG, TIFF, BMP, WebP or GIF file as sRGB uint8 (H, W, 3), upright and opaque, over white.

    Grey becomes three equal channels, 16 bits `round(v / 257)`, fewer used bits `round(255 v / (2**bits - 1))`,
    floats in [0, 1] `round(v * 255)`. Of several images: the largest that is no label or macro; of a stack or
    pyramid its first plane at full resolution. An embedded ICC profile is converted to sRGB
    (not with `icc=False`); one that does not fit the pixels is ignored with a warning.
    Raises: ImageError if broken, not a brightfield image or above `MAX_PIXELS`; OSError if missing or unreadable.
    """
    return read_image_and_facts(path, icc=icc)[0]


def read_image_and_facts(path: PathLike, *, icc: bool = True) -> tuple[Image, FileFacts]:
    """Read as `read_image`, with what the file says besides: size of a pixel, ICC profile, names of channels."""
    path = Path(path)
    with open_file(path) as file:
        pixels, mode, facts = decode(path, file)
    transform = srgb_transform(path, facts.icc_profile, mode) if icc and facts.icc_profile else None
    if mode == "RGB" and not transform:
        return pixels, facts
    return in_bands(partial(_in_rgb, mode, transform), pixels, 3), facts


def _in_rgb(mode: str, transform: ImageCmsTransform | None, band: Image) -> Image:
    image = PIL.Image.frombytes(mode, band.shape[1::-1], band.tobytes())
    return np.asarray((transform.apply(image) if transform else image).convert("RGB"))


def srgb_transform(path: Path, profile: bytes, mode: str = "RGB") -> ImageCmsTransform | None:
    """What converts pixels of a mode through an ICC profile to sRGB, in any thread.

    None where the profile is sRGB within rounding, or does not fit, with a warning that names `path`.
    """
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        probe = _probe(mode)
        change = np.asarray(transform.apply(probe), int) - np.asarray(probe.convert("RGB"), int)
        return transform if np.abs(change).max() > 2 else None
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError) as error:
        problem = f"one that does not ({short(error)}); its colours are read as sRGB"
        warnings.warn(f"Expected the ICC profile of {str(path)!r} to fit its pixels, got {problem}.", stacklevel=4)
        return None


def profile_name(profile: bytes) -> str:
    """What an ICC profile calls itself, "unnamed" where that cannot be read."""
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() or "unnamed"
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return "unnamed"


def is_image(path: PathLike) -> bool:
    """Whether the name ends as an image's does, in upper or lower case."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: PathLike) -> list[Path]:
    """The images in a folder in natural order (2 before 10), without hidden ones and those in folders below.

    Raises: ImageError if there is none; FileNotFoundError if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise missing("folder", "an existing folder", folder)
    images = [path for path in folder.iterdir() if is_image(path) and path.name[0] != "." and path.is_file()]
    if not images:
        advice = f"put files there that end in {', '.join(IMAGE_SUFFIXES)}"
        raise ImageError(sentence("folder", "a folder of images", f"{str(folder)!r} without any", advice))
    return sorted(images, key=natural_order)


def write_image(
    path: PathLike, image: Image, provenance: Mapping[str, object] | None = None, mpp: float | None = None
) -> None:
    """Write uint8 (H, W, 3) in the format of the file's suffix, with its provenance, whole or not at all.

    `mpp`, um per pixel, becomes the resolution that other programs read.

    Raises: ImageError if suffix, image or provenance do not fit; FileNotFoundError if the folder is missing.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(sentence("path", "a file", f"the folder {str(path)!r}", "add a file name"))
    if not path.parent.is_dir():
        raise missing("path", "in an existing folder", path, "make that folder first")
    write_whole(path, encode_image(image, path.suffix, provenance, mpp))


def encode_image(
    image: Image, suffix: str, provenance: Mapping[str, object] | None = None, mpp: float | None = None
) -> bytes:
    """The bytes of an image file from uint8 (H, W, 3): JPEG at quality 95, colour in full; other formats lossless.

    The provenance is one JSON text: in PNG under the keyword "chromogen", else in tag 270 (ImageDescription),
    where tag 305 (Software) marks it as ours. `mpp`, um per pixel, is stored as resolution: in PNG for each metre,
    else for each centimetre. Raises: ImageError if suffix, image or provenance do not fit.
    """
    options = _SAVE.get(suffix.lower())
    if not options:
        raise ImageError(sentence("path", f"a file ending in {', '.join(_SAVE)}", repr(suffix), "rename it"))
    _check_image(image)
    metadata = _metadata(options["format"], provenance, mpp)
    buffer = io.BytesIO()
    try:
        PIL.Image.fromarray(image).save(buffer, **options, **metadata)
    except (OSError, ValueError) as error:  # JPEG: 65,500 px, 64 kB of metadata; WebP: 16,383 px
        got = f"{image.shape[1]} x {image.shape[0]} px ({short(error)})"
        raise ImageError(sentence("image", f"one {options['format']} can hold", got, "write a .png")) from error
    return buffer.getvalue()


def read_provenance(path: PathLike) -> dict[str, Any] | None:
    """The provenance in a file by `write_image`; None where there is none or it is not ours.

    Raises: FileNotFoundError or ImageError if `path` is missing, a folder or empty.
    """
    with open_file(Path(path)) as file, quiet():
        try:
            with PIL.Image.open(file, formats=READ_FORMATS) as image:
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
        raise ImageError(sentence("tensor", "floats (1, 3, H, W)", got, "convert one image at a time"))
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    values = tensor.detach().to("cpu", wide)[0].permute(1, 2, 0)
    if lost := int(values.isnan().sum()):
        raise ImageError(sentence("tensor", "numbers", f"{lost} NaN values", "find the step that diverged"))
    return np.ascontiguousarray((values.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resample uint8 (H, W, 3) to `size` (width, height) by Lanczos over all pixels that a new one covers.

    The size it has already gives an exact copy. Raises: ImageError if image or size do not fit.
    """
    _check_image(image)
    if min(size) < 1:
        raise ImageError(sentence("size", "at least 1 x 1 px", f"{size[0]} x {size[1]}", "enlarge it"))
    if size == image.shape[1::-1]:
        return image.copy()
    return np.array(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS))


def scaled(image: Image, factor: float) -> Image:
    """The image, uint8 (H, W, 3), enlarged by `factor`, at least 1 px wide and high.

    Raises: ImageError above the size that any image may have.
    """
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    if height * width > MAX_PIXELS:
        most, got = f"at most {MAX_PIXELS:,} px in all", f"{width:,} x {height:,} px"
        raise ImageError(sentence("size", most, got, "choose a smaller one"))
    return resize(image, (width, height))


def shrunk(image: Image, longest_px: int) -> Image:
    """The image, uint8 (H, W, 3), with its longer side brought down to `longest_px`; a smaller one as it is."""
    factor = min(1.0, longest_px / max(image.shape[:2]))
    return resize(image, (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))))


def _check_image(image: Image) -> None:
    shape, dtype = tuple(getattr(image, "shape", ())), getattr(image, "dtype", type(image))
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise ImageError(sentence("image", "a uint8 array (H, W, 3)", f"{dtype} {shape}", "convert it first"))


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """A sort key that puts 2 before 10."""
    parts = re.split(r"(\d+)", path.name.casefold())  # every second part is a number
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def _metadata(file_format: str, provenance: Mapping[str, object] | None, mpp: float | None) -> dict[str, Any]:
    """What Pillow takes to write provenance and pixel size."""
    if file_format == "PNG":
        return _png_metadata(provenance, mpp)
    tags = PIL.Image.Exif()
    if provenance is not None:
        tags[_DESCRIPTION], tags[_SOFTWARE] = _as_json(provenance), " ".join(["chromogen", *_version(provenance)])
    if mpp:
        tags[_X_RESOLUTION] = tags[_Y_RESOLUTION] = IFDRational(round(1e10 / mpp), 1_000_000)
        tags[_RESOLUTION_UNIT] = _CENTIMETRE
    return {"exif": tags} if len(tags) else {}


def _png_metadata(provenance: Mapping[str, object] | None, mpp: float | None) -> dict[str, Any]:
    resolution = {"dpi": (INCH_UM / mpp, INCH_UM / mpp)} if mpp else {}
    if provenance is None:
        return resolution
    chunks = PIL.PngImagePlugin.PngInfo()
    chunks.add_itxt("chromogen", _as_json(provenance))
    if "notice" in provenance:
        chunks.add_text("Description", str(provenance["notice"]))
    for version in _version(provenance):
        chunks.add_text("Software", f"chromogen {version}")
    return {"pnginfo": chunks, **resolution}


def _as_json(provenance: Mapping[str, object]) -> str:
    text = json.dumps(dict(provenance), default=as_plain)
    if len(text) > MAX_PROVENANCE:
        limit = f"at most {MAX_PROVENANCE:,} characters of JSON"
        raise ImageError(sentence("provenance", limit, f"{len(text):,}", "leave out what is long"))
    return text


def _version(provenance: Mapping[str, object]) -> list[str]:
    """Chromogen's version in a provenance, if it is there."""
    versions = provenance.get("versions")
    version = versions.get("chromogen") if isinstance(versions, Mapping) else None
    return [str(version)] if version else []


def as_plain(value: object) -> object:
    """What JSON does not know of itself: arrays and their numbers as such, anything else as text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _provenance_text(image: PIL.Image.Image) -> str:
    if image.format == "PNG":
        return str(image.info["chromogen"])
    tags = image.getexif()
    return str(tags[_DESCRIPTION]) if str(tags[_SOFTWARE]).startswith("chromogen") else ""


def _probe(mode: str) -> PIL.Image.Image:
    """Colours all over the space of a mode, 15 levels apart."""
    levels = 15 * np.indices((18,) * len(mode), np.uint8).reshape(len(mode), -1)
    return PIL.Image.frombytes(mode, (levels.shape[1], 1), levels.T.tobytes())
