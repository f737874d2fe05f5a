"""Write a pyramid, and verify what was written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from chromogen.compute.tiles import Window, windows_of
from chromogen.errors import expected, missing, sentence
from chromogen.files import folder_written_beside, written_beside
from chromogen.image import Image, PathLike
from chromogen.slides.facts import ATTRIBUTE, SOFTWARE, Facts, ome_xml
from chromogen.slides.pyramid import (
    BLOCK_PX,
    PixelSource,
    PyramidBlock,
    Size,
    compression_named,
    level_sizes,
    pyramid_blocks,
    results_in_order,
)

if TYPE_CHECKING:
    import zarr
    from tifffile import TiffPage


# A picture of any size as a pyramidal OME-TIFF or OME-Zarr, in one pass, in the memory of a few blocks.

TILE_PX = 512  # of TIFF; the coarsest level fits into one
MAX_OF_TIFF = 2**32 - 2**25  # bytes; with more, offsets may not fit into 32 bits: BigTIFF

Progress = Callable[[float], None]


class _Tile(NamedTuple):
    level: int
    row: int
    column: int
    image: Image


def write_ome_tiff(
    path: PathLike,
    pixels: PixelSource,
    facts: Facts,
    *,
    compression: str = "jpeg",
    quality: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a tiled pyramid after OME-TIFF 6: the levels, each half of the last, are SubIFDs of the first.

    `quality` is JPEG's own (50 to 100), or for JPEG 2000 the PSNR in dB (35 to 60). `progress` is told the
    share of pixels read. Until all tiles are known they lie, compressed, in a nameless file beside `path`: for a
    moment there is twice what the file takes. `path` appears when all is written, in place of what was there.
    Raises: ValueError if an option, or what `pixels` gives, does not fit; OSError if it cannot be written.
    """
    path, how = Path(path), compression_named(compression)
    quality = how.quality_or_default(quality)
    sizes = level_sizes(_size(pixels), TILE_PX)
    _check_place(path)
    if path.is_dir():
        raise IsADirectoryError(sentence("path", "a file", f"the folder {str(path)!r}", "add a file name"))
    with TemporaryFile(dir=path.parent) as file, written_beside(path) as beside:
        spool = _Spool(file, sizes)
        tiles = _tiles_of(_telling(pyramid_blocks(pixels, TILE_PX), pixels.size, progress))
        for tile, data in results_in_order(lambda tile: (tile, how.encode(tile.image, quality)), tiles):
            spool.add(tile, data)
        _write_tiff(beside, spool, how.tags, facts, sizes)


def write_ome_zarr(path: PathLike, pixels: PixelSource, facts: Facts, *, progress: Progress | None = None) -> None:
    """Write an OME-Zarr folder (NGFF 0.5, zarr 3): a pyramid of (c, y, x) arrays, lossless.

    White blocks take no space. `path` appears when all is written, and must not exist before.
    Raises: ValueError if what `pixels` gives does not fit; OSError if it cannot be written.
    """
    path = Path(path)
    sizes = level_sizes(_size(pixels), BLOCK_PX)
    _check_place(path)
    if path.exists():
        raise FileExistsError(
            sentence("path", "a name not taken", path, "remove what is there, or choose another")
        )
    with folder_written_beside(path) as beside:
        levels = _create_levels(beside, sizes, facts)
        blocks = _telling(pyramid_blocks(pixels, BLOCK_PX), pixels.size, progress)
        for _ in results_in_order(lambda block: _write_block(levels[block.level], block), blocks):
            pass


