"""Slides that OpenSlide reads, DICOM series among them."""

from __future__ import annotations

import errno
import math
import os
import struct
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import openslide
import PIL.Image
from PIL import ImageCms

from chromogen.image import Image
from chromogen.slides.source import About, check_segment, damaged, out_of_reach, sampled_hash, unreadable

# Which DICOM files are of one slide: those of one series in one folder, all of which OpenSlide opens by any.

SUFFIX = ".dcm"
MAGIC, BEGINS = b"DICM", 128  # before the first element lie a preamble and the magic
LOOKED_AT = 1 << 18  # bytes; a slide's series stands within the first few thousand
SERIES_INSTANCE_UID = (0x0020, 0x000E)
DELIMITERS, SEQUENCE_ENDS = 0xFFFE, 0xE0DD  # group of what is around items, and the element that ends them
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
UNDEFINED = 0xFFFFFFFF


def one_file_each(paths: Iterable[Path]) -> list[Path]:
    """The paths, but of the DICOM files of one slide the first alone."""
    found: dict[object, Path] = {}
    for path in paths:
        series = series_of(path) if path.suffix.lower() == SUFFIX else None
        found.setdefault((path.parent, series) if series else path, path)
    return list(found.values())


def series_of(path: Path) -> str | None:
    """SeriesInstanceUID of a DICOM file; None where it says none, is none, or cannot be read.

    Slides are in explicit VR, little endian (DICOM PS3.5, 7.1): of other encodings none is found.
    """
    try:
        with path.open("rb") as file:
            head = file.read(LOOKED_AT)
    except OSError:
        return None
    try:
        return _series(head)
    except (struct.error, UnicodeDecodeError):
        return None


def _series(head: bytes) -> str | None:
    """Elements one after the other; into sequences of no stated length we go, past others."""
    if head[BEGINS : BEGINS + 4] != MAGIC:
        return None
    at, depth = BEGINS + 4, 0
    while at < len(head):
        group, element, kind, length = struct.unpack_from("<HH2sH", head, at)
        at += 8
        if group == DELIMITERS:
            depth -= element == SEQUENCE_ENDS
            continue
        if kind in LONG:
            (length,) = struct.unpack_from("<I", head, at)
            at += 4
        if length == UNDEFINED:
            depth += 1
            continue
        value = head[at : at + length]
        if depth == 0 and (group, element) == SERIES_INSTANCE_UID and len(value) == length:
            return value.decode("ascii").rstrip("\0 ") or None
        at += length
    return None


# What OpenSlide reads: the formats of the makers of scanners, and DICOM.

GENERIC = "generic-tiff"  # what OpenSlide calls a tiled TIFF by no maker it knows
FORMATS = {
    "aperio": "Aperio SVS",
    "dicom": "DICOM",
    "hamamatsu": "Hamamatsu",
    "leica": "Leica SCN",
    "mirax": "MIRAX",
    "philips": "Philips TIFF",
    "sakura": "Sakura SVSLIDE",
    "trestle": "Trestle TIFF",
    "ventana": "Ventana BIF",
    "zeiss": "Zeiss CZI",
    GENERIC: "tiled TIFF",
}
_NO_DAMAGE = ("EACCES", "EIO", "EMFILE", "ENFILE", "ENOENT", "ENOMEM", "ENOTCONN", "ESTALE", "ETIMEDOUT")
# OpenSlide says in words alone why it could not read, and of some errors nothing but the first of these.
_TROUBLES = ("I/O error", *(os.strerror(getattr(errno, name)) for name in _NO_DAMAGE if hasattr(errno, name)))


def detected_vendor(path: Path) -> str | None:
    """The vendor whose format OpenSlide sees in a file, without opening it; None if it sees none.

    Raises: SlideError where OpenSlide fails at it.
    """
    try:
        vendor: str | None = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError as error:
        raise unreadable(path, error) from error
    return vendor


