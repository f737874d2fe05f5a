"""A slide: read by location and size, at any pixel size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import PIL.Image

from chromogen.errors import missing
from chromogen.formats.decoders import MAX_PIXELS, TIFF_SIGNATURES, open_file
from chromogen.image import Image, PathLike, is_image, natural_order, srgb_transform
from chromogen.pixel_size import check_mpp, is_same_mpp, plausible_mpp
from chromogen.slides.openslide_reader import GENERIC, OpenSlideSource, detected_vendor, one_file_each
from chromogen.slides.resampling import Span, resample
from chromogen.slides.source import (
    About,
    ImageSource,
    SlideError,
    Source,
    error,
    open_array,
    open_image,
    unreadable,
)
from chromogen.slides.tiff_reader import open_tiff
from chromogen.slides.zarr_reader import ZarrSource, is_zarr

# Whole-slide images: regions at any resolution, with the pyramid's levels out of sight.

__all__ = [
    "SLIDE_SUFFIXES",
    "Slide",
    "SlideError",
    "list_slides",
    "open_slide",
    "slide_files",
]

# Aperio, Hamamatsu, Leica, MIRAX, Philips, Sakura, Ventana, Zeiss, DICOM: what OpenSlide knows by its name.
SLIDE_SUFFIXES = (".svs", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi", ".dcm")
BLOCK_PX = 1024  # side of what is resampled at a time, which takes up to 60 bytes a pixel
LAZY_BYTES = 64_000_000  # what readers that read tile by tile keep at most


class Slide:
    """A slide or image open for reading, to be closed after use or used in a `with` statement.

    `size` is (w, h) in level-0 pixels, `level_sizes` those of all levels, finest first. `mpp` is um per level-0
    pixel, and `mpp_from` says whence: "option", what was given; else "file", what the file states, unless that
    cannot be (outside `MPP_RANGE`, or more than 2 % apart in x and y); else "assumed", what the caller assumes;
    else None. `stated_mpp` is what the file states, (x, y), believed or not.
    `about` has what else the file says: format, vendor, objective, names of associated images, ICC profile.
    `memory_bytes` is about what it takes while it is open.
    Regions may be read in several threads at once. Raises: SlideError for an mpp that cannot be.
    """

    def __init__(
        self,
        path: PathLike,
        source: Source,
        *,
        mpp: float | None = None,
        assumed_mpp: float | None = None,
        icc: bool = True,
    ) -> None:
        self.path = Path(path)
        self.size = source.sizes[0]
        if min(self.size) < 1:
            raise unreadable(self.path, f"{self.size[0]} x {self.size[1]} px")
        _check_mpp(mpp)
        self.level_sizes = tuple(source.sizes)
        self.about: About = source.about
        self.stated_mpp = source.mpp
        self.memory_bytes = 3 * self.size[0] * self.size[1] if isinstance(source, ImageSource) else LAZY_BYTES
        sizes = {"option": mpp, "file": plausible_mpp(source.mpp), "assumed": assumed_mpp}
        self.mpp_from = next((whence for whence, size in sizes.items() if size is not None), None)
        self.mpp = sizes[self.mpp_from] if self.mpp_from else None
        # A plain image is in sRGB already, since other colour modes than RGB can only be converted while reading.
        profile = None if isinstance(source, ImageSource) or not icc else source.about.icc_profile
        self._to_srgb = srgb_transform(self.path, profile) if profile else None
        self._downsamples = [_downsample(self.size, size) for size in source.sizes]
        self._open_source: Source | None = source

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, size={self.size}, mpp={self.mpp})"

    def close(self) -> None:
        """Let go of the file, when no thread reads; reading is an error from then on, closing again is not."""
        if self._open_source:
            self._open_source.close()
        self._open_source = None

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says in its own words; may name a patient."""
        return self.about.properties

    @property
    def bounds(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Location and size, in level-0 pixels, of what was scanned, if it says so; else the whole."""
        return self.about.bounds or ((0, 0), self.size)

    @cached_property
    def quickhash(self) -> str:
        """Names the content, not the file: OpenSlide's, or a hash of metadata and samples."""
        return self._source.quickhash()

    def need_mpp(self) -> float:
        """The mpp, where work depends on it. Raises: SlideError, which names what helps, where it is not known."""
        if self.mpp is None:
            raise error(
                "mpp", f"known for {str(self.path)!r}", self._said_of_mpp(), _mpp_advice(self.about.objective)
            )
        return self.mpp

    def size_at(self, mpp: float | None) -> tuple[int, int]:
        """Size (w, h) of the whole slide at `mpp` um/px, at least 1 x 1; None: as at level 0."""
        return self.size if mpp is None else _scaled(self.size, self._zoom_to(mpp))

    def read_region(self, location: tuple[int, int], size: tuple[int, int], mpp: float | None = None) -> Image:
        """The region at `location` (x, y) of `size` (w, h), both in level-0 pixels, as uint8 (H, W, 3).

        At `mpp` um/px (None: as at level 0) an output pixel is the mean of the area it covers, or bicubic where
        that is less than a pixel. The output covers the region exactly, its sides rounded to whole pixels.
        Raises: SlideError if the region is not wholly inside, `mpp` is asked of a slide without, or reading fails.
        """
        _check_inside(location, size, self.size)
        output = size if mpp is None else _scaled(size, self._zoom_to(mpp))
        x, y = (
            Span(start, side / count, 0, count) for start, side, count in zip(location, size, output, strict=True)
        )
        return self._read(x, y)

    def read_at(self, location: tuple[int, int], size: tuple[int, int], mpp: float | None) -> Image:
        """What `location` (x, y) and `size` (w, h) cut out of the whole slide at `mpp`, all in pixels of that.

        Equal to a crop of the whole, of `size_at(mpp)`, in every bit: tiles read so fit together without a seam,
        which `read_region` cannot promise where their borders are no whole pixels at `mpp`. Raises: as that.
        """
        whole = self.size_at(mpp)
        _check_inside(location, size, whole)
        x, y = (
            Span(0.0, full / count, start, side)
            for full, count, start, side in zip(self.size, whole, location, size, strict=True)
        )
        return self._read(x, y)

    def read_level(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """The region at `location` (x, y) of `size` (w, h), in pixels of a level of the file, uint8 (H, W, 3).

        Raises: SlideError if the region is not wholly inside, or reading fails.
        """
        pairs = zip(location, size, self.level_sizes[level], strict=True)
        if not all(0 <= start < start + length <= side for start, length, side in pairs):
            wanted = f"inside the {self.level_sizes[level]} px of level {level}"
            raise error("region", wanted, f"{location}, {size}", "choose another region")
        return self._in_srgb(self._source.read(level, location, size))

    def overview(self, max_px: int) -> tuple[Image, float]:
        """The whole slide, its longer side at most `max_px`, and how many level-0 pixels one pixel is wide."""
        if max_px < 1:
            raise error("max_px", "at least 1", max_px, "enlarge it")
        output = _scaled(self.size, min(1.0, max_px / max(self.size)))
        x, y = (Span(0.0, side / count, 0, count) for side, count in zip(self.size, output, strict=True))
        return self._read(x, y), max(self.size) / max(output)

    @property
    def _source(self) -> Source:
        if not self._open_source:
            raise error("slide", "open", f"{str(self.path)!r} after close()", "open it again")
        return self._open_source

    def _zoom_to(self, mpp: float) -> float:
        _check_mpp(mpp)
        return self.need_mpp() / mpp

    def _said_of_mpp(self) -> str:
        if not self.stated_mpp:
            return "none in the file"
        return f"{self.stated_mpp[0]:g} x {self.stated_mpp[1]:g} um/px in the file, which cannot be"

    def _read(self, x: Span, y: Span) -> Image:
        """A region of level 0, from the coarsest level that is fine enough, block by block, in sRGB."""
        level = self._level_for(x.step, y.step)
        x, y = (span.at_level(step) for span, step in zip((x, y), self._downsamples[level], strict=True))
        if x.is_crop_of(self.level_sizes[level][0]) and y.is_crop_of(self.level_sizes[level][1]):
            location = (round(x.start), round(y.start))
            return self._in_srgb(self._source.read(level, location, (x.length, y.length)))
        columns, rows = x.parts(BLOCK_PX), y.parts(BLOCK_PX)
        return np.concatenate(
            [np.concatenate([self._read_block(level, x, y) for x in columns], axis=1) for y in rows]
        )

    def _read_block(self, level: int, x: Span, y: Span) -> Image:
        (left, right), (top, bottom) = (
            span.cover(side) for span, side in zip((x, y), self.level_sizes[level], strict=True)
        )
        pixels = self._source.read(level, (left, top), (right - left, bottom - top))
        return self._in_srgb(resample(pixels, (left, top), x, y))

    def _in_srgb(self, pixels: Image) -> Image:
        if not self._to_srgb:
            return pixels
        return np.array(self._to_srgb.apply(PIL.Image.fromarray(pixels)))

    def _level_for(self, *steps: float) -> int:
        """The coarsest level that need not be enlarged, but for rounding."""
        wanted = min(steps) * 1.001
        return max((i for i, steps in enumerate(self._downsamples) if max(steps) <= wanted), default=0)


def open_slide(
    path: PathLike | Image, mpp: float | None = None, icc: bool = True, *, assumed_mpp: float | None = None
) -> Slide:
    """Open a whole-slide image; any image that `read_image` reads, or an array, is a slide of one level.

    Makers' formats by OpenSlide, OME-TIFF and other TIFF tile by tile, OME-Zarr, and plain images. `mpp` (um per
    level-0 pixel) takes the place of what the file states, `assumed_mpp` that of what it does not state. Colours
    are converted by the file's ICC profile to sRGB, or left as they are (`icc=False`), as other viewers show them.
    Raises: SlideError if it is none of these, or broken; FileNotFoundError if it is missing; PermissionError.
    """
    if isinstance(path, np.ndarray):
        return Slide("array", open_array(path), mpp=mpp, assumed_mpp=assumed_mpp)
    path = Path(path)
    if not path.exists():
        raise missing("path", "an existing slide", path)
    source = _source(path, icc=icc)
    try:
        return Slide(path, source, mpp=mpp, assumed_mpp=assumed_mpp, icc=icc)
    except BaseException:
        source.close()
        raise


def list_slides(folder: PathLike) -> list[Path]:
    """The slides and images in a folder, by their names, in natural order, without hidden ones and folders below.

    Of the DICOM files of a slide only the first. Raises: SlideError if there is none.
    """
    folder = Path(folder)
    slides = [path for path in folder.iterdir() if path.name[0] != "." and _is_named_as_slide(path)]
    if not slides:
        raise error(
            "path", "a slide, or a folder of them", f"the folder {str(folder)!r} without any", "name a file"
        )
    return one_file_each(sorted(slides, key=natural_order))


def slide_files(paths: Iterable[Path]) -> list[Path]:
    """The paths, with the slides and images of those that are folders. Raises: SlideError for one without any."""
    return [
        file for path in paths for file in (list_slides(path) if path.is_dir() and not is_zarr(path) else [path])
    ]


def _is_named_as_slide(path: Path) -> bool:
    return is_zarr(path) or (path.is_file() and (is_image(path) or path.suffix.lower() in SLIDE_SUFFIXES))


def _source(path: Path, *, icc: bool) -> Source:
    """The reader for a file, which its content decides, not its name."""
    if is_zarr(path):
        return ZarrSource(path)
    if not path.is_file():
        raise error("path", "a slide or image file", f"the folder {str(path)!r}", "name a file in it")
    try:
        with open_file(path) as file:
            signature = file.read(4)
    except ValueError as problem:
        raise SlideError(str(problem)) from problem
    vendor = detected_vendor(path)
    if vendor and vendor != GENERIC:
        return OpenSlideSource(path)
    if signature in TIFF_SIGNATURES:
        return open_tiff(path, icc=icc)
    if not is_image(path):
        raise unreadable(path, "in no format that can be read")
    return open_image(path, icc=icc)


def _check_inside(location: tuple[int, int], size: tuple[int, int], whole: tuple[int, int]) -> None:
    inside = all(
        start >= 0 and side >= 1 and start + side <= full
        for start, side, full in zip(location, size, whole, strict=True)
    )
    if not inside:
        advice = f"clip it to {whole[0]} x {whole[1]} px"
        raise error("location and size", "inside the slide", f"{location} and {size}", advice)


def _check_mpp(mpp: float | None) -> None:
    try:
        check_mpp("mpp", mpp)
    except ValueError as problem:
        raise SlideError(str(problem)) from problem


def _mpp_advice(objective: float | None) -> str:
    """What to do, with the guess that an objective allows, which is not ours to make."""
    guess = f"{10 / objective:g}, if it was scanned at {objective:g}x" if objective else "0.25 at 40x, 0.5 at 20x"
    return f"give it with --mpp ({guess})"


def _downsample(whole: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
    """How many level-0 pixels a level's pixel covers in x and y: whole numbers where rounding sides hid them."""
    ratios = (whole[0] / size[0], whole[1] / size[1])
    step = round(min(ratios))
    if all(abs(full / step - side) < 1 for full, side in zip(whole, size, strict=True)):
        return step, step
    return ratios


def _scaled(size: tuple[int, int], zoom: float) -> tuple[int, int]:
    return max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom))


# A slide or image read whole, with the size of its pixels: for work that needs all of it at once.


class Picture(NamedTuple):
    """Pixels, uint8 (H, W, 3), and their size in um, None where it is not known."""

    pixels: Image
    mpp: float | None


def read_picture(path: PathLike | Image, mpp: float | None = None, *, at_mpp: float | None = None) -> Picture:
    """Read an image or slide of any format whole, in sRGB; an array, uint8 (H, W, 3), is one already.

    `mpp` is um per pixel of the file, where it states none or a wrong one. At `at_mpp` the picture is resampled to
    that size, unless its own is the same within 2 % or not known.
    Raises: SlideError where it cannot be read or is too large; FileNotFoundError; PermissionError.
    """
    with open_slide(path, mpp=mpp) as slide:
        own = slide.mpp
        to_mpp = None if at_mpp is None or own is None or is_same_mpp(own, at_mpp) else at_mpp
        width, height = slide.size_at(to_mpp)
        if width * height > MAX_PIXELS:
            got = f"{str(path)!r} of {width:,} x {height:,} px"
            raise error(
                "path", f"an image of at most {MAX_PIXELS:,} px", got, "cut out a region, or stain it as a slide"
            )
        return Picture(slide.read_at((0, 0), (width, height), to_mpp), to_mpp or own)
