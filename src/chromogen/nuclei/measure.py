"""Measure nuclei: area, and mean density of both stains over each nucleus and the ring of cytoplasm round it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.pixel_size import is_same_mpp
from chromogen.stains.deconvolution import Array, White, separate_stains_od10

RING_UM = 3.0  # width of the cytoplasm that a ring takes in, about half the diameter of a small nucleus


@dataclass(frozen=True)
class Measurements:
    """What was measured of N nuclei, each array float64 (N,); densities of base 10.

    The second stain is DAB in an IHC and eosin in an H&E. The ring has no pixel of any nucleus. A density is NaN
    where no pixel is left: of a ring between crowded nuclei, of a nucleus that others cover.
    """

    area_um2: Array
    hematoxylin_od10: Array
    second_od10: Array
    ring_hematoxylin_od10: Array
    ring_second_od10: Array

    def __len__(self) -> int:
        return len(self.area_um2)

    def take(self, which: NDArray[Any]) -> Measurements:
        """The measurements of the nuclei that an index or a mask (N,) names, in that order."""
        return Measurements(*(values[which] for values in vars(self).values()))


def joined_measurements(parts: Sequence[Measurements]) -> Measurements:
    """The measurements of all `parts` in one, in that order."""
    columns = zip(*(vars(part).values() for part in (nothing_measured(), *parts)), strict=True)
    return Measurements(*(np.concatenate(column) for column in columns))


def nothing_measured() -> Measurements:
    """The measurements of no nuclei."""
    return Measurements(*(np.zeros(0) for _ in range(5)))


def measure(nuclei: Nuclei, image: Image, mpp: float, white: White, matrix: Array) -> Measurements:
    """Measure every one of `nuclei`, whose outlines are in pixels of the image, uint8 (H, W, 3) at `mpp` um.

    `white` (3,) is the colour of bare glass. Rows of `matrix` (3, 3) are haematoxylin, the second stain, neither.
    Known vectors (H_DAB, H_E) serve better than a slide's own, which shift where DAB is dense or missing.
    A nucleus depends on what lies within its own reach plus twice RING_UM. Of a window, give all nuclei that it
    shows and take those in its core from the result: then windows agree. Raises: ValueError where the nuclei are
    in pixels of another size.
    """
    if not is_same_mpp(nuclei.mpp, mpp):
        raise expected("mpp", f"{nuclei.mpp:g}, as the nuclei have it", f"{mpp:g}", "move them to its pixels")
    labels = labels_of(nuclei, image.shape[:2])
    rings = ring_labels(labels, RING_UM / mpp)
    inside, around = (_means(image, where, len(nuclei), white, matrix) for where in (labels, rings))
    return Measurements(nuclei.areas_um2, *inside, *around)


def ring_labels(labels: NDArray[np.int32], width_px: float) -> NDArray[np.int32]:
    """The ring of every nucleus of a label image (H, W), with the label of the nucleus that it is nearest to."""
    if not labels.any():
        return labels
    distance, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    ring = (distance > 0) & (distance <= width_px)
    return np.where(ring, labels[rows, columns], 0).astype(np.int32)


def _means(
    image: Image, labels: NDArray[np.int32], count: int, white: White, matrix: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean density of both stains over each label from 1 to `count`, NaN where it has no pixel."""
    covered = labels > 0
    owners = labels[covered] - 1
    density = separate_stains_od10(image[covered], matrix, white)
    pixels = np.bincount(owners, minlength=count)
    sums = [np.bincount(owners, density[:, stain], count) for stain in (0, 1)]
    first, second = (np.divide(s, pixels, out=np.full(count, np.nan), where=pixels > 0) for s in sums)
    return first, second
