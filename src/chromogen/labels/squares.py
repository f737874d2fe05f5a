"""An H&E in squares and cells: what its IHC shows in each, and whether single nuclei of both can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil, sqrt
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from shapely.geometry import Polygon

from chromogen.compute.tiles import windows_of
from chromogen.regions.geojson import polygons_in
from chromogen.registration.transform import Transform, nearest_piece
from chromogen.slides.slide import Slide
from chromogen.stains.deconvolution import Array, separate_stains_od10
from chromogen.stains.tissue import background, without_small
from chromogen.whole_slide.nuclei import StainVectors

# Squares: which nuclei both slides show, and whether single ones can be compared there.

FARTHEST_UM = 24  # that a registration may be off
SHARP_UM, WIDE_UM = 1.5, 5.0  # how far one nucleus' two centres lie apart, and neighbours' do
BORDER_UM = 3 * int(WIDE_UM)
SURE = 6.0  # standard deviations: sections without a nucleus in common reach 4
APART_UM = 15.0  # a shift after which partners are there by chance alone
SIDE_UM = 250.0  # some hundred nuclei; a registration bends little within it
MIN_NUCLEI = 40  # with fewer, the squares around are judged along
TIMES_CHANCE = 2.0  # so many more partners than by chance: fewer are no evidence of the same nuclei
Indices: TypeAlias = NDArray[np.int64]
Place: TypeAlias = tuple[int, int]  # column and row
NOBODY: Indices = np.zeros(0, np.int64)


def common_shift_um(ours_um: Array, theirs_um: Array) -> tuple[Array, float]:
    """Where the nuclei of one section lie in another, both (N, 2) in um, (x, y), and how surely.

    The shift leads from ours to theirs. All vectors between both are counted: of nuclei in common, they pile up at
    one shift. How surely: the pile above its surroundings, in standard deviations of chance; above 6 it is sure.
    """
    reach = FARTHEST_UM + BORDER_UM
    counts = _vectors_counted(ours_um, theirs_um, reach)
    wide = ndimage.gaussian_filter(counts, WIDE_UM)
    area = 4 * np.pi * SHARP_UM**2  # of as many vectors the sharp filter's mean varies
    pile = (ndimage.gaussian_filter(counts, SHARP_UM) - wide) * np.sqrt(area / np.maximum(wide, 1 / area))
    inside = pile[BORDER_UM:-BORDER_UM, BORDER_UM:-BORDER_UM]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    return np.array([column, row], float) - FARTHEST_UM, float(inside[row, column])


def _vectors_counted(ours_um: Array, theirs_um: Array, reach: int) -> Array:
    """How many vectors from ours to theirs end in each um, rows of y and columns of x from -reach to reach."""
    edges = np.arange(-reach, reach + 2) - 0.5
    if not (len(ours_um) and len(theirs_um)):
        return np.zeros((len(edges) - 1, len(edges) - 1))
    near = cKDTree(ours_um).sparse_distance_matrix(cKDTree(theirs_um), reach * 1.5, output_type="ndarray")
    x, y = (theirs_um[near["j"]] - ours_um[near["i"]]).T
    return np.asarray(np.histogram2d(y, x, [edges, edges])[0])


def partners(ours_um: Array, theirs_um: Array, within_um: float) -> tuple[NDArray[np.int64], Array]:
    """For each of our points (N, 2) the index of its partner among theirs, -1 without, and their distance in um.

    Partners are the nearest of each other, and no farther apart than `within_um`.
    """
    if not (len(ours_um) and len(theirs_um)):
        return np.full(len(ours_um), -1), np.full(len(ours_um), np.nan)
    away, nearest = cKDTree(theirs_um).query(ours_um)
    back = cKDTree(ours_um).query(theirs_um)[1]
    mutual = (back[nearest] == np.arange(len(ours_um))) & (away <= within_um)
    return np.where(mutual, nearest, -1), np.where(mutual, away, np.nan)


def by_chance(ours_um: Array, theirs_um: Array, within_um: float) -> float:
    """How many of our points would have a partner by chance: the mean after four shifts that undo any match."""
    shifts = APART_UM * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    return float(np.mean([(partners(ours_um, theirs_um + shift, within_um)[0] >= 0).sum() for shift in shifts]))


@dataclass(frozen=True)
class Square:
    """A square of the H&E, SIDE_UM wide, by its column and row.

    `nuclei` and `positive` count the IHC's. `matched` of the H&E's `he_nuclei` have a partner, `by_chance` would.
    `shift_um` (x, y) is how far the IHC's nuclei lie from the H&E's, None where they are not the same nuclei.
    """

    place: Place
    nuclei: int
    positive: int
    he_nuclei: int
    matched: int
    by_chance: float
    shift_um: tuple[float, float] | None

    @property
    def center_um(self) -> tuple[float, float]:
        """Its middle, (x, y)."""
        return (self.place[0] + 0.5) * SIDE_UM, (self.place[1] + 0.5) * SIDE_UM


@dataclass(frozen=True, eq=False)
class Matched:
    """All squares; for each H&E nucleus its partner's index on the IHC, -1 without, and their distance in um."""

    partner: Indices
    distance_um: Array
    squares: list[Square]


