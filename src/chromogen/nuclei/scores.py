"""Scores of a slide's nuclei: share of positive ones, H-score, Allred, positive share by pixel; with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.nuclei.outlines import Nuclei
from chromogen.nuclei.positivity import NOT_GRADED, Grades, Measurements, Threshold, grades_of
from chromogen.stains.deconvolution import Array, White, densities_od10, mixed_maps

FIELD_UM = 250.0  # side of the squares that are resampled
MIN_FIELDS = 8  # with fewer, their spread says little
RESAMPLES = 2000
LEVEL = (2.5, 97.5)  # percentiles: the interval of 95 %
GRADES = 4
MIN_OD10, MAX_OD10, BIN_OD10 = -1.0, 3.0, 0.005  # of the histograms of pixels
BINS = round((MAX_OD10 - MIN_OD10) / BIN_OD10)
FEW_FIELDS = (
    f"fewer than {MIN_FIELDS} fields of {FIELD_UM:g} um hold nuclei, so intervals are over nuclei, too narrow"
)

Counts: TypeAlias = NDArray[np.int64]
Formula: TypeAlias = Callable[[NDArray[Any]], Array]
Field: TypeAlias = tuple[int, int]  # which column and row of squares
Pixels: TypeAlias = Mapping[Field, Counts]
Resampled: TypeAlias = Literal["fields", "nuclei", "nothing"]


class Score(NamedTuple):
    """A score and its interval of 95 %; None where there is none."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Scores:
    """What nuclei of one slide or picture score by one threshold.

    `grades` counts nuclei of 0, 1+, 2+ and 3+. `positive_percent` is the index of Ki67, ER or PR, `h_score` goes
    from 0 to 300, `allred` from 0 to 8; `pixel_percent` is the share of tissue whose DAB exceeds the threshold. A
    score is None where nothing can be scored. Intervals come from `resampled`; `doubts` say what to beware of.
    """

    threshold: Threshold
    grades: tuple[int, ...]
    positive_percent: Score | None
    h_score: Score | None
    allred: Score | None
    pixel_percent: Score | None
    resampled: Resampled
    fields: int
    doubts: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """All facts, as JSON can have them."""
        scored = ("positive_percent", "h_score", "allred", "pixel_percent")
        return asdict(self) | {
            name: found._asdict() if (found := getattr(self, name)) else None for name in scored
        }


def scores(nuclei: Nuclei, measured: Measurements, threshold: Threshold, pixels: Pixels | None = None) -> Scores:
    """Score N nuclei, in level-0 pixels, by a threshold; and `pixels`, as `pixel_histograms` counts them.

    Intervals are bootstrapped over fields, squares of FIELD_UM that hold nuclei (Efron 1979), with a fixed seed.
    Where there are fewer than MIN_FIELDS, nuclei are resampled; that tells nothing of how fields differ.
    """
    counts = grades_by_field(nuclei, grades_of(measured, threshold))
    total = counts.sum(axis=0)
    resampled: Resampled = "nothing" if not total.any() else "fields" if len(counts) >= MIN_FIELDS else "nuclei"
    drawn = _fields_drawn(counts) if resampled == "fields" else _nuclei_drawn(total)
    doubts = [threshold.doubt, FEW_FIELDS if resampled == "nuclei" else ""]
    return Scores(
        threshold,
        tuple(total.tolist()),
        _score(positive_percent, total, drawn),
        _score(h_score, total, drawn),
        _score(allred, total, drawn),
        _pixel_percent(pixels or {}, threshold),
        resampled,
        len(counts),
        tuple(doubt for doubt in doubts if doubt),
    )


def positive_percent(counts: NDArray[Any]) -> Array:
    """100 times the share of nuclei that are 1+ or more, of counts (..., 4) of 0, 1+, 2+ and 3+."""
    return np.asarray(100 * counts[..., 1:].sum(axis=-1) / counts.sum(axis=-1))


def h_score(counts: NDArray[Any]) -> Array:
    """Percent of 1+, plus twice that of 2+ and three times that of 3+ (McCarty et al. 1985), of such counts."""
    return np.asarray(100 * (counts @ np.arange(GRADES)) / counts.sum(axis=-1))


def allred(counts: NDArray[Any]) -> Array:
    """Score of the share of positive nuclei plus that of their mean grade (Allred et al. 1998), of such counts.

    A share scores 0 where it is 0, 1 below 1/100, 2 up to 1/10, 3 up to 1/3, 4 up to 2/3, and 5 above. A mean
    grade of two and a half scores 3.
    """
    positive, nuclei = counts[..., 1:].sum(axis=-1), counts.sum(axis=-1)
    # In whole numbers, so that no share of exactly 1/100 or 1/3 is rounded to the wrong side.
    passed = [positive > 0, 100 * positive >= nuclei, 10 * positive > nuclei]
    passed += [3 * positive > nuclei, 3 * positive > 2 * nuclei]
    intensity = (2 * (counts @ np.arange(GRADES)) + positive) // np.maximum(2 * positive, 1)
    return np.asarray(np.sum(passed, axis=0) + intensity)


