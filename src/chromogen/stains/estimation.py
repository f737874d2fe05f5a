"""A slide's own stain vectors, white level and strength of stain, and pictures brought to those of a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chromogen.image import Image
from chromogen.stains.deconvolution import (
    H_E,
    Array,
    White,
    combine_stains,
    optical_density_od10,
    separate_stains,
    stain_matrix,
)
from chromogen.stains.glass import white_level

STAINED_OD10 = 0.15  # Macenko's beta: paler pixels tell nothing of a stain's colour
MIN_PIXELS = 100
MAX_PIXELS = 1_000_000  # more are sampled evenly
EXTREMES = (1.0, 99.0)  # percentiles of the angle: the outermost pixels are noise
MIN_ANGLE_DEG = 10.0  # between two stains
MAX_OPPOSITE = 0.05  # a unit vector may have so much of the wrong sign by noise
STRONGEST = 99.0  # percentile of a concentration that stands for a stain's strength


@dataclass(frozen=True)
class StainEstimate:
    """A stain matrix (rows: haematoxylin, the other stain, neither) and, where it is the fallback, why."""

    matrix: Array
    why: str = ""


def estimate_stains(image: Image, fallback: Array = H_E, white: White = 255.0) -> StainEstimate:
    """The stain vectors of a picture, uint8 (H, W, 3), of two stains of which one is haematoxylin.

    Macenko et al. (2009): densities of two stains lie in a plane, and the vectors are its outermost directions.
    We take the plane through the origin, where Beer-Lambert has it, and not through the mean. Where a picture
    cannot tell (blank, tiny, of a single stain) the `fallback` is given with the reason, never an error.
    """
    density = _stained_density(image, white)
    if len(density) < MIN_PIXELS:
        return StainEstimate(fallback, f"fewer than {MIN_PIXELS} stained pixels")
    first, second = _outermost(density)
    if np.degrees(np.arccos(np.clip(first @ second, -1, 1))) < MIN_ANGLE_DEG:
        return StainEstimate(fallback, "a single stain")
    if min(first.min(), second.min()) < -MAX_OPPOSITE:
        return StainEstimate(fallback, "colours that two stains do not give")
    hematoxylin, other = sorted((first.clip(0), second.clip(0)), key=_redness, reverse=True)
    return StainEstimate(stain_matrix(hematoxylin, other))


def _redness(vector: Array) -> float:
    """How much of its light a stain takes from red: haematoxylin takes more than eosin or DAB."""
    return float(vector[0] / np.linalg.norm(vector))


def _stained_density(image: Image, white: White) -> Array:
    """Densities (N, 3) of an even sample of the stained pixels."""
    pixels = image.reshape(-1, 3)
    density = optical_density_od10(pixels[:: -(-len(pixels) // MAX_PIXELS)], white)
    return np.asarray(density[(density > STAINED_OD10).any(axis=1) & (density.min(axis=1) > 0)])


def _outermost(density: Array) -> tuple[Array, Array]:
    """The two unit vectors between which nearly all densities lie, in the plane that holds most of them."""
    _, vectors = np.linalg.eigh(density.T @ density)
    middle, across = (v * (1 if v.sum() >= 0 else -1) for v in (vectors[:, 2], vectors[:, 1]))
    low, high = np.percentile(np.arctan2(density @ across, density @ middle), EXTREMES)
    return np.cos(low) * middle + np.sin(low) * across, np.cos(high) * middle + np.sin(high) * across


@dataclass(frozen=True)
class StainLook:
    """How a picture is stained: matrix, strength (2,) of both stains, white level (3,); why it is a fallback."""

    matrix: Array
    strength: Array
    white: Array
    why: str = ""


def stain_look(image: Image, fallback: Array = H_E) -> StainLook:
    """The look of a picture or overview, uint8 (H, W, 3); what it does not tell is the fallback's."""
    white = white_level(image)
    estimate = estimate_stains(image, fallback, white)
    return StainLook(estimate.matrix, stain_strength(image, estimate.matrix, white), white, estimate.why)


def stain_strength(image: Image, matrix: Array, white: White = 255.0) -> Array:
    """The concentrations (2,) that stand for how strongly a picture is stained; zeros where nothing is."""
    stained = _stained_density(image, white)
    if not len(stained):
        return np.zeros(2)
    concentrations = np.log(10) * stained @ np.linalg.inv(matrix)
    return np.asarray(np.percentile(concentrations[:, :2], STRONGEST, axis=0).clip(0))


def normalize_stains(image: Image, look: StainLook, reference: StainLook) -> Image:
    """The picture, uint8 (H, W, 3), as if stained like the reference: its vectors, strengths and white level.

    Macenko et al. (2009). `look` is that of the image or of the whole slide it is from, so that tiles agree. A
    stain that either does not have keeps its strength.
    """
    gain = np.ones(3)
    there = (look.strength > 0) & (reference.strength > 0)
    gain[:2][there] = reference.strength[there] / look.strength[there]
    concentrations = separate_stains(image, look.matrix, look.white) * gain
    return combine_stains(concentrations, reference.matrix, reference.white)
