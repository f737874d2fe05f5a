"""Whole-slide images: regions at any resolution, with the pyramid's levels out of sight.

A plain image is a slide of one level, so nobody else needs to ask which of the two a file is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import openslide
import PIL.Image
from numpy.typing import NDArray

from chromogen.errors import sentence
from chromogen.image import Image, PathLike, is_image, read_image

MPP_RANGE = (0.05, 20.0)  # um/px; files that claim other values mean something else, or nothing
MAX_ANISOTROPY = 0.02
BLOCK_PX = 1024  # side of what is resampled at a time, which takes up to 120 bytes a pixel
MARGIN_PX = 2  # what bicubic interpolation looks at beyond a region


class SlideError(ValueError):
    """A slide that cannot be opened or read, or a region that it does not have."""


class _Source(Protocol):
    """What a file format must offer: its levels, finest first, and their pixels."""

    sizes: Sequence[tuple[int, int]]
    mpp: tuple[float, float] | None

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """A rectangle of a level, opaque; here `location` and `size` are in pixels of that level."""

    def close(self) -> None: ...


class _Part(NamedTuple):
    """An interval along one side of a level, in fractions of its pixels, and how many pixels it becomes."""

    start: float
    stop: float
    length: int

    def seen_from(self, origin: int) -> _Part:
        return _Part(self.start - origin, self.stop - origin, self.length)


class Slide:
    """A slide or image open for reading, to be closed after use or used in a `with` statement.

    `size` is (w, h) in level-0 pixels. `mpp` is um per level-0 pixel; None where the file does not say, or says
    what cannot be: outside `MPP_RANGE`, or differing by more than 2 % between x and y.
    """

    def __init__(self, path: PathLike, source: _Source) -> None:
        self.path = Path(path)
        self.size = source.sizes[0]
        self.mpp = _plausible(source.mpp)
        self._downsamples = [_downsample(self.size, size) for size in source.sizes]
        self._open_source: _Source | None = source

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, size={self.size}, mpp={self.mpp})"

    def close(self) -> None:
        """Let go of the file; reading is an error from then on, closing again is not."""
        if self._open_source:
            self._open_source.close()
        self._open_source = None

    def read_region(self, location: tuple[int, int], size: tuple[int, int], mpp: float | None = None) -> Image:
        """The region at `location` (x, y) of `size` (w, h), both in level-0 pixels, as uint8 (H, W, 3).

        At `mpp` um/px (None: as at level 0) an output pixel is the mean of the area it covers, or bicubic where
        that is less than a pixel. The output covers the region exactly, its sides rounded to whole pixels.
        Raises: SlideError if the region is not wholly inside, `mpp` is asked of a slide without, or reading fails.
        """
        self._check_inside(location, size)
        zoom = 1.0 if mpp is None else self._zoom_to(mpp)
        return self._read(location, size, _scaled(size, zoom))

    def overview(self, max_px: int) -> tuple[Image, float]:
        """The whole slide, its longer side at most `max_px`, and how many level-0 pixels one pixel is wide."""
        if max_px < 1:
            raise _error("max_px", "at least 1", max_px, "enlarge it")
        zoom = min(1.0, max_px / max(self.size))
        image = self._read((0, 0), self.size, _scaled(self.size, zoom))
        return image, max(self.size) / max(image.shape[:2])

    @property
    def _source(self) -> _Source:
        if not self._open_source:
            raise _error("slide", "open", f"{str(self.path)!r} after close()", "open it again")
        return self._open_source

    def _check_inside(self, location: tuple[int, int], size: tuple[int, int]) -> None:
        inside = all(
            start >= 0 and side >= 1 and start + side <= whole
            for start, side, whole in zip(location, size, self.size, strict=True)
        )
        if not inside:
            advice = f"clip it to {self.size[0]} x {self.size[1]} px"
            raise _error("location and size", "inside the slide", f"{location} and {size}", advice)

    def _zoom_to(self, mpp: float) -> float:
        if not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
            raise _error("mpp", f"from {MPP_RANGE[0]} to {MPP_RANGE[1]:g} um/px", mpp, "check its unit")
        if self.mpp is None:
            raise _error("mpp", "None for a slide that does not say its own", mpp, "read it at level 0")
        return self.mpp / mpp

    def _read(self, location: tuple[int, int], size: tuple[int, int], output: tuple[int, int]) -> Image:
        """A region at `output` (w, h) pixels, from the coarsest level that is fine enough, block by block."""
        if output == size:
            return self._source.read(0, location, size)
        level = self._level_for(size[0] / output[0], size[1] / output[1])
        columns, rows = (
            _parts(start / step, side / step, count)
            for start, side, step, count in zip(location, size, self._downsamples[level], output, strict=True)
        )
        return np.concatenate(
            [np.concatenate([self._read_block(level, x, y) for x in columns], axis=1) for y in rows]
        )

    def _read_block(self, level: int, x: _Part, y: _Part) -> Image:
        width, height = self._source.sizes[level]
        (left, right), (top, bottom) = _cover(x, width), _cover(y, height)
        pixels = self._source.read(level, (left, top), (min(right, width) - left, min(bottom, height) - top))
        # A level whose size was rounded down lacks the last part of a pixel.
        lacking = ((0, max(0, bottom - height)), (0, max(0, right - width)), (0, 0))
        return _resample(np.pad(pixels, lacking, mode="edge"), x.seen_from(left), y.seen_from(top))

    def _level_for(self, *zooms: float) -> int:
        """The coarsest level that need not be enlarged, but for rounding."""
        wanted = min(zooms) * 1.001
        return max((i for i, steps in enumerate(self._downsamples) if max(steps) <= wanted), default=0)


def open_slide(path: PathLike) -> Slide:
    """Open a whole-slide image, or any image that `read_image` reads as a slide of one level.

    Raises: SlideError if it is neither, or broken; FileNotFoundError if it is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(sentence("path", "an existing slide", path, "check the spelling"))
    if not path.is_file():
        raise _error("path", "a slide or image file", f"the folder {str(path)!r}", "name a file in it")
    try:
        return Slide(path, _OpenSlideSource(path))
    except openslide.OpenSlideError as error:
        if not is_image(path):
            raise _unreadable(path, error) from error
    try:
        return Slide(path, _ImageSource(read_image(path)))
    except ValueError as error:
        raise SlideError(str(error)) from error


