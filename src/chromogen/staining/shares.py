"""Which nuclei are positive where a map gives the share of them, place by place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import ndtr

from chromogen.nuclei.outlines import Nuclei
from chromogen.staining.maps import Array
from chromogen.staining.noise import normal_at
from chromogen.staining.tissue import MPP, Tissue

RIVALS, NEAR_UM = 16, 50.0  # windows overlap by more than twice as much: both see the rivals of what they share
SAME_SHARE = 0.1  # nuclei whose shares differ by less compete with each other
TIES = 40  # the seed of what decides among as many nuclei as there are fractions of one


def shares_of(tissue: Tissue, where: Array) -> NDArray[np.float64]:
    """What a map has for each nucleus, (N,): its mean over the nucleus, apart from how pale the nucleus is."""
    there = tissue.of_nuclei(tissue.there)[1:]
    return np.asarray((tissue.of_nuclei(where)[1:] / np.maximum(there, 1e-3)).clip(0, 1))


def ranks_nearby(
    nuclei: Nuclei,
    centres_px: NDArray[np.float64],
    draws: NDArray[np.float64],
    shares: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64]:
    """The rank of each nucleus, by what it draws, among the RIVALS nearest of the same share, (N,), 0 to 1.

    A nucleus whose rank is over 1 - share is positive. So the share holds in every neighbourhood: independent
    draws would miss it by 4 points among 100 nuclei, and ranks in the whole slide by what its hot spots weigh.
    `centres_px` (N, 2) are places on the slide.
    """
    count = len(nuclei)
    if not count:
        return np.zeros(0)
    places = nuclei.centres_px * MPP
    _, nearest = cKDTree(places).query(places, np.arange(2, RIVALS + 2), distance_upper_bound=NEAR_UM)
    rivals = np.minimum(nearest, count - 1)  # what is not there has the number `count`
    alike = (nearest < count) & (abs(shares[rivals] - shares[:, None]) < SAME_SHARE)
    below = np.count_nonzero(alike & (draws[rivals] < draws[:, None]), axis=1)
    tie = ndtr(normal_at(centres_px, 1.0 / MPP, seed + TIES))
    return np.asarray((below + tie) / (np.count_nonzero(alike, axis=1) + 1))
