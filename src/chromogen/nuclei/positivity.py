"""Densities of nuclei, and which nuclei are positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.pixel_size import is_same_mpp
from chromogen.stains.deconvolution import Array, White, separate_stains_od10

# Measure nuclei: area, and mean density of both stains over each nucleus and the ring of cytoplasm round it.

RING_UM = 3.0  # width of the cytoplasm that a ring takes in, about half the diameter of a small nucleus


@dataclass(frozen=True)
class Measurements:
    """What was measured of N nuclei, each array float64 (N,); densities of base 10.

    The second stain is DAB in an IHC and eosin in an H&E. The ring has no pixel of any nucleus. A density is NaN
    where no pixel is left: of a ring between crowded nuclei, of a nucleus that others cover.
    """

    area_um2: Array
    hematoxylin_od10: Array
    second_od10: Array
    ring_hematoxylin_od10: Array
    ring_second_od10: Array

    def __len__(self) -> int:
        return len(self.area_um2)

    def take(self, which: NDArray[Any]) -> Measurements:
        """The measurements of the nuclei that an index or a mask (N,) names, in that order."""
        return Measurements(*(values[which] for values in vars(self).values()))


def joined_measurements(parts: Sequence[Measurements]) -> Measurements:
    """The measurements of all `parts` in one, in that order."""
    columns = zip(*(vars(part).values() for part in (nothing_measured(), *parts)), strict=True)
    return Measurements(*(np.concatenate(column) for column in columns))


def nothing_measured() -> Measurements:
    """The measurements of no nuclei."""
    return Measurements(*(np.zeros(0) for _ in range(5)))


def measure(nuclei: Nuclei, image: Image, mpp: float, white: White, matrix: Array) -> Measurements:
    """Measure every one of `nuclei`, whose outlines are in pixels of the image, uint8 (H, W, 3) at `mpp` um.

    `white` (3,) is the colour of bare glass. Rows of `matrix` (3, 3) are haematoxylin, the second stain, neither.
    Known vectors (H_DAB, H_E) serve better than a slide's own, which shift where DAB is dense or missing.
    A nucleus depends on what lies within its own reach plus twice RING_UM. Of a window, give all nuclei that it
    shows and take those in its core from the result: then windows agree. Raises: ValueError where the nuclei are
    in pixels of another size.
    """
    if not is_same_mpp(nuclei.mpp, mpp):
        raise expected("mpp", f"{nuclei.mpp:g}, as the nuclei have it", f"{mpp:g}", "move them to its pixels")
    labels = labels_of(nuclei, image.shape[:2])
    rings = ring_labels(labels, RING_UM / mpp)
    inside, around = (_means(image, where, len(nuclei), white, matrix) for where in (labels, rings))
    return Measurements(nuclei.areas_um2, *inside, *around)


def ring_labels(labels: NDArray[np.int32], width_px: float) -> NDArray[np.int32]:
    """The ring of every nucleus of a label image (H, W), with the label of the nucleus that it is nearest to."""
    if not labels.any():
        return labels
    distance, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    ring = (distance > 0) & (distance <= width_px)
    return np.where(ring, labels[rows, columns], 0).astype(np.int32)


def _means(
    image: Image, labels: NDArray[np.int32], count: int, white: White, matrix: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean density of both stains over each label from 1 to `count`, NaN where it has no pixel."""
    covered = labels > 0
    owners = labels[covered] - 1
    density = separate_stains_od10(image[covered], matrix, white)
    pixels = np.bincount(owners, minlength=count)
    sums = [np.bincount(owners, density[:, stain], count) for stain in (0, 1)]
    first, second = (np.divide(s, pixels, out=np.full(count, np.nan), where=pixels > 0) for s in sums)
    return first, second


# Which nuclei are positive, and how strongly: by thresholds that a slide's own nuclei give, or by fixed ones.

FIXED_OD10 = (0.2, 0.4, 0.6)  # QuPath's defaults for 1+, 2+ and 3+, for every scanner
MIN_NUCLEI = 20  # fewer do not show two populations
MIN_APART = 3.0  # of two populations, in standard deviations
MAX_BLUE, MIN_BROWN = 1.0, 0.5  # DAB for all haematoxylin in nuclei that are blue, and that are brown
MIN_MORE_OD10 = 0.1  # DAB of brown nuclei over that of blue ones: less does not look brown
MAX_BESIDE = 0.4  # of positive nuclei may have as much DAB in their ring: with more, it is no nuclear stain
FAINTEST = 1.0  # percentile of DAB that counts as zero: haematoxylin's own colour shifts it, by scanner
STRONGEST = 95.0  # percentile of DAB of the positive nuclei that stands for the strongest
MIN_MEMBERSHIP = 1e-9  # of a value in either population, so that neither is ever empty
MAX_OD10 = 5.0  # of a threshold
BINS, STARTS, MAX_STEPS = 1024, 8, 500

