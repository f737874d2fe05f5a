"""Virtual and real IHC nucleus by nucleus: which are positive, how brown, how many; and which the stain has kept.

States are pure and grow by some numbers a nucleus. A nucleus belongs to the tile that has its centre in the core.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chromogen.evaluation.sums import UndefinedError
from chromogen.evaluation.tile import Tile, needed
from chromogen.image import Image
from chromogen.nuclei.agreement import Agreement, agreement
from chromogen.nuclei.measure import Measurements, joined_measurements, measure
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.nuclei.positivity import grades_of, positive_threshold
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.deconvolution import H_DAB

Parts = tuple[Measurements, ...]


@dataclass(frozen=True)
class Seen:
    """What was measured of the nuclei of one picture, tile by tile, and the area of its tissue in mm2."""

    parts: Parts = ()
    tissue_mm2: float = 0.0

    @property
    def measured(self) -> Measurements:
        """All nuclei in one."""
        return joined_measurements(self.parts)


@dataclass(frozen=True)
class Pair:
    """The nuclei of a prediction and of the real IHC."""

    predicted: Seen = Seen()
    real: Seen = Seen()


def add_predicted(seen: Seen, tile: Tile) -> Seen:
    """The prediction's nuclei added."""
    return _added(seen, tile, tile.prediction, tile.prediction_nuclei)


def add_real(seen: Seen, tile: Tile) -> Seen:
    """The real IHC's nuclei added."""
    return _added(seen, tile, needed(tile, "real"), tile.real_nuclei)


def add_both(pair: Pair, tile: Tile) -> Pair:
    """The nuclei of both added."""
    return Pair(add_predicted(pair.predicted, tile), add_real(pair.real, tile))


def _added(seen: Seen, tile: Tile, image: Image, nuclei: Nuclei) -> Seen:
    mpp = tile.mpp or ASSUMED_MPP
    measured = measure(nuclei, image, mpp, tile.white_of(image), H_DAB).take(tile.in_core(nuclei))
    area_mm2 = np.count_nonzero(tile.core(tile.tissue_of(image))) * mpp**2 / 1e6
    return Seen((*seen.parts, measured), seen.tissue_mm2 + area_mm2)


def add_kept(sums: Agreement, tile: Tile) -> Agreement:
    """Matches between the nuclei of H&E and prediction added, at an intersection over union above 0.5."""
    before, after = _core_labels(tile, tile.he_nuclei), _core_labels(tile, tile.prediction_nuclei)
    return sums + agreement(after, before)


def _core_labels(tile: Tile, nuclei: Nuclei) -> NDArray[np.int32]:
    height, width = tile.prediction.shape[:2]
    return labels_of(nuclei.take(tile.in_core(nuclei)), (height, width))


def kept(sums: Agreement) -> float:
    """Share of the nuclei of the H&E that the prediction has at the same place, 0 to 1."""
    if not sums.drawn:
        raise UndefinedError("no nuclei in the H&E")
    return sums.recall


def f1(sums: Agreement) -> float:
    """F1 of the nuclei of the prediction against those of the H&E, 0 to 1: invented nuclei count too."""
    if not sums.found + sums.drawn:
        raise UndefinedError("no nuclei in either picture")
    return sums.f1


def per_mm2(seen: Seen) -> float:
    """Nuclei for each mm2 of the picture's own tissue."""
    if not seen.tissue_mm2:
        raise UndefinedError("no tissue")
    return len(seen.measured) / seen.tissue_mm2


def positive_percent(seen: Seen) -> float:
    """Share of positive nuclei in percent, by the picture's own threshold between blue and brown."""
    measured = seen.measured
    if not len(measured):
        raise UndefinedError("no nuclei")
    return float(100 * (grades_of(measured, positive_threshold(measured)) > 0).mean())


def positive_difference(pair: Pair) -> float:
    """Positive share of the prediction less that of the real IHC, in percentage points."""
    return positive_percent(pair.predicted) - positive_percent(pair.real)


def dab_distance(pair: Pair) -> float:
    """Wasserstein distance (Kantorovich 1942) between the DAB densities of the nuclei of both pictures, in OD.

    How far, on average, a nucleus' DAB has to move until both pictures have the same distribution.
    """
    from scipy.stats import wasserstein_distance

    densities = [seen.measured.second_od10 for seen in (pair.predicted, pair.real)]
    finite = [values[np.isfinite(values)].astype(np.float64) for values in densities]
    if not all(len(values) for values in finite):
        raise UndefinedError("no nuclei in one of the two pictures")
    return float(wasserstein_distance(*finite))
