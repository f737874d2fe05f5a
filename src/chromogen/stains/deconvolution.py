"""Stain separation: light through stain obeys Beer-Lambert, so optical densities add up and can be taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image

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