NOT_GRADED = -1

Grades: TypeAlias = NDArray[np.int8]
Stains: TypeAlias = Literal["h-e", "h-dab"]


@dataclass(frozen=True)
class Threshold:
    """The mean DAB of a nucleus, of base 10, above which it is 1+ (which is positive), 2+ and 3+.

    `grades_od10` is None where the stain is none that nuclei are positive for. `doubt` says why the threshold or
    what it gives may be wrong; it is empty where nothing speaks against them.
    """

    grades_od10: tuple[float, float, float] | None
    source: Literal["found", "fixed", "none"]
    doubt: str = ""

    @property
    def positive_od10(self) -> float | None:
        """The mean DAB above which a nucleus is positive."""
        return self.grades_od10[0] if self.grades_od10 else None


class Mixture(NamedTuple):
    """Two normal distributions of one standard deviation: means, the share of the upper one, log-likelihood."""

    low: float
    high: float
    deviation: float
    high_share: float
    likelihood: float

    @property
    def apart(self) -> float:
        """How many standard deviations lie between the means."""
        return (self.high - self.low) / self.deviation

    @property
    def border(self) -> float:
        """Where a value between the means belongs to both alike."""
        odds = np.log((1 - self.high_share) / self.high_share)
        middle = (self.low + self.high) / 2 + self.deviation * odds / self.apart
        return float(np.clip(middle, self.low, self.high))


def positive_threshold(measured: Measurements, stains: Stains = "h-dab") -> Threshold:
    """The threshold between blue and brown nuclei of a slide, found from all of its nuclei.

    The more DAB there is, the more it varies. So we fit two normal distributions of one deviation to the root of
    each nucleus' mean DAB; the threshold is where a nucleus belongs to both alike. 2+ and 3+ begin a third and two
    thirds of the way from there to the strongest nuclei (STRONGEST). A scanner that shows all DAB paler changes
    nothing. Nor does a paler stain: where strength itself counts, give fixed thresholds. Where nuclei show no two
    populations, FIXED_OD10 serves, and `doubt` says why.
    """
    if stains == "h-e":
        return Threshold(None, "none", "an H&E has no DAB, so no nucleus is positive or negative")
    known = measured.take(np.isfinite(measured.second_od10))
    if len(known) < MIN_NUCLEI:
        found = "no nucleus was" if not len(known) else f"fewer than {MIN_NUCLEI} nuclei were"
        return _fallen_back(known, f"{found} found")
    rooted, zero_od10 = _rooted(known.second_od10)
    mixture = two_populations(rooted)
    if mixture.apart < MIN_APART:
        return _fallen_back(known, "the nuclei do not fall into two populations by their DAB")
    one = zero_od10 + mixture.border**2
    blue, brown = known.take(known.second_od10 <= one), known.take(known.second_od10 > one)
    if _dab_share(blue) > MAX_BLUE:
        return _fallen_back(known, "there are no blue nuclei beside the brown ones")
    more_od10 = brown.second_od10.mean() - blue.second_od10.mean()
    if _dab_share(brown) < MIN_BROWN or more_od10 < MIN_MORE_OD10:
        return _fallen_back(known, "there are no brown nuclei beside the blue ones")
    step = (float(np.percentile(brown.second_od10, STRONGEST)) - one) / 3
    return Threshold((one, one + step, one + 2 * step), "found", _beside(known, one))


def fixed_threshold(*grades_od10: float) -> Threshold:
    """A threshold for 1+, or three for 1+, 2+ and 3+; of one, the others are two and three times as much.

    Raises: ValueError for any other number of values, and for values that do not rise from above 0.
    """
    if len(grades_od10) not in (1, 3) or not all(np.diff((0.0, *grades_od10)) > 0):
        raise expected(
            "threshold", "one density above 0, or three that rise", grades_od10, "give 0.2 or 0.2,0.4,0.6"
        )
    one, *more = grades_od10
    two, three = more or (2 * one, 3 * one)
    return Threshold((one, two, three), "fixed")


def thresholds_of(threshold: float | None, grades: Sequence[float]) -> tuple[float, ...]:
    """The fixed DAB densities that two options give: one, three, or none of them.

    Raises: ValueError where both are given, or cannot be.
    """
    if threshold is not None and grades:
        raise expected("threshold", "left out beside grades, whose first it is", f"{threshold:g}")
    given = tuple(grades) if threshold is None else (threshold,)
    if any(not 0 < level < MAX_OD10 for level in given):
        wanted = f"densities above 0 and below {MAX_OD10:g}"
        raise expected("threshold", wanted, ",".join(f"{level:g}" for level in given), "QuPath's are 0.2,0.4,0.6")
    if given:
        fixed_threshold(*given)
    return given


