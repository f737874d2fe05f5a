"""Is the tissue where it was? The prediction against the H&E it came from, as updates that stream over tiles.

Each takes sums (K,) and a tile, and gives new sums; but whether the DAB follows from the tissue takes `Samples`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.evaluation.sums import Array, UndefinedError, add_pairs, add_values
from chromogen.evaluation.tile import Tile, blur
from chromogen.stains.deconvolution import optical_density_od10

HEMATOXYLIN_SMOOTHING_UM = 0.75
EDGE_SMOOTHING_UM = 1.0


def add_hematoxylin(sums: Array, tile: Tile) -> Array:
    """Pairs of blurred haematoxylin, over tissue: in the H&E (H&E vectors) and the prediction (H-DAB vectors)."""
    sigma = tile.px(HEMATOXYLIN_SMOOTHING_UM)
    before, after = (blur(od[..., 0], sigma) for od in (tile.he_od10, tile.prediction_od10))
    tissue = tile.core(tile.tissue)
    return add_pairs(sums, tile.core(before)[tissue], tile.core(after)[tissue])


def add_edges(sums: Array, tile: Tile) -> Array:
    """Pairs of edge strength, over tissue, in H&E and prediction: how steep the mean density is at 1 um.

    The structure whatever its colours: a dark edge that turns bright counts as kept. Ours (2026); no source.
    """
    sigma = tile.px(EDGE_SMOOTHING_UM)
    densities = (tile.he_density_od10, optical_density_od10(tile.prediction))
    before, after = (ndimage.gaussian_gradient_magnitude(d.mean(axis=2), sigma) for d in densities)
    tissue = tile.core(tile.tissue)
    return add_pairs(sums, tile.core(before)[tissue], tile.core(after)[tissue])


def add_glass(sums: Array, tile: Tile) -> Array:
    """Lightness 0 to 1 of the prediction where the H&E shows bare glass: its darkest channel over 255."""
    glass = ~tile.core(tile.tissue)
    return add_values(sums, tile.core(tile.prediction).min(axis=2)[glass] / 255)


def add_foreign_color(sums: Array, tile: Tile) -> Array:
    """Squares of the density that is neither haematoxylin nor DAB, and of all density, over tissue."""
    tissue = tile.core(tile.tissue)
    foreign = tile.core(tile.prediction_od10)[tissue][:, 2]
    density = optical_density_od10(tile.core(tile.prediction)[tissue])
    return np.asarray(np.add(sums, [(foreign**2).sum(), (density**2).sum()]))


# Of `determined`: is the DAB a function of the tissue?
DENSITY_SIGMAS_UM = (0.5, 1.0, 2.0, 4.0, 8.0)
SPREAD_SIGMAS_UM = (1.0, 2.0, 4.0)
DAB_SMOOTHING_UM = 0.75
SQUARE_UM = 24.0
SAMPLED_EVERY_PX = 3
MIN_SAMPLES = 400
RIDGE = 1.0
BLOCK = 50_000


@dataclass(frozen=True)
class Samples:
    """Every third pixel of the tissue, both ways: features of the H&E, DAB there, and whether in dark squares."""

    features: tuple[Array, ...] = ()
    dab: tuple[Array, ...] = ()
    dark: tuple[NDArray[np.bool_], ...] = ()


def add_samples(samples: Samples, tile: Tile) -> Samples:
    """Samples of a tile added: this state grows by 9 bytes a pixel of tissue, those of other metrics do not."""
    picked = _picked(tile)
    dab = blur(tile.prediction_od10[..., 1], tile.px(DAB_SMOOTHING_UM))
    return Samples(
        (*samples.features, np.stack([f[picked] for f in _features(tile)], axis=1).astype(np.float32)),
        (*samples.dab, dab[picked]),
        (*samples.dark, _dark_squares(tile)[picked]),
    )


def determined(samples: Samples) -> float:
    """How much of the DAB's variance the H&E determines: cross-validated R2, from below 0 (nothing) to 1.

    A ridge regression on features of the H&E around a pixel, linear, squared and in pairs, learns on the dark
    squares of a chessboard and predicts the light ones, and the other way round. A stain that follows the
    tissue is predictable; one that falls where texture synthesis lets it fall is not. A DAB that is everywhere or
    nowhere is predictable too: read it beside the DAB's area. Ours (2026); no source.
    """
    if sum(len(d) for d in samples.dab) < MIN_SAMPLES:
        raise UndefinedError(f"fewer than {MIN_SAMPLES} sampled pixels of tissue")
    features, dab = np.concatenate(samples.features), np.concatenate(samples.dab)
    dark = np.concatenate(samples.dark)
    low, high = np.percentile(dab, [1, 99])
    if high - low < 1e-3:
        raise UndefinedError("the DAB does not vary")
    x, y = _standardized(features), dab.clip(low, high)
    error = squares = 0.0
    for learn, test in ((dark, ~dark), (~dark, dark)):
        if min(learn.sum(), test.sum()) < MIN_SAMPLES / 4:
            raise UndefinedError("the tissue is too small for a chessboard")
        weights = _ridge(x[learn], y[learn])
        predicted = np.concatenate([block @ weights for block in _quadratic_blocks(x[test])]).clip(low, high)
        error += ((y[test] - predicted) ** 2).sum()
        squares += ((y[test] - y[learn].mean()) ** 2).sum()
    return float(1 - error / squares)


def _picked(tile: Tile) -> NDArray[np.bool_]:
    """Of the whole tile, which pixels are samples: tissue, in the core, on the image's own grid."""
    counted = np.zeros(tile.tissue.shape, bool)
    tile.core(counted)[...] = True
    rows, columns = _positions(tile)
    return np.asarray(
        tile.tissue & counted & (rows % SAMPLED_EVERY_PX == 0)[:, None] & (columns % SAMPLED_EVERY_PX == 0)
    )


