"""OME-Zarr pyramids: NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), chunk by chunk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.slides.ome_metadata import UM_PER_UNIT
from chromogen.slides.source import (
    About,
    SlideError,
    check_channels,
    check_segment,
    damaged,
    error,
    not_brightfield,
    out_of_reach,
    unreadable,
)

if TYPE_CHECKING:
    import zarr

_MARKS = ("zarr.json", ".zgroup")
_RGB_COLORS = ["FF0000", "00FF00", "0000FF"]
_HASHED_PX = 256  # sides of the rectangles of level 0 that name a slide, beside its coarsest level


def is_zarr(path: Path) -> bool:
    """Whether a folder is the root of a Zarr hierarchy."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


class ZarrSource:
    """The first multiscale picture of a Zarr group; of more than one time or depth, the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            group, image = _open(path)
            self._axes = [_axis_name(axis) for axis in image.get("axes", "tczyx")]
            self._arrays, scales = _levels(group, image["datasets"])
            self._check()
            self.mpp = _mpp(image, self._axes, scales[0])
        except SlideError:
            raise
        except Exception as problem:  # broken metadata breaks in every way there is
            raise unreadable(path, problem) from problem
        self._check_colors(group)
        self.sizes: Sequence[tuple[int, int]] = [self._size(array) for array in self._arrays]
        version = _ome(group).get("version") or image.get("version", "")
        self.about = About(format=f"OME-Zarr {version}".strip(), properties=_properties(group))

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """See `Source`."""
        (x, y), (w, h) = location, size
        wanted: dict[str, slice | int] = {"x": slice(x, x + w), "y": slice(y, y + h), "c": slice(0, 3)}
        try:
            pixels: NDArray[Any] = np.asarray(
                self._arrays[level][tuple(wanted.get(axis, 0) for axis in self._axes)]
            )
        except MemoryError:
            raise
        except OSError as problem:
            raise out_of_reach(self._path, problem) from problem
        except Exception as problem:  # codecs throw everything there is at broken chunks
            raise damaged(self._path, problem) from problem
        if not is_zarr(self._path):  # zarr takes every chunk that is not there for an empty one
            raise out_of_reach(self._path, "its folder is gone")
        kept = [axis for axis in self._axes if axis in wanted]
        ordered = np.transpose(pixels, [kept.index(axis) for axis in "yxc" if axis in kept]).reshape(h, w, -1)
        if ordered.dtype == np.uint16:
            ordered = np.rint(ordered / 257)
        return np.array(np.broadcast_to(ordered, (h, w, 3)), np.uint8)

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
        if finest.dtype not in (np.uint8, np.uint16):
            got = f"{str(self._path)!r} of {finest.dtype}"
            raise error("path", "a slide of unsigned 8 or 16 bit samples", got, "export it as uint8")
        for array in self._arrays:
            check_segment(self._path, math.prod(array.chunks), array.dtype.itemsize)

    def _check_colors(self, group: zarr.Group) -> None:
        """Grey, or red, green and blue."""
        finest = self._arrays[0]
        count = finest.shape[self._axes.index("c")] if "c" in self._axes else 1
        if count == 1:
            return
        if count != 3:
            raise not_brightfield(self._path, f"with {count} channels (fluorescence or multiplex)")
        channels = _ome(group).get("omero", {}).get("channels", [])
        if [str(channel.get("color", "")).upper() for channel in channels] != _RGB_COLORS:
            check_channels(self._path, [str(channel.get("label", "")) for channel in channels], finest.dtype)


def _open(path: Path) -> tuple[zarr.Group, Mapping[str, Any]]:
    """The group that has a multiscale picture, the root or its first picture, and what it says of it."""
    import zarr

    root = zarr.open_group(path, mode="r")
    for group in (root, *([root["0"]] if "0" in root else [])):
        if isinstance(group, zarr.Group) and (images := _ome(group).get("multiscales")):
            return group, images[0]
    got = f"{str(path)!r} without `multiscales`"
    raise error("path", "an OME-Zarr picture", got, "name the folder in it that has them")


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
        unit_um = UM_PER_UNIT.get(units.get(axis) or "")
        if unit_um is None:
            return None
        index = axes.index(axis)
        found.append(float(scale[index]) * float(whole[index]) * unit_um)
    return found[0], found[1]


def _properties(group: zarr.Group) -> dict[str, str]:
    return {f"zarr.{name}": json.dumps(value) for name, value in group.attrs.asdict().items()}