def grades_of(measured: Measurements, threshold: Threshold) -> Grades:
    """The grade of every nucleus, int8 (N,): 0, 1, 2 or 3, and NOT_GRADED where DAB or threshold is missing.

    A nucleus whose ring has as much DAB is 0: brown cytoplasm lies above and below a blue nucleus too.
    """
    grades = np.full(len(measured), NOT_GRADED, np.int8)
    known = np.isfinite(measured.second_od10)
    if threshold.grades_od10:
        grades[known] = np.searchsorted(threshold.grades_od10, measured.second_od10[known])
        grades[known & _is_browner_around(measured)] = 0
    return grades


def _is_browner_around(measured: Measurements) -> NDArray[np.bool_]:
    """Which nuclei (N,) have as much DAB around them as in them."""
    return np.asarray(measured.ring_second_od10 >= measured.second_od10)


def _fallen_back(known: Measurements, why: str) -> Threshold:
    beside = _beside(known, FIXED_OD10[0])
    doubt = f"{why}, so the threshold is fixed at {FIXED_OD10[0]:g}"
    return Threshold(FIXED_OD10, "fixed", f"{doubt}; {beside}" if beside else doubt)


def _dab_share(nuclei: Measurements) -> float:
    """How much DAB nuclei have for all of their haematoxylin."""
    hematoxylin = float(nuclei.hematoxylin_od10.clip(0).sum())
    return float(nuclei.second_od10.sum()) / hematoxylin if hematoxylin else np.inf


def _beside(known: Measurements, positive_od10: float) -> str:
    """A doubt where DAB lies beside positive nuclei as much as in them, else nothing."""
    share = share_beside(known, positive_od10)
    if share <= MAX_BESIDE:
        return ""
    return (
        f"{100 * share:.0f} % of the positive nuclei have as much DAB around them: it seems to "
        "stain cytoplasm or membranes, and may only overlap the nuclei"
    )


def share_beside(measured: Measurements, positive_od10: float) -> float:
    """The share of positive nuclei that have as much DAB in their ring; 0 where no nucleus is positive."""
    ringed = measured.take((measured.second_od10 > positive_od10) & np.isfinite(measured.ring_second_od10))
    return np.count_nonzero(_is_browner_around(ringed)) / max(len(ringed), 1)


def _rooted(dab_od10: Array) -> tuple[Array, float]:
    """The root of each density over the slide's zero, (N,), and that zero."""
    zero_od10 = float(np.percentile(dab_od10, FAINTEST))
    return np.sqrt((dab_od10 - zero_od10).clip(0)), zero_od10


def two_populations(values: Array) -> Mixture:
    """The likeliest mixture of two normal distributions of one deviation, of values (N,).

    Expectation maximization (Dempster et al. 1977) on a histogram, from several starts.
    """
    counts, edges = np.histogram(values, BINS)
    at = (edges[:-1] + edges[1:]) / 2
    starts = np.linspace(values.min(), values.max(), STARTS + 2)[1:-1]
    return max((_fitted(at, counts, start) for start in starts), key=lambda mixture: mixture.likelihood)


def _fitted(at: Array, counts: NDArray[Any], start: float) -> Mixture:
    """The mixture that one start leads to, of so many values at each place (BINS,)."""
    upper = _member((at > start).astype(np.float64))
    likelihood = -np.inf
    for _ in range(MAX_STEPS):
        mixture = _maximized(at, counts, upper)
        upper, found = _expected(at, counts, mixture)
        if found - likelihood < 1e-9 * abs(found):
            break
        likelihood = found
    return mixture._replace(likelihood=found)


def _maximized(at: Array, counts: NDArray[Any], upper: Array) -> Mixture:
    """The likeliest mixture where so much of each bin belongs to the upper distribution."""
    high_weights, low_weights = counts * upper, counts * (1 - upper)
    high, low = high_weights @ at / high_weights.sum(), low_weights @ at / low_weights.sum()
    squares = high_weights @ (at - high) ** 2 + low_weights @ (at - low) ** 2
    width = at[1] - at[0]
    deviation = np.sqrt(squares / counts.sum() + width**2)
    return Mixture(float(low), float(high), float(deviation), float(high_weights.sum() / counts.sum()), -np.inf)


def _expected(at: Array, counts: NDArray[Any], mixture: Mixture) -> tuple[Array, float]:
    """How much of each bin belongs to the upper distribution, and the log-likelihood of all."""
    low = np.log(1 - mixture.high_share) - ((at - mixture.low) / mixture.deviation) ** 2 / 2
    high = np.log(mixture.high_share) - ((at - mixture.high) / mixture.deviation) ** 2 / 2
    both = np.logaddexp(low, high)
    return _member(np.exp(high - both)), float(counts @ (both - np.log(mixture.deviation)))


def _member(share: Array) -> Array:
    return share.clip(MIN_MEMBERSHIP, 1 - MIN_MEMBERSHIP)
