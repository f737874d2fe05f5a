"""Synthetic pictures for tests."""

import numpy as np

from chromogen.image import Image


def tissue_like(height: int, width: int, seed: int) -> Image:
    """Smooth random colours, between pink and blue, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 4 + 2, width // 4 + 2, 1))
    mix = np.kron(coarse, np.ones((4, 4, 1)))[:height, :width]
    colors = np.array([230, 160, 190]) * mix + np.array([90, 60, 140]) * (1 - mix)
    return np.clip(colors + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)
