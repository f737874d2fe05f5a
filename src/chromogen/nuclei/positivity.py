"""Which nuclei are positive: brown rather than blue, by a threshold that a slide's own nuclei give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.nuclei.measure import Measurements

FIXED_OD10 = 0.2  # QuPath's first threshold; where a slide's own nuclei do not give one
ABOVE_BLUE = 1 / 3  # of the way from the mean DAB of blue nuclei to that of brown ones
NOISE = 3.0  # standard deviations of blue nuclei below which none is called brown
GRADES = (1.0, 2.0, 3.0)  # 1+, 2+ and 3+ begin so many times farther from blue: QuPath's 0.2, 0.4 and 0.6
LEAST_NUCLEI = 20
LEAST_GAP_OD10 = 0.1  # between the means of blue and brown
LEAST_GAIN = 0.1  # of log-likelihood a nucleus, of two normal distributions over one
ROUNDS = 300
LEAST_SPREAD_OD10 = 0.02
IN_CYTOPLASM = 0.5  # of the brown nuclei, when their rings are browner: the stain is no nuclear one


@dataclass(frozen=True)
class Threshold:
    """From which mean DAB density on a nucleus is 1+, 2+ and 3+, and why this may be doubted.

    `found_from` is "nuclei" (the slide's own), "fixed" (the slide's own give none) or "option".
    """

    grades_od10: tuple[float, float, float]
    found_from: str = "option"
    doubt: str = ""

    @property
    def dab_od10(self) -> float:
        """From which mean DAB density on a nucleus is positive."""
        return self.grades_od10[0]


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions, the lower first: their means, standard deviations and shares.

    `gain` is the mean log-likelihood over that of one normal distribution.
    """

    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    shares: NDArray[np.float64]
    gain: float


def positive_threshold(measured: Measurements) -> Threshold:
    """The thresholds between blue and brown nuclei of one slide, from its own nuclei.

    Their DAB densities are taken as a mixture of two normal distributions. The threshold lies a third of the way
    from the blue to the brown mean, the same place in a dark scan and in a pale one; it is never within the
    noise of the blue. Where there are not two populations it is FIXED_OD10, with the reason as `doubt`.
    """
    densities = measured.dab_od10[np.isfinite(measured.dab_od10)].astype(np.float64)
    if len(densities) < LEAST_NUCLEI:
        return fixed(f"fewer than {LEAST_NUCLEI} nuclei do not give a threshold of their own")
    two = mixture_of(densities)
    blue, brown = (float(mean) for mean in two.means)
    if brown - blue < LEAST_GAP_OD10 or two.gain < LEAST_GAIN:
        side = "blue" if np.median(densities) < FIXED_OD10 else "brown"
        return fixed(f"its nuclei are not of two kinds: nearly all are {side}")
    first: float = max(ABOVE_BLUE * (brown - blue), NOISE * float(two.deviations[0]))
    grades = tuple(round(blue + first * grade, 4) for grade in GRADES)
    return Threshold((grades[0], grades[1], grades[2]), "nuclei", cytoplasm_doubt(measured, grades[0]))


def fixed(doubt: str) -> Threshold:
    """QuPath's thresholds, and why they are taken."""
    first, second, third = (round(FIXED_OD10 * grade, 4) for grade in GRADES)
    return Threshold((first, second, third), "fixed", f"{doubt}; the fixed threshold {FIXED_OD10:g} is taken")


def cytoplasm_doubt(measured: Measurements, dab_od10: float) -> str:
    """Why the stain is rather one of cytoplasm or membranes, where that is so; else nothing."""
    brown = measured.dab_od10 > dab_od10
    around = brown & (measured.ring_dab_od10 >= measured.dab_od10)
    if np.count_nonzero(around) > IN_CYTOPLASM * max(1, int(brown.sum())):
        return "DAB lies round nuclei rather than in them, as a stain of cytoplasm or membranes does"
    return ""


def is_positive(measured: Measurements, dab_od10: float) -> NDArray[np.bool_]:
    """Which nuclei (N,) are positive: more DAB than the threshold, and more than in the cytoplasm round them.

    Brown cytoplasm lies above and below a blue nucleus too, and shines through it.
    """
    return np.asarray((measured.dab_od10 > dab_od10) & ~(measured.ring_dab_od10 >= measured.dab_od10))


def grades_of(measured: Measurements, threshold: Threshold) -> NDArray[np.int64]:
    """The grade of each nucleus (N,): 0 negative, 1+, 2+ or 3+."""
    graded = np.searchsorted(threshold.grades_od10, measured.dab_od10, side="left")
    return np.where(is_positive(measured, threshold.dab_od10), graded, 0)


def mixture_of(values: NDArray[Any]) -> Mixture:
    """Two normal distributions that explain values (N,) best, by expectation maximization (Dempster 1977)."""
    from skimage.filters import threshold_otsu

    upper = (values > threshold_otsu(values)).astype(np.float64) if np.ptp(values) else np.zeros(len(values))
    for _ in range(ROUNDS):
        means, deviations, shares = _moments(values, upper)
        likelihood = shares * _normal(values[:, None], means, deviations)
        total = likelihood.sum(axis=1).clip(1e-300)
        upper = likelihood[:, 1] / total
    one = _normal(values, values.mean(), max(values.std(), LEAST_SPREAD_OD10)).clip(1e-300)
    order = np.argsort(means)
    return Mixture(means[order], deviations[order], shares[order], float(np.log(total / one).mean()))


def _moments(values: NDArray[Any], upper: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    weights = np.stack([1 - upper, upper])
    sums = weights.sum(axis=1).clip(1e-9)
    means = weights @ values / sums
    variances = (weights * (values - means[:, None]) ** 2).sum(axis=1) / sums
    return means, np.sqrt(variances).clip(LEAST_SPREAD_OD10), sums / len(values)


def _normal(values: NDArray[Any], mean: Any, deviation: Any) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((values - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi)))
