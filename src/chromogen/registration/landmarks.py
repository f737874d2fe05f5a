"""A transform by landmarks: pairs of places that a person says are the same on two slides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy.stats import f
from shapely.geometry import box

from chromogen.errors import choose, expected
from chromogen.registration.transform import Piece, SlideFrame, Transform
from chromogen.stains.deconvolution import Array

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
    return np.asarray(np.hypot(*(source @ affine[:, :2].T + affine[:, 2] - target).T))


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
