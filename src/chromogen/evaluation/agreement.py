"""Agreement with a real IHC, by case, with intervals.

Updates take sums (K,), or (2, K) of both sides, and a tile, and give new sums. Values are computed of a row (K,).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.errors import expected, missing
from chromogen.evaluation.tile import (
    Array,
    Side,
    Tile,
    UndefinedError,
    add_overlap,
    add_pairs,
    add_values,
    blur,
    needed,
    ratio,
)
from chromogen.files import by_stem, canonical_name
from chromogen.image import Image, PathLike, resize, to_tensor
from chromogen.slides.slide import slide_files
from chromogen.stains.deconvolution import optical_density_od10
from chromogen.stains.registration import correlations, covering

# Which prediction belongs to which H&E and which real IHC, and from which slide it is.


@dataclass(frozen=True)
class Case:
    """One prediction's file, the files of the same name of H&E and real IHC if they are there, and its group."""

    name: str
    group: str
    prediction: Path
    he: Path | None
    real: Path | None


def match_cases(
    prediction: PathLike, he: PathLike | None = None, real: PathLike | None = None, group: str | None = None
) -> tuple[list[Case], list[str]]:
    """Cases, matched by name without suffix (`stem_of`), and a warning for every file that has no counterpart.

    Each path is an image or slide, or a folder of them. `group` is a regular expression that finds in a name which
    slide it is from, by its first parenthesis or else by all of it; without it every image is its own group.
    Raises: ValueError where nothing matches, or two files of a folder have one name; FileNotFoundError.
    """
    predictions = files_by_name("prediction", prediction)
    others = {"he": files_by_name("he", he), "real": files_by_name("real", real)}
    warnings: list[str] = []
    for role, path in (("he", he), ("real", real)):
        if path is None:
            continue
        if len(predictions) == len(others[role]) == 1:
            others[role] = dict.fromkeys(predictions, next(iter(others[role].values())))
        warnings += _unmatched(role, predictions, others[role])
    cases = [
        Case(name, group_of(name, group), file, others["he"].get(name), others["real"].get(name))
        for name, file in predictions.items()
    ]
    return cases, warnings


def files_by_name(role: str, named: PathLike | None) -> dict[str, Path]:
    """The images and slides that a path names, one or a folder of them, by `stem_of`; none for no path.

    Raises: ValueError for a folder without images or with two of one name; FileNotFoundError.
    """
    if named is None:
        return {}
    path = Path(named)
    if not path.exists():
        raise missing(role, "an existing image or folder", path)
    return by_stem(role, slide_files([path]))


def _unmatched(role: str, predictions: Mapping[str, Path], others: Mapping[str, Path]) -> list[str]:
    if not predictions.keys() & others.keys():
        ours, theirs = next(iter(predictions)), next(iter(others))
        raise expected(role, f"named like the predictions ({ours}, ...)", f"{theirs}, ...", "rename one side")
    left = [f"no {role} is called {name}" for name in predictions if name not in others]
    return left + [
        f"no prediction is called {name}: this {role} is left out" for name in others if name not in predictions
    ]


def group_of(name: str, pattern: str | None) -> str:
    """Which slide a name is from, by a regular expression's first parenthesis or all of it. Raises: ValueError."""
    if pattern is None:
        return name
    try:
        found = re.search(canonical_name(pattern), canonical_name(name))
    except re.error as error:
        raise expected("group", "a regular expression", pattern, str(error)) from error
    if found is None or (found.groups() and found.group(1) is None):
        raise expected("group", "found in every name", f"{pattern}, which is not in {name}")
    return found.group(1) if found.groups() else found.group()


# Means of scores with their intervals: over groups of pictures, and of paired differences.

RESAMPLES = 2000


