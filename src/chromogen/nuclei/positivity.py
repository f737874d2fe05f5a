"""From which DAB density on a nucleus is positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

from chromogen.nuclei.measure import Measurements


@dataclass(frozen=True)
class Threshold:
    """A DAB density of base 10, and why it is no split of two kinds of nuclei, if so."""

    threshold_od10: float
    why: str = ""


def positive_threshold(measured: Measurements) -> Threshold:
    """The density between blue and brown nuclei."""
    if len(measured) < 2 or np.ptp(measured.second_od10) == 0:
        return Threshold(0.2, "too few nuclei")
    return Threshold(float(threshold_otsu(measured.second_od10)))
