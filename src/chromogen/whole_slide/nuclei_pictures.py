"""Nuclei drawn: thin outlines over the picture they were found in, and the label image."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
import PIL.ImageDraw
import tifffile
from numpy.typing import NDArray

from chromogen.compute.grid import Window
from chromogen.files import write_whole
from chromogen.image import Image
from chromogen.nuclei.outlines import NETWORK_MPP, joined, labels_of
from chromogen.pixel_size import is_same_mpp
from chromogen.slides.slide import Slide
from chromogen.stains.tissue import densest_window
from chromogen.whole_slide.nuclei_files import CLASSES, Judged
from chromogen.whole_slide.view import View, read_around_damage

Parts: TypeAlias = Callable[[], Iterator[Judged]]  # all of a slide, from the first on

TILE_PX = 4096  # both sides of a tile are at most as long: it is drawn whole, and has a label image
FIELD_PX = 2048  # of a slide, the field that is drawn
BIN_PX = 128  # in which nuclei are counted, to find the densest field
LINE_PX = 1.6
FINER = 4  # lines are drawn so many times larger and then averaged
BLOCK_PX = 512


def is_tile(slide: Slide) -> bool:
    """Whether a picture is small enough to be drawn whole."""
    return max(slide.size) <= TILE_PX


def drawn(slide: Slide, parts: Parts) -> tuple[Image, float, tuple[int, int, int, int]]:
    """A picture with outlines, its um per pixel, and where it lies: (x, y, w, h) in level-0 pixels.

    A tile is drawn whole, of a slide the field of FIELD_PX with the most nuclei, at NETWORK_MPP.
    """
    own = slide.need_mpp()
    view = View(slide, None if is_tile(slide) or is_same_mpp(own, NETWORK_MPP) else NETWORK_MPP)
    scale = np.asarray(view.size) / slide.size
    window = _whole(view) if is_tile(slide) else _densest(view, parts(), scale)
    image, _ = read_around_damage(view, window)
    corner = np.array([window.left, window.top])
    for part in parts():
        outlines = part.part.nuclei.outlines_px * scale - corner
        colors = [tuple(CLASSES[positive]["color"]) for positive in part.columns["positive"]]
        image = outlined(image, outlines, colors)
    place = np.rint(np.array([corner, window.size]) / scale).astype(int).ravel()
    x, y, width, height = (int(side) for side in place)
    return image, view.mpp or own, (x, y, width, height)


def _whole(view: View) -> Window:
    return Window(0, 0, *view.size)


def _densest(view: View, parts: Iterable[Judged], scale: NDArray[np.float64]) -> Window:
    """The field with the most nuclei."""
    size = [min(FIELD_PX, side) for side in view.size]
    shape = [-(-side // BIN_PX) for side in view.size]
    counts = np.zeros(shape[::-1])
    for part in parts:
        column, row = (part.part.nuclei.centres_px * scale / BIN_PX).astype(int).T
        np.add.at(counts, (row.clip(0, shape[1] - 1), column.clip(0, shape[0] - 1)), 1)
    bins = [max(1, min(side // BIN_PX, count)) for side, count in zip(size, shape, strict=True)]
    found = densest_window(counts, (bins[0], bins[1]))
    left, top = (min(at * BIN_PX, whole - side) for at, whole, side in zip(found, view.size, size, strict=True))
    return Window(left, top, left + size[0], top + size[1])


def outlined(
    image: Image, outlines_px: NDArray[np.floating], colors: Sequence[tuple[int, ...]], line_px: float = LINE_PX
) -> Image:
    """A copy of an image, uint8 (H, W, 3), with closed outlines (N, points, 2) of (x, y), antialiased.

    Lines are drawn block by block, larger than they come out.
    """
    made = image.copy()
    if not len(outlines_px):
        return made
    low, high = outlines_px.min(axis=1) - 2 * line_px, outlines_px.max(axis=1) + 2 * line_px
    for top in range(0, image.shape[0], BLOCK_PX):
        for left in range(0, image.shape[1], BLOCK_PX):
            inside = ((high >= (left, top)) & (low <= (left + BLOCK_PX, top + BLOCK_PX))).all(axis=1)
            if inside.any():
                block = made[top : top + BLOCK_PX, left : left + BLOCK_PX]
                here = outlines_px[inside] - (left, top)
                block[:] = _lined(block, here, [colors[i] for i in np.flatnonzero(inside).tolist()], line_px)
    return made


def _lined(
    block: Image, outlines_px: NDArray[np.floating], colors: Sequence[tuple[int, ...]], line_px: float
) -> Image:
    height, width = block.shape[:2]
    large = PIL.Image.fromarray(block).resize((FINER * width, FINER * height), PIL.Image.Resampling.NEAREST)
    pen = PIL.ImageDraw.Draw(large)
    for outline, color in zip(outlines_px, colors, strict=True):
        closed = [tuple(point) for point in (np.vstack([outline, outline[:2]]) * FINER).tolist()]
        pen.line(closed, fill=color, width=round(FINER * line_px), joint="curve")
    return np.asarray(large.reduce(FINER))


def label_image(slide: Slide, parts: Iterable[Judged]) -> NDArray[np.uint32]:
    """A label image (H, W): pixels of a nucleus hold its label in the table, others 0."""
    nuclei = joined((part.part.nuclei for part in parts), slide.need_mpp())
    return labels_of(nuclei, slide.size[::-1]).astype(np.uint32)


def write_numbers(path: Path, planes: NDArray[Any], mpp: float | None, channels: Sequence[str] = ()) -> None:
    """Write numbers (H, W), or (C, H, W) with a name for each channel, as OME-TIFF.

    `mpp` is um per pixel, None where it is not known.
    """
    metadata: dict[str, Any] = {"axes": "CYX" if channels else "YX"}
    metadata |= {"Channel": {"Name": list(channels)}} if channels else {}
    metadata |= {f"PhysicalSize{axis}": mpp for axis in "XY" if mpp}
    data = io.BytesIO()
    tifffile.imwrite(data, planes, ome=True, compression="zlib", photometric="minisblack", metadata=metadata)
    write_whole(path, data.getvalue())
