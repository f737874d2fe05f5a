"""A lab's own DAB: a gain and an offset that give a stainer's brown the amounts of a few real IHC tiles.

It changes how much brown there is, never where: amounts are compared by their quantiles, so tiles need not be of
the same place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.stains.deconvolution import H_DAB, Array, separate_stains
from chromogen.stains.glass import white_level
from chromogen.stains.tissue import tissue_mask
from chromogen.style.slide_densities import Target

QUANTILES = np.linspace(0.05, 0.99, 95)
ROUNDS = 3  # amounts are bounded below, so that one fit is not exact
LEAST_SPREAD = 0.02  # natural density, between the lowest and highest quantile
MOST_GAIN = 10.0


@dataclass(frozen=True)
class Calibration:
    """DAB becomes `gain` times itself plus `offset`, in natural density, never below 0."""

    gain: float = 1.0
    offset: float = 0.0

    def then(self, other: Calibration) -> Calibration:
        """One after the other as one."""
        return Calibration(self.gain * other.gain, self.offset * other.gain + other.offset)

    def of(self, target: Target) -> Target:
        """The target of a calibrated network."""
        return replace(target, dab=target.dab * self.gain, dab_offset=target.dab_offset * self.gain + self.offset)


def dab_quantiles(images: Sequence[Image]) -> Array:
    """Quantiles of DAB over the tissue of pictures, uint8 (H, W, 3), all together. Raises: ValueError."""
    inside = []
    for image in images:
        amounts = separate_stains(image, H_DAB, white_level(image))[..., 1]
        inside.append(amounts[tissue_mask(image)].clip(0))
    together = np.concatenate(inside)
    if not len(together):
        raise expected("images", "at least one with tissue", "none")
    return np.asarray(np.quantile(together, QUANTILES))


def fitted(predicted: Array, real: Array) -> Calibration:
    """The line that takes one set of quantiles of DAB (Q,) to another, by least squares.

    Raises: ValueError where the model paints no DAB, or the gain is one that no stain needs.
    """
    if predicted[-1] - predicted[0] < LEAST_SPREAD:
        raise expected("model", "one that stains these H&E", "no DAB", "train it first")
    gain = float(np.cov(predicted, real)[0, 1] / np.var(predicted, ddof=1))
    if not 1 / MOST_GAIN < gain < MOST_GAIN:
        advice = "these tiles show another amount of tissue or marker; take others"
        raise expected("gain", f"between {1 / MOST_GAIN:g} and {MOST_GAIN:g}", round(gain, 2), advice)
    return Calibration(gain, float(real.mean() - gain * predicted.mean()))


def calibrated(
    target: Target, stained: Callable[[Target], Sequence[Image]], real: Sequence[Image]
) -> tuple[Calibration, float, float]:
    """What brings pictures stained by a target to real IHC, and the mean error of quantiles before and after.

    `stained` gives a few H&E as a network of another target stains them; all are uint8 (H, W, 3). Raises:
    ValueError, as `fitted`.
    """
    wanted, found = dab_quantiles(real), Calibration()
    errors = []
    for _ in range(ROUNDS):
        ours = dab_quantiles(stained(found.of(target)))
        errors.append(float(np.abs(ours - wanted).mean()))
        if math.isclose(errors[-1], 0, abs_tol=1e-3):
            return found, errors[0], errors[-1]
        found = found.then(fitted(ours, wanted))
    ours = dab_quantiles(stained(found.of(target)))
    return found, errors[0], float(np.abs(ours - wanted).mean())
