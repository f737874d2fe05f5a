"""How good a registration is: block by block, against the same blocks turned and mirrored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chromogen.registration.likeness import FLAT
from chromogen.registration.transform import DisplacementBlock, Piece
from chromogen.registration.views import DensityView, pixel_centers_um, sampled
from chromogen.stains.deconvolution import Array
from chromogen.stains.registration import pair_shift, turned

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_PX = 48
FARTHEST = 0.25  # of a block's side, that its tissue is looked for
MIN_SEEN = 0.8  # of a block
MIN_DETAIL = 4 * FLAT  # standard deviation of a map in a block, below which there is nothing to compare
SMOOTH_PX = 1.0  # sections share groups of cells, not every pixel


def blocks_of(he: DensityView, ihc: DensityView, piece: Piece) -> list[DisplacementBlock]:
    """How far the tissue of each block of a view still lies from that of the registered IHC, and how surely.

    Blocks of 48 px of the view that show tissue on both slides. `confidence`: how much better a block fits there
    than turned and mirrored, as `stains.registration.Displacement` has it.
    """
    ours, theirs, seen = _on_each_other(he, ihc, piece)
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


def _on_each_other(he: DensityView, ihc: DensityView, piece: Piece) -> tuple[Array, Array, Array]:
    """Maps (2, H, W) of both, smoothed a little, and where both are seen (H, W)."""
    import torch

    from chromogen.stains.light import blurred

    centers = pixel_centers_um(he)
    points = piece.forward(centers.reshape(-1, 2).double().numpy())
    theirs, seen = sampled(ihc, torch.as_tensor(points, dtype=torch.float32).view(1, *centers.shape))

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


def confidence(blocks: list[DisplacementBlock]) -> float:
    """The mean confidence of blocks, 0 without them."""
    return float(np.mean([block.confidence for block in blocks])) if blocks else 0.0
