"""Pages of a TIFF: which pages are the image, its channels, and what the file says of its pixels."""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chromogen.errors import ImageError, sentence
from chromogen.formats.ome_metadata import (
    RGB,
    Channel,
    OmeFacts,
    OmeImage,
    check_all_read,
    check_grey,
    color_order,
    is_associated,
    is_associated_alone,
    main_of,
    named_order,
    names_fluorescence,
    not_brightfield,
    ome_facts,
)
from chromogen.pixel_size import (
    INCH_UM,
    first_plausible,
    mpp_in_words,
    resolution_mpp,
    um_per_unit,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries


# What a file says of its pixels besides them, and how many of their bits are used.

SAMPLE_BITS = 16
CAMERA_BITS = (8, 10, 12, 14)  # of which cameras write samples of 16


@dataclass(frozen=True)
class FileFacts:
    """`mpp` is um per pixel, (x, y), as stated, whether it can be or not; `associated` names label and macro.

    `significant_bits` is how many bits of a sample are said to be used.
    """

    mpp: tuple[float, float] | None = None
    icc_profile: bytes | None = None
    significant_bits: int | None = None
    objective: float | None = None
    vendor: str | None = None
    associated: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def bits_used(path: Path, bits: int, stated: int | None, brightest: int) -> int:
    """How many of the bits of samples are used: as stated, unless a sample is brighter; else by the brightest.

    A brightfield image is white where there is no tissue. Warns of what Chromogen assumes.
    """
    if bits < SAMPLE_BITS or stated == SAMPLE_BITS:
        return bits
    if stated is not None and CAMERA_BITS[0] <= stated < SAMPLE_BITS:
        if brightest < 2**stated:
            return stated
        said, used = f"states {stated} significant bits and has samples up to {brightest:,}", bits
    else:
        said = f"has samples of {bits} bits and none above {brightest:,}"
        used = next((fewer for fewer in CAMERA_BITS if 0 < brightest < 2**fewer), bits)
        if used == bits:
            return bits
    warnings.warn(f"{path.name} {said}; Chromogen reads them as {used} bits.", stacklevel=5)
    return used


# Which pages of a TIFF are the image, whoever wrote it: not its label or macro, its channels, and its facts.

_GREY = 1  # photometric interpretation
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_PAGE_NAME, _ORIENTATION, _SUBFILE_TYPE = 285, 274, 254
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_UM_PER_UNIT = {2: INCH_UM, 3: 10_000.0, 4: 1_000.0, 5: 1.0}
TURNED = (5, 6, 7, 8)  # orientations that exchange x and y
_SERIES = ("is_imagej", "is_shaped", "is_qpi", "is_lsm", "is_mmstack", "is_micromanager")
_UNSPECIFIED = {"Q", "I"}  # axes of series: unknown, and sequence
_TOLD = (
    *("Make", "Model", "Software", "DateTime", "ImageDescription"),
    *("XResolution", "YResolution", "ResolutionUnit"),
)


@dataclass(frozen=True)
class TiffImage:
    """The image of a TIFF: `planes` are its pages, one, or one for each channel.

    `series` has their levels, where it is known. `order` is where red, green and blue are among three channels.
    """

    planes: list[Any]
    order: tuple[int, ...]
    facts: FileFacts
    series: TiffPageSeries | None = None
    is_ome: bool = False

    def __post_init__(self) -> None:
        if not are_alike(self.planes):
            raise ValueError("its channels differ in size or type")


def tiff_image(path: Path, tiff: TiffFile) -> TiffImage:
    """The largest image that is not a label, macro or thumbnail, at full resolution.

    Raises: ImageError if there is none, or its channels are not those of a brightfield image.
    """
    check_chain(tiff)
    ome = ome_facts(tiff.ome_metadata or "", path.name) if tiff.is_ome else None
    main = main_of(ome.images) if ome else None
    if ome and ome.images:
        return _ome_image(path, tiff, ome, main)
    page, others = _main_page(path, tiff)
    series = _series_of(tiff, page) if page.samplesperpixel == 1 else None
    planes = _channel_planes(path, tiff, series) if series else [page]
    samples = page.samplesperpixel * len(planes)
    if samples == 1 and not series and _are_three_alike(tiff):
        raise _unclear(path)
    if ome:  # without images: the XML lies in another file, and says that this is a part
        check_all_read(path, samples, 3, ["a companion file"])
    channels = _imagej_channels(tiff, len(planes))
    order = _order(path, page, len(planes), channels)
    facts = FileFacts(
        mpp=_upright(first_plausible(_imagej_mpp(tiff, page), *_page_mpp(page)), page),
        icc_profile=page.iccprofile,
        vendor=page.tags.valueof("Make") or None,
        associated=tuple(others),
        properties=_properties(page),
    )
    return TiffImage(planes, order, facts, series if series and "C" in series.axes else None)


def _ome_image(path: Path, tiff: TiffFile, ome: OmeFacts, main: OmeImage | None) -> TiffImage:
    if main is None:
        names = ", ".join(image.name for image in ome.images)
        raise _only_associated(path, names)
    numbers = [number for number in main.planes if number is not None]
    pages = [tiff.pages[number].aspage() for number in numbers if number < len(tiff.pages)]
    if not pages:
        check_all_read(path, 0, main.size_c, main.elsewhere)
        raise ImageError(sentence("path", "a whole image", f"{str(path)!r} without its pages", "export it again"))
    page = pages[0]
    planes = [page] if page.samplesperpixel > 1 else pages
    check_all_read(path, page.samplesperpixel * len(planes), main.size_c, main.elsewhere)
    facts = FileFacts(
        mpp=_upright(first_plausible(main.mpp, *_page_mpp(page)), page),
        icc_profile=page.iccprofile,
        significant_bits=main.significant_bits,
        objective=ome.objective,
        vendor=page.tags.valueof("Make") or None,
        associated=tuple(image.name for image in ome.images if image is not main),
        properties={**_properties(page), **main.properties},
    )
    return TiffImage(planes, _order(path, page, len(planes), main.channels), facts, is_ome=True)


def _order(path: Path, page: TiffPage, planes: int, channels: Sequence[Channel]) -> tuple[int, ...]:
    """Where the colours are; samples that a page calls RGB are so, unless their channels have other names."""
    samples = page.samplesperpixel * planes
    if samples == 1 and page.photometric == _GREY and len(channels) == 1:
        check_grey(path, channels[0])
    if samples != 3:
        return RGB
    if planes > 1:
        return color_order(path, channels, page.dtype)
    if any(channel.is_fluorescence or names_fluorescence(channel.name) for channel in channels):
        raise not_brightfield(path, "rendered from fluorescence")
    return named_order(channels) or RGB  # samples that lie together are colours, whatever the page calls them


def are_alike(planes: Sequence[Any]) -> bool:
    """Whether pages have one size and kind of samples, as channels of an image have."""
    first, *others = (plane.keyframe for plane in planes)
    return all(
        (page.shape, page.dtype, page.bitspersample) == (first.shape, first.dtype, first.bitspersample)
        for page in others
    )


def _channel_planes(path: Path, tiff: TiffFile, series: TiffPageSeries) -> list[Any]:
    """The planes of channels; ImageJ's slices count as such where their labels are colours.

    Raises: ImageError for three grey planes of which nothing says whether they are colours or depths.
    """
    planes, pages = channel_planes(series), list(series.pages)
    if len(planes) > 1 or len(pages) != 3:
        return planes
    if tiff.is_imagej and named_order(_imagej_channels(tiff, 3)):
        return pages
    if _UNSPECIFIED & set(series.axes):
        raise _unclear(path)
    return planes


def _are_three_alike(tiff: TiffFile) -> bool:
    pages = list(readable_pages(tiff))
    return len(pages) == len(tiff.pages) == 3 and are_alike(pages)


def _unclear(path: Path) -> ImageError:
    got = f"{str(path)!r} with three grey planes, of which nothing says whether they are colours"
    return ImageError(sentence("path", "a brightfield image", got, "export it as RGB"))


def channel_planes(series: TiffPageSeries) -> list[Any]:
    """The pages of a series, or of one of its levels, that hold the first plane: one for each channel."""
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    if "C" not in axes:
        return [series.pages[0]]
    at = axes.index("C")
    step = math.prod(shape[at + 1 : axes.index("Y")])
    return [series.pages[channel * step] for channel in range(shape[at])]


def _series_of(tiff: TiffFile, page: TiffPage) -> TiffPageSeries | None:
    """The series that begins with a page, of those who write stacks of channels."""
    if not any(getattr(tiff, kind, False) for kind in _SERIES):
        return None
    return next((s for s in tiff.series if s.pages[0] is not None and s.pages[0].index == page.index), None)


def _main_page(path: Path, tiff: TiffFile) -> tuple[TiffPage, list[str]]:
    """The largest page that is not said to be a label, macro, mask or smaller version; and the names of others."""
    pages = list(readable_pages(tiff))
    named = [(page, associated_name(page, is_alone=len(pages) == 1)) for page in pages]
    slides = [page for page, name in named if name is None]
    if not slides:
        raise _only_associated(path, ", ".join(str(name) for _, name in named))
    whole = [page for page in slides if not page.tags.valueof(_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)]
    main = max(whole or slides, key=lambda page: page.imagewidth * page.imagelength)
    return main, [name for _, name in named if name is not None]


def readable_pages(tiff: TiffFile) -> Iterator[TiffPage]:
    """The pages before the first that is broken."""
    yield tiff.pages.first
    for number in range(1, len(tiff.pages)):
        try:
            yield tiff.pages[number].aspage()
        except Exception:  # tifffile throws everything there is at broken pages
            return


def associated_name(page: TiffPage, *, is_alone: bool = False) -> str | None:
    """What a page calls itself, if that is a label, macro or thumbnail, as Aperio's and others' do."""
    name, words = str(page.tags.valueof(_PAGE_NAME) or ""), str(page.description or "")[:10_000]
    if kind := _KIND.search(words):
        return kind[1]
    lines = [name, *(words.splitlines() if len(words) < 1000 else [])]
    said = (re.sub(r"\s+\d+\s*x\s*\d+.*$|:.*$", "", line.strip()) for line in lines)
    says_so = is_associated_alone if is_alone else is_associated
    return next((line for line in said if len(line) < 80 and says_so(line)), None)


_KIND = re.compile(
    r"\b(?:image\s*type|type|name)\b[\"']?\s*[=:>]\s*[\"']?(label|macro|thumbnail|overview|barcode)\b",
    re.IGNORECASE,
)


def _only_associated(path: Path, names: str) -> ImageError:
    got = f"{str(path)!r} with {names} alone"
    return ImageError(sentence("path", "a slide or image", got, "name the file of the slide itself"))


def check_chain(tiff: TiffFile) -> None:
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


def _page_mpp(page: TiffPage) -> Iterator[tuple[float, float] | None]:
    """From a scanner's description, then from the resolution tags where they have a unit."""
    yield mpp_in_words(str(page.description or "")[:10_000])
    unit_um = _UM_PER_UNIT.get(page.tags.valueof(_RESOLUTION_UNIT, 2))
    yield resolution_mpp(page.tags.valueof(_X_RESOLUTION), page.tags.valueof(_Y_RESOLUTION), unit_um)


def _imagej_mpp(tiff: TiffFile, page: TiffPage) -> tuple[float, float] | None:
    """ImageJ writes pixels for each unit into the resolution tags, and the unit into its description."""
    unit = (tiff.imagej_metadata or {}).get("unit") if tiff.is_imagej else None
    if unit is None:
        return None
    tags = page.tags
    return resolution_mpp(tags.valueof(_X_RESOLUTION), tags.valueof(_Y_RESOLUTION), um_per_unit(str(unit)))


def _imagej_channels(tiff: TiffFile, count: int) -> list[Channel]:
    """Names and colours of an ImageJ stack: labels of slices, and the brightest colour of each look-up table."""
    if not tiff.is_imagej:
        return []
    known = tiff.imagej_metadata or {}
    labels = known.get("Labels") or []
    names = [*map(str, [labels] if isinstance(labels, str) else labels), *[""] * count]
    if count == 1:
        return [Channel(name) for name in names[:1] if names_fluorescence(name)]
    tables = (known.get("LUTs") or []) if known.get("mode") != "grayscale" else []
    colors = [*("".join(f"{level:02X}" for level in np.asarray(table)[:, -1]) for table in tables), *[""] * count]
    return [Channel(name, color) for name, color in zip(names[:count], colors[:count], strict=True)]


def _upright(mpp: tuple[float, float] | None, page: TiffPage) -> tuple[float, float] | None:
    turned = page.tags.valueof(_ORIENTATION, 1) in TURNED
    return mpp[::-1] if mpp and turned else mpp


def _properties(page: TiffPage) -> dict[str, str]:
    values = {name: page.tags.valueof(name) for name in _TOLD}
    return {f"tiff.{name}": str(value) for name, value in values.items() if value is not None}