def matched_nuclei(
    he_um: Array, ihc_um: Array, positive: NDArray[Any], size_um: Array, within_um: float
) -> Matched:
    """Partners of H&E nuclei (N, 2) among the IHC's (M, 2), both in um of the H&E, square by square.

    `positive` (M,) says which of the IHC's are; `size_um` (w, h) is the H&E's. A square in which hardly more
    nuclei have a partner than by chance has none: its sections share tissue, but no nuclei.
    """
    partner, distance = np.full(len(he_um), -1), np.full(len(he_um), np.nan)
    of_he, of_ihc = _by_square(he_um), _by_square(ihc_um)
    columns, rows = np.ceil(np.asarray(size_um) / SIDE_UM).astype(int).tolist()
    squares = []
    for row, column in product(range(rows), range(columns)):
        place = column, row
        own, theirs = of_he.get(place, NOBODY), of_ihc.get(place, NOBODY)
        around, there = (_around(of, place) for of in (of_he, of_ihc))
        judged = own if len(own) >= MIN_NUCLEI else around
        shift = _shift(he_um[judged], ihc_um[there], within_um)
        chance = 0.0
        if shift is not None:
            moved = ihc_um[there] - shift
            found, away = (part[: len(own)] for part in partners(he_um[around], moved, within_um))
            partner[own], distance[own] = np.where(found >= 0, there[found], -1), away
            chance = by_chance(he_um[own], moved, within_um)
        counts = len(theirs), int(positive[theirs].sum()), len(own), int((partner[own] >= 0).sum())
        squares.append(Square(place, *counts, chance, None if shift is None else (shift[0], shift[1])))
    return Matched(partner, distance, squares)


def _shift(he_um: Array, ihc_um: Array, within_um: float) -> Array | None:
    """How far the IHC's nuclei lie from the same nuclei of the H&E, (x, y); None where they are not the same."""
    shift, surely = common_shift_um(he_um, ihc_um)
    if surely < SURE:
        return None
    moved = ihc_um - shift
    count = int((partners(he_um, moved, within_um)[0] >= 0).sum())
    return shift if count >= TIMES_CHANCE * by_chance(he_um, moved, within_um) else None


def _by_square(points_um: Array) -> Mapping[Place, Indices]:
    """The indices of points (N, 2) by the square in which they lie."""
    places = np.floor(points_um / SIDE_UM).astype(int)
    order = np.lexsort(places.T)
    starts = np.flatnonzero(np.any(np.diff(places[order], axis=0, prepend=np.nan), axis=1))
    parts = np.split(order, starts[1:]) if len(order) else []
    return {(int(places[part[0], 0]), int(places[part[0], 1])): np.sort(part) for part in parts}


def _around(by_square: Mapping[Place, Indices], place: Place) -> Indices:
    """The indices in a square, and then in the eight around it."""
    return np.concatenate([by_square.get(at, NOBODY) for at in (place, *_neighbours(place))])


def _neighbours(place: Place) -> Iterator[Place]:
    steps = product((-1, 0, 1), repeat=2)
    return ((place[0] + x, place[1] + y) for x, y in steps if (x, y) != (0, 0))


# What a registered IHC shows of the H&E's tissue, in cells of some um: tissue, DAB, and regions of both.

