"""A written picture compared with what it was written from, so that the latter may go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chromogen.errors import sentence
from chromogen.grid import Window
from chromogen.image import Image, PathLike
from chromogen.slides.pyramid import BLOCK_PX, PixelSource, Size, level_sizes, pyramid_windows
from chromogen.slides.threads import results_in_order

if TYPE_CHECKING:
    from tifffile import TiffPage

# Of any tile, by TIFF's Compression tag: more than one out of place has, less than tissue has at any quality.
MIN_PSNR_DB = {7: 20.0, 34712: 30.0}

# Where, what it was, the least PSNR, and what is in the file.
Part: TypeAlias = tuple[Window, Image, float, Callable[[], Image]]


class VerificationError(OSError):
    """A written file that does not hold what was written."""


def verify(path: PathLike, pixels: PixelSource) -> float:
    """Compare level 0 of an OME-TIFF or OME-Zarr with `pixels`, all of it; the lowest PSNR of a tile, in dB.

    It is infinite where all is equal, as it must be in a lossless file; with JPEG and JPEG 2000 no tile may have
    less than `MIN_PSNR_DB`. Of the coarser levels only sizes are compared, and that they end within the file.
    Raises: VerificationError, which says what differs; OSError if there is nothing to read.
    """
    path = Path(path)
    parts = _zarr_parts(path, pixels) if path.is_dir() else _tiff_parts(path, pixels)
    try:
        return min(results_in_order(_agreement, parts))
    except OSError:
        raise
    except Exception as error:  # whatever a broken file does to a decoder
        raise _failed(f"{path.name} cannot be read ({type(error).__name__}: {error})") from error


def _agreement(part: Part) -> float:
    window, given, least_db, stored = part
    found = stored()
    if found.shape != given.shape:
        raise _failed(f"{found.shape} instead of {given.shape} at {window}")
    error = float(np.square(found.astype(np.float32) - given).mean())
    psnr_db = 10 * math.log10(255**2 / error) if error else math.inf
    if psnr_db < least_db:
        raise _failed(f"other pixels at {window} (PSNR {psnr_db:.1f} dB)")
    return psnr_db


def _tiff_parts(path: Path, pixels: PixelSource) -> Iterator[Part]:
    from tifffile import TiffFile

    with TiffFile(path) as file, path.open("rb") as tiles:
        levels = list(file.series[0].levels)
        _check_sizes([(level.shape[1], level.shape[0]) for level in levels], pixels.size)
        for level in levels:
            _check_ends(level.keyframe, file.filehandle.size)
        page = file.pages.first
        decode = page.decode  # made here, since it reads tags, which is not for threads
        least_db = MIN_PSNR_DB.get(page.compression, math.inf)
        for window, given in _tiles(pixels, page.tilewidth):
            index = _index(page, window)
            tiles.seek(page.dataoffsets[index])
            data = tiles.read(page.databytecounts[index])
            yield window, given, least_db, partial(_decoded, decode, data, index, given.shape)


def _index(page: TiffPage, window: Window) -> int:
    across = -(-page.imagewidth // page.tilewidth)
    return window.top // page.tilelength * across + window.left // page.tilewidth


def _decoded(decode: Callable[..., Any], data: bytes, index: int, shape: tuple[int, ...]) -> Image:
    """Without what a tile at the border is filled up with."""
    return np.asarray(decode(data, index)[0])[0, : shape[0], : shape[1]]


def _zarr_parts(path: Path, pixels: PixelSource) -> Iterator[Part]:
    import zarr

    group = zarr.open_group(path, mode="r")
    about: Any = group.attrs["ome"]
    arrays: list[Any] = [group[dataset["path"]] for dataset in about["multiscales"][0]["datasets"]]
    _check_sizes([array.shape[:0:-1] for array in arrays], pixels.size)
    for window, given in _tiles(pixels, BLOCK_PX):
        yield window, given, math.inf, partial(_block, arrays[0], window)


def _block(array: Any, window: Window) -> Image:
    return np.moveaxis(array[(slice(None), *window.at)], 0, 2)


def _tiles(pixels: PixelSource, side_px: int) -> Iterator[tuple[Window, Image]]:
    """The picture in tiles, read in larger windows."""
    for outer in pyramid_windows(pixels.size, max(side_px, BLOCK_PX)):
        image = pixels.read(outer)
        for inner in pyramid_windows(outer.size, side_px):
            left, top = outer.left + inner.left, outer.top + inner.top
            yield Window(left, top, left + inner.size[0], top + inner.size[1]), image[inner.at]


def _check_sizes(found: list[Size], size: Size) -> None:
    wanted = level_sizes(size, max(found[-1]))
    if found != wanted:
        raise _failed(f"levels of {found} px instead of {wanted}")


def _check_ends(page: TiffPage, file_bytes: int) -> None:
    ends = np.add(page.dataoffsets, page.databytecounts)
    if min(page.databytecounts) == 0 or ends.max() > file_bytes:
        raise _failed(f"a level of {page.imagewidth} x {page.imagelength} px that is cut off")


def _failed(got: str) -> VerificationError:
    return VerificationError(sentence("output", "what was written", got, "check the disk, and write it again"))
