"""A marker of cytoplasm: *where* times the exemplar's amounts, in the order of the tissue's own texture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromogen.staining.exemplar import Exemplar
from chromogen.staining.how import (
    EDGE_UM,
    Base,
    Location,
    Part,
    focused,
    ground_of,
    per_nucleus,
    profile,
    spread,
)
from chromogen.staining.maps import Array, coarser, finer, looked_up, mean_over, ramp, smooth
from chromogen.staining.noise import normal_field
from chromogen.staining.tissue import COARSE, MPP, Tissue, means_of_nuclei

FLOOR_OD10 = 0.04  # added to cytoplasm's density, so that its logarithm stays calm
TEXTURE_UM, NEAR_UM, AROUND_UM = 0.25, 2.5, 10.0  # of cytoplasm: its texture, its cell, its neighbours
FINE, BROAD = 1.25, 0.6  # how far cytoplasm's own texture decides its DAB: within a cell, between cells
PATCHES = ((7.0, 0.25), (25.0, 0.25), (70.0, 0.2))  # um, and how far chance decides
GRANULE_UM, GRANULAR = 0.8, 0.13  # granules of DAB in cytoplasm, and how far chance makes them
WHOLE = 0.7  # of a nucleus' sparing that a pale one has, too
EVEN = 0.6  # how far cytoplasm over or under a nucleus is all alike
SPARED = 1.15  # how far nuclei are spared by a marker of cytoplasm
MEMBRANE, MEMBRANE_UM, REACH_UM = 1.2, 0.4, 6.0  # how strong, how wide, and how far from nuclei
MEMBRANE_OVER = 1.9  # what smoothing takes from a line
MIN_FULL = 0.55  # of a nucleus' haematoxylin, anywhere in it
COVERS = 0.3, 0.7  # share of haematoxylin that so much DAB hides
UNDER_OD10 = 0.0, 0.1  # DAB of cytoplasm from which the exemplar says what lies under it


class Texture(NamedTuple):
    """Of tissue, by what cytoplasm's DAB is ordered, before chance: maps (H, W).

    `labels` and `owner` are those of `Tissue`; `nuclear` and `inside` are 1 in nuclei, by their haematoxylin and
    by their outlines. `fine` is the logarithm of cytoplasm's density; `near`, of squares of 2 px, and `around`, of
    COARSE px, are those of its means. `lines` are membranes, of squares of 2 px.
    """

    labels: NDArray[np.int32]
    owner: NDArray[np.int32]
    nuclear: Array
    inside: Array
    fine: Array
    near: Array
    around: Array
    lines: Array


class CytoplasmMaps(NamedTuple):
    """Of tissue, what neither chance nor a dial changes for a marker of cytoplasm: maps (H, W) beside a texture.

    `where` is how far cytoplasm is stained; `matter` is 0 where there is none.
    """

    where: Array
    matter: Array


def texture_of(tissue: Tissue) -> Texture:
    """The texture of a window."""
    nuclear = smooth(np.maximum(profile(tissue), WHOLE * (tissue.labels > 0)), 0.25 / MPP).clip(0, 1)
    matter = (tissue.second + 0.6 * tissue.hematoxylin * (1 - nuclear)).clip(0)
    between = (nuclear < 0.35) * tissue.there
    near, around = (_logarithm(matter, between, um, by) for um, by in ((NEAR_UM, 2), (AROUND_UM, COARSE)))
    fine = FINE * np.log(smooth(matter, TEXTURE_UM / MPP) + np.float32(FLOOR_OD10))
    inside = smooth(tissue.labels > 0, EDGE_UM / MPP)
    return Texture(tissue.labels, tissue.owner, nuclear, inside, fine, near, around, _lines(tissue))


def _logarithm(x: Array, mask: Array, um: float, by: int) -> Array:
    """The logarithm of the mean of a map over a mask within `um`, of squares of `by` px."""
    weight = coarser(mask, by)
    inside = coarser(x * mask, by) / np.maximum(weight, np.float32(1e-3))
    mean = mean_over(inside, weight, um / MPP / by)
    return np.asarray(np.log(mean + np.float32(FLOOR_OD10)), np.float32)


def _lines(tissue: Tissue) -> Array:
    """Lines midway between neighbouring nuclei, 0 to about 1, of squares of 2 px."""
    owner, distance_um = tissue.owner[::2, ::2], tissue.distance_um[::2, ::2]
    line: Array = np.zeros(owner.shape, np.float32)
    line[:-1] += owner[:-1] != owner[1:]
    line[:, :-1] += owner[:, :-1] != owner[:, 1:]
    soft = smooth(line.clip(0, 1), MEMBRANE_UM / MPP / 2) * MEMBRANE_OVER
    return np.asarray((soft * (1.3 - distance_um / REACH_UM).clip(0, 1)).clip(0, 1.2), np.float32)


def cytoplasm_maps(tissue: Tissue, where: Array) -> CytoplasmMaps:
    """What a window is stained with, beside its texture."""
    return CytoplasmMaps(where, ramp(smooth(tissue.total, 0.35 / MPP), 0.03, 0.08))


def cytoplasm_stains(
    part: Part,
    base: Base,
    texture: Texture,
    maps: CytoplasmMaps,
    exemplar: Exemplar,
    quantiles: tuple[float, ...],
    seed: int,
) -> tuple[Array, Array]:
    """Haematoxylin and DAB of a marker of cytoplasm; `quantiles` are those of the slide's textures."""
    stained = looked_up(with_chance(texture, part.corner, seed), quantiles, exemplar.stained_od10)
    ground = ground_of(base, part, exemplar, seed)
    dab = (maps.where * stained + (1 - maps.where) * ground[1]) * maps.matter
    dab = spread(np.asarray(dab, np.float32))
    return covered(focused(base, part, base.blue_od10, seed) + ground[0], dab, exemplar), dab