def grades_by_field(nuclei: Nuclei, grades: Grades) -> Counts:
    """How many nuclei of each grade every field has that holds any: (fields, 4)."""
    graded = grades != NOT_GRADED
    column, row = _squares(nuclei.centres_px[graded].astype(np.float64), nuclei.mpp).T
    fields, field = np.unique(column + (row << 32), return_inverse=True)
    cells = np.bincount(field * GRADES + grades[graded], minlength=GRADES * len(fields))
    return np.asarray(cells.reshape(-1, GRADES), np.int64)


def pixel_histograms(
    image: Image,
    tissue: NDArray[np.bool_],
    mpp: float,
    white: White,
    matrix: Array,
    location_px: tuple[int, int] = (0, 0),
) -> dict[Field, Counts]:
    """How many pixels of tissue have how much of the second stain, in every field of an image, uint8 (H, W, 3).

    `tissue` is bool (H, W), and `location_px` (x, y) is where the image lies in its slide, in pixels of the image.
    Parts of a slide add up (`added`). Bins are of BIN_OD10 from MIN_OD10 to MAX_OD10.
    """
    second_od10 = mixed_maps(densities_od10(image, white), np.linalg.inv(matrix)[:, 1])[tissue]
    bins = ((second_od10 - MIN_OD10) / BIN_OD10).clip(0, BINS - 1).astype(np.int64)
    height, width = tissue.shape
    rows, row = np.unique(_squares(np.arange(height) + location_px[1] + 0.5, mpp), return_inverse=True)
    columns, column = np.unique(_squares(np.arange(width) + location_px[0] + 0.5, mpp), return_inverse=True)
    field = (row[:, None] * len(columns) + column)[tissue]
    counts = np.bincount(field * BINS + bins, minlength=len(rows) * len(columns) * BINS).reshape(-1, BINS)
    places = ((int(x), int(y)) for y in rows for x in columns)
    return {place: of_field for place, of_field in zip(places, counts, strict=True) if of_field.any()}


def _squares(at_px: NDArray[Any], mpp: float) -> NDArray[np.int64]:
    """Which square of FIELD_UM coordinates lie in, along each axis."""
    return np.floor(at_px * mpp / FIELD_UM).astype(np.int64)


def added(parts: Iterable[Pixels]) -> dict[Field, Counts]:
    """The histograms of all `parts` of a slide, in one."""
    whole: dict[Field, Counts] = {}
    for part in parts:
        for field, counts in part.items():
            whole[field] = whole.get(field, 0) + counts
    return whole


def _pixel_percent(pixels: Pixels, threshold: Threshold) -> Score | None:
    """The share of tissue whose second stain exceeds the threshold; within a bin pixels are taken to be even."""
    if not pixels or threshold.positive_od10 is None:
        return None
    histograms = np.stack([pixels[field] for field in sorted(pixels)])
    edges = MIN_OD10 + BIN_OD10 * np.arange(BINS + 1)
    part_above = ((edges[1:] - threshold.positive_od10) / BIN_OD10).clip(0, 1)
    counts = np.stack([histograms @ (1 - part_above), histograms @ part_above], axis=1)
    return _score(
        positive_percent, counts.sum(axis=0), _fields_drawn(counts) if len(counts) >= MIN_FIELDS else None
    )


def _score(formula: Formula, total: NDArray[Any], drawn: NDArray[Any] | None) -> Score | None:
    if not total.any():
        return None
    if drawn is None:
        return Score(float(formula(total)), None)
    low, high = np.percentile(formula(drawn), LEVEL)
    return Score(float(formula(total)), (float(low), float(high)))


def _fields_drawn(counts: NDArray[Any]) -> NDArray[Any]:
    """Counts (RESAMPLES, K) of as many fields as there are, drawn with replacement from counts (fields, K)."""
    times = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)
    return np.asarray(times @ counts)


def _nuclei_drawn(total: Counts) -> Counts | None:
    """Counts (RESAMPLES, 4) of as many nuclei as there are, drawn with replacement; None of no or one nucleus."""
    nuclei = int(total.sum())
    return np.random.default_rng(0).multinomial(nuclei, total / nuclei, RESAMPLES) if nuclei > 1 else None
