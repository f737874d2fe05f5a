"""Outlines of nuclei: how they are kept, decoded from maps, and compared with drawn ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Nuclei as outlines: star-convex polygons in the frame of the picture or slide they were found in.

MAX_DRAWN = 5000  # outlines in a notebook
RAYS = 32  # of every outline, at equal angles from the centre (Schmidt et al. 2018 use as many)


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one picture or slide, in any number N.

    `centres_px` (N, 2) and `outlines_px` (N, RAYS, 2) are float32 (x, y) in pixels of level 0, where pixel (0, 0)
    covers [0, 1) x [0, 1). `confidence` (N,) is float32 in [0, 1]. `mpp` is the size of a level-0 pixel in um.
    """

    centres_px: NDArray[np.float32]
    outlines_px: NDArray[np.float32]
    confidence: NDArray[np.float32]
    mpp: float

    def __len__(self) -> int:
        return len(self.centres_px)

    def _repr_html_(self) -> str:
        """The outlines as a drawing, for notebooks."""
        shown = self.outlines_px[:MAX_DRAWN]
        width, height = shown.max((0, 1), initial=1)
        drawn = "".join(f'<polygon points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in ring)}"/>' for ring in shown)
        shape = f'viewBox="0 0 {width:.0f} {height:.0f}" width="512" fill="none" stroke="#4338a8" stroke-width="1"'
        return f"<p>{len(self):,} nuclei</p><svg {shape}>{drawn}</svg>"

    @property
    def areas_um2(self) -> NDArray[np.float64]:
        """Area of each outline, float64 (N,)."""
        x, y = np.moveaxis(self.outlines_px.astype(np.float64), 2, 0)
        doubled = (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)
        return np.asarray(abs(doubled) / 2 * self.mpp**2)

    def take(self, which: NDArray[Any]) -> Nuclei:
        """The nuclei that an index or a mask (N,) names, in that order."""
        return Nuclei(self.centres_px[which], self.outlines_px[which], self.confidence[which], self.mpp)

    def moved(self, offset_px: tuple[float, float], scale: float = 1.0) -> Nuclei:
        """The same nuclei in another frame: coordinates times `scale`, then plus `offset_px` (x, y)."""
        offset = np.asarray(offset_px, np.float32)
        scale_32 = np.float32(scale)
        return Nuclei(
            self.centres_px * scale_32 + offset,
            self.outlines_px * scale_32 + offset,
            self.confidence,
            self.mpp / scale,
        )

    def with_mpp(self, mpp: float) -> Nuclei:
        """The same outlines, with the exact size of a pixel where scaling has rounded it."""
        return Nuclei(self.centres_px, self.outlines_px, self.confidence, mpp)


def no_nuclei(mpp: float) -> Nuclei:
    """Nuclei of a picture that has none."""
    return Nuclei(np.zeros((0, 2), np.float32), np.zeros((0, RAYS, 2), np.float32), np.zeros(0, np.float32), mpp)


def joined(parts: Iterable[Nuclei], mpp: float) -> Nuclei:
    """The nuclei of all `parts`, which share one frame and `mpp`, in one."""
    whole = [no_nuclei(mpp), *parts]
    return Nuclei(
        np.concatenate([part.centres_px for part in whole]),
        np.concatenate([part.outlines_px for part in whole]),
        np.concatenate([part.confidence for part in whole]),
        mpp,
    )


def labels_of(nuclei: Nuclei, shape: tuple[int, int]) -> NDArray[np.int32]:
    """A label image (H, W): nucleus i covers the pixels whose centres lie in its outline with i + 1, others are 0.

    Where outlines overlap the more confident nucleus lies on top.
    """
    labels = np.zeros(shape, np.int32)
    order = np.argsort(nuclei.confidence, kind="stable")
    rows, columns, which = _covered(nuclei.outlines_px[order].astype(np.float64), shape)
    labels[rows, columns] = order[which] + 1  # of pixels that come twice the last counts
    return labels


def _covered(
    outlines: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of pixels whose centres lie in outlines (N, R, 2), and in which, outline by outline.

    Along a row of pixels each crossing of an outline leads in or out. Each outline has a box of its own.
    """
    height, width = shape
    row, column, which = _crossings(outlines, height)
    column = column.clip(0, width)
    least, most = outlines.min(axis=1) - 0.5, outlines.max(axis=1) + 0.5
    left, top = (
        np.floor(least[:, axis]).clip(0, side).astype(np.intp) for axis, side in ((0, width), (1, height))
    )
    right, bottom = (
        np.ceil(most[:, axis]).clip(0, side).astype(np.intp) for axis, side in ((0, width), (1, height))
    )
    wide, tall = np.maximum(right - left, 0) + 1, np.maximum(bottom - top, 0)
    begins = np.concatenate([[0], np.cumsum(wide * tall)])
    places = begins[which] + (row - top[which]) * wide[which] + (column - left[which]).clip(0, wide[which] - 1)
    inside = np.flatnonzero(np.cumsum(np.bincount(places, minlength=begins[-1])) % 2)
    owner = np.searchsorted(begins, inside, side="right") - 1
    down, across = np.divmod(inside - begins[owner], wide[owner])
    return top[owner] + down, left[owner] + across, owner


def _crossings(
    outlines: NDArray[np.float64], height: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Where outlines cross the middles of rows of pixels: row, the first column behind, and which outline."""
    ends = outlines, np.roll(outlines, -1, axis=1)
    (x0, y0), (x1, y1) = (np.moveaxis(points, 2, 0).reshape(2, -1) for points in ends)
    first, past = (
        np.ceil(further(y0, y1) - 0.5).clip(0, height).astype(np.intp) for further in (np.minimum, np.maximum)
    )
    counts = past - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.ceil(x0[edge] + (row + 0.5 - y0[edge]) * slope - 0.5).astype(np.intp)
    return row, column, edge // outlines.shape[1]


# How well found nuclei agree with drawn ones, one by one.

MIN_IOU = 0.5  # of a found and a drawn nucleus that match: at more than half, each matches one at most


@dataclass(frozen=True)
class Agreement:
    """Numbers of nuclei: `matched` of `found` and `drawn` ones."""

    matched: int
    found: int
    drawn: int

    @property
    def precision(self) -> float:
        """Share of the found nuclei that were drawn; NaN without any."""
        return self.matched / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the drawn nuclei that were found; NaN without any."""
        return self.matched / self.drawn if self.drawn else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without any nucleus."""
        many = self.found + self.drawn
        return 2 * self.matched / many if many else float("nan")

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.matched + other.matched, self.found + other.found, self.drawn + other.drawn)


