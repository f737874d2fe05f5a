"""Slides for tests: of any size and made while they are read, or written to files of every kind that is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import tifffile

from chromogen.image import Image
from chromogen.slides.slide import Slide
from chromogen.slides.source import About, DamagedRegionError
from synthetic import drawn, tissue_like

MPP = 0.5
TEXTURE_PX = 1024
GLASS = 245

Box = tuple[int, int, int, int]  # x, y, w, h
Paint = Callable[["SyntheticSource", int, Box], Image]


def coordinates(width: int, height: int) -> Image:
    """Red and green count x and y up to 255 and again, blue the turns: every pixel of 4096 x 4096 differs."""
    return coordinates_at((0, 0, width, height))


def coordinates_at(box: Box) -> Image:
    left, top, w, h = box
    y, x = np.mgrid[top : top + h, left : left + w]
    return np.stack([x % 256, y % 256, 16 * (x // 256 % 16) + y // 256 % 16], axis=-1).astype(np.uint8)


def ramp(width: int, height: int) -> Image:
    """Smooth enough to come through JPEG nearly unchanged."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x // 5, y // 5, (x + y) // 10], axis=-1).astype(np.uint8)


def mean_of_blocks(image: Image, factor: int) -> Image:
    """Area average by a whole number; rows and columns that do not fill a block are left out."""
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3))), np.uint8)


def crop(image: Image, location: tuple[int, int], size: tuple[int, int]) -> Image:
    return image[location[1] : location[1] + size[1], location[0] : location[0] + size[0]]


def paint_coordinates(source: SyntheticSource, level: int, box: Box) -> Image:
    """Level 0 says where it is; coarser levels are its means."""
    factor = source.factors[level]
    x, y, w, h = (factor * side for side in box)
    return mean_of_blocks(coordinates_at((x, y, w, h)), factor)


def paint_tissue(source: SyntheticSource, level: int, box: Box) -> Image:
    """Pink and blue tissue in an ellipse on glass, as wide and high as 90 % of the slide."""
    factor, (x, y, w, h) = source.factors[level], box
    texture = _texture(factor)
    columns, rows = np.arange(x, x + w), np.arange(y, y + h)
    pixels = texture[np.ix_(rows % len(texture), columns % len(texture))]
    across, down = (
        ((at + 0.5) * factor / (0.45 * side) - 0.5 / 0.45) ** 2
        for at, side in zip((columns, rows), source.size, strict=True)
    )
    pixels[down[:, None] + across > 1] = GLASS
    return pixels


@cache
def _texture(factor: int) -> Image:
    return mean_of_blocks(tissue_like(TEXTURE_PX, TEXTURE_PX, seed=0), factor)


