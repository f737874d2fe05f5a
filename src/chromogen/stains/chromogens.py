"""Chromogens: what stains a slide besides haematoxylin, known by the colour of its light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chromogen.image import Image
from chromogen.stains.deconvolution import DAB, H_DAB, HEMATOXYLIN, Array, White, stain_matrix
from chromogen.stains.estimation import StainEstimate, estimate_stains

# QuPath's DAB; the others as Landini measured them for ImageJ, after Ruifrok & Johnston (2001).
CHROMOGENS: dict[str, tuple[float, float, float]] = {
    "DAB": DAB,
    "AEC": (0.2743, 0.6796, 0.6803),
    "Fast Red": (0.2139, 0.8511, 0.4779),
    "Fast Blue": (0.7489, 0.6062, 0.2673),
    "PAS": (0.1754, 0.9722, 0.1546),
    "Alcian blue": (0.8746, 0.4577, 0.1583),
    "methyl blue": (0.7995, 0.5914, 0.1053),
    "ponceau fuchsin": (0.1, 0.7374, 0.668),
    "light green": (0.9471, 0.2537, 0.1965),
}
MAX_DEG = 12.0  # from a known vector: what is farther has no name
CLEARLY = 3.0  # times nearer to known vectors, where the two stains change places
UNNAMED = "second stain"


def angle_deg(a: Array, b: Array) -> float:
    """The angle in degrees between two stain vectors (3,) of any length.

    >>> round(angle_deg(np.array([1.0, 0, 0]), np.array([2.0, 2.0, 0])))
    45
    """
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def nearest_chromogen(vector: Array) -> tuple[str, float]:
    """The known chromogen whose vector is nearest to one (3,), and the angle between both in degrees."""
    angles = {name: angle_deg(vector, np.array(known)) for name, known in CHROMOGENS.items()}
    name = min(angles, key=lambda known: angles[known])
    return name, angles[name]


def chromogen_name(vector: Array) -> str:
    """What to call the stain of a vector (3,): the nearest known chromogen, or UNNAMED where none is near."""
    name, away_deg = nearest_chromogen(vector)
    return name if away_deg <= MAX_DEG else UNNAMED


def estimate_chromogen(image: Image, white: White) -> StainEstimate:
    """The stain vectors of a picture, uint8 (H, W, 3), of haematoxylin and any chromogen.

    As `estimate_stains`, which takes the stain that takes more red light for haematoxylin. Blue chromogens take
    still more, so the two change places where known vectors are clearly nearer then. The fallback is H-DAB.
    """
    found = estimate_stains(image, H_DAB, white)
    first, second = found.matrix[:2]
    if CLEARLY * _strangeness(second, first) < _strangeness(first, second):
        return replace(found, matrix=stain_matrix(second, first))
    return found


def _strangeness(hematoxylin: Array, chromogen: Array) -> float:
    """How far two vectors lie from known ones, in square degrees."""
    return angle_deg(hematoxylin, np.array(HEMATOXYLIN)) ** 2 + nearest_chromogen(chromogen)[1] ** 2