def mean_of(found: Sequence[tuple[str, float | str]]) -> dict[str, Any]:
    """Of (group, score) pairs: the mean with its interval and count, or why there is none."""
    numbers = [(group, value) for group, value in found if isinstance(value, float)]
    if not numbers:
        return {"mean": None, "ci95": None, "n": 0, "why": found[0][1]}
    groups, values = zip(*numbers, strict=True)
    return {"mean": float(np.mean(values)), "ci95": bootstrap(values, groups), "n": len(values)}


def bootstrap(values: Sequence[float], groups: Sequence[str]) -> list[float] | None:
    """The 95 % percentile interval of the mean, resampling whole groups (Efron 1979); None for a single group."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return None
    sums, counts = np.bincount(member, values), np.bincount(member)
    drawn = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return [float(quantile) for quantile in np.percentile(means, [2.5, 97.5])]


def student_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The interval of the mean by Student's t (1908): wide for few values, as it should be; None for one.

    >>> student_interval([1.0, 2.0, 3.0])
    (-0.484..., 4.484...)
    """
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    from scipy import stats

    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def share_interval(count: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (1927), for `count` of `of`, which is at least 1.

    >>> [round(end, 3) for end in share_interval(8, 10)]
    [0.49, 0.943]
    """
    from scipy import stats

    interval = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


# Does the prediction agree with a real IHC of the same tissue, pixel by pixel and in how much is brown?

# QuPath's defaults for weak, moderate and strong DAB, base-10 densities.
THRESHOLDS_OD10 = (0.2, 0.4, 0.6)
SSIM_WINDOW_PX = 11
SHIFTED_AT_MOST_PX = 2048
MS_SSIM_LEAST_PX = 176  # five scales of windows of 11 px


def add_squared_error(sums: Array, tile: Tile) -> Array:
    """Squared differences of 8-bit values, and how many."""
    difference = tile.core(tile.prediction).astype(np.float64) - tile.core(needed(tile, "real"))
    return add_values(sums, difference**2)


def psnr(sums: Array) -> float:
    """Peak signal-to-noise ratio 10 log10(255^2 / mean squared error) in dB; undefined for equal pictures."""
    error = ratio(sums, "no pixels to compare")
    if error == 0:
        raise UndefinedError("the pictures are equal: the ratio is infinite")
    return float(10 * np.log10(255**2 / error))


def add_ssim(sums: Array, tile: Tile) -> Array:
    """Local structural similarities, and how many (Wang et al. 2004: Gaussian window of 11 px, sigma 1.5)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    ours, real = to_tensor(tile.prediction), to_tensor(needed(tile, "real"))
    if min(ours.shape[2:]) < SSIM_WINDOW_PX:
        raise UndefinedError(f"smaller than {SSIM_WINDOW_PX} px")
    _, local = structural_similarity_index_measure(ours, real, data_range=1.0, return_full_image=True)
    return add_values(sums, tile.core(local[0].mean(0).numpy()))


def add_ms_ssim(sums: Array, tile: Tile) -> Array:
    """Multi-scale structural similarity (Wang et al. 2003, five scales) of the tile, weighted by its pixels."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    sides = (tile.prediction, needed(tile, "real"))
    ours, real = (to_tensor(np.ascontiguousarray(tile.core(image))) for image in sides)
    if min(ours.shape[2:]) < MS_SSIM_LEAST_PX:
        raise UndefinedError(f"smaller than {MS_SSIM_LEAST_PX} px")
    pixels = ours[0, 0].numel()
    value = multiscale_structural_similarity_index_measure(ours, real, data_range=1.0, normalize="relu").item()
    return np.asarray(sums + np.array([value * pixels, pixels]))


NO_DAB: Array = np.zeros(3 + len(THRESHOLDS_OD10))


def add_dab(sums: Array, side: Side) -> Array:
    """Of a picture, over its own tissue: pixels, DAB, DAB where positive, positives."""
    return sums + dab_sums(side.tile.core(side.od10)[..., 1][side.tile.core(side.tissue)])


def dab_sums(tissue_od10: Array) -> Array:
    """Of densities of DAB (N,) over tissue: pixels, DAB, DAB where positive, positives above each threshold."""
    dab = np.maximum(tissue_od10, 0)
    positive = [np.count_nonzero(dab > threshold) for threshold in THRESHOLDS_OD10]
    return np.array([dab.size, dab.sum(), dab[dab > THRESHOLDS_OD10[0]].sum(), *positive], np.float64)


def dab_od10(row: Array) -> float:
    """Mean base-10 optical density of DAB over tissue: integrated density (IOD) by tissue area."""
    return ratio(row[[1, 0]], "no tissue")


def miod(row: Array) -> float:
    """Mean base-10 optical density of DAB over the positive area alone (above the first threshold)."""
    return ratio(row[[2, 3]], f"no DAB above {THRESHOLDS_OD10[0]}")


def dab_positive_percent(row: Array, level: int = 0) -> float:
    """Percent of the tissue's area with more DAB than the threshold of this level, 0 to 100."""
    return 100 * ratio(row[[3 + level, 0]], "no tissue")


def pixel_h_score(row: Array) -> float:
    """H-score of pixels, not of cells: percent weak + 2 percent moderate + 3 percent strong, 0 to 300.

    McCarty et al. (1985) count cells. Percents above the three thresholds add up to the same sum.
    """
    return float(sum(dab_positive_percent(row, level) for level in range(len(THRESHOLDS_OD10))))


def add_dab_pairs(sums: Array, tile: Tile, blur_um: float) -> Array:
    """Pairs of DAB in prediction and real IHC, both blurred, where either has tissue."""
    prediction, real = tile.side("prediction"), tile.side("real")
    maps = [prediction.od10[..., 1], real.od10[..., 1]]
    if blur_um:
        maps = [blur(dab, tile.px(blur_um)) for dab in maps]
    either = tile.core(prediction.tissue | real.tissue)
    return add_pairs(sums, *(tile.core(dab)[either] for dab in maps))


def add_dab_overlap(sums: Array, tile: Tile) -> Array:
    """Overlap of the areas with more DAB than the first threshold."""
    masks = [tile.core(tile.side(name).od10)[..., 1] > THRESHOLDS_OD10[0] for name in ("prediction", "real")]
    return add_overlap(sums, *masks)


def best_shift(prediction: Image, real: Image, radius_px: int) -> tuple[int, int]:
    """The shift (x, y) in px, at most `radius_px` long, of the real IHC that fits the prediction best.

    Fit is Pearson's correlation of their mean optical density where they overlap, whatever the stain, so that a
    shift is not chosen by the brown it is to judge. Neighbouring sections are 10 to 50 px off. All shifts at once
    by Fourier transform (Padfield 2012, with whole rectangles as masks). Above 2048 px, to the nearest few px.
    """
    factor = -(-max(prediction.shape[:2]) // SHIFTED_AT_MOST_PX)
    a, b = (_mean_density(image, factor) for image in (prediction, real))
    radius = min(radius_px // factor, min(a.shape) // 2)
    offsets = np.arange(-radius, radius + 1)
    fit = np.nan_to_num(correlations(a, b)[np.ix_(offsets, offsets)], nan=-np.inf)
    fit[np.hypot(offsets[:, None], offsets) > radius] = -np.inf
    if fit.max() <= fit[radius, radius]:
        return 0, 0
    y, x = np.unravel_index(np.argmax(fit), fit.shape)
    return factor * int(offsets[x]), factor * int(offsets[y])


def _mean_density(image: Image, factor: int) -> Array:
    height, width = (max(1, side // factor) for side in image.shape[:2])
    return np.asarray(optical_density_od10(resize(image, (width, height))).mean(axis=2))


def overlapping(prediction: Image, real: Image, shift: tuple[int, int]) -> tuple[Image, Image]:
    """The parts of both that cover each other once the real IHC is moved by (x, y) px."""
    ours, theirs = covering((prediction.shape[0], prediction.shape[1]), shift)
    return prediction[ours], real[theirs]
