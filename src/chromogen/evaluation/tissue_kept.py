"""How well a picture keeps the H&E's tissue: structure, borders, chromatin.

Each update takes sums (K,) and a tile, and gives new sums. `dab_follows_tissue` takes `Samples`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.evaluation.tile import Array, Mask, Side, Tile, UndefinedError, add_pairs, add_values, blur, ratio
from chromogen.nuclei.positivity import FIXED_OD10
from chromogen.stains.deconvolution import H_DAB, H_E, optical_density_od10, separate_stains_od10
from chromogen.stains.tissue import without_small

# Does the stain keep within its borders? DAB just outside stained glands against that inside.

OUTSIDE_UM = 3.0
SMOOTHING_UM = 2.0  # little enough to leave the border of a round gland where it is
HOLE_UM2 = 200.0  # as large as an unstained nucleus in a stained gland may be
LEVEL_UM = 16.0  # how far around a place its own strength of staining is taken
MIN_UM2 = 1500.0  # of a stained gland: less is a cell or two, or dirt
NO_BORDERS: Array = np.zeros(4)


def add_borders(sums: Array, side: Side) -> Array:
    """A picture's DAB and pixels outside borders, and inside, added to sums (4,)."""
    inside = stained_glands(side)
    outside = _just_outside(inside, side.tile.px(OUTSIDE_UM))
    dab, within, without = (side.tile.core(pixels) for pixels in (side.dab_od10, inside, outside))
    found = dab[without].sum(), np.count_nonzero(without), dab[within].sum(), np.count_nonzero(within)
    return np.asarray(sums + np.array(found, np.float64))


def stained_glands(side: Side) -> Mask:
    """Where a picture's smoothed DAB is above half of the strength around it, bool (H, W), in areas of MIN_UM2.

    The strength is the mean DAB within LEVEL_UM, each pixel weighted by its own DAB, so that unstained tissue
    around does not lower it. Half of it is where a border lies, however sharp or soft. Strength below the lowest
    of FIXED_OD10 is no staining. Holes below HOLE_UM2 belong to the gland.
    """
    tile, dab_od10 = side.tile, side.dab_od10
    around, squares = (blur(density, tile.px(LEVEL_UM)) for density in (dab_od10, dab_od10**2))
    strength = np.divide(squares, around, out=np.zeros_like(squares), where=around > 0)
    stained = (blur(dab_od10, tile.px(SMOOTHING_UM)) > strength / 2) & (strength > FIXED_OD10[0])
    um2_px = tile.px(1.0) ** 2
    return without_small(~without_small(~stained, HOLE_UM2 * um2_px), MIN_UM2 * um2_px)


def _just_outside(mask: Mask, reach_px: float) -> Mask:
    if not mask.any():
        return mask
    away_px = ndimage.distance_transform_edt(~mask)
    return np.asarray((away_px > 0) & (away_px <= reach_px))


def bleed(row: Array) -> float:
    """Mean DAB within OUTSIDE_UM outside of borders over that inside, from sums (4,): 0 where nothing bleeds."""
    outside = ratio(row[[0, 1]], "no border of a stained gland")
    inside = ratio(row[[2, 3]], "no stained gland")
    return outside / inside


# Is the chromatin kept? Density within the nuclei of the H&E, in the H&E and in the prediction.

RIM_UM = 0.75  # of a nucleus that does not count: an outline is never exact, and its edge is no chromatin
MIN_OD10 = 0.02  # mean density of nuclei that show anything
NO_CHROMATIN: Array = np.zeros(6)


