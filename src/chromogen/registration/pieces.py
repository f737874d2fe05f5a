"""The pieces of tissue on a slide: sections that were cut apart, and control tissue that belongs to none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.registration.views import DensityView, cropped

LOOK_PX = 512  # longest side of the view that pieces are separated in
STAINED = 0.06  # of a map's range: what is paler is glass
JOINED = 0.02  # of the longest side: gaps up to this wide belong to a piece
MIN_PIECE = 0.04  # of the tissue; smaller bits go with the nearest piece
MAX_PIECES = 12
MARGIN = 0.015  # of the longest side, around a piece


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
    margin = MARGIN * max(view.extent_um)
    low = np.array([columns.min(), rows.min()]) * pixel + view.origin_um - margin
    high = np.array([columns.max() + 1, rows.max() + 1]) * pixel + view.origin_um + margin
    return cropped(replace(view, seen=seen), low, high)
