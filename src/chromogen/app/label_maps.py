"""What a registered IHC shows of the H&E's tissue, in cells of some um: tissue, brown, and regions of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from chromogen.app.label_nuclei import is_sure
from chromogen.labels.regions import Region, classes_of, regions_of
from chromogen.labels.squares import SIDE_UM
from chromogen.registration.transform import Transform
from chromogen.slides.slide import Slide
from chromogen.stains.deconvolution import Array, separate_stains_od10
from chromogen.stains.tissue import background
from chromogen.whole_slide.nuclei import StainVectors

FINEST_MPP = 1.0  # fine enough for a nucleus' brown
CELL_UM = 2.0
MAX_CELLS = 16_000_000  # of a map; a larger slide has larger cells
BLOCK_PX = 1024
OVERVIEW_PX = 2048  # at which tissue is known
DOUBT_PX = 256  # sides of the map of what is in doubt

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Maps:
    """Masks (H, W) of cells of `cell_um`: tissue that both slides show, and DAB of it.

    `cell_px` is a cell in level-0 px of the H&E, (x, y).
    """

    tissue: Mask
    brown: Mask
    cell_um: float
    cell_px: tuple[float, float]

    def regions(self, gap_um: float, smallest_um2: float) -> tuple[list[Region], NDArray[np.int32]]:
        """As `labels.regions.regions_of`, by lengths in um."""
        smallest = smallest_um2 / self.cell_um**2
        return regions_of(classes_of(self.tissue, self.brown, gap_um / self.cell_um, smallest))


def maps_of(
    he: Slide,
    registered: Slide,
    transform: Transform,
    stains: StainVectors,
    threshold_od10: float,
    on_block: Callable[[int, int], None] = lambda _done, _of: None,
) -> Maps:
    """The maps of an H&E and its IHC in the H&E's frame; a cell is brown where half of it has so much DAB.

    Read block by block at 1 um/px; tissue is seen from afar. Raises: OSError, SlideError.
    """
    mpp = max(FINEST_MPP, he.need_mpp())
    size = he.size_at(mpp)
    cell = max(1, round(CELL_UM / mpp), ceil(sqrt(size[0] * size[1] / MAX_CELLS)))
    brown = np.zeros((-(-size[1] // cell), -(-size[0] // cell)), bool)
    side = max(1, BLOCK_PX // cell)
    corners = list(product(*(range(0, count, side) for count in brown.shape)))
    for done, (row, column) in enumerate(corners):
        on_block(done, len(corners))
        at = column * cell, row * cell
        wanted = min(side * cell, size[0] - at[0]), min(side * cell, size[1] - at[1])
        dab = separate_stains_od10(registered.read_at(at, wanted, mpp), stains.matrix, stains.white)[..., 1]
        brown[row : row + side, column : column + side] = _mostly(dab > threshold_od10, cell)
    tissue = _tissue(he, brown.shape) & _tissue(registered, brown.shape) & _sure(transform, brown.shape)
    cell_px = cell * he.size[0] / size[0], cell * he.size[1] / size[1]
    return Maps(tissue, tissue & brown, cell * mpp, cell_px)


def in_squares(mask: Mask, cell_um: float, columns: int, rows: int) -> Array:
    """The area in um2 that a mask of cells has in each square, row by row: (N,)."""
    row, column = ((np.nonzero(mask)[axis] + 0.5) * cell_um // SIDE_UM for axis in (0, 1))
    counts = np.bincount((row * columns + column).astype(int), minlength=columns * rows)
    return np.asarray(counts * cell_um**2)


def _mostly(mask: Mask, cell: int) -> Mask:
    """Which squares of `cell` px are at least half true."""
    rows, columns = (-(-side // cell) for side in mask.shape)
    more = [(0, count * cell - side) for count, side in zip((rows, columns), mask.shape, strict=True)]
    padded = np.pad(mask.astype(np.uint8), more, mode="edge")
    return np.asarray(padded.reshape(rows, cell, columns, cell).mean((1, 3)) >= 0.5)


def _tissue(slide: Slide, shape: tuple[int, ...]) -> Mask:
    """Where a slide shows tissue, seen from afar, at each cell."""
    image, step = slide.overview(OVERVIEW_PX)
    mpp = slide.need_mpp() * step
    return _at_cells(background(image, mpp).tissue(image, mpp), shape)


def _sure(transform: Transform, shape: tuple[int, ...]) -> Mask:
    """Where no doubt is cast on the registration, at each cell."""
    middles = (np.arange(DOUBT_PX) + 0.5) / DOUBT_PX
    points = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2) * transform.source.size_um
    return _at_cells(is_sure(points, transform).reshape(DOUBT_PX, DOUBT_PX), shape)


def _at_cells(mask: Mask, shape: tuple[int, ...]) -> Mask:
    rows, columns = (
        ((np.arange(count) + 0.5) * side / count).astype(int)
        for count, side in zip(shape, mask.shape, strict=True)
    )
    return np.asarray(mask[np.ix_(rows, columns)])
