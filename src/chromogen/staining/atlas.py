"""Stained nuclei of an exemplar in a frame that all nuclei share: others take from them how they are stained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from chromogen.nuclei.outlines import RAYS, Nuclei
from chromogen.staining.maps import Array
from chromogen.staining.tissue import MPP, Tissue

SIDE = 28  # px of a patch
REACH = 1.35  # radii of a nucleus from a patch's middle to its edge
STEPS_PER_OD10 = 80.0  # how densities are kept in a byte
MAX_NUCLEI = 144
PATCH_BYTES = SIDE * SIDE
MIN_SEEN = 0.9  # of a nucleus, by area
CHOICE = 6  # of how many nuclei that are alike one is drawn
ALIKE = (0.25, 0.35, 0.25)  # in log density, log area and log of the ratio of axes: how much counts as one step


@dataclass(frozen=True)
class Atlas:
    """N stained nuclei of an exemplar: their mean density (second stain, base 10), areas, ratios of axes, patches.

    `patches` holds (N, SIDE, SIDE) bytes of the second stain. In a
    patch the outline is the unit circle and the long axis lies along x.
    """

    levels_od10: tuple[float, ...]
    areas_um2: tuple[float, ...]
    elongations: tuple[float, ...]
    patches: bytes

    @property
    def densities_od10(self) -> NDArray[np.float32]:
        """The patches as densities, float32 (N, SIDE, SIDE)."""
        return _densities_of(self.patches)

    def alike(
        self, levels_od10: NDArray[np.float64], nuclei: Nuclei, draws: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """For each of M nuclei a patch of about its density, size and shape; `draws` 0 to 1 decide which."""
        from scipy.spatial import cKDTree

        tree = cKDTree(_shape_of(self.levels_od10, self.areas_um2, self.elongations))
        count = min(CHOICE, len(self.levels_od10))
        _, nearest = tree.query(_shape_of(levels_od10, nuclei.areas_um2, axes_of(nuclei)[0]), k=count)
        nearest = np.asarray(nearest).reshape(len(nuclei), count)
        drawn = (draws * count).astype(np.intp).clip(0, count - 1)
        return np.asarray(nearest[np.arange(len(nuclei)), drawn], np.intp)


@lru_cache(maxsize=8)
def _densities_of(patches: bytes) -> NDArray[np.float32]:
    """Kept here and not in the atlas, which is sent to workers."""
    codes = np.frombuffer(patches, np.uint8).reshape(-1, SIDE, SIDE)
    return codes.astype(np.float32) / np.float32(STEPS_PER_OD10)


def _shape_of(levels_od10: object, areas_um2: object, elongations: object) -> NDArray[np.float64]:
    columns = (np.asarray(values, np.float64).clip(1e-3) for values in (levels_od10, areas_um2, elongations))
    return np.stack([np.log(column) / step for column, step in zip(columns, ALIKE, strict=True)], axis=1)


def axes_of(nuclei: Nuclei) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Long axis over short axis of every outline, (N,), and the long axis' angle in radians from x to y."""
    around = (nuclei.outlines_px - nuclei.centres_px[:, None]).astype(np.float64)
    lengths, axes = np.linalg.eigh(np.einsum("nri,nrj->nij", around, around))
    return np.sqrt(lengths[:, 1] / np.maximum(lengths[:, 0], 1e-6)), np.arctan2(axes[:, 1, 1], axes[:, 0, 1])


def atlas_of(tissue: Tissue, least_od10: float) -> Atlas | None:
    """The nuclei of an exemplar with at least so much of the second stain; None without any."""
    levels = tissue.of_nuclei(tissue.second)[1:]
    chosen = np.flatnonzero((levels >= least_od10) & _inside(tissue) & _uncovered(tissue))
    if not len(chosen):
        return None
    by_level = chosen[np.argsort(levels[chosen], kind="stable")]
    every = np.linspace(0, len(by_level) - 1, min(MAX_NUCLEI, len(by_level))).round().astype(int)
    chosen = by_level[every]
    nuclei = tissue.nuclei.take(chosen)
    patches = [_patch(tissue, int(index), nuclei.take(np.array([i]))) for i, index in enumerate(chosen)]
    codes = (np.stack(patches) * STEPS_PER_OD10).round().clip(0, 255).astype(np.uint8)
    listed = (levels[chosen], nuclei.areas_um2, axes_of(nuclei)[0])
    level, area, elongation = (tuple(map(float, values.round(4))) for values in listed)
    return Atlas(level, area, elongation, codes.tobytes())


