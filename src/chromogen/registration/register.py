"""Register an IHC on an H&E, and say how good the fit is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPoint, Polygon, box

from chromogen.errors import expected
from chromogen.image import Image, PathLike, resize
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.registration.align import (
    SPLINE_PX,
    affine_aligned,
    align_candidates,
    at_level,
    bent,
    corners_um,
    facing,
    of_unknown_size,
    pieces_of,
)
from chromogen.registration.fitting import FittedTransform, moved, scale_of
from chromogen.registration.search import (
    FLAT,
    SCALES,
    DensityView,
    pixel_centers_um,
    sampled_view,
    scaled_um,
    view_at_mpp,
    view_of,
)
from chromogen.registration.transform import DisplacementBlock, Piece, Quality, SlideFrame, Transform
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.deconvolution import Array
from chromogen.stains.registration import displacement, pair_shift, turned
from chromogen.stains.tissue import Background, background

if TYPE_CHECKING:
    from torch import Tensor


# How good a registration is: block by block, against the same blocks turned and mirrored.

BLOCK_PX = 48
FARTHEST = 0.25  # of a block's side, that its tissue is looked for
MIN_SEEN = 0.8  # of a block
MIN_DETAIL = 4 * FLAT  # standard deviation of a map in a block, below which there is nothing to compare
SMOOTH_PX = 1.0  # sections share groups of cells, not every pixel


def residual_blocks(he: DensityView, ihc: DensityView, piece: Piece) -> list[DisplacementBlock]:
    """How far the tissue of each block of a view still lies from that of the registered IHC, and how surely.

    Blocks of 48 px of the view that show tissue on both slides. `confidence`: how much better a block fits there
    than turned and mirrored, as `stains.registration.Displacement` has it.
    """
    ours, theirs, seen = _seen_by_both(he, ihc, piece)
    rows, columns = (range(0, side - BLOCK_PX + 1, BLOCK_PX // 2) for side in he.shape)
    found = []
    for row in rows:
        for column in columns:
            at = np.s_[..., row : row + BLOCK_PX, column : column + BLOCK_PX]
            if seen[at].mean() >= MIN_SEEN and ours[at].std((1, 2)).max() > MIN_DETAIL:
                middle = np.array([column, row]) + BLOCK_PX / 2
                center = np.asarray(he.origin_um) + middle * he.mpp
                found.append(_block(ours[at], theirs[at], center, he.mpp))
    return found


def _seen_by_both(he: DensityView, ihc: DensityView, piece: Piece) -> tuple[Array, Array, Array]:
    """Maps (2, H, W) of both, smoothed a little, and where both are seen (H, W)."""
    import torch

    from chromogen.stains.deconvolution import blurred

    centers = pixel_centers_um(he)
    points = piece.forward(centers.reshape(-1, 2).double().numpy())
    theirs, seen = sampled_view(ihc, torch.as_tensor(points, dtype=torch.float32).view(1, *centers.shape))

    def smooth(maps: Tensor) -> Array:
        return np.asarray(blurred(maps, SMOOTH_PX)[0].double().numpy())

    return smooth((he.maps * he.seen)[None]), smooth(theirs), (seen[0, 0] * he.seen).double().numpy()


def _block(ours: Array, theirs: Array, center: Array, mpp: float) -> DisplacementBlock:
    radius = int(FARTHEST * BLOCK_PX)
    x, y, fit = pair_shift(ours, theirs, radius)
    wrong = max(pair_shift(ours, other, radius)[2] for other in turned(theirs))
    confidence = float(np.clip((fit - wrong) / max(1 - wrong, 1e-6), 0, 1))
    return DisplacementBlock((float(center[0]), float(center[1])), float(np.hypot(x, y)) * mpp, confidence)


def residual_um(blocks: list[DisplacementBlock]) -> float:
    """The median of blocks' residuals, each counted as surely as it is known; NaN without blocks."""
    if not blocks:
        return float("nan")
    ordered = sorted(blocks, key=lambda block: block.residual_um)
    weights = np.cumsum([block.confidence + 1e-3 for block in ordered])
    return ordered[int(np.searchsorted(weights, weights[-1] / 2))].residual_um