@dataclass
class SyntheticSource:
    """A slide that is made while it is read, of any size: it takes no memory and no file.

    `factors` are powers of 2 up to 1024, so that tissue keeps its place at every level. Reading what touches one
    of `broken`, boxes in level-0 pixels, fails as a damaged tile does.
    """

    size: tuple[int, int]
    paint: Paint = paint_tissue
    mpp: tuple[float, float] | None = (MPP, MPP)
    factors: Sequence[int] = (1, 4, 16, 64)
    broken: Sequence[Box] = ()
    about: About = field(default_factory=lambda: About(format="synthetic"))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [(max(1, self.size[0] // factor), max(1, self.size[1] // factor)) for factor in self.factors]

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        factor = self.factors[level]
        for left, top, w, h in self.broken:
            (x, y), (across, down) = location, size
            beside = x * factor >= left + w or (x + across) * factor <= left
            if not (beside or y * factor >= top + h or (y + down) * factor <= top):
                raise DamagedRegionError(
                    f"Expected `path` to be whole, got a broken tile at {left}, {top}; copy it again."
                )
        return self.paint(self, level, (*location, *size))

    def quickhash(self) -> str:
        facts = [self.size, self.paint.__name__, self.mpp, list(self.factors)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def close(self) -> None: ...


def synthetic_slide(
    size: tuple[int, int],
    paint: Paint = paint_tissue,
    mpp: float | None = MPP,
    factors: Sequence[int] = (1, 4, 16, 64),
    broken: Sequence[Box] = (),
) -> Slide:
    """A `SyntheticSource` behind the face of a slide."""
    return Slide("synthetic", SyntheticSource(size, paint, mpp and (mpp, mpp), factors, broken))


def write_pyramid(
    path: Path,
    image: Image,
    factors: tuple[int, ...] = (),
    mpp: tuple[float, float] | None = (MPP, MPP),
    **options: object,
) -> Path:
    """A tiled TIFF with one page for each level, each the mean of level 0."""
    resolution = None if mpp is None else (1e4 / mpp[0], 1e4 / mpp[1])
    layout = {"tile": (128, 128), "photometric": "rgb", "metadata": None, **options}
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, *factors):
            tiff.write(
                mean_of_blocks(image, factor),
                subfiletype=int(factor > 1),
                resolution=resolution if factor == 1 else None,
                resolutionunit="CENTIMETER" if resolution and factor == 1 else None,
                **layout,
            )
    return path


def write_svs(path: Path, image: Image, factors: tuple[int, ...] = (), **options: object) -> Path:
    """What OpenSlide takes for Aperio's format."""
    height, width = image.shape[:2]
    with tifffile.TiffWriter(path) as tiff:
        for factor in (1, *factors):
            tiff.write(
                mean_of_blocks(image, factor),
                tile=(128, 128),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                **options,
                description=f"Aperio Image Library v11.2.1\r\n{width}x{height} JPEG/RGB|AppMag = 20|MPP = 0.4990",
                metadata=None,
            )
    return path


def write_ome_tiff(
    path: Path,
    image: Image,
    factors: tuple[int, ...] = (),
    metadata: dict[str, object] | None = None,
    **options: object,
) -> Path:
    """An OME-TIFF whose levels are SubIFDs; `image` is (H, W, 3), or (3, H, W) for one page for each channel."""
    sizes = {"PhysicalSizeX": MPP, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": MPP, "PhysicalSizeYUnit": "µm"}
    apart = image.shape[-1] != 3
    facts = {"axes": "CYX" if apart else "YXS", **sizes, **(metadata or {})}
    layout = {"tile": (128, 128), "photometric": "minisblack" if apart else "rgb", **options}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(image, subifds=len(factors), metadata=facts, **layout)
        for factor in factors:
            level = mean_of_blocks(np.moveaxis(image, 0, -1) if apart else image, factor)
            tiff.write(np.moveaxis(level, -1, 0) if apart else level, subfiletype=1, metadata=None, **layout)
    return path


def write_he(path: Path, size: tuple[int, int], mpp: float) -> Path:
    """A drawn H&E of `size` (w, h), whose nuclei are 24 px wide, as another program's OME-TIFF."""
    width, height = size
    image = drawn(max(size) // 2 + 1, 1).repeat(2, 0).repeat(2, 1)[:height, :width]
    return write_ome_tiff(path, image, metadata={"PhysicalSizeX": mpp, "PhysicalSizeY": mpp})


def write_ome_zarr(
    path: Path,
    image: Image,
    factors: tuple[int, ...] = (),
    axes: str = "cyx",
    zarr_format: int = 3,
    mpp: float | None = MPP,
    channels: Sequence[dict[str, str]] = (),
) -> Path:
    """NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3), with axes in any order."""
    import zarr

    group, datasets = zarr.open_group(path, mode="w", zarr_format=zarr_format), []
    for index, factor in enumerate((1, *factors)):
        level = mean_of_blocks(image, factor).transpose(["yxc".index(axis) for axis in axes if axis in "yxc"])
        sides = iter(level.shape)
        level = level.reshape([1 if axis in "tz" else next(sides) for axis in axes])
        chunks = tuple(1 if axis in "tz" else 3 if axis == "c" else 128 for axis in axes)
        group.create_array(str(index), data=level, chunks=chunks)
        scale = [factor * (mpp or 1.0) if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"c": "channel", "t": "time"}
    unit = {"unit": "micrometer"} if mpp else {}
    names = [{"name": axis, "type": kinds.get(axis, "space"), **(unit if axis in "yx" else {})} for axis in axes]
    image_facts = {"axes": names, "datasets": datasets}
    facts = {"multiscales": [image_facts], "omero": {"channels": list(channels)}}
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", **facts}
    else:
        image_facts["version"] = "0.4"
        group.attrs.update(facts)
    return path
