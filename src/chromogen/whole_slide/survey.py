"""Look at a slide from afar: glass, tissue, fields, seams, confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.compute.tiles import Window, whole
from chromogen.errors import expected
from chromogen.image import Image, write_image
from chromogen.pixel_size import MPP_RANGE
from chromogen.slides.slide import Slide
from chromogen.slides.store import BlockStore
from chromogen.staining.confidence import SQUARE_PX, Levels, heat_map
from chromogen.stains.appearance import ALWAYS_DOUBTED, appearance_of
from chromogen.stains.glass import glass_view
from chromogen.stains.tissue import Background, background_of, spread_over, tissue_mask
from chromogen.whole_slide.view import View, read_around_damage

# How sure a stainer was of a slide: one map of all blocks, and the picture of it that is written.

SHOWS = "confidence: yellow is like the exemplar's tissue, violet unlike it; white is glass"


def slide_levels(store: BlockStore) -> Levels:
    """The maps of all finished blocks as one, uint8 (h, w) of squares of SQUARE_PX; 0 where there is none."""
    width, height = (-(-side // SQUARE_PX) for side in store.size)
    levels = np.zeros((height, width), np.uint8)
    for index in store.indices():
        found, window = store.levels(index), store.window(index)
        if found is not None:
            top, left = window.top // SQUARE_PX, window.left // SQUARE_PX
            levels[top : top + found.shape[0], left : left + found.shape[1]] = found
    return levels


def write_confidence(path: Path, levels: Levels, facts: Mapping[str, Any]) -> None:
    """Write a map in colours, with the facts of the stained slide, of whose pixels a square has SQUARE_PX.

    Raises: ImageError where the file's ending is none of an image; OSError.
    """
    mpp = float(facts["mpp"]) * SQUARE_PX
    write_image(path, heat_map(levels), {**facts, "mpp": mpp, "shows": SHOWS}, mpp)


# Fields of a slide's tissue, for measurements that a whole slide is too large for.

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


# How visible the borders of blocks are in a finished picture.

SEGMENTS = 200
REACH_PX = 32  # on either side of a border; so far away gradients are what they are everywhere
STEP_PX = 16  # places compared are whole blocks of JPEG apart


def seam_score(read: Callable[[Window], Image], cores: Sequence[Window], size: tuple[int, int]) -> float | None:
    """Mean gradient across the borders of cores, over that 16 and 32 px beside them: 1 where no seam shows.

    Sampled on at most `SEGMENTS` borders of the cores given, in a picture of `size` (w, h) that `read` gives by
    windows. None where there is no border, or no gradient at all.
    """
    borders = list(_borders(cores, size))
    if not borders:
        return None
    chosen = np.unique(np.linspace(0, len(borders) - 1, SEGMENTS).astype(int))
    at, beside = np.sum([_gradients(read, *borders[index]) for index in chosen], axis=0)
    return float(at / beside) if beside else None


def _borders(cores: Sequence[Window], size: tuple[int, int]) -> Iterator[tuple[Window, int]]:
    """Windows around the left and upper borders of cores, and the axis that the border is crossed along."""
    for core in cores:
        if core.left >= REACH_PX + 1 and core.left + REACH_PX < size[0]:
            yield Window(core.left - REACH_PX - 1, core.top, core.left + REACH_PX + 1, core.bottom), 1
        if core.top >= REACH_PX + 1 and core.top + REACH_PX < size[1]:
            yield Window(core.left, core.top - REACH_PX - 1, core.right, core.top + REACH_PX + 1), 0


def _gradients(read: Callable[[Window], Image], window: Window, axis: int) -> tuple[float, float]:
    """Sums of absolute differences at the border, and the mean of those beside it."""
    pixels = np.moveaxis(read(window).astype(np.int16), axis, 0)
    steps = np.abs(np.diff(pixels, axis=0)).reshape(len(pixels) - 1, -1).sum(axis=1, dtype=np.float64)
    beside = [place for place in range(0, 2 * REACH_PX + 1, STEP_PX) if place != REACH_PX]
    return float(steps[REACH_PX]), float(steps[beside].mean())


# What is seen of a slide before it is stained: where tissue lies, the colour of glass, a sample of tissue.

OVERVIEW_PX = 1536
MIN_TISSUE = 0.001  # of the overview: with less, what takes light in it is ink, or dirt
SMALLEST_DAMAGE_PX = 32  # of the overview
MARGIN_PX, SOFT_PX = 7, 5  # of the overview: tissue reaches so far beyond its mask, and fades within so much
SAMPLE_FIELDS, SAMPLE_FIELD_PX = 16, 256  # of the sample
FINE = 256  # parts of an overview's pixel: places in it are whole numbers of them


@dataclass(frozen=True)
class TissueShare:
    """How far pixels of a view are tissue: a coarse map, 0 to 255, interpolated between the centres of its pixels.

    `values` is (h, w), the part from `origin` (x, y) on of a map of `shape` (w, h) of the whole view of `size`.
    """

    values: NDArray[np.uint8]
    size: tuple[int, int]
    shape: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    def part(self, window: Window) -> TissueShare:
        """What a window needs of the map."""
        (x, _), (y, _) = self._places(window)
        left, top, right, bottom = int(x[0]), int(y[0]), int(x[-1]) + 2, int(y[-1]) + 2
        origin = (self.origin[0] + left, self.origin[1] + top)
        return replace(self, values=self.values[top:bottom, left:right], origin=origin)

    def at(self, window: Window) -> NDArray[np.uint8]:
        """The share of the window's pixels, (H, W): 0 for glass, 255 for tissue."""
        (x, x_part), (y, y_part) = self._places(window)
        values = self.values.astype(np.int32)
        height, width = (side - 1 for side in values.shape)
        upper, lower = values[y], values[np.minimum(y + 1, height)]
        rows = upper * (FINE - y_part)[:, None] + lower * y_part[:, None]
        both = rows[:, x] * (FINE - x_part) + rows[:, np.minimum(x + 1, width)] * x_part
        return np.asarray((both + FINE * FINE // 2) // (FINE * FINE), np.uint8)

    def _places(self, window: Window) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """For columns and rows of the window: the map's pixel before it, and how many parts of it beyond."""
        sides = ((window.left, window.right, 0), (window.top, window.bottom, 1))
        return [self._along(np.arange(start, stop), axis) for start, stop, axis in sides]

    def _along(self, pixels: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
        scale = self.shape[axis] / self.size[axis]
        last = (self.shape[axis] - 1) * FINE
        places = np.rint(((pixels + 0.5) * scale - 0.5) * FINE).astype(np.int32).clip(0, last)
        before, part = np.divmod(places, FINE)
        return before - self.origin[axis], part


@dataclass(frozen=True)
class Survey:
    """A slide's tissue, the colour of its glass (r, g, b), a sample at the view's mpp, and why it may be no H&E.

    `share` is None where everything counts as tissue. What cannot be read from afar does: nearer, more of it may.
    `background` says of any part of the view, seen from near, which pixels are tissue.
    """

    share: TissueShare | None
    tissue_fraction: float
    white: tuple[int, int, int]
    sample: Image
    background: Background
    doubt: str | None = None


def survey(view: View, *, mask_tissue: bool = True) -> Survey:
    """Look at a slide from afar, and at fields of its tissue from near."""
    overview, mpp, damaged = _overview(view)
    glass = glass_view(overview, mpp)
    seen = background_of(glass)
    mask = seen.tissue_in(glass.light, mpp)
    red, green, blue = (round(float(level)) for level in seen.white)
    fraction = float(mask.mean())
    doubt = ALWAYS_DOUBTED["nothing"] if fraction < MIN_TISSUE else appearance_of(glass).doubt_as("content")
    for window in damaged:
        mask[window.at] = True
    sample = _sample(view, mask)
    if not mask_tissue:
        return Survey(None, fraction, (red, green, blue), sample, seen, doubt)
    share = TissueShare(_softened(mask), view.size, (mask.shape[1], mask.shape[0]))
    return Survey(share, fraction, (red, green, blue), sample, seen, doubt)


def _overview(view: View) -> tuple[Image, float, list[Window]]:
    """The slide from afar, its mpp then, and what of it is damaged.

    The longer side is at most `OVERVIEW_PX` where that is no coarser than slides can be read.
    """
    own = view.slide.need_mpp()
    mpp = min(MPP_RANGE[1], own * max(view.slide.size) / OVERVIEW_PX)
    afar = View(view.slide, mpp if mpp > own else None)
    image, damaged = read_around_damage(afar, whole(afar.size), SMALLEST_DAMAGE_PX)
    return image, max(mpp, own), damaged


def _softened(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """255 over the mask and what is next to it, fading to 0."""
    wide = ndimage.binary_dilation(mask, iterations=MARGIN_PX) if mask.any() else mask
    return np.asarray(ndimage.uniform_filter(wide * 255.0, SOFT_PX).round(), np.uint8)


def _sample(view: View, mask: NDArray[np.bool_]) -> Image:
    """Fields from all over the tissue, side by side; the whole view where it is hardly larger."""
    side = math.isqrt(SAMPLE_FIELDS)
    if view.size[0] * view.size[1] <= SAMPLE_FIELDS * SAMPLE_FIELD_PX**2:
        return read_around_damage(view, whole(view.size))[0]
    chosen = spread_over(mask if mask.any() else np.ones_like(mask), SAMPLE_FIELDS)
    fields = [read_around_damage(view, _field(view, mask, column, row))[0] for row, column in chosen]
    return np.concatenate([np.concatenate(fields[r * side : (r + 1) * side], axis=1) for r in range(side)])


def _field(view: View, mask: NDArray[np.bool_], column: int, row: int) -> Window:
    """The field around a pixel of the mask, inside the view."""
    width, height = (min(SAMPLE_FIELD_PX, side) for side in view.size)
    x = round((column + 0.5) * view.size[0] / mask.shape[1]) - width // 2
    y = round((row + 0.5) * view.size[1] / mask.shape[0]) - height // 2
    left, top = min(max(0, x), view.size[0] - width), min(max(0, y), view.size[1] - height)
    return Window(left, top, left + width, top + height)