def mean_confidence(blocks: list[DisplacementBlock]) -> float:
    """The mean confidence of blocks, 0 without them."""
    return float(np.mean([block.confidence for block in blocks])) if blocks else 0.0


# Registration of two slides: read from afar, pieces found, brought onto each other, bent, and judged.

OnStage: TypeAlias = Callable[[int, int, str], None]  # stages done, of how many, what comes next

OVERVIEW_PX = 1536
FINEST_MPP = 1.0  # neighbouring sections share groups of cells, not what is finer
MIN_PX = 32
MIN_TISSUE = 0.002  # of a view: less is a blank slide
STAINED = 0.08  # of a map's range
MIN_SURE = 0.3  # other tissue reaches 0.2
MIN_CONFIDENCE = 0.03  # of a piece's blocks
SURE_OF_WHOLE = 1.1  # a piece lies elsewhere than the whole only where it fits so much better
JUDGED_PX = 384  # longest side at which blocks are compared
SAME_EXTENT = 0.02  # by which the sides of pictures that lie on each other may differ
ON_EACH_OTHER = 0.2  # confidence that they do; other tissue reaches 0.1


@dataclass(frozen=True, eq=False)
class _Section:
    """A slide with its overview, and what is glass and ink in it."""

    slide: Slide
    role: str
    mpp: float
    mpp_from: str
    view: DensityView
    background: Background

    @property
    def frame(self) -> SlideFrame:
        return SlideFrame(self.slide.size, self.mpp, self.mpp_from, self.slide.quickhash)


def register(
    he: Image | PathLike | Slide,
    ihc: Image | PathLike | Slide,
    *,
    he_mpp: float | None = None,
    ihc_mpp: float | None = None,
    on_stage: OnStage = lambda _done, _of, _next: None,
) -> Transform:
    """Find where the tissue of an H&E lies on an IHC of the same block; the transform leads from H&E to IHC.

    Slides, images and arrays, uint8 (H, W, 3), of any size are read from afar. Either may be turned, mirrored, or
    show more than the other. Where a slide states no pixel size and none is given (um per level-0 pixel), it is
    estimated from the other's; where neither does, 0.5 um is assumed of the H&E. The measure is local correlation
    of densities (Cachier & Pennec 2000); the displacement is a cubic B-spline (Rueckert et al. 1999).
    Raises: ValueError where they do not show the same tissue, one is blank, or it cannot be read; OSError.
    """
    opened: list[Slide] = []
    try:
        for which, mpp in ((he, he_mpp), (ihc, ihc_mpp)):
            opened += [which if isinstance(which, Slide) else open_slide(which, mpp=mpp)]
        return _registered(opened[0], opened[1], on_stage)
    finally:
        for slide, which in zip(opened, (he, ihc), strict=False):
            if slide is not which:
                slide.close()


def _registered(he_slide: Slide, ihc_slide: Slide, on_stage: OnStage) -> Transform:
    on_stage(0, 4, "reading both slides")
    he, ihc = _section(he_slide, "he", ihc_slide), _section(ihc_slide, "ihc", he_slide)
    known = he_slide.mpp is not None and ihc_slide.mpp is not None
    on_stage(1, 4, "searching every angle" if known else "searching every angle and scale")
    lying, sure = _on_each_other(he, ihc)
    found = [lying] if lying else align_candidates(he.view, ihc.view, [1.0] if known else SCALES)
    if not (known or lying):
        he, ihc, found = _of_estimated_size(he, ihc, found)
    on_stage(2, 4, "matching pieces of tissue")
    matched = _matched(he, ihc, found)
    on_stage(3, 4, "bending")
    done = [_bent(he, ihc, part, fitted) for part, fitted in matched]
    on_stage(4, 4, "")
    return _judged(he, ihc, done, sure if lying else _sure(found))


def _section(slide: Slide, role: str, other: Slide) -> _Section:
    """A slide seen from afar. Raises: ValueError for a blank or tiny one."""
    if min(slide.size) < MIN_PX:
        raise expected(role, f"at least {MIN_PX} px on each side", f"{slide.size[0]} x {slide.size[1]} px")
    mpp = slide.mpp or other.mpp or ASSUMED_MPP
    whence = slide.mpp_from or ("estimated" if other.mpp or role == "ihc" else "assumed")
    image, step = slide.overview(OVERVIEW_PX)
    seen = background(image, mpp * step)
    view = view_of(image, (slide.size[0] * mpp, slide.size[1] * mpp), seen)
    if float((view.maps.amax(0) * view.seen > STAINED).float().mean()) < MIN_TISSUE:
        raise expected(role, "a slide with tissue", f"{str(slide.path)!r}, which is blank", "name another slide")
    return _Section(slide, role, mpp, whence, view, seen)