def agreement(found: NDArray[Any], drawn: NDArray[Any]) -> Agreement:
    """Match two label images (H, W), 0 where no nucleus is, at intersections over unions above MIN_IOU."""
    numbers = [int(np.count_nonzero(np.unique(labels))) for labels in (found, drawn)]
    return Agreement(len(matches(found, drawn)), *numbers)


def matches(found: NDArray[Any], drawn: NDArray[Any]) -> NDArray[np.int64]:
    """Labels (K, 2) of the nuclei of two label images (H, W) that match, in order of the first."""
    both = (found > 0) & (drawn > 0)
    most = int(drawn.max(initial=0)) + 1
    pairs, shared = np.unique(found[both].astype(np.int64) * most + drawn[both], return_counts=True)
    first, second = np.divmod(pairs, most)
    areas = [np.bincount(labels[labels > 0]) for labels in (found, drawn)]
    union = areas[0][first] + areas[1][second] - shared
    return np.stack([first, second], axis=1)[shared > MIN_IOU * union]


# What every network that finds nuclei takes and gives.


@dataclass(frozen=True)
class Prediction:
    """What a network says of the middles of squares of STRIDE_PX.

    `depth` is float32 (h, w) in [0, 1]: how surely a place lies deep in a nucleus. `radii_px(rows, columns)` gives
    the distances in px to its border, float32 (N, RAYS), clockwise from +x: few places are asked for, all of them
    with a depth over MIN_LIKELY.
    """

    depth: NDArray[np.float32]
    radii_px: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float32]]


# From optical densities of base 10, float32 (1, 3, H, W) in the order red, green, blue.
Network: TypeAlias = Callable[[NDArray[np.float32]], Prediction]


def prediction_of(made: NDArray[np.float32]) -> Prediction:
    """Of an array (1, 1 + RAYS, h, w): the logit of lying deep in a nucleus, and the radii of every place."""
    depth = np.asarray(1 / (1 + np.exp(-made[0, 0])), np.float32)
    return Prediction(depth, lambda rows, columns: np.ascontiguousarray(made[0, 1:, rows, columns]))


NETWORK_MPP = 0.5  # the pixel size that a network reads
STRIDE_PX = 2  # between the places where it predicts
MIN_LIKELY = 0.1  # depth that a place may have in one view of two, and still MIN_CONFIDENCE in their mean
MULTIPLE_PX = 16  # of which both sides of its input are
WEIGHTS = Path(__file__).with_name("nuclei.safetensors")  # of the network that comes with Chromogen


# Outlines of nuclei from what the network predicts: candidates, and the best of those that overlap.

Array: TypeAlias = NDArray[np.float32]

MIN_CONFIDENCE = 0.55
MAX_SHARED = 0.25  # of the smaller of two outlines: with more in common they are one nucleus
ANGLES = (2 * np.pi * np.arange(RAYS) / RAYS).astype(np.float32)
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)  # (x, y), clockwise from +x


def decoded(found: Prediction, stride_px: int, mpp: float) -> Nuclei:
    """Nuclei from what a network says of the middles of `stride_px` squares."""
    rows, columns = outline_candidates(found.depth)
    if not len(rows):
        return no_nuclei(mpp)
    centres = np.stack([columns, rows], axis=1).astype(np.float32) * stride_px + np.float32(stride_px / 2)
    outlines = centres[:, None] + found.radii_px(rows, columns)[..., None] * DIRECTIONS
    nuclei = Nuclei(centres, outlines, found.depth[rows, columns], mpp)
    return nuclei.take(strongest(nuclei))


def outline_candidates(depth: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the local maxima of depth that are confident enough."""
    smooth = ndimage.gaussian_filter(depth, 0.7)
    peak = (smooth == ndimage.maximum_filter(smooth, 3)) & (depth > MIN_CONFIDENCE)
    rows, columns = np.nonzero(peak)
    return rows, columns


def strongest(nuclei: Nuclei) -> NDArray[np.bool_]:
    """Which nuclei (N,) no more confident one overlaps by more than MAX_SHARED of the smaller of both.

    Each pair decides on its own, so what is far away never changes what is kept here.
    """
    import shapely

    shapes = shapely.make_valid(shapely.polygons(nuclei.outlines_px))
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    rank = np.lexsort((nuclei.centres_px[:, 0], nuclei.centres_px[:, 1], -nuclei.confidence)).argsort()
    better = rank[first] < rank[second]
    first, second = first[better], second[better]
    areas = shapely.area(shapes)
    shared = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    kept = np.ones(len(nuclei), np.bool_)
    kept[second[shared > MAX_SHARED * np.minimum(areas[first], areas[second])]] = False
    return kept
