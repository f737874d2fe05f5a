"""An H&E in squares: what its IHC shows in each, and whether single nuclei of both can be compared there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from chromogen.stains.deconvolution import Array

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