NEGATIVE, POSITIVE = 1, 2  # of a map of classes, 0 where there is no tissue
CORNER = 0.75  # of a cell, that an outline may leave the steps of its cells

Mask = NDArray[np.bool_]
Classes = NDArray[np.uint8]
FINEST_MPP = 1.0  # fine enough for a nucleus' brown
CELL_UM = 2.0
MAX_CELLS = 16_000_000  # of a map; a larger slide has larger cells
BLOCK_PX = 1024
OVERVIEW_PX = 2048  # at which tissue is known
DOUBT_PX = 256  # sides of the map of what is in doubt


@dataclass(frozen=True, eq=False)
class LabelRegion:
    """A region: its class, its polygon in cells (x, y) of the map, and its number in the map of regions."""

    positive: bool
    polygon: Polygon
    number: int


def classes_of(tissue: Mask, brown: Mask, gap: float, smallest: float) -> Classes:
    """The class of each cell (H, W): POSITIVE or NEGATIVE; 0 without tissue.

    Gaps between brown cells are closed up to a width of `gap`. Regions of less than `smallest` cells are 0.
    """
    positive = _closed(brown & tissue, gap / 2) & tissue
    negative = without_small(tissue & ~positive, smallest)
    positive = without_small(positive, smallest)
    return (POSITIVE * positive + NEGATIVE * negative).astype(np.uint8)


def _closed(mask: Mask, radius: float) -> Mask:
    """A mask with the gaps between closed: grown by a disc and shrunk again; its outer border stays."""
    if radius < 1 or not mask.any():
        return mask
    border = int(radius) + 2
    padded = np.pad(mask, border)
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    return np.asarray((closed | padded)[border:-border, border:-border])


def regions_of(classes: Classes) -> tuple[list[LabelRegion], NDArray[np.int32]]:
    """The regions of a map of classes, and a map (H, W) of their numbers from 1 on, 0 for none."""
    numbers = np.zeros(classes.shape, np.int32)
    found: list[LabelRegion] = []
    for value in (NEGATIVE, POSITIVE):
        labels, _ = ndimage.label(classes == value)
        first = len(found) + 1
        numbers += np.where(labels > 0, labels + len(found), 0)
        for number, at in enumerate(ndimage.find_objects(labels), first):
            found.append(LabelRegion(value == POSITIVE, _outline(numbers[at] == number, at), number))
    return found, numbers


def _outline(cells: Mask, at: tuple[Any, ...]) -> Polygon:
    """Around connected cells of a part of a map: a polygon with holes."""
    whole = shapely.union_all(list(_runs(cells, at[0].start, at[1].start)))
    smooth = shapely.make_valid(whole.simplify(CORNER))
    return max(polygons_in(smooth), key=lambda part: float(part.area), default=whole)


def _runs(cells: Mask, top: int, left: int) -> Iterator[Polygon]:
    """Cells side by side, as rectangles."""
    steps = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return iter(shapely.box(left + starts, top + rows, left + ends, top + rows + 1))


@dataclass(frozen=True, eq=False)
class Maps:
    """Masks (H, W) of cells of `cell_um`: tissue that both slides show, and DAB of it.

    `cell_px` is a cell in level-0 px of the H&E, (x, y).
    """

    tissue: Mask
    brown: Mask
    cell_um: float
    cell_px: tuple[float, float]

    def regions(self, gap_um: float, smallest_um2: float) -> tuple[list[LabelRegion], NDArray[np.int32]]:
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
    blocks = list(windows_of(size, side * cell))
    for done, block in enumerate(blocks):
        on_block(done, len(blocks))
        seen = registered.read_at(block.location, block.size, mpp)
        dab = separate_stains_od10(seen, stains.matrix, stains.white)[..., 1]
        row, column = block.top // cell, block.left // cell
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


def is_sure(points_um: Array, transform: Transform) -> NDArray[np.bool_]:
    """Which points (N, 2) of the H&E, in um, lie in a piece whose registration is not in doubt."""
    doubtful = np.array([bool(piece.doubt) for piece in transform.pieces])
    if not doubtful.any() or not len(points_um):
        return np.ones(len(points_um), bool)
    return np.asarray(~doubtful[nearest_piece(transform.pieces, points_um)])


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