def _on_each_other(he: _Section, ihc: _Section) -> tuple[FittedTransform | None, float]:
    """Where pictures of one extent lie on each other already, as restained and virtual pairs do; and how surely.

    The search compares few pixels, and may not tell a small field from the same field turned.
    """
    extents = [np.array(section.slide.size) * section.mpp for section in (he, ihc)]
    if (abs(extents[0] / extents[1] - 1) > SAME_EXTENT).any():
        return None, 0.0
    ours, step = he.slide.overview(OVERVIEW_PX)
    theirs = resize(ihc.slide.overview(OVERVIEW_PX)[0], (ours.shape[1], ours.shape[0]))
    found = displacement(ours, theirs, he.mpp * step)
    if found.confidence < ON_EACH_OTHER:
        return None, 0.0
    shift_um = np.array(found.shift_px) * he.mpp * step
    affine = np.column_stack([np.eye(2), shift_um])
    return at_level(he.view, ihc.view, affine, OVERVIEW_PX, 12, steps=12), max(found.confidence, MIN_SURE)


def _of_estimated_size(
    he: _Section, ihc: _Section, found: list[FittedTransform]
) -> tuple[_Section, _Section, list[FittedTransform]]:
    """The same where the slide whose pixel size nobody states is given the one that both fit by."""
    view, found, scale = of_unknown_size(he.view, ihc.view, found)
    if ihc.slide.mpp is None:
        return he, replace(ihc, view=view, mpp=ihc.mpp / scale), found
    # The IHC's um are right, and the H&E's are `scale` too small.
    linear = [replace(one, affine=np.column_stack([one.affine[:, :2], one.affine[:, 2] * scale])) for one in found]
    return replace(he, view=scaled_um(he.view, scale), mpp=he.mpp * scale), ihc, linear


def _matched(
    he: _Section, ihc: _Section, found: Sequence[FittedTransform]
) -> list[tuple[DensityView, FittedTransform]]:
    """The pieces of the H&E, each with its place: that of the whole, unless its own fits clearly better."""
    whole = affine_aligned(he.view, ihc.view, found[:2])
    parts = pieces_of(he.view)
    if len(parts) == 1:
        return [(he.view, whole)]
    own = [_own_place(part, ihc.view, whole) for part in parts]
    if all(one.affine is whole.affine for one in own):
        return [(he.view, whole)]
    return list(zip(parts, own, strict=True))


def _own_place(part: DensityView, ihc: DensityView, whole: FittedTransform) -> FittedTransform:
    by_whole = at_level(part, ihc, whole.affine, 192, 16, steps=4)
    found = align_candidates(part, ihc, [1.0])
    if not found:
        return replace(whole)
    alone = affine_aligned(part, ihc, found[:2])
    checked = at_level(part, ihc, alone.affine, 192, 16, steps=1)
    return alone if checked.rank > SURE_OF_WHOLE * by_whole.rank else whole


def _bent(
    he: _Section, ihc: _Section, part: DensityView, fitted: FittedTransform
) -> tuple[Piece, list[DisplacementBlock], list[float]]:
    """A piece read again where it lies, as finely as helps, and brought to its IHC by a displacement."""
    here, there = _read_again(he, part, facing(part, ihc.view, fitted.affine)), ihc.view
    corners = moved(fitted.affine, corners_um(here))
    there = _read_part(ihc, corners.min(0), corners.max(0))
    spline, fits = bent(here, there, fitted.affine)
    piece = Piece(_outline(part), fitted.affine, spline)
    at = max(here.extent_um) / JUDGED_PX
    blocks = residual_blocks(view_at_mpp(here, at), view_at_mpp(there, at * scale_of(fitted.affine)), piece)
    return piece, blocks, fits