class _Spool:
    """Compressed tiles of all levels in a file, in the order they come, to be had in the order of a level."""

    def __init__(self, file: IO[bytes], sizes: Sequence[Size]) -> None:
        self._file = file
        grids = [(-(-height // TILE_PX), -(-width // TILE_PX)) for width, height in sizes]
        self._where = [np.zeros((*grid, 2), np.int64) for grid in grids]  # offset and number of bytes
        self.tiles = sum(rows * columns for rows, columns in grids)
        self.size_bytes = 0

    def add(self, tile: _Tile, data: bytes) -> None:
        self._where[tile.level][tile.row, tile.column] = self.size_bytes, len(data)
        self._file.write(data)
        self.size_bytes += len(data)

    def of_level(self, level: int) -> Iterator[bytes]:
        """Row by row."""
        for offset, count in self._where[level].reshape(-1, 2).tolist():
            self._file.seek(offset)
            yield self._file.read(count)


def _tiles_of(blocks: Iterable[PyramidBlock]) -> Iterator[_Tile]:
    """Blocks cut into tiles; those at the right and lower border are filled up with their mirror image."""
    for block in blocks:
        row, column = block.window.top // TILE_PX, block.window.left // TILE_PX
        for window in windows_of(block.window.size, TILE_PX):
            place = row + window.top // TILE_PX, column + window.left // TILE_PX
            yield _Tile(block.level, *place, _filled_up(block.image[window.at]))


def _filled_up(image: Image) -> Image:
    lacking = TILE_PX - image.shape[0], TILE_PX - image.shape[1]
    if any(lacking):
        return np.pad(image, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(image)


def _write_tiff(path: Path, spool: _Spool, tags: Mapping[str, Any], facts: Facts, sizes: Sequence[Size]) -> None:
    """Where OpenSlide looks for the pixel size: XResolution in pixels per cm."""
    from tifffile import TiffWriter

    how = {"dtype": np.uint8, "tile": (TILE_PX, TILE_PX), "photometric": "rgb", "metadata": None, **tags}
    first = {"description": ome_xml(facts, sizes), "software": SOFTWARE, "subifds": len(sizes) - 1}
    is_big = spool.size_bytes + 16 * spool.tiles > MAX_OF_TIFF
    with TiffWriter(path, bigtiff=is_big, ome=False) as tiff:
        for level, (width, height) in enumerate(sizes):
            per_cm = 1e4 / (facts.mpp * 2**level)
            own = {"subfiletype": 1, "software": False} if level else first
            tiff.write(
                spool.of_level(level),
                shape=(height, width, 3),
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                **how,
                **own,
            )


def _create_levels(folder: Path, sizes: Sequence[Size], facts: Facts) -> list[zarr.Array[Any]]:
    import zarr
    from zarr.codecs import ZstdCodec

    attributes = {"ome": _multiscales(facts, len(sizes)), ATTRIBUTE: facts.as_json()}
    group = zarr.create_group(folder, attributes=attributes)
    return [
        group.create_array(
            str(level),
            shape=(3, height, width),
            chunks=(3, BLOCK_PX, BLOCK_PX),
            dtype=np.uint8,
            compressors=ZstdCodec(level=3, checksum=True),
            fill_value=255,
            dimension_names=("c", "y", "x"),
        )
        for level, (width, height) in enumerate(sizes)
    ]


def _multiscales(facts: Facts, levels: int) -> dict[str, Any]:
    """Coordinates are those of pixels' centres: a coarser level's first pixel lies further in."""
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    datasets = [
        {"path": str(level), "coordinateTransformations": _placed(facts.mpp, 2**level)} for level in range(levels)
    ]
    name = facts.name or "virtual stain"
    method = {"description": "means of 2 x 2 pixels", "method": "chromogen.slides.pyramid.halved"}
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    channels = [
        {"label": label, "color": color, "active": True, "window": window}
        for label, color in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    multiscale = {"name": name, "axes": axes, "datasets": datasets, "type": "mean", "metadata": method}
    return {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels}}


def _placed(mpp: float, step: int) -> list[dict[str, Any]]:
    inside = mpp * (step - 1) / 2
    return [
        {"type": "scale", "scale": [1.0, mpp * step, mpp * step]},
        {"type": "translation", "translation": [0.0, inside, inside]},
    ]


def _write_block(level: zarr.Array[Any], block: PyramidBlock) -> None:
    level[(slice(None), *block.window.at)] = np.ascontiguousarray(np.moveaxis(block.image, 2, 0))


def _telling(blocks: Iterable[PyramidBlock], size: Size, progress: Progress | None) -> Iterator[PyramidBlock]:
    done, all_px = 0, size[0] * size[1]
    for block in blocks:
        yield block
        if progress and block.level == 0:
            done += block.image.shape[0] * block.image.shape[1]
            progress(done / all_px)


def _size(pixels: PixelSource) -> Size:
    if min(pixels.size) < 1:
        raise expected("pixels", "at least 1 x 1 px", f"{pixels.size[0]} x {pixels.size[1]}")
    return pixels.size


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise missing("path", "in an existing folder", path, "make that folder first")


# A written picture compared with what it was written from, so that the latter may go.

# Of any tile, by TIFF's Compression tag: more than one out of place has, less than tissue has at any quality.
JPEG, JPEG2000 = 7, 34712
MIN_PSNR_DB = {JPEG: 20.0, JPEG2000: 30.0}

# Where, what it was, the least PSNR, what is in the file, and what the file's compression makes of an image.
Part: TypeAlias = tuple[Window, Image, float, Callable[[], Image], Callable[[Image], Image]]


class VerificationError(OSError):
    """A written file that does not hold what was written."""


def verify(path: PathLike, pixels: PixelSource) -> float:
    """Compare level 0 of an OME-TIFF or OME-Zarr with `pixels`, all of it; the lowest PSNR of a tile, in dB.

    It is infinite where all is equal, as it must be in a lossless file; with JPEG and JPEG 2000 no tile may have
    less than `MIN_PSNR_DB`, unless JPEG makes the same of it again: it keeps little of noise in many colours. Of
    the coarser levels only sizes are compared, and that they end within the file.
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
    window, given, least_db, stored, compressed = part
    found = stored()
    if found.shape != given.shape:
        raise _failed(f"{found.shape} instead of {given.shape} at {window}")
    psnr_db = _psnr_db(found, given)
    if psnr_db < least_db and _psnr_db(found, compressed(given)) < least_db:
        raise _failed(f"other pixels at {window} (PSNR {psnr_db:.1f} dB)")
    return psnr_db


def _psnr_db(found: Image, given: Image) -> float:
    error = float(np.square(found.astype(np.float32) - given).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def _as_it_is(image: Image) -> Image:
    return image


def _jpeg_like(data: bytes, image: Image) -> Image:
    """An image after JPEG with the tables of other JPEG data, and colour at half width."""
    import PIL.Image
    from PIL.JpegImagePlugin import JpegImageFile

    again = BytesIO()
    with JpegImageFile(BytesIO(data)) as like:
        PIL.Image.fromarray(image).save(again, "JPEG", qtables=like.quantization, subsampling="4:2:2")
    with PIL.Image.open(again) as made:
        return np.asarray(made.convert("RGB"))


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
            compressed = partial(_jpeg_like, data) if page.compression == JPEG else _as_it_is
            yield window, given, least_db, partial(_decoded, decode, data, index, given.shape), compressed


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
        yield window, given, math.inf, partial(_block, arrays[0], window), _as_it_is


def _block(array: Any, window: Window) -> Image:
    return np.moveaxis(array[(slice(None), *window.at)], 0, 2)


def _tiles(pixels: PixelSource, side_px: int) -> Iterator[tuple[Window, Image]]:
    """The picture in tiles, read in larger windows."""
    for outer in windows_of(pixels.size, max(side_px, BLOCK_PX)):
        image = pixels.read(outer)
        for inner in windows_of(outer.size, side_px):
            yield inner.placed_in(outer), image[inner.at]


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
