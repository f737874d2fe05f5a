"""Fields of a slide's tissue: what is looked at where a whole slide is too much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.slides.slide import Slide
from chromogen.stains.tissue import spread_over, tissue_mask

FIELDS, FIELD_PX = 16, 512  # of a slide
WHOLE_PX = 2048  # an image no larger is one field

Region = tuple[int, int, int, int]  # x, y, width, height in level-0 pixels


def tissue_fields(
    slide: Slide, overview: Image, step: float, mpp: float | None, region: Region | None = None
) -> list[Image]:
    """A slide or a region of it, uint8 (H, W, 3) at `mpp`, whole where it is small; else squares of its tissue.

    Squares lie evenly over the tissue that the `overview` shows, whose pixels are `step` level-0 pixels wide. None
    where there is no tissue. Raises: ValueError for a region that is not inside the slide; SlideError.
    """
    x, y, width, height = _area(slide, mpp, region)
    if width * height <= WHOLE_PX**2:
        return [slide.read_at((x, y), (width, height), mpp)]
    side = min(FIELD_PX, width, height)
    tissue = tissue_mask(overview, slide.need_mpp() * step) & _inside(overview.shape, step, region)
    across, down = (full / seen for full, seen in zip(slide.size_at(mpp), overview.shape[1::-1], strict=True))
    corners = {
        (_begin((column + 0.5) * across, x, width, side), _begin((row + 0.5) * down, y, height, side))
        for row, column in spread_over(tissue, FIELDS)
    }
    return [slide.read_at(corner, (side, side), mpp) for corner in sorted(corners)]


def _area(slide: Slide, mpp: float | None, region: Region | None) -> Region:
    """The region in pixels at `mpp`; the whole where there is none."""
    whole = slide.size_at(mpp)
    if region is None:
        return 0, 0, *whole
    x, y, width, height = region
    if min(x, y) < 0 or min(width, height) < 1 or x + width > slide.size[0] or y + height > slide.size[1]:
        inside = f"X,Y,W,H inside the {slide.size[0]} x {slide.size[1]} px of {slide.path.name}"
        raise expected("region", inside, ",".join(map(str, region)))
    zoom = whole[0] / slide.size[0]
    left, top = int(x * zoom), int(y * zoom)
    return left, top, max(1, int((x + width) * zoom) - left), max(1, int((y + height) * zoom) - top)


def _inside(shape: tuple[int, ...], step: float, region: Region | None) -> NDArray[np.bool_]:
    """Which pixels of an overview lie in the region, bool (H, W)."""
    inside = np.zeros(shape[:2], np.bool_)
    x, y, width, height = region or (0, 0, round(shape[1] * step), round(shape[0] * step))
    inside[int(y / step) : int((y + height) / step) + 1, int(x / step) : int((x + width) / step) + 1] = True
    return inside


def _begin(centre: float, start: int, length: int, side: int) -> int:
    """Where a field of this side round a place begins, from `start` to `start + length`; fields lie on a grid."""
    at = round((centre - start - side / 2) / side) * side
    return start + min(max(0, at), length - side)
