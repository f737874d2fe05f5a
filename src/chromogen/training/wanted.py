"""What IHC images ask of a stainer, marker by marker: statistics of style, colours, strengths, share of brown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chromogen.image import Image
from chromogen.stains.estimation import stain_strength
from chromogen.stains.glass import white_level
from chromogen.stains.light import picture_from, tissue_share
from chromogen.style.canvas import DAB_HEADROOM, LEAST_STRONGEST_DAB, ihc_vectors
from chromogen.style.encoder import Encoder
from chromogen.style.objective import Objective, References
from chromogen.style.slide_densities import Target, density_from
from chromogen.training.batch import measured_styles, positive_share


@dataclass(frozen=True)
class Wanted:
    """What one marker's images ask for; `stained` is how much of their tissue is brown, 0 to 1."""

    marker: str  # "" where there is but one
    style: References
    target: Target
    stained: float


def wanted_of(
    styles: Mapping[str, Sequence[Image]],
    objective: Objective,
    encoder: Encoder,
    mpp: float,
    paired: References,
) -> list[Wanted]:
    """Of IHC images by marker, uint8 (H, W, 3), each counting alike for its marker; and of `paired` terms."""
    return [
        Wanted(
            marker, measured_styles(objective, images, encoder, mpp) | paired, target_of(images), _stained(images)
        )
        for marker, images in styles.items()
    ]


def _stained(styles: Sequence[Image]) -> float:
    """How much of the styles' tissue is stained."""
    pictures = [picture_from(density_from(style, white_level(style))) for style in styles]
    return float(np.mean([positive_share([x], [tissue_share(x)]) for x in pictures]))


def target_of(styles: Sequence[Image]) -> Target:
    """Vectors and strengths, natural densities, that IHC images, uint8 (H, W, 3), have on average."""
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
