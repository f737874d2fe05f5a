"""Mean densities of nuclei and of the rings around them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels

from chromogen.image import Image
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.stains.deconvolution import White, separate_stains_od10

RING_UM = 2.0


@dataclass(frozen=True)
class Measurements:
    """Mean densities of base 10 of each nucleus and its ring, float32 (N,)."""

    hematoxylin_od10: NDArray[np.float32]
    dab_od10: NDArray[np.float32]
    ring_hematoxylin_od10: NDArray[np.float32]
    ring_dab_od10: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.dab_od10)

    def take(self, which: NDArray[Any]) -> Measurements:
        """Those of the nuclei that an index or mask names."""
        return Measurements(*(getattr(self, field.name)[which] for field in fields(self)))


def joined_measurements(parts: Iterable[Measurements]) -> Measurements:
    """Of all parts in one."""
    whole = [Measurements(*[np.zeros(0, np.float32)] * 4), *parts]
    return Measurements(*(np.concatenate([getattr(p, f.name) for p in whole]) for f in fields(Measurements)))


def measure(nuclei: Nuclei, image: Image, mpp: float, white: White, matrix: NDArray[Any]) -> Measurements:
    """Densities of an image, uint8 (H, W, 3), in nuclei and rings."""
    labels = labels_of(nuclei, image.shape[:2])
    rings = expand_labels(labels, RING_UM / mpp) * (labels == 0)
    density = separate_stains_od10(image, matrix, white)
    numbers = np.arange(1, len(nuclei) + 1)
    means = [ndimage.mean(density[..., s], part, numbers) for part in (labels, rings) for s in (0, 1)]
    return Measurements(*(np.nan_to_num(np.asarray(m, np.float32)) for m in means))
