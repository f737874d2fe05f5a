"""Where in the tissue is the DAB? In nuclei, in rings round them, elsewhere, and far from any nucleus.

States are pure: histograms and sums over tiles. DAB is over each picture's own glass. Tissue is the H&E's for a
prediction that has one, else the picture's own. Nuclei and their rings are tissue in any case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chromogen.evaluation.sums import Array, UndefinedError, ratio
from chromogen.evaluation.tile import Mask, Tile, needed

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
    return _added(placed, tile, tile.tissue, tile.prediction_dab_od10, tile.prediction_from_nuclei_um)


def add_compartments(pair: PlacedPair, tile: Tile) -> PlacedPair:
    """The DAB of prediction and real IHC added."""
    tissue = tile.tissue_of(needed(tile, "real"))
    real = _added(pair.real, tile, tissue, tile.real_dab_od10, tile.real_from_nuclei_um)
    return PlacedPair(add_predicted_compartments(pair.predicted, tile), real)


def _added(placed: Placed, tile: Tile, tissue: Mask, dab_od10: Array, from_nuclei_um: Array) -> Placed:
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
