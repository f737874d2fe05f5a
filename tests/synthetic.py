"""Synthetic pictures for tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.stains.deconvolution import (
    H_DAB,
    H_E,
    combine_stains,
    estimate_stains,
    separate_stains,
    stain_matrix,
)
from chromogen.stains.glass import white_level


@dataclass(frozen=True)
class WherePixels:
    """A picture of any size whose pixels say where they are: 8 bits of x, 8 of y, 4 more of both."""

    size: tuple[int, int]

    def read(self, window: Window) -> Image:
        y, x = np.mgrid[window.at]
        return np.stack([x & 255, y & 255, (x >> 8 & 15) | (y >> 8 & 15) << 4], axis=2).astype(np.uint8)


@dataclass(frozen=True)
class ArrayPixels:
    """An image in memory, uint8 (H, W, 3), behind the interface of a large one."""

    image: Image

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[0]

    def read(self, window: Window) -> Image:
        return self.image[window.at]


def tissue_like(height: int, width: int, seed: int) -> Image:
    """Smooth random colours, between pink and blue, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 4 + 2, width // 4 + 2, 1))
    mix = np.kron(coarse, np.ones((4, 4, 1)))[:height, :width]
    colors = np.array([230, 160, 190]) * mix + np.array([90, 60, 140]) * (1 - mix)
    return np.clip(colors + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def restained(ihc: Image, chromogen: Sequence[float]) -> Image:
    """An IHC, uint8 (H, W, 3), with another chromogen in place of its DAB, by Beer-Lambert over its own glass."""
    white = white_level(ihc, 0.5)
    matrix = estimate_stains(ihc, H_DAB, white).matrix
    amounts = separate_stains(ihc, matrix, white)
    return combine_stains(amounts, stain_matrix(matrix[0], chromogen), white)


def drawn_pair(side: int = 128, seed: int = 0) -> tuple[Image, Image]:
    """An H&E and an IHC of a marker of epithelium, uint8 (side, side, 3) at 0.5 um/px: a gland and stroma.

    Round nuclei lie close together in the gland and far apart in the stroma; the last quarter is glass.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    places = [(px, py, 6.5) for px in range(8, side // 2 - 4, 17) for py in range(8, side, 17)]
    stroma = range(side // 2 + 12, side * 3 // 4, 30)
    places += [(px, py, 4.0) for px in stroma for py in range(10, side, 34)]
    nuclei = np.zeros((side, side))
    for px, py, radius in places:
        away = np.hypot(x - px - rng.uniform(-2, 2), y - py - rng.uniform(-2, 2))
        nuclei = np.maximum(nuclei, (radius - away + 0.5).clip(0, 1))
    gland, tissue = (x < side // 2).astype(float), (x < side * 3 // 4).astype(float)
    grain = rng.normal(0, 0.03, (side, side))
    chromatin = nuclei * (0.9 + 0.2 * rng.normal(size=(side, side)).clip(-1, 1))
    he = np.stack([chromatin + 0.12 * gland + 0.03, (0.5 - 0.15 * gland) * (1 - 0.5 * nuclei) + grain, 0 * x], 2)
    brown = gland * (1 - 0.8 * nuclei) * (0.9 + 6 * grain)
    ihc = np.stack([0.5 * chromatin + 0.3 + 2 * grain, brown.clip(0) + 0.03, 0 * x], 2)
    return tuple(combine_stains(amounts * tissue[..., None], of) for amounts, of in ((he, H_E), (ihc, H_DAB)))


def drawn(side: int, seed: int, second: float = 0.6, matrix: NDArray[np.float64] = H_E) -> Image:
    """Nuclei in tissue, and a strip of glass."""
    rng = np.random.default_rng(seed)
    amounts = np.zeros((side, side, 3))
    amounts[..., 1] = second * rng.uniform(0.8, 1.2, (side, side))
    y, x = np.mgrid[:side, :side]
    for row, column in rng.uniform(0, side, (side * side // 500, 2)):
        amounts[(y - row) ** 2 + (x - column) ** 2 < 36] = (1.4, 0.3 * second, 0)
    amounts[: side // 3] = 0
    return combine_stains(amounts, matrix)