def _read_again(section: _Section, part: DensityView, where: DensityView) -> DensityView:
    """A rectangle of a slide as finely as helps, of which only what a piece has is seen."""
    low = np.asarray(where.origin_um)
    view = _read_part(section, low, low + where.extent_um)
    _, seen = sampled_view(part, pixel_centers_um(view)[None])
    return replace(view, seen=view.seen * (seen[0, 0] > 0.5))


def _read_part(section: _Section, low_um: Array, high_um: Array) -> DensityView:
    """What lies between two corners (x, y) in um, at a few um per pixel; the rest of the slide is not read."""
    slide = section.slide
    first = np.floor(low_um / section.mpp).clip(0, np.array(slide.size) - 1).astype(int)
    last = np.ceil(high_um / section.mpp).clip(first + 1, slide.size).astype(int)
    sides = last - first
    longest = SPLINE_PX[-1][0]
    step = max(1.0, FINEST_MPP / section.mpp, float(sides.max()) / longest)
    own_mpp = slide.mpp or 1.0
    location, size = (int(first[0]), int(first[1])), (int(sides[0]), int(sides[1]))
    image = (
        slide.read_region(location, size, own_mpp * step) if slide.mpp else _shrunk(slide, location, size, step)
    )
    part = replace(section.background, marks=_marks_in(section, first, last))
    view = view_of(image, (sides[0] * section.mpp, sides[1] * section.mpp), part)
    return replace(view, origin_um=(first[0] * section.mpp, first[1] * section.mpp))


def _shrunk(slide: Slide, location: tuple[int, int], size: tuple[int, int], step: float) -> Image:
    image = slide.read_region(location, size)
    return image if step <= 1 else resize(image, (max(1, round(size[0] / step)), max(1, round(size[1] / step))))


def _marks_in(section: _Section, first: Array, last: Array) -> NDArray[np.bool_]:
    marks = section.background.marks
    scale = np.array(marks.shape[::-1]) / section.slide.size
    low = np.floor(first * scale).astype(int)
    high = np.maximum(np.ceil(last * scale).astype(int), low + 1)
    return marks[low[1] : high[1], low[0] : high[0]]


def _outline(part: DensityView) -> Polygon:
    """Around the tissue of a piece, in um: convex, and its rectangle where that is all there is."""
    stained = ((part.maps.amax(0) * part.seen) > STAINED).numpy()
    rows, columns = np.nonzero(stained[::4, ::4])
    if len(rows) < 3:
        low = part.origin_um
        return box(low[0], low[1], low[0] + part.extent_um[0], low[1] + part.extent_um[1])
    points = np.column_stack([columns, rows]) * 4 * part.mpp + np.asarray(part.origin_um)
    hull = MultiPoint(points).convex_hull.buffer(8 * part.mpp)
    return Polygon(hull.simplify(2 * part.mpp).exterior)


def _sure(found: Sequence[FittedTransform]) -> float:
    """How far the best place is ahead of the next, which is turned, mirrored, or elsewhere; 0 to 1."""
    other = max((one.rank for one in found[1:]), default=0.0)
    return float(np.clip(1 - other / max(found[0].rank, 1e-6), 0, 1))


def _judged(
    he: _Section, ihc: _Section, done: Sequence[tuple[Piece, list[DisplacementBlock], list[float]]], sure: float
) -> Transform:
    """The transform with its quality. Raises: ValueError where both slides show different tissue."""
    blocks = [block for _, found, _ in done for block in found]
    if sure < MIN_SURE:
        got = f"other tissue: {ihc.slide.path.name!r} fits no better than turned, mirrored or moved elsewhere"
        raise expected("he and ihc", "two sections of the same tissue", got, "check which slides belong together")
    pieces = tuple(replace(piece, doubt=_doubt(found)) for piece, found, _ in done)
    before, after = (float(np.mean([fits[at] for _, _, fits in done])) for at in (0, -1))
    quality = Quality(
        round(residual_um(blocks), 2), round(sure, 3), round(before, 3), round(after, 3), tuple(blocks)
    )
    return Transform(he.frame, ihc.frame, pieces, quality)


def _doubt(blocks: list[DisplacementBlock]) -> str:
    if mean_confidence(blocks) >= MIN_CONFIDENCE:
        return ""
    return "fits no better than turned or mirrored"