def joined_atlases(atlases: Sequence[Atlas]) -> Atlas | None:
    """One atlas of several, with equally many nuclei of each; None of none."""
    if not atlases:
        return None
    parts = [_thinned(atlas, MAX_NUCLEI // len(atlases)) for atlas in atlases]
    names = ("levels_od10", "areas_um2", "elongations")
    level, area, elongation = (tuple(value for part in parts for value in getattr(part, name)) for name in names)
    return Atlas(level, area, elongation, b"".join(part.patches for part in parts))


def _thinned(atlas: Atlas, most: int) -> Atlas:
    """At most so many nuclei of an atlas, of all its levels."""
    count = len(atlas.levels_od10)
    every = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    names = ("levels_od10", "areas_um2", "elongations")
    level, area, elongation = (tuple(getattr(atlas, name)[i] for i in every) for name in names)
    whole = [atlas.patches[i * PATCH_BYTES : (i + 1) * PATCH_BYTES] for i in every]
    return Atlas(level, area, elongation, b"".join(whole))


def _inside(tissue: Tissue) -> NDArray[np.bool_]:
    """Which nuclei lie whole in the picture, patches included."""
    height, width = tissue.labels.shape
    radii = np.sqrt(tissue.nuclei.areas_um2 / np.pi) / MPP * REACH
    x, y = tissue.nuclei.centres_px.T
    return np.asarray((x > radii) & (y > radii) & (x < width - radii) & (y < height - radii))


def _uncovered(tissue: Tissue) -> NDArray[np.bool_]:
    """Which nuclei lie under no other."""
    return np.asarray(tissue.pixels_of_nuclei[1:] * MPP**2 >= MIN_SEEN * tissue.nuclei.areas_um2)


def _patch(tissue: Tissue, index: int, nucleus: Nuclei) -> NDArray[np.float64]:
    """The second stain of a nucleus in its own frame, (SIDE, SIDE), without that of its neighbours."""
    middle = (np.arange(SIDE) + 0.5) / SIDE * 2 * REACH - REACH
    u, v = np.meshgrid(middle, middle)
    radius, turn = np.hypot(u, v), np.arctan2(v, u) + axes_of(nucleus)[1][0]
    outline = _radii(nucleus, np.zeros(turn.shape, np.intp), turn)
    mean = np.sqrt(nucleus.areas_um2[0] / np.pi) / MPP
    r = np.where(radius <= 1, radius * outline, outline + (radius - 1) * mean)
    x, y = nucleus.centres_px[0]
    at = np.stack([y + r * np.sin(turn) - 0.5, x + r * np.cos(turn) - 0.5])
    stain = map_coordinates(tissue.second, at, order=1, mode="nearest")
    rows, columns = (
        np.rint(axis).astype(int).clip(0, n - 1) for axis, n in zip(at, tissue.labels.shape, strict=True)
    )
    own = (tissue.owner[rows, columns] == index + 1) | (radius <= 1)
    beside = own & (radius > 1.1)
    stain[~own] = np.median(stain[beside]) if beside.any() else 0
    return np.asarray(stain.clip(0))


def _radii(nuclei: Nuclei, which: NDArray[np.intp], turn: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the outlines of nuclei reach in a direction, in px."""
    rays = np.linalg.norm(nuclei.outlines_px - nuclei.centres_px[:, None], axis=2)
    x, y = (nuclei.outlines_px[:, 0] - nuclei.centres_px).T
    first = np.arctan2(y, x)
    at = (turn - first[which]) / (2 * np.pi) * RAYS
    before = np.floor(at).astype(np.intp)
    part = at - before
    near, far = rays[which, before % RAYS], rays[which, (before + 1) % RAYS]
    return np.asarray(near * (1 - part) + far * part)


def painted_nuclei(
    nuclei: Nuclei,
    owner: NDArray[np.int32],
    distance_um: Array,
    corner: tuple[int, int],
    atlas: Atlas,
    levels_od10: NDArray[np.float64],
    draws: NDArray[np.float64],
) -> tuple[Array, Array]:
    """The second stain and cover (0 to 1), each (H, W), of nuclei (N) that take an exemplar's patches.

    `owner` and `distance_um` are those of `Tissue`; they begin at `corner` (x, y) in the frame of the nuclei.
    A nucleus with a level of 0 takes none. `draws` (N, 3), 0 to 1, choose its patch and which way that lies.
    """
    second, cover = np.zeros(owner.shape, np.float32), np.zeros(owner.shape, np.float32)
    radius_um = np.sqrt(nuclei.areas_um2 / np.pi)
    reach_um = np.concatenate([[0], np.where(levels_od10 > 0, radius_um * (REACH - 1), 0)]).astype(np.float32)
    rows, columns = np.nonzero(distance_um < reach_um[owner])
    if not len(rows):
        return second, cover
    shown, which = _those(owner[rows, columns].astype(np.intp) - 1, len(nuclei))
    nuclei, levels_od10, draws = nuclei.take(shown), levels_od10[shown], draws[shown]
    radius, u, v = _in_frame(nuclei, which, rows + corner[1], columns + corner[0], draws)
    patch = atlas.alike(levels_od10, nuclei, draws[:, 0])
    gain = (levels_od10 / np.asarray(atlas.levels_od10)[patch]).clip(0.6, 1.4)
    at = [patch[which], (v + REACH) / (2 * REACH) * SIDE - 0.5, (u + REACH) / (2 * REACH) * SIDE - 0.5]
    fade = ((REACH - radius) / (REACH - 1.1)).clip(0, 1)
    second[rows, columns] = _sampled(atlas.densities_od10, at) * gain[which] * fade
    cover[rows, columns] = fade
    return second, cover


def _those(which: NDArray[np.intp], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of `count` nuclei occur in `which`, and `which` as places among those."""
    occurs = np.zeros(count, bool)
    occurs[which] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[which]


def _in_frame(
    nuclei: Nuclei,
    which: NDArray[np.intp],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    draws: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where pixels lie in the frames of their nuclei: radius, u and v."""
    dx = columns + 0.5 - nuclei.centres_px[which, 0]
    dy = rows + 0.5 - nuclei.centres_px[which, 1]
    turn, r = np.arctan2(dy, dx), np.hypot(dx, dy)
    outline = _radii(nuclei, which, turn)
    mean = (np.sqrt(nuclei.areas_um2 / np.pi) / MPP)[which]
    radius = np.where(r <= outline, r / np.maximum(outline, 0.5), 1 + (r - outline) / mean)
    half, mirrored = (np.where(draws[:, n] < 0.5, 0.0, 1.0)[which] for n in (1, 2))
    turn = turn - axes_of(nuclei)[1][which] + np.pi * half
    return radius, radius * np.cos(turn), radius * np.sin(turn) * (1 - 2 * mirrored)


def _sampled(patches: NDArray[np.float32], at: list[NDArray[Any]]) -> NDArray[np.float32]:
    """Patches (N, SIDE, SIDE) at [number, row, column], linear between pixels."""
    number, row, column = np.asarray(at[0], np.intp), at[1].clip(0, SIDE - 1), at[2].clip(0, SIDE - 1)
    top, left = np.minimum(row.astype(np.intp), SIDE - 2), np.minimum(column.astype(np.intp), SIDE - 2)
    down, right = row - top, column - left
    upper = patches[number, top, left] * (1 - right) + patches[number, top, left + 1] * right
    lower = patches[number, top + 1, left] * (1 - right) + patches[number, top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)
