"""Measure nuclei one by one: how much of each stain lies in a nucleus and in the ring of cytoplasm round it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.stains.deconvolution import White, separate_stains_od10

RING_UM = 3.0  # how far round a nucleus its ring reaches; half the way to a neighbour at most


@dataclass(frozen=True)
class Measurements:
    """Mean optical densities of base 10 of N nuclei and their rings, each float32 (N,).

    `dab` is the stain beside haematoxylin; in an H&E it is eosin.
    A density is NaN where no pixel is left: in a ring between nuclei that touch all round, or in a
    nucleus that others cover.
    """

    hematoxylin_od10: NDArray[np.float32]
    dab_od10: NDArray[np.float32]
    ring_hematoxylin_od10: NDArray[np.float32]
    ring_dab_od10: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.dab_od10)

    def take(self, which: NDArray[Any]) -> Measurements:
        """The measurements of the nuclei that an index or a mask (N,) names."""
        return Measurements(*(getattr(self, field.name)[which] for field in fields(self)))


def joined_measurements(parts: Iterable[Measurements]) -> Measurements:
    """The measurements of all parts in one."""
    whole = [Measurements(*[np.zeros(0, np.float32)] * 4), *parts]
    return Measurements(
        *(np.concatenate([getattr(part, field.name) for part in whole]) for field in fields(Measurements))
    )


def measure(nuclei: Nuclei, image: Image, mpp: float, white: White, matrix: NDArray[Any]) -> Measurements:
    """Measure nuclei, in pixels of an image, uint8 (H, W, 3) at `mpp` um/px.

    `white` is the colour of bare glass, 0 to 255, and `matrix` (3, 3) the vectors of the stains. Give all nuclei
    that the image shows, then `take` some: neighbours decide where a ring ends.
    """
    labels = labels_of(nuclei, (image.shape[0], image.shape[1]))
    density = separate_stains_od10(image, matrix, white)
    inside = _means(density, labels, len(nuclei))
    ring = _means(density, rings(labels, mpp), len(nuclei))
    return Measurements(*inside, *ring)


def rings(labels: NDArray[np.int32], mpp: float) -> NDArray[np.int32]:
    """A label image (H, W) of the rings: what is nearest to a nucleus, within RING_UM, and in no nucleus."""
    from skimage.segmentation import expand_labels

    grown: NDArray[np.int32] = expand_labels(labels, RING_UM / mpp)
    return np.where(labels == 0, grown, 0).astype(np.int32)


def _means(density: NDArray[Any], labels: NDArray[np.int32], many: int) -> list[NDArray[np.float32]]:
    """The mean of both stains' densities over every label but 0; NaN where a label is nowhere."""
    at = labels.ravel()
    counts = np.bincount(at, minlength=many + 1)[1:]
    sums = [np.bincount(at, density[..., stain].ravel(), many + 1)[1:] for stain in (0, 1)]
    return [np.where(counts > 0, total / np.maximum(counts, 1), np.nan).astype(np.float32) for total in sums]
