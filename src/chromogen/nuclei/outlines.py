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
    from skimage.draw import polygon

    labels = np.zeros(shape, np.int32)
    for index in np.argsort(nuclei.confidence, kind="stable"):
        x, y = (nuclei.outlines_px[index] - 0.5).T
        rows, columns = polygon(y, x, shape)
        labels[rows, columns] = index + 1
    return labels
