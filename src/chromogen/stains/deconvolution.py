"""Stain separation: densities of stains from light, their vectors, and back.

Images are uint8 (H, W, 3), tensors (B, C, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image, to_uint8
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.glass import white_level
from chromogen.stains.tissue import Background

if TYPE_CHECKING:
    from torch import Tensor


# Stain separation: light through stain obeys Beer-Lambert, so optical densities add up and can be taken
# apart.

Array: TypeAlias = NDArray[np.float64]

# QuPath's defaults for H&E and H-DAB: absorption of red, green and blue light.
HEMATOXYLIN = (0.65111, 0.70119, 0.29049)
EOSIN = (0.2159, 0.8012, 0.5581)
DAB = (0.26917, 0.56824, 0.77759)


def stain_matrix(first: Sequence[float] | Array, second: Sequence[float] | Array) -> Array:
    """Rows: two unit stain vectors (red, green, blue) and, for what is neither, their unit cross product.

    Of vectors (3,) of any length. Raises: ValueError for two that point the same way.
    """
    a, b = (np.asarray(v, np.float64) / np.linalg.norm(v) for v in (first, second))
    cross = np.cross(a, b)
    if np.linalg.norm(cross) < 1e-3:
        raise expected("second", "a stain of another colour than the first", second)
    return np.stack([a, b, cross / np.linalg.norm(cross)])


H_E = stain_matrix(HEMATOXYLIN, EOSIN)
H_DAB = stain_matrix(HEMATOXYLIN, DAB)
# By name: QuPath's defaults, and Ruifrok & Johnston's (2001), which scikit-image uses.
VECTORS: dict[str, Array] = {
    "h-e": H_E,
    "h-dab": H_DAB,
    "h-e-ruifrok": stain_matrix((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)),
    "h-dab-ruifrok": stain_matrix((0.65, 0.70, 0.29), (0.27, 0.57, 0.78)),
}
White: TypeAlias = float | Sequence[float] | Array  # the level of bare glass, 0 to 255, one or per channel


def optical_density(image: NDArray[Any], white: White = 255.0) -> Array:
    """Natural optical density -ln((I + 1) / (white + 1)) of uint8 (..., 3): 0 for glass, 5.5 for black on 255."""
    return np.asarray(-np.log((image + 1.0) / (np.asarray(white, np.float64) + 1.0)))


def optical_density_od10(image: NDArray[Any], white: White = 255.0) -> Array:
    """Optical density with base 10 of uint8 (..., 3), as it is shown and thresholded: 2.4 for black on 255."""
    return np.asarray(optical_density(image, white) / np.log(10))


def densities_od10(image: Image, white: White = 255.0) -> NDArray[np.float32]:
    """As `optical_density_od10` of uint8 (H, W, 3), colour by colour: float32 (3, H, W), from a table."""
    densities = np.empty((3, *image.shape[:2]), np.float32)
    put_densities_od10(image, white, densities)
    return densities


def put_densities_od10(image: Image, white: White, densities: NDArray[np.float32]) -> None:
    """The same into `densities`, float32 (3, H, W), which is there already."""
    whites = np.broadcast_to(np.asarray(white, np.float64), 3)
    levels = optical_density_od10(np.arange(256), whites[:, None]).astype(np.float32)
    for channel in range(3):  # nothing is clipped: the word lets numpy look up straight into the result
        levels[channel].take(image[..., channel], out=densities[channel], mode="clip")


def mixed_maps(maps: NDArray[np.float32], weights: NDArray[Any]) -> NDArray[np.float32]:
    """The weighted sum (H, W) of three maps (3, H, W): in this order, whatever the processor."""
    first, second, third = weights.astype(np.float32)
    total = maps[0] * first
    total += maps[1] * second
    total += maps[2] * third
    return np.asarray(total)


def separate_stains(image: NDArray[Any], matrix: NDArray[Any] = H_DAB, white: White = 255.0) -> Array:
    """Concentrations (..., 3) of uint8 (..., 3): optical density = concentrations @ matrix, natural logarithm.

    Ruifrok & Johnston (2001). Noise and foreign colours make some negative; nothing is clipped.

    >>> separate_stains(combine_stains(np.array([[[1.0, 0.5, 0.0]]]))).round(1).tolist()
    [[[1.0, 0.5, 0.0]]]
    """
    return np.asarray(optical_density(image, white) @ np.linalg.inv(matrix))


def separate_stains_od10(image: NDArray[Any], matrix: NDArray[Any] = H_DAB, white: White = 255.0) -> Array:
    """Concentrations (..., 3) of uint8 (..., 3) as `separate_stains` has them, in densities with base 10."""
    return np.asarray(separate_stains(image, matrix, white) / np.log(10))


def combine_stains(concentrations: NDArray[Any], matrix: NDArray[Any] = H_DAB, white: White = 255.0) -> Image:
    """The picture, uint8 (..., 3), of concentrations (..., 3): the way back from `separate_stains`."""
    intensity = (np.asarray(white, np.float64) + 1.0) * np.exp(-(concentrations @ matrix)) - 1
    return np.asarray(np.rint(intensity.clip(0, 255)), np.uint8)


def stain_alone(concentrations: NDArray[Any], index: int, matrix: NDArray[Any] = H_DAB) -> Image:
    """The picture that one stain would give alone on white, uint8 (..., 3); negative amounts are left out."""
    part = np.zeros_like(concentrations)
    part[..., index] = np.maximum(concentrations[..., index], 0)
    return combine_stains(part, matrix)


# Chromogens: what stains a slide besides haematoxylin, known by the colour of its light.

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


# Beer-Lambert for gradients, and what of a picture is tissue or foreign: tensors (B, C, H, W).


def density_of(picture: Tensor) -> Tensor:
    """Natural optical density -ln((255 x + 1) / 256) of a picture x in [0, 1]: as `optical_density` has it."""
    return -((255 * picture + 1) / 256).log()


def picture_from(density: Tensor, white: Tensor | float = 255.0) -> Tensor:
    """The picture (B, 3, H, W) in [0, 1], not rounded, of natural densities over a white level: undo `density_of`.

    `white` is 0 to 255, one or a tensor (1, 3, 1, 1).
    """
    return (((white + 1) * (-density).exp() - 1) / 255).clamp(0, 1)


def concentrations_of(picture: Tensor, matrix: NDArray[Any]) -> Tensor:
    """Concentrations (B, 3, H, W) of a picture (B, 3, H, W) in [0, 1], unclipped (Ruifrok & Johnston 2001)."""
    import torch

    inverse = torch.linalg.inv(_tensor(matrix, picture))
    return torch.einsum("bchw,cs->bshw", density_of(picture), inverse)


def rendered(concentrations: Tensor, matrix: NDArray[Any], white: Tensor | float = 255.0) -> Tensor:
    """The picture (B, 3, H, W) in [0, 1], not rounded, of concentrations of the first S stains (B, S, H, W).

    `white` is that of `picture_from`.
    """
    import torch

    rows = _tensor(matrix, concentrations)[: concentrations.shape[1]]
    return picture_from(torch.einsum("bshw,sc->bchw", concentrations, rows), white)


def blurred(x: Tensor, sigma_px: float) -> Tensor:
    """(B, C, H, W) by a Gaussian cut off at three sigmas; the border goes on outside, scipy's "nearest"."""
    import torch
    from torch.nn.functional import conv2d, pad

    reach = max(1, round(3 * sigma_px))
    at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = (-(at**2) / (2 * sigma_px**2)).exp()
    kernel = kernel / kernel.sum()
    planes = x.flatten(0, 1).unsqueeze(1)
    planes = conv2d(pad(planes, (reach, reach, 0, 0), "replicate"), kernel.view(1, 1, 1, -1))
    planes = conv2d(pad(planes, (0, 0, reach, reach), "replicate"), kernel.view(1, 1, -1, 1))
    return planes.view(x.shape)


OVERVIEW_PX = 2048  # of a side: enough to know a large picture's glass by


def tissue_share(picture: Tensor, mpp: float = ASSUMED_MPP) -> Tensor:
    """Which pixels of a picture (1, 3, H, W) in [0, 1] are tissue: (1, 1, H, W), 0 or 1.

    As `stains.tissue.tissue_mask` has it, but that ink counts.
    """
    import torch

    unmarked = Background(_white_of(picture, mpp), np.zeros((1, 1), np.bool_))
    return torch.from_numpy(unmarked.tissue(to_uint8(picture), mpp)).to(picture)[None, None]


def _white_of(picture: Tensor, mpp: float) -> NDArray[np.float64]:
    step = 1 + (max(picture.shape[2:]) - 1) // OVERVIEW_PX
    return white_level(to_uint8(picture[..., ::step, ::step]), mpp * step)


def _tensor(matrix: NDArray[Any], like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)


# A slide's own stain vectors, white level and strength of stain, and pictures brought to those of a
# reference.

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
