"""What a picture looks like it is: H&E, an IHC with DAB, fluorescence, or nothing. For warnings alone."""

from __future__ import annotations

import numpy as np

from chromogen.image import Image
from chromogen.stains.deconvolution import optical_density_od10

DARK = 60  # the level below which most of a fluorescence image lies, and no picture of stained tissue
STAINED_OD10 = 0.15
LEAST_STAINED = 0.01
BROWN, PINK = 1.1, 1.4  # how much more of one light is taken than of the next
LEAST_BROWN, LEAST_PINK = 0.02, 0.25
MOST_PIXELS = 250_000


def doubts(image: Image, role: str) -> str | None:
    """Why an image, uint8 (H, W, 3), may not be the "content" (an H&E) or "style" (an IHC) it is given as, if so.

    Brown takes more blue than green light; eosin takes green light above all. A picture of haematoxylin alone
    passes as both: an IHC may be negative.
    """
    pixels = image.reshape(-1, 3)
    density = optical_density_od10(pixels[:: 1 + len(pixels) // MOST_PIXELS])
    if np.median(image.max(axis=2)) < DARK:
        return "looks like fluorescence, dark where there is nothing; stains take light away"
    stained = density[density.max(axis=1) > STAINED_OD10]
    if len(stained) < LEAST_STAINED * len(density):
        return "shows hardly any tissue"
    red, green, blue = stained.T
    brown = np.mean((blue > BROWN * green) & (green > red))
    pink = np.mean((green > PINK * red) & (green > PINK * blue))
    if role == "content" and brown > max(pink, LEAST_BROWN):
        return "looks like an IHC, brown rather than pink; an H&E is expected"
    if role == "style" and pink > LEAST_PINK and brown < LEAST_BROWN:
        return "looks like an H&E, pink without brown; an IHC is expected"
    return None
