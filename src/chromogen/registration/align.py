"""Align two views finely, and piece by piece; or by landmarks that a person says are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import f
from shapely.geometry import box

from chromogen.errors import choose, expected
from chromogen.registration.fitting import (
    FittedTransform,
    Level,
    Spline,
    deformed,
    fitted_spline,
    inverted,
    least_jacobian,
    moved,
    refined,
    scale_of,
    zero_spline,
)
from chromogen.registration.search import (
    DensityView,
    cropped,
    fit,
    pixel_centers_um,
    scaled_um,
    search,
    view_at_mpp,
)
from chromogen.registration.transform import Piece, SlideFrame, Transform
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
    poses = search(he, ihc, scales)[:TRIED]
    tried = [at_level(he, ihc, pose.affine, OVERVIEW_PX, 12, steps=12) for pose in poses]
    found: list[FittedTransform] = []
    for one in sorted(tried, key=lambda one: -one.rank):
        if not any(is_same_place(he, one.affine, other.affine) for other in found):
            found.append(one)
    return found


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


# A transform by landmarks: pairs of places that a person says are the same on two slides.

Kind: TypeAlias = Literal["similarity", "affine"]
Fit: TypeAlias = Callable[[Array, Array], Array]

LEAST = {"similarity": 2, "affine": 3}  # pairs
MIRRORED = 0.25  # of the residuals without a mirror, below which landmarks say that a section was turned over
MIN_SPREAD = 1e-3  # of the landmarks' extent across, relative to along: less is a line
TELLING = 3  # landmarks beyond the least: fewer fit the others too well, whichever is left out
RARE = 0.01  # how often landmarks that are right are doubted
MIN_SPREAD_UM = 1.0  # of landmarks: nobody clicks better


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """An affine (2, 3) in um from source to target, and how far each landmark is off, (N,) in um.

    `doubtful`: the landmark without which the others agree far better; None where there is none, or too few tell.
    """

    affine: Array
    residuals_um: Array
    doubtful: int | None

    @property
    def rms_um(self) -> float:
        """The root of the mean square of the residuals."""
        return float(np.sqrt(np.mean(self.residuals_um**2)))


def fitted_landmarks(source_um: Array, target_um: Array, kind: Kind = "similarity") -> LandmarkFit:
    """The affine that brings landmarks (N, 2) of the source nearest to those of the target, by least squares.

    `kind`: "similarity" turns, scales and shifts (Umeyama 1991), and mirrors if three or more landmarks say so;
    "affine" stretches and shears too. Raises: ValueError for too few landmarks, or ones on a line or a point.
    """
    source, target = np.asarray(source_um, float), np.asarray(target_um, float)
    fit = {"similarity": _similarity, "affine": _affine}[choose("kind", kind, get_args(Kind))]
    if len(source) < LEAST[kind]:
        raise expected("landmarks", f"at least {LEAST[kind]} pairs", len(source), "click more pairs")
    for places in (source, target):
        spread = np.linalg.svd(places - places.mean(0), compute_uv=False)
        if spread[0] == 0 or (kind == "affine" and spread[1] < MIN_SPREAD * spread[0]):
            raise expected("landmarks", "places apart, not on one line", "others", "click pairs further apart")
    affine = fit(source, target)
    return LandmarkFit(affine, _off(affine, source, target), _doubtful(source, target, kind, fit))


def _affine(source: Array, target: Array) -> Array:
    columns = np.column_stack([source, np.ones(len(source))])
    return np.asarray(np.linalg.lstsq(columns, target, rcond=None)[0].T)


def _similarity(source: Array, target: Array) -> Array:
    """Of both that are possible, the one that mirrors only where it fits far better."""
    plain, mirrored = (_turned(source, target, handed) for handed in (1.0, -1.0))
    off = [float(np.sum(_off(affine, source, target) ** 2)) for affine in (plain, mirrored)]
    return mirrored if len(source) > LEAST["similarity"] and off[1] < MIRRORED**2 * off[0] else plain


def _turned(source: Array, target: Array, handed: float) -> Array:
    """Umeyama's least-squares similarity, IEEE PAMI 13(4), with the determinant's sign given."""
    middles = source.mean(0), target.mean(0)
    ours, theirs = source - middles[0], target - middles[1]
    u, sizes, vt = np.linalg.svd(theirs.T @ ours)
    signs = np.array([1.0, handed * np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = (u * signs) @ vt * (sizes @ signs / np.sum(ours**2))
    return np.column_stack([linear, middles[1] - linear @ middles[0]])


def _off(affine: Array, source: Array, target: Array) -> Array:
    return np.asarray(np.hypot(*(moved(affine, source) - target).T))


def _doubtful(source: Array, target: Array, kind: Kind, fit: Fit) -> int | None:
    """The landmark that is further from where all others predict it than chance allows, if there is any.

    By externally studentized residuals (Belsley, Kuh & Welsch 1980), at a level that allows for as many tests as
    there are landmarks.
    """
    if len(source) < LEAST[kind] + TELLING:
        return None
    chances = np.array([_chance(source, target, index, kind, fit) for index in range(len(source))])
    worst = int(np.argmin(chances))
    return worst if chances[worst] < RARE / len(source) else None


def _chance(source: Array, target: Array, index: int, kind: Kind, fit: Fit) -> float:
    """How likely a landmark is as far off as it is from where a fit to all others predicts it."""
    kept = np.arange(len(source)) != index
    affine, count = fit(source[kept], target[kept]), int(kept.sum())
    freedom = 2 * count - 2 * LEAST[kind]
    variance = np.sum(_off(affine, source[kept], target[kept]) ** 2) / freedom
    middle = source[kept].mean(0)
    around, here = source[kept] - middle, source[index] - middle
    spread = around.T @ around if kind == "affine" else np.eye(2) * np.sum(around**2)
    leverage = 1 / count + here @ np.linalg.solve(spread, here)
    off = _off(affine, source[[index]], target[[index]])[0]
    least = max(variance * (1 + leverage), MIN_SPREAD_UM**2)
    return float(f.sf(off**2 / (2 * least), 2, freedom))


def by_affine(source: SlideFrame, target: SlideFrame, affine: Array) -> Transform:
    """A transform of a whole slide by an affine (2, 3) in um."""
    return Transform(source, target, (Piece(box(0, 0, *source.size_um), affine),))


def refined_by(
    transform: Transform, source_um: Array, target_um: Array, kind: Kind
) -> tuple[Transform, LandmarkFit]:
    """A transform corrected by landmarks: they move where it brings the source, and keep how it bends.

    Raises: as `fitted_landmarks`.
    """
    found = fitted_landmarks(transform.forward_um(np.asarray(source_um, float)), target_um, kind)
    pieces = tuple(_corrected(piece, found.affine) for piece in transform.pieces)
    return replace(transform, pieces=pieces, quality=None), found


def _corrected(piece: Piece, affine: Array) -> Piece:
    linear = affine[:, :2]
    moved = linear @ piece.affine + np.column_stack([np.zeros((2, 2)), affine[:, 2]])
    spline = piece.spline and replace(piece.spline, coefficients=piece.spline.coefficients @ linear.T)
    return replace(piece, affine=moved, spline=spline)
