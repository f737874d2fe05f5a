"""OME-Zarr pyramids: NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), chunk by chunk."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import ImageError
from chromogen.formats.decoders import Raster, finish
from chromogen.formats.ome_metadata import (
    RGB,
    Channel,
    OmeImage,
    check_grey,
    color_order,
    is_associated,
    is_associated_alone,
    not_brightfield,
    ome_facts,
)
from chromogen.formats.tiff_pages import FileFacts, bits_used
from chromogen.image import Image
from chromogen.pixel_size import um_per_unit
from chromogen.slides.source import (
    About,
    SlideError,
    brightest_sample,
    check_segment,
    damaged,
    error,
    out_of_reach,
    unreadable,
)

if TYPE_CHECKING:
    import zarr

_MARKS = ("zarr.json", ".zgroup")
_HASHED_PX = 256  # sides of the rectangles of level 0 that name a slide, beside its coarsest level


def is_zarr(path: Path) -> bool:
    """Whether a folder is the root of a Zarr hierarchy."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


class ZarrSource:
    """The slide among the multiscale images of a Zarr group; of more than one time or depth, the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found, others = _slide_in(path)
            self._axes = found.axes
            self._arrays, scales = _levels(found.group, found.metadata["datasets"])
            self._check()
            self.mpp = _mpp(found.metadata, self._axes, scales[0]) or found.mpp
            channels = (_ome(found.group).get("omero") or {}).get("channels") or []
            self._order = self._color_order([_channel(channel) for channel in channels])
            stated_bits = _stated_bits(channels)
        except SlideError:
            raise
        except ImageError as problem:
            raise SlideError(str(problem)) from problem
        except Exception as problem:  # broken metadata breaks in every way there is
            raise unreadable(path, problem) from problem
        self.sizes: Sequence[tuple[int, int]] = [self._size(array) for array in self._arrays]
        self._top = 2 ** self._bits_used(stated_bits) - 1
        version = _ome(found.group).get("version") or found.metadata.get("version", "")
        names = tuple(image.name for image in others)
        facts = FileFacts(significant_bits=stated_bits, associated=names, properties=_properties(found.group))
        self.about = About.of(f"OME-Zarr {version}".strip(), facts)

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """See `Source`."""
        samples = self._samples(level, location, size)[..., list(self._order)]
        mode = "RGB" if len(self._order) == 3 else "L"
        opaque = finish(Raster(samples, mode, FileFacts(), 1, self._top))
        return opaque if mode == "RGB" else np.repeat(opaque, 3, axis=2)

    def _samples(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> NDArray[Any]:
        """A rectangle of a level, (h, w, C)."""
        (x, y), (w, h) = location, size
        wanted: dict[str, slice | int] = {"x": slice(x, x + w), "y": slice(y, y + h), "c": slice(0, 3)}
        try:
            there = self._arrays[level][tuple(wanted.get(axis, 0) for axis in self._axes)]
            pixels: NDArray[Any] = np.asarray(there, self._arrays[level].dtype.newbyteorder("="))
        except MemoryError:
            raise
        except OSError as problem:
            raise out_of_reach(self._path, problem) from problem
        except Exception as problem:  # codecs throw everything there is at broken chunks
            raise damaged(self._path, problem) from problem
        if not is_zarr(self._path):  # zarr takes every chunk that is not there for an empty one
            raise out_of_reach(self._path, "its folder is gone")
        kept = [axis for axis in self._axes if axis in wanted]
        return np.transpose(pixels, [kept.index(axis) for axis in "yxc" if axis in kept]).reshape(h, w, -1)

    def _bits_used(self, stated: int | None) -> int:
        """By what the file says and the brightest samples of the coarsest level."""
        bits = 8 * self._arrays[0].dtype.itemsize
        if bits == 8:
            return bits
        level = len(self._arrays) - 1
        brightest = brightest_sample(partial(self._samples, level), self.sizes[level])
        return bits_used(self._path, bits, stated, brightest)

    def quickhash(self) -> str:
        """See `Source`."""
        shapes = [[*array.shape, str(array.dtype)] for array in self._arrays]
        sha256 = hashlib.sha256(json.dumps([self._axes, shapes, self.mpp]).encode())
        (width, height), coarsest = self.sizes[0], self.sizes[-1]
        top_left = (min(coarsest[0], 2048), min(coarsest[1], 2048))
        sha256.update(self.read(len(self.sizes) - 1, (0, 0), top_left).tobytes())
        w, h = min(width, _HASHED_PX), min(height, _HASHED_PX)
        for index in range(8):
            location = ((width - w) * index // 7, (height - h) * index // 7)
            sha256.update(self.read(0, location, (w, h)).tobytes())
        return sha256.hexdigest()

    def close(self) -> None:
        """See `Source`."""

    def _size(self, array: zarr.Array[Any]) -> tuple[int, int]:
        return array.shape[self._axes.index("x")], array.shape[self._axes.index("y")]

    def _check(self) -> None:
        finest = self._arrays[0]
        if len(finest.shape) != len(self._axes) or not {"x", "y"} <= set(self._axes):
            raise unreadable(self._path, f"axes {''.join(self._axes)} for an array of shape {finest.shape}")
        if finest.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
            got = f"{str(self._path)!r} of {finest.dtype}"
            raise error("path", "a slide of unsigned 8 or 16 bit samples", got, "export it as uint8")
        for array in self._arrays:
            check_segment(self._path, math.prod(array.chunks), array.dtype.itemsize)

    def _color_order(self, channels: Sequence[Channel]) -> tuple[int, ...]:
        """Where red, green and blue are, or the one grey channel."""
        finest = self._arrays[0]
        count = finest.shape[self._axes.index("c")] if "c" in self._axes else 1
        if count == 1:
            for channel in channels[:1]:
                check_grey(self._path, channel)
            return (0,)
        if count != 3:
            raise not_brightfield(self._path, f"with {count} channels (fluorescence or multiplex)")
        return color_order(self._path, channels, finest.dtype) if channels or finest.dtype != np.uint8 else RGB


class _Multiscale(NamedTuple):
    """A multiscale image: its group, and what that says of it."""

    name: str
    group: zarr.Group
    metadata: Mapping[str, Any]
    mpp: tuple[float, float] | None = None  # by OME-XML beside it

    @property
    def axes(self) -> list[str]:
        """Names of the axes, as arrays have them."""
        return [_axis_name(axis) for axis in self.metadata.get("axes", "tczyx")]

    @property
    def pixels(self) -> int:
        """How many there are at full resolution."""
        shape = self.group[self.metadata["datasets"][0]["path"]].shape  # type: ignore[union-attr]
        return math.prod(shape[self.axes.index(axis)] for axis in "xy")


def _slide_in(path: Path) -> tuple[_Multiscale, list[_Multiscale]]:
    """The largest image that is not a label or macro, and the others."""
    images = list(_multiscales(path))
    says_so = is_associated if len(images) > 1 else is_associated_alone
    slides = [image for image in images if not says_so(image.name)]
    if not slides:
        names = ", ".join(image.name for image in images)
        got = f"{str(path)!r} with {names} alone" if images else f"{str(path)!r} without `multiscales`"
        raise error("path", "an OME-Zarr picture", got, "name the folder in it that has the slide")
    slide = slides[0] if len(slides) == 1 else max(slides, key=lambda image: image.pixels)
    return slide, [image for image in images if image is not slide]


def _multiscales(path: Path) -> Iterator[_Multiscale]:
    """The images of the root, or of the numbered groups in it, as Bio-Formats writes them."""
    import zarr

    root = zarr.open_group(path, mode="r")
    if images := _ome(root).get("multiscales"):
        yield from (_Multiscale(str(image.get("name", "")), root, image) for image in images)
        return
    beside = _images_in_xml(path)
    for number in itertools.count():
        group = root.get(str(number))
        if not isinstance(group, zarr.Group):
            return
        for image in _ome(group).get("multiscales") or ():
            if number < len(beside):
                yield _Multiscale(beside[number].name, group, image, beside[number].mpp)
            else:
                yield _Multiscale(str(image.get("name", "")), group, image)


def _images_in_xml(path: Path) -> Sequence[OmeImage]:
    """The images, in the order of their groups, by the OME-XML that Bio-Formats writes beside them."""
    try:
        xml = (path / "OME" / "METADATA.ome.xml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    facts = ome_facts(xml)
    return facts.images if facts else []


def _channel(channel: Mapping[str, Any]) -> Channel:
    return Channel(str(channel.get("label") or ""), str(channel.get("color") or "").lstrip("#").upper()[:6])


def _stated_bits(channels: Sequence[Mapping[str, Any]]) -> int | None:
    """How many bits samples use, where the largest value that all channels state is that of a number of bits."""
    tops = {(channel.get("window") or {}).get("max") for channel in channels}
    top = tops.pop() if len(tops) == 1 else None
    if not isinstance(top, int | float) or top < 255 or not float(top).is_integer():
        return None
    bits = (int(top) + 1).bit_length() - 1
    return bits if 2**bits - 1 == top else None


def _ome(group: zarr.Group) -> Mapping[str, Any]:
    """NGFF 0.5 keeps in one attribute what 0.4 has among all others."""
    attributes: Mapping[str, Any] = group.attrs.asdict()
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    return ome


def _axis_name(axis: str | Mapping[str, Any]) -> str:
    return axis if isinstance(axis, str) else str(axis["name"]).casefold()


def _levels(
    group: zarr.Group, datasets: Sequence[Mapping[str, Any]]
) -> tuple[list[zarr.Array[Any]], list[Sequence[float] | None]]:
    """The arrays that are there, finest first, with their scales; the finest must be."""
    import zarr

    arrays, scales = [], []
    for index, dataset in enumerate(datasets):
        if index and dataset["path"] not in group:
            continue  # a level less costs time, nothing else
        array = group[dataset["path"]]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{dataset['path']} is no array")
        arrays.append(array)
        scales.append(_scale(dataset))
    return arrays, scales


def _scale(node: Mapping[str, Any]) -> Sequence[float] | None:
    transforms = node.get("coordinateTransformations", [])
    return next((transform["scale"] for transform in transforms if transform.get("type") == "scale"), None)


def _mpp(
    image: Mapping[str, Any], axes: Sequence[str], scale: Sequence[float] | None
) -> tuple[float, float] | None:
    """Scale of the finest level, times that of all levels where there is one, if its unit is one of length."""
    units = {_axis_name(axis): axis.get("unit") for axis in image.get("axes", []) if not isinstance(axis, str)}
    if scale is None:
        return None
    whole = _scale(image) or [1.0] * len(axes)
    found = []
    for axis in "xy":
        unit_um = um_per_unit(units.get(axis) or "")
        if unit_um is None:
            return None
        index = axes.index(axis)
        found.append(float(scale[index]) * float(whole[index]) * unit_um)
    return found[0], found[1]


def _properties(group: zarr.Group) -> dict[str, str]:
    return {f"zarr.{name}": json.dumps(value) for name, value in group.attrs.asdict().items()}