def add_chromatin(sums: Array, tile: Tile) -> Array:
    """Sums (6,) over pixels within nuclei added: count, both densities, how both differ from the nucleus' mean.

    The density is haematoxylin in the H&E, and haematoxylin plus DAB in the prediction: chromatin shows in both,
    and in a brown nucleus mainly in the DAB. The last three sums are squares of the H&E, of the prediction,
    and products. A nucleus counts in the tile that has its centre in the core.
    """
    he, prediction = tile.side("he"), tile.side("prediction")
    inner = _without_rims(he.labels, max(1, round(tile.px(RIM_UM))))
    counts = np.concatenate([[False], tile.in_core(he.nuclei)])
    within = counts[inner]
    owners = inner[within]
    before = separate_stains_od10(he.image[within], H_E, he.background.white)[:, 0]
    after = separate_stains_od10(prediction.image[within], H_DAB, prediction.background.white)[:, :2].sum(axis=1)
    a, b = (_from_means(density, owners) for density in (before, after))
    return np.asarray(sums + np.array([owners.size, before.sum(), after.sum(), a @ a, b @ b, a @ b]))


def _without_rims(labels: NDArray[np.int32], rim_px: int) -> NDArray[np.int32]:
    """A label image (H, W) with the pixels alone that are farther than `rim_px` from any other label."""
    side = 2 * rim_px + 1
    inner = ndimage.minimum_filter(labels, side) == ndimage.maximum_filter(labels, side)
    return np.where(inner, labels, 0).astype(np.int32)


def _from_means(density: Array, owners: NDArray[np.int32]) -> Array:
    """Densities (N,) less the mean of the nucleus that owns each."""
    pixels = np.maximum(np.bincount(owners), 1)
    return np.asarray(density - (np.bincount(owners, density) / pixels)[owners])


def contrast_kept(sums: Array) -> float:
    """Contrast within nuclei of the prediction over that in the H&E: 1 for chromatin as clear, 0 for flat nuclei.

    From the sums (6,) of `add_chromatin`.

    Contrast is the deviation from each nucleus' mean (root mean square) over the mean density of all nuclei, so
    that a paler stain alone changes nothing.
    """
    n, before, after, aa, bb, _ = _checked(sums)
    return float((np.sqrt(bb / n) / (after / n)) / (np.sqrt(aa / n) / (before / n)))


def pattern_kept(sums: Array) -> float:
    """Pearson's correlation of both densities within nuclei, -1 to 1, from sums (6,): the H&E's own?"""
    *_, aa, bb, ab = _checked(sums)
    if bb <= 0:
        raise UndefinedError("the nuclei of the prediction are flat")
    return float(ab / np.sqrt(aa * bb))


def _checked(sums: Array) -> Array:
    n, before, after, aa, *_ = sums
    if not n:
        raise UndefinedError("no nuclei in the H&E")
    if aa <= 0 or before / n < MIN_OD10:
        raise UndefinedError("the nuclei of the H&E show no chromatin")
    if after / n < MIN_OD10:
        raise UndefinedError("the prediction shows nothing where the H&E has nuclei")
    return sums


# Is the tissue where it was? The prediction against the H&E it came from, as updates that stream over tiles.

HEMATOXYLIN_SMOOTHING_UM = 0.75
EDGE_SMOOTHING_UM = 1.0


def add_hematoxylin(sums: Array, tile: Tile) -> Array:
    """Pairs of blurred haematoxylin, over tissue: in the H&E (H&E vectors) and the prediction (H-DAB vectors)."""
    sigma = tile.px(HEMATOXYLIN_SMOOTHING_UM)
    before, after = (blur(tile.side(name).od10[..., 0], sigma) for name in ("he", "prediction"))
    tissue = tile.core(tile.tissue)
    return add_pairs(sums, tile.core(before)[tissue], tile.core(after)[tissue])


def add_edges(sums: Array, tile: Tile) -> Array:
    """Pairs of edge strength, over tissue, in H&E and prediction: how steep the mean density is at 1 um.

    The structure whatever its colours: a dark edge that turns bright counts as kept. Ours (2026); no source.
    """
    sigma = tile.px(EDGE_SMOOTHING_UM)
    densities = [tile.side(name).density_od10 for name in ("he", "prediction")]
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
    foreign = tile.core(tile.side("prediction").od10)[tissue][:, 2]
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
    dab = blur(tile.side("prediction").od10[..., 1], tile.px(DAB_SMOOTHING_UM))
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
    density = tile.side("he").density_od10
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
