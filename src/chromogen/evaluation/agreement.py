"""Does the prediction agree with a real IHC of the same tissue, pixel by pixel and in how much is brown?

Updates take sums (K,), or (2, K) of both sides, and a tile, and give new sums; values are computed of a row (K,).
"""

from __future__ import annotations

import numpy as np

from chromogen.evaluation.sums import Array, UndefinedError, add_overlap, add_pairs, add_values, ratio
from chromogen.evaluation.tile import Tile, blur, needed
from chromogen.image import Image, resize, to_tensor
from chromogen.stains.deconvolution import optical_density_od10
from chromogen.stains.registration import correlations

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


NO_DAB: Array = np.zeros((2, 3 + len(THRESHOLDS_OD10)))


def add_dab(sums: Array, tile: Tile) -> Array:
    """Of prediction and real IHC, over their own tissue: pixels, DAB, DAB where positive, positives."""
    sides = ((tile.prediction, tile.prediction_od10), (needed(tile, "real"), tile.real_od10))
    return sums + np.stack([_dab_of(tile, image, od) for image, od in sides])


def add_predicted_dab(sums: Array, tile: Tile) -> Array:
    """The same without a real IHC: its row stays empty."""
    return sums + np.stack([_dab_of(tile, tile.prediction, tile.prediction_od10), np.zeros(sums.shape[1])])


def _dab_of(tile: Tile, image: Image, concentrations_od10: Array) -> Array:
    tissue = tile.core(tile.tissue_of(image))
    return dab_sums(tile.core(concentrations_od10)[..., 1][tissue])


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


def positive_percent(row: Array, level: int = 0) -> float:
    """Percent of the tissue's area with more DAB than the threshold of this level, 0 to 100."""
    return 100 * ratio(row[[3 + level, 0]], "no tissue")


def pixel_h_score(row: Array) -> float:
    """H-score of pixels, not of cells: percent weak + 2 percent moderate + 3 percent strong, 0 to 300.

    McCarty et al. (1985) count cells. Percents above the three thresholds add up to the same sum.
    """
    return float(sum(positive_percent(row, level) for level in range(len(THRESHOLDS_OD10))))


def add_dab_pairs(sums: Array, tile: Tile, blur_um: float) -> Array:
    """Pairs of DAB in prediction and real IHC, both blurred, where either has tissue."""
    maps = [tile.prediction_od10[..., 1], tile.real_od10[..., 1]]
    if blur_um:
        maps = [blur(dab, tile.px(blur_um)) for dab in maps]
    either = tile.core(tile.tissue_of(tile.prediction) | tile.tissue_of(needed(tile, "real")))
    return add_pairs(sums, *(tile.core(dab)[either] for dab in maps))


def add_dab_overlap(sums: Array, tile: Tile) -> Array:
    """Overlap of the areas with more DAB than the first threshold."""
    masks = [tile.core(od)[..., 1] > THRESHOLDS_OD10[0] for od in (tile.prediction_od10, tile.real_od10)]
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
    (x, y), (height, width) = shift, prediction.shape[:2]
    rows, columns = slice(max(y, 0), height + min(y, 0)), slice(max(x, 0), width + min(x, 0))
    rows_real, columns_real = slice(max(-y, 0), height - max(y, 0)), slice(max(-x, 0), width - max(x, 0))
    return prediction[rows, columns], real[rows_real, columns_real]
