"""Nuclei as outlines: star-convex polygons in the frame of the picture or slide they were found in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
