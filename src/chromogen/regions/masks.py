"""Masks and heat maps that are images, as other tools write them: values as they are stored, never as colours."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from shapely import unary_union
from shapely.geometry import MultiPolygon, Polygon

from chromogen.errors import ImageError, expected, sentence, short
from chromogen.formats.decoders import (
    FAX,
    JPEGS,
    MAX_BYTES,
    READ_FORMATS,
    TIFF_SIGNATURES,
    check_size,
    is_cut,
    open_file,
    quiet,
    upright,
)
from chromogen.formats.tiff_pages import readable_pages
from chromogen.regions.geojson import Drawn, GeoJsonError, centres_inside, polygons_in, read_features, without_area

if TYPE_CHECKING:
    from tifffile import TiffFile

Mask: TypeAlias = NDArray[np.float32]  # (H, W), 0 to 1

UNLABELLED = 0  # the key of a mask that is one region, as 0 is no label
MAX_LABELS = 32
WHITE = 0.9  # of the highest value a type has: what is as bright somewhere may be a soft mask
SMOOTH = 0.02  # of that value: how far neighbours in a soft border differ
JPEG_CHROMA = 8  # by how much JPEG may tint a grey
_PALETTE, _YCBCR = 3, 6  # TIFF photometric interpretations
_PHOTOMETRIC = (0, 1, 2, _PALETTE, _YCBCR)
_LOSSY = ("JPEG", "WEBP")
_LOSSY_TIFF = (*JPEGS, 33003, 33005, 34712)  # compressions, JPEG 2000 among them
_DEPTH_AT, _COLOR_AT = 24, 25  # in the first bytes of a PNG
_ORIENTATION = 274  # tag of TIFF and EXIF
FINER = 4  # polygons are drawn so many times finer, and averaged: their borders are soft
STRIP_PX = 512


class MisfitError(ImageError):
    """What is wrong with a mask, and what to do, for others that say what they wanted."""

    def __init__(self, said: str, problem: str, advice: str) -> None:
        super().__init__(said)
        self.problem, self.advice = problem, advice


class Stored(NamedTuple):
    """What a file holds: samples (H, W, C), and what is white, None where values can only be labels."""

    samples: NDArray[Any]
    white: int | None
    lossy: bool = False


def read_mask(path: Path) -> dict[int, Mask]:
    """The regions in a mask image, (H, W) and 0 to 1, by label; {UNLABELLED: mask} where it is a single region.

    0 is outside. One other value, whichever, is one region. Up to 32 whole values that fill areas are labels, a
    region each. More values up to white are one region with soft borders. Values are those that the file stores:
    8 to 64 bits or floats, without colour management; of a palette the indices, unless all its colours are grey;
    of RGB the common value of the three. Transparent pixels are outside. Raises: ValueError for colours, negative
    values, more labels, nothing inside, or a file that cannot be read; OSError.
    """
    stored = _decoded(path)
    stored = stored._replace(samples=_unscaled(stored.samples))
    values = _values(path, stored)
    inside = np.unique(values[values != 0])
    if not inside.size:
        raise _misfit(path, "which has no pixel inside: all values are 0", "make the inside white, or a label")
    if inside[0] < 0:
        raise _misfit(path, f"with negative values, from {inside[0]}", "number labels from 1, and 0 outside")
    if inside.size == 1 and (stored.white != 1 or inside[0] == 1):
        return {UNLABELLED: (values != 0).astype(np.float32)}
    if _are_labels(values, inside, stored):
        return {int(label): (values == label).astype(np.float32) for label in inside}
    _check_soft(path, values, inside, stored)
    return {UNLABELLED: np.asarray(values / np.float32(stored.white or 1), np.float32)}


def read_heat_map(path: Path) -> Mask:
    """The values of a heat map, (H, W), 0 to 1: a grey image from 0 to white, of 8 or 16 bits, or floats up to 1.

    Transparent pixels are 0. Raises: ValueError for colours, numbers of more bits, negative values, or a file that
    cannot be read; OSError.
    """
    try:
        stored = _decoded(path)
        values = _values(path, stored)
        if stored.white is None or values.min() < 0 or values.max() > stored.white:
            problem = f"with values from {values.min():g} to {values.max():g} and no white"
            raise _misfit(path, problem, "save 8 or 16 bits, or floats from 0 to 1")
    except MisfitError as error:
        wanted = "a heat map: a grey image from 0 to white"
        raise ImageError(sentence("where", wanted, f"{str(path)!r} {error.problem}", error.advice)) from error
    return np.asarray(values / np.float32(stored.white), np.float32)


def _are_labels(values: NDArray[Any], inside: NDArray[Any], stored: Stored) -> bool:
    if stored.lossy or inside.size > MAX_LABELS or not _whole(inside):
        return False
    small = inside[-1] <= MAX_LABELS and stored.white not in range(1, 255)
    return small or not _reaches_white(inside, stored) or _fill_areas(values, inside)


def _check_soft(path: Path, values: NDArray[Any], inside: NDArray[Any], stored: Stored) -> None:
    """ValueError for values that are neither labels nor a soft mask."""
    many = f"with {inside.size} different values, up to {inside[-1]:g}"
    if not _reaches_white(inside, stored):
        advice = f"use at most {MAX_LABELS} labels in a lossless format, or one region up to white"
        raise _misfit(path, many, advice)
    if inside.size > MAX_LABELS and _fill_areas(values, inside) and not _is_smooth(values, stored):
        raise _misfit(path, f"{many}, each in an area of its own", f"use at most {MAX_LABELS} labels")


def _reaches_white(inside: NDArray[Any], stored: Stored) -> bool:
    """Whether the values can be shares of white; of floats from 0 to 1 any can."""
    if stored.white is None or inside[-1] > stored.white:
        return False
    return bool(stored.white == 1 or inside[-1] >= WHITE * stored.white)


def _whole(inside: NDArray[Any]) -> bool:
    return inside.dtype.kind != "f" or bool((inside == np.rint(inside)).all())


def _fill_areas(values: NDArray[Any], inside: NDArray[Any]) -> bool:
    """Whether most values somewhere fill 3 x 3 pixels, as labels do and greys of a soft border do not."""
    across, down = values[:, 1:] == values[:, :-1], values[1:] == values[:-1]
    rows = across[:, 1:] & across[:, :-1]
    solid = rows[:-2] & rows[1:-1] & rows[2:] & down[:-1, 1:-1] & down[1:, 1:-1]
    filling = np.setdiff1d(values[1:-1, 1:-1][solid], [0])
    return bool(2 * filling.size > inside.size)


def _is_smooth(values: NDArray[Any], stored: Stored) -> bool:
    """Whether neighbours that differ mostly differ by little."""
    steps = np.abs(np.diff(values.astype(np.float32), axis=1))
    steps = steps[steps > 0]
    return bool(steps.size and np.median(steps) <= SMOOTH * (stored.white or 1))


def _values(path: Path, stored: Stored) -> NDArray[Any]:
    """One value a pixel, (H, W): what grey channels share, 0 where they are transparent."""
    samples, channels = stored.samples, stored.samples.shape[2]
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise _misfit(path, "with NaN or infinite values", "replace them by 0")
    color, alpha = samples[..., : channels - (channels % 2 == 0)], samples[..., -1]
    values = color[..., 0]
    if color.shape[2] == 3:
        spread = color.max(axis=2).astype(np.float64) - color.min(axis=2)
        if spread.max() > (JPEG_CHROMA if stored.lossy else 0):
            example = ", ".join(f"{value:g}" for value in color[np.unravel_index(spread.argmax(), spread.shape)])
            raise _misfit(path, f"in colours, such as ({example})", "save grey values, or labels with a palette")
    opaque = stored.white or 255
    if channels % 2 or (alpha == opaque).all():
        return values
    if np.isin(alpha, (0, opaque)).all():
        return np.where(alpha == 0, 0, values)
    return np.asarray(values * (alpha / np.float32(opaque)), np.float32)


def _unscaled(samples: NDArray[Any]) -> NDArray[Any]:
    """Labels that were divided by 65535 or 255, as CellProfiler saves floats, as they were; others as they are."""
    if samples.dtype.kind != "f":
        return samples
    highest = float(samples.max(initial=0))
    for white in (65535, 255):
        labels = np.rint(samples * white)
        if 0 < highest * white < MAX_LABELS + 0.5 and np.allclose(samples * white, labels, atol=1e-3):
            return np.asarray(labels, samples.dtype)
    return samples


def _decoded(path: Path) -> Stored:
    """What the file stores, upright. Raises: ValueError whatever a decoder throws."""
    try:
        with open_file(path) as file, quiet():
            start = file.read(26)
            file.seek(0)
            return _of_tiff(path, file) if start[:4] in TIFF_SIGNATURES else _of_pillow(path, file, start)
    except (ImageError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # decoders throw everything there is at broken files
        raise _misfit(path, f"that cannot be decoded ({short(error)})", "export it again") from error


def _of_pillow(path: Path, file: BinaryIO, start: bytes = b"") -> Stored:
    with PIL.Image.open(file, formats=READ_FORMATS) as image:
        check_size(path, *image.size)
        depth, lossy = start[_DEPTH_AT] if image.format == "PNG" else 8, image.format in _LOSSY
        if depth == 16:
            return _of_deep_png(file, image)
        orientation = _orientation(image)
        if image.mode == "P":
            colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            samples, white = _of_palette(np.asarray(image), colors)
            return Stored(upright(samples, orientation), white)
        as_rgb = "RGBA" if image.has_transparency_data else "RGB"
        known = image.mode in ("1", "L", "LA", "RGB", "RGBA")
        samples = np.atleast_3d(np.asarray(image if known else image.convert(as_rgb)))
    white = 1 if samples.dtype == bool else 255
    if depth < 8 and start[_COLOR_AT] == 0 and white == 255:
        white = 2**depth - 1  # Pillow spreads so few bits over 8
        samples = samples // (255 // white)
    return Stored(upright(samples, orientation), white, lossy)


def _of_deep_png(file: BinaryIO, image: PIL.Image.Image) -> Stored:
    """A PNG of 16 bits, of which Pillow would drop the lower 8 of colours."""
    import imagecodecs

    image.verify()  # the decoder below would only print that a checksum is wrong
    orientation = _orientation(image)
    file.seek(0)
    return Stored(upright(np.atleast_3d(imagecodecs.png_decode(file.read())), orientation), 65535)


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF is no reason to refuse the values
        return 1


def _of_palette(indices: NDArray[Any], colors: NDArray[np.uint8]) -> tuple[NDArray[Any], int | None]:
    """Indices (H, W) as labels (H, W, 1); where all colours in use are grey, how bright they are, and white."""
    used = colors[np.unique(indices)]
    if (used == used[:, :1]).all():
        return colors[indices][..., :1], 255
    return indices[..., None], None


def _of_tiff(path: Path, file: BinaryIO) -> Stored:
    """The first page. Its values count, also where 0 is white: ImageJ's inverting LUT, tifffile's booleans."""
    import tifffile

    with tifffile.TiffFile(file, _multifile=False) as tiff:
        page = tiff.pages.first
        if (alike := _pages_alike(tiff)) > 1:
            raise _misfit(path, f"of {alike} pages", "save one image, with a label for each region")
        check_size(path, page.imagewidth, page.imagelength * page.imagedepth)
        if page.compression in FAX or (page.photometric == _YCBCR and page.compression not in JPEGS):
            file.seek(0)
            return _of_pillow(path, file)  # has libtiff, which knows them
        if page.dtype is None or page.dtype.kind not in "buif" or page.photometric not in _PHOTOMETRIC:
            raise _misfit(path, f"of {page.dtype}, {page.photometric!r}", "save it in grey, with 8 or 16 bits")
        if max(math.prod(page.chunks), math.prod(page.shape)) * page.dtype.itemsize > MAX_BYTES:
            raise _misfit(path, f"of {page.shape} {page.dtype}", "save it with 8 or 16 bits")
        if is_cut(page, tiff.filehandle.size):
            raise _misfit(path, "that is cut short", "copy or export it again")
        samples = page.asarray(squeeze=False)[:, 0]  # (C, H, W, S)
        samples = np.moveaxis(samples, 0, -1).reshape(*samples.shape[1:3], -1)
        orientation = page.tags.valueof(_ORIENTATION, 1)
        if page.photometric == _PALETTE:
            samples, white = _of_palette(samples[..., 0], (np.asarray(page.colormap).T >> 8).astype(np.uint8))
            return Stored(upright(samples, orientation), white)
        channels = samples.shape[2]
        if channels > 4 or (channels == 2 and not any(page.extrasamples)):
            raise _misfit(path, f"with {channels} channels", "save one channel")
    white = _white_of(samples, page.bitspersample)
    return Stored(upright(samples, orientation), white, page.compression in _LOSSY_TIFF)


def _pages_alike(tiff: TiffFile) -> int:
    """How many pages are as large as the first: a stack, of which each may be a region."""
    first = tiff.pages.first
    return sum(page.shape == first.shape for page in readable_pages(tiff))


def _white_of(samples: NDArray[Any], bits: int) -> int | None:
    """The value of white: of unsigned integers of up to 16 bits the highest, of floats 1, or else 255."""
    if samples.dtype.kind == "f":
        return 1 if samples.max(initial=0) <= 1 else 255
    return 2**bits - 1 if samples.dtype.kind in "bu" and bits <= 16 else None


def _misfit(path: Path, problem: str, advice: str) -> MisfitError:
    wanted = "an image that is white inside, or of labels"
    return MisfitError(sentence("mask", wanted, f"{str(path)!r} {problem}", advice), problem, advice)


def read_drawn(file: Path, argument: str) -> list[Drawn]:
    """The features with an area in a GeoJSON file; errors name the `argument` that the file was given by.

    Features without an area are left out with a warning. Raises: ValueError for a file that is no GeoJSON or has
    no polygon; OSError.
    """
    try:
        features, left_out = read_features(file.read_bytes())
    except GeoJsonError as error:
        raise expected(argument, "GeoJSON with polygons", file, f"{error}") from error
    if not features:
        raise expected(argument, "GeoJSON with at least one polygon", f"none in {file}")
    if left_out:
        warnings.warn(f"{file}: {without_area(left_out, left_out + len(features))}", stacklevel=4)
    return features


def class_of(feature: Drawn) -> str:
    """A feature's class; its own name where it has none, and "1" where it has no name either."""
    return feature.path_class or feature.name or "1"


