"""Align two views finely, and piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.registration.fitting import (
    FittedTransform,
    Level,
    Spline,
    deformed,
    fitted_spline,
    least_jacobian,
    refined,
    zero_spline,
)
from chromogen.registration.search import (
    DensityView,
    Pose,
    cropped,
    fit,
    pixel_centers_um,
    scaled_um,
    search,
    view_at_mpp,
)
from chromogen.stains.deconvolution import Array

# Two views brought onto each other: found by search, refined from coarse to fine, then bent.

TRIED = 12  # poses of the search that are refined
OVERVIEW_PX = 96  # longest side at which they are
AFFINE_PX = ((192, 16), (384, 24))  # longest side, and side of the window that likeness is measured in
SPLINE_PX = ((96, 5, 14), (192, 8, 16), (384, 14, 20), (768, 24, 28), (1024, 24, 32))  # also cells of the grid
MARGIN = 0.15  # of the IHC's sides: how much more of the H&E the search covers
SAME_ANGLE, SAME_PLACE = 0.35, 0.15  # radians, and share of the extent, within which two poses are one
MIN_AREA = 0.25  # of a small square, that a displacement must leave
STIFFER = 4.0
MIN_GAIN = 0.002  # of the fit, for which a displacement is worth having
SAME_SIZE = 1.15  # a pose whose scale is off by more was found for another tissue


def align_candidates(he: DensityView, ihc: DensityView, scales: Sequence[float]) -> list[FittedTransform]:
    """The best places of an H&E on an IHC, each once, best first."""
    tried = [_refined_from(he, ihc, pose) for pose in search(he, ihc, scales)[:TRIED]]
    found: list[FittedTransform] = []
    for one in sorted(tried, key=lambda one: -one.rank):
        if not any(is_same_place(he, one.affine, other.affine) for other in found):
            found.append(one)
    return found


def _refined_from(he: DensityView, ihc: DensityView, pose: Pose) -> FittedTransform:
    return at_level(he, ihc, pose.affine, OVERVIEW_PX, 12, steps=12)


def is_same_place(he: DensityView, one: Array, other: Array) -> bool:
    """Whether two affines (2, 3) bring an H&E to nearly the same place, turned alike."""
    between = one[:, :2] @ np.linalg.inv(other[:, :2])
    if np.linalg.det(between) <= 0:
        return False
    angle = float(np.arctan2(between[1, 0] - between[0, 1], between[0, 0] + between[1, 1]))
    middle = np.asarray(he.origin_um) + np.asarray(he.extent_um) / 2
    apart = np.hypot(*(moved(one, middle[None]) - moved(other, middle[None]))[0])
    size = float(np.sqrt(abs(np.linalg.det(other[:, :2]))))
    return bool(abs(angle) < SAME_ANGLE and apart < SAME_PLACE * max(he.extent_um) * size)


def moved(affine: Array, points: Array) -> Array:
    """Points (N, 2) by an affine (2, 3)."""
    return np.asarray(points @ affine[:, :2].T + affine[:, 2])


def inverted(affine: Array) -> Array:
    """The affine (2, 3) back."""
    linear = np.linalg.inv(affine[:, :2])
    return np.asarray(np.column_stack([linear, -linear @ affine[:, 2]]))


def scale_of(affine: Array) -> float:
    """How many um of the IHC an affine (2, 3) makes of a um of the H&E."""
    return float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))


def corners_um(view: DensityView) -> Array:
    """The corners (4, 2) of a view's rectangle."""
    low, sides = np.asarray(view.origin_um), np.asarray(view.extent_um)
    return np.asarray(low + sides * np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))


def facing(he: DensityView, ihc: DensityView, affine: Array) -> DensityView:
    """The part of an H&E that comes to lie on an IHC, with a margin."""
    corners = moved(inverted(affine), corners_um(ihc))
    low, high = corners.min(0), corners.max(0)
    margin = MARGIN * (high - low)
    return cropped(he, low - margin, high + margin)


def at_level(
    he: DensityView, ihc: DensityView, affine: Array, longest_px: int, window_px: int, steps: int = 16
) -> FittedTransform:
    """An affine refined where its part of the H&E has a longest side of so many px."""
    part = facing(he, ihc, affine)
    mpp = max(part.extent_um) / longest_px
    return refined(view_at_mpp(part, mpp), view_at_mpp(ihc, mpp * scale_of(affine)), affine, window_px, steps)


def affine_aligned(he: DensityView, ihc: DensityView, starts: Sequence[FittedTransform]) -> FittedTransform:
    """The best of a few places, refined until an affine brings no more."""
    (first_px, first_window), *rest = AFFINE_PX
    best = max(
        (at_level(he, ihc, start.affine, first_px, first_window) for start in starts), key=lambda one: one.rank
    )
    for longest_px, window_px in rest:
        finer = at_level(he, ihc, best.affine, longest_px, window_px)
        best = finer if is_same_place(he, finer.affine, best.affine) else best
    return best


