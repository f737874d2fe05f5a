"""TIFF pyramids, tile by tile: OME-TIFF, our own files among them, tiled TIFF, and TIFF in strips of any size."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.memory import LruCache
from chromogen.errors import ImageError
from chromogen.formats.decoders import (
    FAX,
    JPEGS,
    MAX_PIXELS,
    Raster,
    finish,
    in_order,
    is_cut,
    quiet,
    tiff_channels,
    tiff_levels,
)
from chromogen.formats.tiff_pages import (
    FileFacts,
    TiffImage,
    are_alike,
    associated_name,
    bits_used,
    channel_planes,
    readable_pages,
    tiff_image,
)
from chromogen.image import Image
from chromogen.slides.source import (
    About,
    SlideError,
    Source,
    brightest_sample,
    check_segment,
    damaged,
    error,
    open_image,
    out_of_reach,
    sampled_hash,
    unreadable,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

CACHE_BYTES = 64_000_000  # of decoded tiles, since regions with halos meet the same ones again
BAND_ROWS = 64  # what is read at a time of strips that are not compressed

_GREY, _RGB, _YCBCR = 1, 2, 6  # photometric interpretations
_APART = 2  # PlanarConfiguration of colours that lie in planes of their own
_REDUCED = 1  # NewSubfileType of a level
_ORIENTATION, _SUBFILE_TYPE = 274, 254


def open_tiff(path: Path, *, icc: bool = True) -> Source:
    """A TIFF read lazily, or, where its layout is a rare one and its size that of an image, as `read_image` does.

    Raises: SlideError if it is broken, too large for its layout, or not brightfield.
    """
    import tifffile

    try:
        with quiet():
            tiff = tifffile.TiffFile(path, _multifile=False)
            try:
                image = tiff_image(path, tiff)
                page = image.planes[0].keyframe
                lazy = TiffSource(path, tiff, image) if _is_lazy(page) else None
                if lazy is None:
                    _check_rare(path, page)
            except BaseException:
                tiff.close()
                raise
        if lazy:
            lazy.find_bits()  # outside, since it may warn
            return lazy
        tiff.close()
    except SlideError:
        raise
    except ImageError as problem:
        raise SlideError(str(problem)) from problem
    except Exception as problem:  # broken files break tifffile in every way there is
        raise unreadable(path, problem) from problem
    return open_image(path, icc=icc)


class TiffSource:
    """The image of a TIFF, with its levels among its SubIFDs or its pages."""

    def __init__(self, path: Path, tiff: TiffFile, image: TiffImage) -> None:
        self._path, self._tiff, self._order = path, tiff, image.order
        self._lock, self._recent = threading.Lock(), LruCache[NDArray[Any] | None](CACHE_BYTES, _bytes)
        levels = _levels(tiff, image)
        page = levels[0][0].keyframe
        if any(is_cut(plane, tiff.filehandle.size) for level in levels for plane in level):
            raise unreadable(path, "cut short")
        self._mode, self._alpha = tiff_channels(path, page, page.samplesperpixel * len(levels[0]))
        self._levels = [[_Segments.of(path, plane) for plane in level] for level in levels]
        self._bits, self._stated_bits = page.bitspersample, image.facts.significant_bits
        self.sizes: Sequence[tuple[int, int]] = [_size(level[0].keyframe) for level in levels]
        self.mpp = image.facts.mpp
        self.about = About.of(_format(image.is_ome, page), image.facts)

    def find_bits(self) -> None:
        """How many bits of 16 are used, by what the file says and the brightest samples of its coarsest level."""
        if self._bits == 16:
            level = len(self.sizes) - 1
            brightest = brightest_sample(partial(self._colors, level), self.sizes[level])
            self._bits = bits_used(self._path, self._bits, self._stated_bits, brightest)

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """See `Source`."""
        page = self._levels[level][0].page
        samples = self._samples(level, location, size, missing=np.iinfo(page.dtype).max)
        levels, top = tiff_levels(self._path, page, in_order(samples, self._order))
        top = 2**self._bits - 1 if page.bitspersample == 16 else top
        opaque = finish(Raster(levels, self._mode, FileFacts(), 1, top, self._alpha == 1))
        return opaque if self._mode == "RGB" else np.repeat(opaque, 3, axis=2)

    def _samples(self, level: int, location: tuple[int, int], size: tuple[int, int], missing: int) -> NDArray[Any]:
        """A rectangle of a level's samples (h, w, C) of colours and alpha, `missing` where the file has none."""
        planes = [
            self._read_plane(segments, sample, location, size, missing)
            for segments in self._levels[level]
            for sample in range(segments.planes)
        ]
        pixels = np.concatenate(planes, axis=-1) if len(planes) > 1 else planes[0]
        return pixels[..., : len(self._mode) + bool(self._alpha)]

    def quickhash(self) -> str:
        """See `Source`."""
        return sampled_hash(self._path)

    def close(self) -> None:
        """See `Source`."""
        self._tiff.close()

    def _colors(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> NDArray[Any]:
        """Samples without alpha, 0 where the file has none."""
        return self._samples(level, location, size, missing=0)[..., : len(self._mode)]

    def _read_plane(
        self, segments: _Segments, plane: int, location: tuple[int, int], size: tuple[int, int], missing: int
    ) -> NDArray[Any]:
        """A rectangle of the samples that lie together, (h, w, samples)."""
        (x, y), (w, h) = location, size
        page = segments.page
        pixels = np.full((h, w, segments.samples), missing, page.dtype)
        for index, left, top in segments.meeting(plane, location, size):
            segment = self._recent.get((id(segments), index), partial(self._decode, segments, index))
            if segment is not None:
                here = segment[max(0, y - top) : y + h - top, max(0, x - left) : x + w - left]
                row, column = max(0, top - y), max(0, left - x)
                target = pixels[row : row + here.shape[0], column : column + here.shape[1]]
                target[:] = here[: target.shape[0], : target.shape[1]]
        return pixels

    def _decode(self, segments: _Segments, index: int) -> NDArray[Any] | None:
        offset, count = segments.offsets[index], segments.counts[index]
        if not count:
            return None
        try:
            with self._lock:
                self._tiff.filehandle.seek(offset)
                data = self._tiff.filehandle.read(count)
        except MemoryError:
            raise
        except Exception as problem:  # a handle that is closed breaks in every way there is
            raise out_of_reach(self._path, problem) from problem
        if len(data) < count:
            raise damaged(self._path, f"{len(data)} of {count} bytes at {offset}")
        try:
            return segments.decode(data, index)
        except MemoryError:
            raise
        except Exception as problem:  # decoders throw everything there is at broken tiles
            raise damaged(self._path, problem) from problem


@dataclass(frozen=True)
class _Segments:
    """A page's tiles, strips, or bands of an uncompressed strip: what is read and decoded in one piece."""

    page: TiffPage
    size: tuple[int, int]  # (w, h) of a piece
    samples: int  # of a pixel, in one piece
    planes: int  # 3 where the colours lie apart
    offsets: Sequence[int]
    counts: Sequence[int]
    banded: bool
    jpeg: dict[str, Any]
    decoder: Callable[..., Any]  # made once: it reads tags, which is not for threads

    @classmethod
    def of(cls, path: Path, plane: Any) -> _Segments:
        """Those of a page, or of a frame that shares the layout of another page."""
        page = plane.keyframe
        apart = page.planarconfig == _APART and page.samplesperpixel > 1
        samples = 1 if apart else page.samplesperpixel
        size = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
        offsets, counts = plane.dataoffsets, plane.databytecounts
        banded = size[1] >= page.imagelength and not page.is_tiled and page.compression == page.predictor == 1
        if banded:
            size, row_bytes = (size[0], BAND_ROWS), size[0] * samples * page.dtype.itemsize
            if max(offsets) + page.imagelength * row_bytes > page.parent.filehandle.size:
                raise unreadable(path, "cut short")
            offsets, counts = _bands(offsets, page.imagelength, row_bytes)
        check_segment(path, size[0] * size[1], samples * page.dtype.itemsize)
        planes = page.samplesperpixel if apart else 1
        if min(size) < 1 or len(offsets) < planes * _count(page, size) or len(counts) < len(offsets):
            raise unreadable(path, "without all its tiles or strips")
        return cls(
            page=page,
            size=size,
            samples=samples,
            planes=planes,
            offsets=offsets,
            counts=counts,
            banded=banded,
            jpeg={"jpegtables": plane.jpegtables, "jpegheader": page.jpegheader}
            if page.compression in JPEGS
            else {},
            decoder=page.decode,
        )

    def meeting(
        self, plane: int, location: tuple[int, int], size: tuple[int, int]
    ) -> Iterator[tuple[int, int, int]]:
        """Index and top-left corner (x, y) of each piece of a plane that meets a rectangle."""
        (w, h), (x, y) = self.size, location
        across, down = -(-self.page.imagewidth // w), -(-self.page.imagelength // h)
        for row in range(y // h, (y + size[1] - 1) // h + 1):
            for column in range(x // w, (x + size[0] - 1) // w + 1):
                yield (plane * down + row) * across + column, column * w, row * h

    def decode(self, data: bytes, index: int) -> NDArray[Any]:
        """The samples of a piece, (h, w, samples)."""
        if self.banded:
            dtype = np.dtype(self.page.dtype).newbyteorder(self.page.parent.byteorder)
            samples: NDArray[Any] = np.frombuffer(data, dtype)
            return samples.reshape(-1, self.size[0], self.samples)
        segment: NDArray[Any] = np.asarray(self.decoder(data, index, **self.jpeg)[0])[0]
        return segment


def _count(page: TiffPage, size: tuple[int, int]) -> int:
    """How many pieces of a size (w, h) cover a page."""
    return -(-page.imagewidth // size[0]) * -(-page.imagelength // size[1])


def _bytes(array: NDArray[Any] | None) -> int:
    return 0 if array is None else array.nbytes


def _bands(strips: Sequence[int], rows: int, row_bytes: int) -> tuple[list[int], list[int]]:
    """Offsets and byte counts of the bands of strips that are as high as the picture, one strip for each plane."""
    tops = range(0, rows, BAND_ROWS)
    offsets = [strip + top * row_bytes for strip in strips for top in tops]
    return offsets, [min(BAND_ROWS, rows - top) * row_bytes for _ in strips for top in tops]


def _is_lazy(page: TiffPage) -> bool:
    """Whether the layout is one that slides have; scans, faxes, palettes and floats are left to `read_image`."""
    colors = page.photometric in (_GREY, _RGB) or (page.photometric == _YCBCR and page.compression in JPEGS)
    upright = page.tags.valueof(_ORIENTATION, 1) == 1 and page.imagedepth == 1
    return (
        colors
        and upright
        and page.bitspersample in (8, 16)
        and page.dtype in ("u1", "u2")
        and page.compression not in FAX
    )


def _check_rare(path: Path, page: TiffPage) -> None:
    """Refuse what would have to be read whole and is too large for that."""
    pixels = page.imagewidth * page.imagelength
    if pixels > MAX_PIXELS:
        got = f"{str(path)!r} of {pixels:,} px in a layout that is read whole"
        raise error("path", "a TIFF of 8 or 16 bit RGB", got, "export it as a tiled RGB TIFF")


def _levels(tiff: TiffFile, image: TiffImage) -> list[list[Any]]:
    """For each level, finest first, its pages: one, or one for each channel."""
    if image.series:
        levels = [channel_planes(level) for level in image.series.levels]
    elif len(image.planes) > 1:
        levels = [image.planes, *map(list, zip(*(plane.pages or () for plane in image.planes), strict=False))]
    else:
        (page,) = (plane.aspage() for plane in image.planes)
        others = (*(page.pages or ()), *_other_pages(tiff, image, page))
        levels = [[page], *([other.aspage()] for other in others if _is_level(other.aspage(), page))]
    finest, *rest = levels
    by_size = {_size(level[0].keyframe): level for level in reversed(rest)}
    whole = _size(finest[0].keyframe)
    coarser = {size: level for size, level in by_size.items() if _is_smaller(size, whole) and are_alike(level)}
    return [finest, *(coarser[size] for size in sorted(coarser, reverse=True))]


def _other_pages(tiff: TiffFile, image: TiffImage, page: TiffPage) -> Iterator[TiffPage]:
    """Pages that may be levels: of an OME-TIFF those that say so, as others are other images or planes."""
    for other in readable_pages(tiff):
        kind = other.tags.valueof(_SUBFILE_TYPE, 0)
        if other.index != page.index and (not image.is_ome or kind == _REDUCED):
            yield other


def _is_level(page: TiffPage, finest: TiffPage) -> bool:
    """Whether a page is said to be a smaller version of another, or looks like it, and has the same pixels."""
    kind = page.tags.valueof(_SUBFILE_TYPE, 0)
    same = (page.dtype, page.samplesperpixel, page.is_tiled) == (
        finest.dtype,
        finest.samplesperpixel,
        finest.is_tiled,
    )
    marked = kind == _REDUCED or page.is_subifd or (kind == 0 and page.is_tiled)
    return _is_lazy(page) and same and marked and associated_name(page) is None


def _is_smaller(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    """Whether the sides are in the same proportion, but for rounding up and down."""
    (w, h), (whole_w, whole_h) = size, whole
    longest = max(whole)
    return w * h < whole_w * whole_h and abs(w * whole_h - h * whole_w) <= 2 * longest


def _size(page: TiffPage) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _format(is_ome: bool, page: TiffPage) -> str:
    return "OME-TIFF" if is_ome else "tiled TIFF" if page.is_tiled else "TIFF"
