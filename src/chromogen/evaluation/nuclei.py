"""Nuclei and compartments of a virtual stain against a real one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chromogen.evaluation.tile import Array, Mask, Tile, UndefinedError, needed, ratio
from chromogen.image import Image
from chromogen.nuclei.outlines import Agreement, labels_of, matches
from chromogen.nuclei.positivity import (
    FIXED_OD10,
    MIN_NUCLEI,
    Measurements,
    Threshold,
    joined_measurements,
    positive_threshold,
)
from chromogen.pixel_size import ASSUMED_MPP

# Where in the tissue is the DAB? In nuclei, in rings round them, elsewhere, and far from any nucleus.

COMPARTMENTS = ("nuclei", "rings", "elsewhere")
RING_UM, FAR_UM = 4.0, 20.0
BINS = 2048
BIN_OD10 = 0.002  # the last bin takes what is above 4.1, darker than any 8-bit pixel


@dataclass(frozen=True)
class Placed:
    """The DAB of one picture: a histogram for each of COMPARTMENTS (3, BINS), and `far` sums (3,).

    Those are all DAB, the DAB farther than FAR_UM from any nucleus, and the pixels that are so far.
    """

    histograms: Array
    far: Array


NOT_PLACED = Placed(np.zeros((len(COMPARTMENTS), BINS)), np.zeros(3))


@dataclass(frozen=True)
class PlacedPair:
    """The DAB of a prediction and of the real IHC."""

    predicted: Placed = NOT_PLACED
    real: Placed = NOT_PLACED


def add_predicted_compartments(placed: Placed, tile: Tile) -> Placed:
    """The prediction's DAB added."""
    return _placed_in(placed, tile, tile.tissue, tile.prediction_dab_od10, tile.prediction_from_nuclei_um)


def add_compartments(pair: PlacedPair, tile: Tile) -> PlacedPair:
    """The DAB of prediction and real IHC added."""
    tissue = tile.tissue_of(needed(tile, "real"))
    real = _placed_in(pair.real, tile, tissue, tile.real_dab_od10, tile.real_from_nuclei_um)
    return PlacedPair(add_predicted_compartments(pair.predicted, tile), real)


def _placed_in(placed: Placed, tile: Tile, tissue: Mask, dab_od10: Array, from_nuclei_um: Array) -> Placed:
    counted = tile.core(tissue | (from_nuclei_um <= RING_UM))
    dab, away_um = tile.core(dab_od10)[counted], tile.core(from_nuclei_um)[counted]
    histograms = np.stack([_histogram(dab[where]) for where in _compartments(away_um)])
    far = away_um > FAR_UM
    sums = np.array([dab.sum(), dab[far].sum(), np.count_nonzero(far)])
    return Placed(placed.histograms + histograms, placed.far + sums)


def _compartments(away_um: Array) -> tuple[Mask, Mask, Mask]:
    """Which pixels lie in nuclei, in their rings, and elsewhere, by how far they are from the nearest nucleus."""
    return away_um == 0, (away_um > 0) & (away_um <= RING_UM), away_um > RING_UM


def _histogram(dab_od10: Array) -> Array:
    bins = (dab_od10 / BIN_OD10).astype(int).clip(max=BINS - 1)
    return np.bincount(bins, minlength=BINS).astype(np.float64)


def distance(pair: PlacedPair, compartment: int) -> float:
    """Wasserstein-1 distance (Kantorovich 1942) of the DAB of pixels in one of COMPARTMENTS, prediction and real.

    The integral of |F - G| of both distributions, in base-10 density, over bins of BIN_OD10. 0 for the same ones.
    """
    ours, theirs = pair.predicted.histograms[compartment], pair.real.histograms[compartment]
    if not (ours.any() and theirs.any()):
        side = "real IHC" if ours.any() else "prediction"
        raise UndefinedError(f"the {side} has no {COMPARTMENTS[compartment]}")
    apart = ours.cumsum() / ours.sum() - theirs.cumsum() / theirs.sum()
    return float(np.abs(apart).sum() * BIN_OD10)


def far_percent(placed: Placed) -> float:
    """How much of all DAB lies farther than FAR_UM from any nucleus, 0 to 100."""
    return 100 * ratio(placed.far[[1, 0]], "no DAB")


def far_od10(placed: Placed) -> float:
    """The mean DAB, base-10 density, of the tissue farther than FAR_UM from any nucleus."""
    return ratio(placed.far[[1, 2]], f"no tissue farther than {FAR_UM:g} um from nuclei")


# Virtual and real IHC nucleus by nucleus: which are positive, how brown, how many; and which the stain has
# kept.

Parts = tuple[Measurements, ...]


@dataclass(frozen=True)
class Seen:
    """What was measured of the nuclei of one picture, tile by tile, and the area of its tissue in mm2."""

    parts: Parts = ()
    tissue_mm2: float = 0.0

    @cached_property
    def measured(self) -> Measurements:
        """All nuclei in one."""
        return joined_measurements(self.parts)

    @cached_property
    def dab_od10(self) -> Array:
        """The mean DAB of every nucleus that has a pixel of its own, (N,)."""
        second_od10 = self.measured.second_od10
        return second_od10[np.isfinite(second_od10)]

    @cached_property
    def threshold(self) -> Threshold:
        """Which DAB makes a nucleus positive, by the picture's own nuclei."""
        return positive_threshold(self.measured)


