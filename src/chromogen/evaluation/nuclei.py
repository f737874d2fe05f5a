"""Nuclei and compartments of a virtual stain against a real one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chromogen.evaluation.tile import Array, Mask, Pair, Side, Tile, UndefinedError, ratio
from chromogen.nuclei.outlines import Agreement, matches
from chromogen.nuclei.positivity import (
    FIXED_OD10,
    MIN_NUCLEI,
    Measurements,
    Threshold,
    joined_measurements,
    positive_threshold,
)

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


def add_compartments(placed: Placed, side: Side) -> Placed:
    """The DAB of a picture added: of a prediction over the H&E's tissue, of a real IHC over its own."""
    tile, away_um = side.tile, side.from_nuclei_um
    tissue = side.tissue if side.name == "real" else tile.tissue
    counted = tile.core(tissue | (away_um <= RING_UM))
    dab, away_um = tile.core(side.dab_od10)[counted], tile.core(away_um)[counted]
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


def distance(pair: Pair[Placed], compartment: int) -> float:
    """Wasserstein-1 distance (Kantorovich 1942) of the DAB of pixels in one of COMPARTMENTS, prediction and real.

    The integral of |F - G| of both distributions, in base-10 density, over bins of BIN_OD10. 0 for the same ones.
    """
    ours, theirs = (placed.histograms[compartment] for placed in pair)
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


def add_nuclei(seen: Seen, side: Side) -> Seen:
    """The nuclei of a picture, and its own tissue, added."""
    area_mm2 = int(np.count_nonzero(side.tile.core(side.tissue))) * side.mpp**2 / 1e6
    return Seen((*seen.parts, side.measured), seen.tissue_mm2 + area_mm2)


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


def positive_difference(pair: Pair[Seen]) -> float:
    """How far apart the positive shares of both are, in percentage points, 0 to 100.

    Without its sign, so that errors of several images do not cancel in their mean.
    """
    _check_nuclei(pair)
    return abs(percent_above_threshold(pair[0]) - percent_above_threshold(pair[1]))


def dab_distance(pair: Pair[Seen]) -> float:
    """Wasserstein distance (Kantorovich 1942) of the nuclei's mean DAB in both pictures: integral of |F - G|.

    How far, on average, a nucleus' DAB has to move until both pictures have the same distribution.
    """
    from scipy.stats import wasserstein_distance

    _check_nuclei(pair)
    return float(wasserstein_distance(pair[0].dab_od10, pair[1].dab_od10))


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


def _check_nuclei(pair: Pair[Seen]) -> None:
    lacking = [name for name, seen in zip(("prediction", "real IHC"), pair, strict=True) if not len(seen.dab_od10)]
    if lacking:
        raise UndefinedError(f"no nuclei in the {' and the '.join(lacking)}")


def add_kept(sums: Agreement, tile: Tile) -> Agreement:
    """Nuclei of the prediction ("found") and the H&E ("drawn") added, and those that match, one to one.

    Two nuclei match where they share more than half of the area that both cover together. A pair counts in the
    tile that has the H&E's nucleus in its core, wherever the other nucleus has its centre. By centres within a
    nucleus' radius, dense tissue that is moved by 18 um keeps 12 to 18 % of its nuclei by chance; so, 2 to 3 %.
    """
    he, prediction = tile.side("he"), tile.side("prediction")
    pairs = matches(prediction.labels, he.labels)
    he_counts = tile.in_core(he.nuclei)
    matched = int(he_counts[pairs[:, 1] - 1].sum())
    return sums + Agreement(matched, int(tile.in_core(prediction.nuclei).sum()), int(he_counts.sum()))


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
