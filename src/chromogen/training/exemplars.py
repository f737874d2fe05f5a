"""What IHC images tell a stainer: the stains it paints with, and how much of the tissue they cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chromogen.image import Image
from chromogen.stains.estimation import stain_strength, white_level
from chromogen.stains.light import tissue_share
from chromogen.style.canvas import DAB_HEADROOM, LEAST_STRONGEST_DAB, ihc_vectors
from chromogen.style.stainer_network import Target, density_from, picture_from
from chromogen.training.batch import positive_share


def target_of(styles: Sequence[Image]) -> Target:
    """Vectors and strengths that IHC images have on average."""
    whites = [white_level(style) for style in styles]
    on_white = [_on_white(style, white) for style, white in zip(styles, whites, strict=True)]
    matrices = [ihc_vectors(style) for style in on_white]
    strengths = np.mean([stain_strength(s, m) for s, m in zip(on_white, matrices, strict=True)], 0)
    mean = np.mean(matrices, 0)
    rows = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    matrix = tuple(tuple(map(float, row)) for row in rows)
    dab = max(float(strengths[1]) * DAB_HEADROOM, LEAST_STRONGEST_DAB)
    return Target(matrix, max(float(strengths[0]), LEAST_STRONGEST_DAB), dab)


def _on_white(image: Image, white: Any) -> Image:
    """The image as if its glass were 255."""
    levels = (
        np.rint((np.arange(256)[:, None] + 1) * 256 / (np.asarray(white) + 1) - 1).clip(0, 255).astype(np.uint8)
    )
    return np.stack([levels[image[..., c], c] for c in range(3)], 2)


def stained_share(styles: Sequence[Image]) -> float:
    """How much of the tissue of IHC images, each on its own white, is stained."""
    pictures = [picture_from(density_from(style, white_level(style))) for style in styles]
    return float(np.mean([positive_share([x], [tissue_share(x)]) for x in pictures]))