@dataclass(frozen=True)
class NucleiPair:
    """The nuclei of a prediction and of the real IHC."""

    predicted: Seen = Seen()
    real: Seen = Seen()


def add_predicted_nuclei(seen: Seen, tile: Tile) -> Seen:
    """The prediction's nuclei added."""
    return _seen_in(seen, tile, tile.prediction, tile.prediction_measured)


def add_nuclei(pair: NucleiPair, tile: Tile) -> NucleiPair:
    """The nuclei of prediction and real IHC added."""
    real = _seen_in(pair.real, tile, needed(tile, "real"), tile.real_measured)
    return NucleiPair(add_predicted_nuclei(pair.predicted, tile), real)


def _seen_in(seen: Seen, tile: Tile, image: Image, measured: Measurements) -> Seen:
    pixel_mm2 = (tile.mpp or ASSUMED_MPP) ** 2 / 1e6
    area_mm2 = int(np.count_nonzero(tile.core(tile.tissue_of(image)))) * pixel_mm2
    return Seen((*seen.parts, measured), seen.tissue_mm2 + area_mm2)


def per_mm2(seen: Seen) -> float:
    """Nuclei for each mm2 of the picture's own tissue."""
    if not seen.tissue_mm2:
        raise UndefinedError("no tissue")
    return len(seen.measured) / seen.tissue_mm2


def percent_above_threshold(seen: Seen) -> float:
    """Share of the nuclei whose mean DAB exceeds `threshold_od10`, 0 to 100: the index of Ki67, ER or PR."""
    border_od10 = threshold_od10(seen)
    return float(100 * (seen.dab_od10 > border_od10).mean())


def threshold_od10(seen: Seen) -> float:
    """The mean DAB of a nucleus above which it is positive, as `positive_threshold` finds it in this picture."""
    border_od10 = seen.threshold.positive_od10
    if not len(seen.dab_od10) or border_od10 is None:
        raise UndefinedError("no nuclei")
    return border_od10


def positive_difference(pair: NucleiPair) -> float:
    """How far apart the positive shares of both are, in percentage points, 0 to 100.

    Without its sign, so that errors of several images do not cancel in their mean.
    """
    _check_nuclei(pair)
    return abs(percent_above_threshold(pair.predicted) - percent_above_threshold(pair.real))


def dab_distance(pair: NucleiPair) -> float:
    """Wasserstein distance (Kantorovich 1942) of the nuclei's mean DAB in both pictures: integral of |F - G|.

    How far, on average, a nucleus' DAB has to move until both pictures have the same distribution.
    """
    from scipy.stats import wasserstein_distance

    _check_nuclei(pair)
    return float(wasserstein_distance(pair.predicted.dab_od10, pair.real.dab_od10))


def dab_spread(seen: Seen) -> float:
    """Coefficient of variation of the DAB of stained cells, from cell to cell: standard deviation / mean.

    The DAB of a cell is the mean over its nucleus or over the ring round it (RING_UM), whichever is more, so that
    the marker's site does not matter. A cell is stained above the lowest of FIXED_OD10. Undefined for fewer than
    MIN_NUCLEI stained cells.
    """
    dab_od10 = np.fmax(seen.measured.second_od10, seen.measured.ring_second_od10)
    stained = dab_od10[dab_od10 > FIXED_OD10[0]]
    if len(stained) < MIN_NUCLEI:
        raise UndefinedError(f"fewer than {MIN_NUCLEI} stained cells")
    return float(stained.std() / stained.mean())


def _check_nuclei(pair: NucleiPair) -> None:
    without = {"prediction": pair.predicted, "real IHC": pair.real}
    lacking = [name for name, seen in without.items() if not len(seen.dab_od10)]
    if lacking:
        raise UndefinedError(f"no nuclei in the {' and the '.join(lacking)}")


def add_kept(sums: Agreement, tile: Tile) -> Agreement:
    """Nuclei of the prediction ("found") and the H&E ("drawn") added, and those that match, one to one.

    Two nuclei match where they share more than half of the area that both cover together. A pair counts in the
    tile that has the H&E's nucleus in its core, wherever the other nucleus has its centre. By centres within a
    nucleus' radius, dense tissue that is moved by 18 um keeps 12 to 18 % of its nuclei by chance; so, 2 to 3 %.
    """
    he, prediction = tile.he_nuclei, tile.prediction_nuclei
    height, width = tile.prediction.shape[:2]
    pairs = matches(labels_of(prediction, (height, width)), labels_of(he, (height, width)))
    he_counts = tile.in_core(he)
    matched = int(he_counts[pairs[:, 1] - 1].sum())
    return sums + Agreement(matched, int(tile.in_core(prediction).sum()), int(he_counts.sum()))


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
