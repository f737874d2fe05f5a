"""A picture of any size as a pyramidal OME-TIFF or OME-Zarr, in one pass, in the memory of a few blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chromogen.errors import expected, missing, sentence
from chromogen.files import folder_written_beside, written_beside
from chromogen.image import Image, PathLike
from chromogen.slides.compression import compression_named
from chromogen.slides.facts import ATTRIBUTE, SOFTWARE, Facts, ome_xml
from chromogen.slides.pyramid import (
    BLOCK_PX,
    PixelSource,
    PyramidBlock,
    Size,
    level_sizes,
    pyramid_blocks,
    pyramid_windows,
)
from chromogen.slides.threads import results_in_order

if TYPE_CHECKING:
    import zarr

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
        for window in pyramid_windows(block.window.size, TILE_PX):
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