def bent(he: DensityView, ihc: DensityView, affine: Array) -> tuple[Spline | None, list[float]]:
    """What is left after an affine: the displacement, None where none helps, and the fit before and after it.

    A step to a finer grid counts only if both fit better by it, and if nowhere an area falls below a quarter; else
    it is tried again four times as stiff, then left out.
    """
    part = facing(he, ihc, affine)
    low, high = np.asarray(part.origin_um), np.asarray(part.origin_um) + part.extent_um
    longest, levels = max(part.extent_um), list[Level]()
    spline = zero_spline(low, high, longest / SPLINE_PX[0][1])
    for longest_px, cells, window_px in SPLINE_PX:
        mpp = longest / longest_px
        levels = [*levels, Level(view_at_mpp(part, mpp), view_at_mpp(ihc, mpp * scale_of(affine)), window_px)]
        before = fitted_spline(zero_spline(low, high, longest / cells), spline)
        spline = _better(levels, affine, before)
        if levels[-1].he.shape == part.shape:
            break
    fits = [fit_of(levels, affine, displacement) for displacement in (None, spline)]
    return (spline if np.abs(spline.coefficients).max() > 0 else None), fits


def _better(levels: Sequence[Level], affine: Array, before: Spline) -> Spline:
    for stiffness in (1.0, STIFFER, STIFFER**2):
        after = deformed(levels, affine, before, stiffness)
        if least_jacobian(affine, after) >= MIN_AREA:
            gain = fit_of(levels, affine, after) - fit_of(levels, affine, before)
            return after if gain > MIN_GAIN else before
    return before


def fit_of(levels: Sequence[Level], affine: Array, spline: Spline | None) -> float:
    """How well both fit by an affine and a displacement, the mean over levels."""
    import torch

    found = []
    for level in levels:
        centers = pixel_centers_um(level.he)
        points = centers.reshape(-1, 2).double().numpy()
        moved_to = moved(affine, points) + (spline(points) if spline else 0)
        at = torch.as_tensor(moved_to, dtype=torch.float32).view(1, *centers.shape)
        found.append(float(fit(level.he, level.ihc, at, level.window_px)[0]))
    return float(np.mean(found))


def of_unknown_size(
    he: DensityView, ihc: DensityView, found: Sequence[FittedTransform]
) -> tuple[DensityView, list[FittedTransform], float]:
    """The IHC in um of the H&E, the poses of the best one's scale likewise, and that scale."""
    scale = scale_of(found[0].affine)
    alike = [one for one in found if 1 / SAME_SIZE < scale_of(one.affine) / scale < SAME_SIZE]
    return scaled_um(ihc, 1 / scale), [replace(one, affine=one.affine / scale) for one in alike], scale


# The pieces of tissue on a slide: sections that were cut apart, and control tissue that belongs to none.

LOOK_PX = 512  # longest side of the view that pieces are separated in
STAINED = 0.06  # of a map's range: what is paler is glass
JOINED = 0.02  # of the longest side: gaps up to this wide belong to a piece
MIN_PIECE = 0.04  # of the tissue; smaller bits go with the nearest piece
MAX_PIECES = 12
PIECE_MARGIN = 0.015  # of the longest side, around a piece


def pieces_of(view: DensityView) -> list[DensityView]:
    """A view for each piece of tissue, largest first, seen without the others; the view itself for one piece."""
    step = max(1, max(view.shape) // LOOK_PX)
    labels, count = _labels(view, step)
    if count < 2:
        return [view]
    return [_seen_alone(view, labels == number, step) for number in range(1, count + 1)]


def _labels(view: DensityView, step: int) -> tuple[NDArray[np.int_], int]:
    """To which piece every `step`th pixel is nearest, from 1 on, largest first; and how many pieces there are."""
    densest = view.maps.amax(0).numpy()
    stained = ndimage.gaussian_filter(densest, step)[::step, ::step] > STAINED
    longest = max(stained.shape)
    closed = ndimage.binary_dilation(stained, iterations=max(1, round(JOINED * longest / 2)))
    labels, _ = ndimage.label(closed, np.ones((3, 3)))
    areas = np.bincount(labels[stained], minlength=labels.max() + 1)
    areas[0] = 0
    large = np.argsort(-areas)[:MAX_PIECES]
    large = large[areas[large] >= max(1, MIN_PIECE * areas.sum())]
    if not len(large):
        return labels, 0
    number = np.zeros(len(areas), int)
    number[large] = np.arange(1, len(large) + 1)
    kept = number[labels]
    nearest = ndimage.distance_transform_edt(kept == 0, return_distances=False, return_indices=True)
    return np.asarray(kept[tuple(nearest)]), len(large)


def _seen_alone(view: DensityView, mine: NDArray[np.bool_], step: int) -> DensityView:
    """A view of what is nearest to one piece, cropped to that piece with a margin."""
    import torch

    height, width = view.shape
    wide = np.repeat(np.repeat(mine, step, 0), step, 1)
    wide = np.pad(wide, ((0, max(0, height - wide.shape[0])), (0, max(0, width - wide.shape[1]))), "edge")
    seen = view.seen * torch.from_numpy(wide[:height, :width].astype(np.float32))
    inside = ndimage.gaussian_filter((view.maps.amax(0) * seen).numpy(), step) > STAINED
    rows, columns = np.nonzero(inside)
    pixel = np.asarray(view.extent_um) / (width, height)
    margin = PIECE_MARGIN * max(view.extent_um)
    low = np.array([columns.min(), rows.min()]) * pixel + view.origin_um - margin
    high = np.array([columns.max() + 1, rows.max() + 1]) * pixel + view.origin_um + margin
    return cropped(replace(view, seen=seen), low, high)
