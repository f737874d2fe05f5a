"""How far apart an H&E and an IHC of the same block lie, and whether they show the same tissue at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from scipy import ndimage

from chromogen.image import Image, resize
from chromogen.stains.deconvolution import Array, optical_density_od10

SEEN_MPP = 2.0  # coarse enough for sections that share tissue, not nuclei
FARTHEST_UM = 30.0  # neighbouring sections are 5 to 25 um off
FARTHEST_SHARE = 0.25  # of a side: more would compare corners
MAX_BLOCKS = 3  # along a side
BLOCK_FARTHEST_UM = 24.0  # of a block from the whole
MIN_BLOCK_PX = 32
NEAR_UM, WIDE_UM = 4.0, 32.0  # groups of cells lie between: sections share them, and not every nucleus
MIN_CONFIDENCE = 0.1  # wrong pairs reach 0.1 by chance
Part: TypeAlias = tuple[slice, slice]  # rows and columns
SURELY = 2.0  # standard errors by which a block fits better elsewhere, before it counts as lying there


@dataclass(frozen=True)
class Displacement:
    """Where the tissue of an H&E lies in its IHC: `shift_px` (x, y) to the right and down, in px of the images.

    `residual_px`: how far parts of it still lie apart after that. `confidence`, 0 to 1: how much better both fit
    than the same IHC turned and mirrored, which has every property of it but the tissue's place. `correlation`
    is the fit itself.
    """

    shift_px: tuple[float, float]
    residual_px: float
    confidence: float
    correlation: float


def displacement(he: Image, ihc: Image, mpp: float) -> Displacement:
    """Of two pictures, uint8 (H, W, 3), of one size at `mpp` um/px."""
    height, width = he.shape[:2]
    factor = max(1.0, SEEN_MPP / mpp)
    seen = (max(8, round(width / factor)), max(8, round(height / factor)))
    factor = width / seen[0]
    ours, theirs = (structure(resize(image, seen), mpp * factor) for image in (he, ihc))
    radius = int(min(FARTHEST_UM / (mpp * factor), FARTHEST_SHARE * min(seen)))
    x, y, correlation = pair_shift(ours, theirs, radius)
    wrong = [pair_shift(_square(ours), other, radius)[2] for other in turned(_square(theirs))]
    confidence = (correlation - max(wrong)) / max(1 - max(wrong), 1e-6)
    residual = _residual(ours, theirs, (round(x), round(y)), mpp * factor)
    shift = (-x * factor, -y * factor)
    return Displacement(shift, residual * factor, float(np.clip(confidence, 0, 1)), correlation)


def structure(image: Image, mpp: float) -> Array:
    """What both stains show of a tissue, (2, H, W): groups of cells in red light, and in all light."""
    density = optical_density_od10(image)
    maps = (density[..., 0], density.mean(2))
    near, wide = NEAR_UM / mpp, WIDE_UM / mpp
    return np.stack([ndimage.gaussian_filter(x, near) - ndimage.gaussian_filter(x, wide) for x in maps])


def pair_shift(ours: Array, theirs: Array, radius: int) -> tuple[float, float, float]:
    """The shift (x, y) of `theirs` onto `ours`, maps (C, H, W), and the mean correlation there.

    The shift is known to a fraction of a pixel.

    Where nothing can be compared, no shift and no correlation.
    """
    around = np.arange(-radius - 1, radius + 2)  # one more: the neighbours of a peak at the border are known, too
    fit = _mean_of_known([correlations(a, b)[np.ix_(around, around)] for a, b in zip(ours, theirs, strict=True)])
    allowed = np.where(np.hypot(around[:, None], around) > radius, np.nan, fit)
    if np.isnan(allowed).all():
        return 0.0, 0.0, 0.0
    row, column = np.unravel_index(np.nanargmax(allowed), fit.shape)
    y, x = (
        around[at] + _vertex(line[at - 1 : at + 2]) for at, line in ((row, fit[:, column]), (column, fit[row]))
    )
    return float(x), float(y), float(fit[row, column])


def _mean_of_known(surfaces: Sequence[Array]) -> Array:
    """The mean of surfaces, place by place, of those that are not NaN there; NaN where all are."""
    known = ~np.isnan(surfaces)
    count = known.sum(0)
    return np.asarray(np.where(count > 0, np.where(known, surfaces, 0).sum(0) / np.maximum(count, 1), np.nan))


def _vertex(values: Array) -> float:
    """Where the parabola through a peak and its two neighbours is highest, in px from the peak: -0.5 to 0.5.

    0 beside a higher neighbour, which is beyond what is allowed, and beside one that is not known.
    """
    before, peak, after = values
    bend = before - 2 * peak + after
    if not (bend < 0 and peak >= max(before, after)):
        return 0.0
    return float((before - after) / (2 * bend))


def _square(maps: Array) -> Array:
    """The middle of (2, H, W) as a square."""
    height, width = maps.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return maps[:, top : top + side, left : left + side]


def turned(maps: Array) -> Iterator[Array]:
    """A square, maps (C, H, H), in the seven other ways in which it can lie."""
    for turns, mirrored in list(product(range(4), (False, True)))[1:]:
        other = np.rot90(maps, turns, (1, 2))
        yield other[:, :, ::-1] if mirrored else other


def _residual(ours: Array, theirs: Array, shift: tuple[int, int], mpp: float) -> float:
    """How far blocks lie apart where the whole is moved by (x, y): root mean square, by how well they fit.

    At least one pixel of these maps: nothing finer is seen, and in a small picture nothing at all.
    """
    ours, theirs = _covering(ours, theirs, shift)
    blocks = min(MAX_BLOCKS, min(ours.shape[1:]) // MIN_BLOCK_PX)
    if blocks < 2:
        return 1.0
    radius = int(min(BLOCK_FARTHEST_UM / mpp, FARTHEST_SHARE * min(ours.shape[1:]) / blocks))
    rows, columns = (np.array_split(np.arange(side), blocks) for side in ours.shape[1:])
    parts = [np.s_[:, row[0] : row[-1] + 1, column[0] : column[-1] + 1] for row, column in product(rows, columns)]
    found = [_block_off(ours[at], theirs[at], radius, NEAR_UM / mpp) for at in parts]
    squares, weights = np.transpose([(off**2, max(fit, 1e-3) ** 2) for off, fit in found])
    return max(1.0, float(np.sqrt(np.average(squares, weights=weights))))


def _block_off(ours: Array, theirs: Array, radius: int, grain_px: float) -> tuple[float, float]:
    """How far a block, maps (2, H, W), lies off in px, and its fit there; 0 px unless it fits surely better so.

    The best of many shifts fits a little better than none by chance alone. Both fits are compared as Fisher's z
    (1915), by as many independent places as Gaussian filters of `grain_px` leave of the block.
    """
    x, y, fit = pair_shift(ours, theirs, radius)
    here = pair_shift(ours, theirs, 0)[2]
    places = max(4.0, ours[0].size / (4 * np.pi * grain_px**2))
    gain = np.arctanh(min(fit, 0.999)) - np.arctanh(np.clip(here, -0.999, 0.999))
    return (float(np.hypot(x, y)), fit) if gain * np.sqrt(places - 3) > SURELY else (0.0, here)


def _covering(a: Array, b: Array, shift: tuple[int, int]) -> tuple[Array, Array]:
    """The parts of two maps (2, H, W) that cover each other once the second is moved by (x, y)."""
    ours, theirs = covering((a.shape[1], a.shape[2]), shift)
    return a[:, *ours], b[:, *theirs]


def covering(shape: tuple[int, int], shift: tuple[int, int]) -> tuple[Part, Part]:
    """Rows and columns of two pictures (H, W) that cover each other once the second is moved by (x, y)."""
    (x, y), (height, width) = shift, shape
    ours = slice(max(y, 0), height + min(y, 0)), slice(max(x, 0), width + min(x, 0))
    return ours, (slice(max(-y, 0), height - max(y, 0)), slice(max(-x, 0), width - max(x, 0)))


def correlations(a: Array, b: Array) -> Array:
    """Pearson's correlation of a(p) and b(p - shift), (H, W), over their overlap, at [y, x] of the shift, wrapped.

    All shifts at once by Fourier transform (Padfield 2012, with whole rectangles as masks). NaN where one of both
    does not vary over the overlap.
    """
    shape = [2 * side for side in a.shape]
    inside = np.ones_like(a)
    a, b = a - a.mean(), b - b.mean()

    def summed(left: Array, right: Array) -> Array:
        product = np.fft.rfft2(left, shape) * np.conj(np.fft.rfft2(right, shape))
        return np.asarray(np.fft.irfft2(product, shape))

    n = np.maximum(np.rint(summed(inside, inside)), 1)
    of_a, of_b = summed(a, inside), summed(inside, b)
    variances = (summed(a**2, inside) / n - (of_a / n) ** 2) * (summed(inside, b**2) / n - (of_b / n) ** 2)
    covariance = summed(a, b) / n - of_a * of_b / n**2
    return np.asarray(np.where(variances > 1e-12, covariance / np.sqrt(np.maximum(variances, 1e-12)), np.nan))