class _OpenSlideSource:
    """What OpenSlide reads, over the slide's own background colour."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slide = openslide.OpenSlide(path)
        properties = self._slide.properties
        self._background = f"#{properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, 'ffffff')}"
        self.sizes: Sequence[tuple[int, int]] = self._slide.level_dimensions
        x, y = openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y
        self.mpp = (float(properties[x]), float(properties[y])) if x in properties and y in properties else None

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        try:
            # OpenSlide wants level-0 pixels, and divides them by a downsample that need not be a whole number:
            # the nearest one, but none that lets the edge of the level in, which is transparent.
            step = self._slide.level_downsamples[level]
            x, y = (
                min(round(start * step), math.floor((whole - side) * step))
                for start, side, whole in zip(location, size, self.sizes[level], strict=True)
            )
            region = self._slide.read_region((x, y), level, size)
        except openslide.OpenSlideError as error:
            raise _unreadable(self._path, error) from error
        opaque = PIL.Image.new("RGB", size, self._background)
        opaque.paste(region, mask=region)
        return np.array(opaque)

    def close(self) -> None:
        self._slide.close()


class _ImageSource:
    """An image in memory."""

    def __init__(self, pixels: Image) -> None:
        self._pixels = pixels
        self.mpp: tuple[float, float] | None = None
        self.sizes: Sequence[tuple[int, int]] = [(pixels.shape[1], pixels.shape[0])]

    def read(self, _level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        (x, y), (w, h) = location, size
        return self._pixels[y : y + h, x : x + w].copy()

    def close(self) -> None:
        pass


def _error(argument: str, expectation: str, got: object, advice: str) -> SlideError:
    return SlideError(sentence(argument, expectation, got, advice))


def _unreadable(path: Path, error: Exception) -> SlideError:
    problem = f"{str(path)!r} ({' '.join(str(error).split())})"
    return _error("path", "a whole slide or image", problem, "copy or export it again")


def _plausible(mpp: tuple[float, float] | None) -> float | None:
    low, high = sorted(mpp or (0, 0))
    if MPP_RANGE[0] <= low <= high <= MPP_RANGE[1] and high <= low * (1 + MAX_ANISOTROPY):
        return (low + high) / 2
    return None


def _downsample(whole: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """How many level-0 pixels a level's pixel covers in x and y: whole numbers where rounding sides hid them."""
    ratios = (whole[0] / size[0], whole[1] / size[1])
    step = round(min(ratios))
    if all(abs(full / step - side) < 1 for full, side in zip(whole, size, strict=True)):
        return step, step
    return ratios


def _scaled(size: tuple[int, int], zoom: float) -> tuple[int, int]:
    return max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom))


def _parts(start: float, extent: float, count: int) -> list[_Part]:
    """An interval of `extent` pixels that becomes `count` pixels, in parts of about `BLOCK_PX`."""
    parts = min(count, math.ceil(extent / BLOCK_PX))
    cuts = [count * part // parts for part in range(parts + 1)]
    return [_Part(start + extent * a / count, start + extent * b / count, b - a) for a, b in pairwise(cuts)]


def _cover(part: _Part, side: int) -> tuple[int, int]:
    """The pixels to read for a part and its margin; they begin before `side`, but may end beyond."""
    return min(max(0, math.floor(part.start) - MARGIN_PX), side - 1), math.ceil(part.stop) + MARGIN_PX


def _resample(pixels: Image, x: _Part, y: _Part) -> Image:
    """A rectangle of the pixels at another size: area means, or bicubic where that is finer."""
    if x.stop - x.start < x.length or y.stop - y.start < y.length:
        box = (x.start, y.start, x.stop, y.stop)
        image = PIL.Image.fromarray(pixels).resize((x.length, y.length), PIL.Image.Resampling.BICUBIC, box)
        return np.array(image)
    means = _means(_means(pixels, y).swapaxes(0, 1), x).swapaxes(0, 1)
    return np.rint(means).astype(np.uint8)


def _means(values: NDArray[Any], part: _Part) -> NDArray[np.float64]:
    """Means over the equal pieces of a part of the first axis, whose values are constant over a pixel."""
    integral = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, dtype=np.float64, out=integral[1:])
    edges = np.linspace(part.start, part.stop, part.length + 1)
    index = np.minimum(edges.astype(np.intp), len(values) - 1)
    fraction = (edges - index).reshape(-1, *(1,) * (values.ndim - 1))
    at_edges = integral[index] * (1 - fraction) + integral[index + 1] * fraction
    return np.asarray(np.diff(at_edges, axis=0) * (part.length / (part.stop - part.start)))