def _dark_squares(tile: Tile) -> NDArray[np.bool_]:
    rows, columns = (np.floor(p / tile.px(SQUARE_UM)).astype(int) for p in _positions(tile))
    return np.asarray((rows[:, None] + columns) % 2 == 0)


def _positions(tile: Tile) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Row and column numbers in the whole image."""
    (x, y), (left, top, _, _) = tile.location, tile.halo
    height, width = tile.tissue.shape
    return y - top + np.arange(height), x - left + np.arange(width)


def _features(tile: Tile) -> list[NDArray[Any]]:
    density = tile.he_density_od10
    gray = density.mean(axis=2)
    blurred = [blur(density[..., c], tile.px(s)) for c in range(3) for s in DENSITY_SIGMAS_UM]
    spreads = [
        np.sqrt(np.maximum(blur(gray**2, s) - blur(gray, s) ** 2, 0)) for s in map(tile.px, SPREAD_SIGMAS_UM)
    ]
    return blurred + spreads


def _standardized(x: NDArray[Any]) -> NDArray[Any]:
    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    return np.asarray(((x - mean) / (spread + 1e-9)).clip(-3, 3), np.float32)


def _quadratic_blocks(x: NDArray[Any]) -> Iterator[Array]:
    """One, every feature, and every product of two, block by block: all at once they need gigabytes."""
    pairs = list(combinations_with_replacement(range(x.shape[1]), 2))
    for begin in range(0, len(x), BLOCK):
        block = x[begin : begin + BLOCK].astype(np.float64)
        products = [block[:, i] * block[:, j] for i, j in pairs]
        yield np.column_stack([np.ones(len(block)), block, *products])


def _ridge(x: NDArray[Any], y: Array) -> Array:
    """Weights of a ridge regression (Hoerl & Kennard 1970) on quadratic features that leaves the constant free."""
    targets = np.split(y, range(BLOCK, len(y), BLOCK))
    sums = [
        (block.T @ block, block.T @ target) for block, target in zip(_quadratic_blocks(x), targets, strict=True)
    ]
    normal, right = (np.sum(parts, axis=0) for parts in zip(*sums, strict=True))
    penalty = RIDGE * np.eye(len(right))
    penalty[0, 0] = 0
    return np.asarray(np.linalg.solve(normal + penalty, right))