def with_chance(texture: Texture, corner: Location, seed: int) -> Array:
    """By what cytoplasm's DAB is ordered: the H&E's own texture, membranes, less in nuclei, and some chance.

    `corner` (x, y) is where the texture begins on the slide.
    """
    height, width = texture.labels.shape
    wide = _chance(corner, texture.around.shape, seed) - (FINE + BROAD) * texture.around
    half = BROAD * texture.near + finer(wide, COARSE // 2, texture.near.shape)
    half = half + _membranes(texture.lines, corner, seed)
    own = texture.fine + GRANULAR * normal_field(corner, (width, height), GRANULE_UM / MPP, seed + 50)
    own += finer(half, 2, (height, width))
    count = int(texture.owner.max(initial=0))
    mean = per_nucleus(means_of_nuclei(own, texture.labels, count), texture.owner)
    own += EVEN * texture.inside * (mean - own)
    return np.asarray(own - SPARED * texture.nuclear, np.float32)


def _chance(location: Location, shape: tuple[int, ...], seed: int) -> Array:
    """How cytoplasm varies from cell to cell and from patch to patch, of squares of COARSE px."""
    at, size = (location[0] / COARSE, location[1] / COARSE), (shape[1], shape[0])
    fields = (normal_field(at, size, um / MPP / COARSE, seed + i) for i, (um, _) in enumerate(PATCHES))
    return np.asarray(sum(weight * field for (_, weight), field in zip(PATCHES, fields, strict=True)), np.float32)


def _membranes(lines: Array, corner: Location, seed: int) -> Array:
    """Membranes, 0 to about MEMBRANE, unevenly strong, of squares of 2 px."""
    at, size = (corner[0] / 2, corner[1] / 2), (lines.shape[1], lines.shape[0])
    uneven = 1 + normal_field(at, size, 4.0 / MPP / 2, seed + len(PATCHES))
    return np.asarray(MEMBRANE * 0.6 * lines * uneven, np.float32)


def covered(hematoxylin: Array, dab: Array, exemplar: Exemplar) -> Array:
    """Haematoxylin under DAB, which hides part of it, and with what the exemplar has where cytoplasm is brown."""
    most, full_od10 = COVERS
    left = hematoxylin * (1 - most * ramp(dab, 0, full_od10))
    under = looked_up(smooth(dab, 0.35 / MPP), exemplar.levels_od10, exemplar.hidden_od10)
    return np.asarray(np.maximum(left, under * ramp(dab, *UNDER_OD10)), np.float32)