def read_geojson(file: Path, size: tuple[int, int]) -> dict[str, Mask]:
    """Masks (h, w) by class of the polygons in a GeoJSON file, coordinates (x, y) in pixels of an image of `size`.

    A feature without a class goes by its own name, and by "1" where it has none either. Holes are left out, nested
    polygons of one class are one region, and one that crosses itself counts where it goes around. Features without
    an area are left out with a warning. Raises: ValueError for a file that is no GeoJSON or has no polygon.
    """
    classes: dict[str, list[Polygon]] = {}
    for feature in read_drawn(file, "mask"):
        classes.setdefault(class_of(feature), []).extend(feature.polygons)
    return {name: drawn_polygons(unary_union(polygons), size) for name, polygons in classes.items()}


def drawn_polygons(polygons: Polygon | MultiPolygon, size: tuple[int, int]) -> Mask:
    """How far pixels lie inside polygons: (h, w), 0 to 1; a pixel (x, y) reaches from (x, y) to (x + 1, y + 1)."""
    width, height = size
    mask = np.zeros((height, width), np.float32)
    for top in range(0, height, STRIP_PX):
        rows = min(STRIP_PX, height - top)
        strip = centres_inside(polygons_in(polygons), (rows * FINER, width * FINER), (0, top), FINER)
        mask[top : top + rows] = strip.reshape(rows, FINER, width, FINER).mean((1, 3))
    return mask