class OpenSlideSource:
    """A slide opened by OpenSlide, over its own background colour."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._slide = _opened(path)
        properties = _properties(self._slide)
        self._background = f"#{properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, 'ffffff')}"
        self._downsamples = self._slide.level_downsamples
        _check_tiles(path, properties)
        self.sizes: Sequence[tuple[int, int]] = self._slide.level_dimensions
        x, y = (_number(properties, f"openslide.mpp-{axis}") for axis in "xy")
        self.mpp = None if x is None or y is None else (x, y)
        self.about = _about(path, self._slide, properties)

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """See `Source`."""
        where = self._level_0(level, location, size)
        slide = self._slide
        try:
            region = slide.read_region(where, level, size)
        except openslide.OpenSlideError:
            region = self._read_anew(slide, where, level, size)
        opaque = PIL.Image.new("RGB", size, self._background)
        opaque.paste(region, mask=region)
        return np.array(opaque)

    def quickhash(self) -> str:
        """See `Source`."""
        known = self.about.properties.get(openslide.PROPERTY_NAME_QUICKHASH1)
        return known or sampled_hash(self._path)

    def close(self) -> None:
        """See `Source`."""
        self._slide.close()

    def _level_0(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """Where a rectangle of a level begins, as OpenSlide wants it: in level-0 pixels.

        It divides them by a downsample that need not be a whole number: the nearest one then, but none that lets
        the edge of the level in, which is transparent.
        """
        step = self._downsamples[level]
        x, y = (
            min(round(start * step), math.floor((whole - side) * step))
            for start, side, whole in zip(location, size, self.sizes[level], strict=True)
        )
        return x, y

    def _read_anew(
        self, failed: openslide.OpenSlide, where: tuple[int, int], level: int, size: tuple[int, int]
    ) -> PIL.Image.Image:
        """A region by a new handle: one that has met an error, in whichever thread, gives nothing but errors.

        The failed one is not closed, since other threads may be reading by it; it closes when they let it go.
        """
        slide = self._reopened()
        try:
            region = slide.read_region(where, level, size)
        except openslide.OpenSlideError as error:
            self._replace(failed, self._reopened())
            raise _of_region(self._path, error) from error
        self._replace(failed, slide)
        return region

    def _reopened(self) -> openslide.OpenSlide:
        """A new handle. Raises: OSError where there is none to be had, since the slide was opened before."""
        try:
            return openslide.OpenSlide(self._path)
        except openslide.OpenSlideError as error:
            raise out_of_reach(self._path, error) from error

    def _replace(self, failed: openslide.OpenSlide, slide: openslide.OpenSlide) -> None:
        with self._lock:
            if self._slide is failed:
                self._slide = slide


def _opened(path: Path) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise unreadable(path, error) from error


def _of_region(path: Path, error: openslide.OpenSlideError) -> Exception:
    """What OpenSlide's error at a region is: damage, unless it names a trouble of the operating system's."""
    if any(trouble in str(error) for trouble in _TROUBLES):
        return out_of_reach(path, error)
    return damaged(path, error)


def _properties(slide: openslide.OpenSlide) -> dict[str, str]:
    """What the slide says, without names that are no text, under which OpenSlide finds nothing again."""
    return {name: slide.properties[name] for name in slide.properties if name in slide.properties}


def _about(path: Path, slide: openslide.OpenSlide, properties: Mapping[str, str]) -> About:
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR)
    x, y, w, h = (_number(properties, f"openslide.bounds-{name}") for name in ("x", "y", "width", "height"))
    known = x is not None and y is not None and w and h
    return About(
        format=FORMATS.get(vendor or "", vendor or "slide"),
        vendor=vendor,
        objective=_number(properties, openslide.PROPERTY_NAME_OBJECTIVE_POWER),
        icc_profile=_profile(path, slide),
        bounds=((int(x), int(y)), (int(w), int(h))) if known else None,  # type: ignore[arg-type]
        associated=tuple(slide.associated_images),
        properties=properties,
    )


def _profile(path: Path, slide: openslide.OpenSlide) -> bytes | None:
    try:
        profile = slide.color_profile
    except (OSError, ImageCms.PyCMSError):
        warnings.warn(
            f"Expected the ICC profile of {str(path)!r} to be one; its colours are read as sRGB.", stacklevel=6
        )
        return None
    return None if profile is None else bytes(profile.tobytes())


def _check_tiles(path: Path, properties: Mapping[str, str]) -> None:
    """Refuse tiles that OpenSlide would ask too much memory for, and end the process if it gets none."""
    for name in properties:
        if name.startswith("openslide.level[") and name.endswith("].tile-width"):
            height = _number(properties, name.replace("tile-width", "tile-height")) or 1
            check_segment(path, round((_number(properties, name) or 1) * height), 4)


def _number(properties: Mapping[str, str], name: str) -> float | None:
    try:
        return float(properties[name])
    except (KeyError, ValueError):
        return None
