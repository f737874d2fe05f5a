"""Amounts of both stains at each pixel, for nuclear and cytoplasmic markers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from chromogen.nuclei.outlines import Nuclei
from chromogen.staining.atlas import Atlas, painted_nuclei
from chromogen.staining.exemplar import HAZE_UM, QUANTILES, Exemplar
from chromogen.staining.how import (
    BROWN_OD10,
    EDGE_UM,
    MIN_OD10,
    Base,
    Location,
    MapPart,
    focused,
    ground_of,
    nuclear_profile,
    per_nucleus,
    spread,
)
from chromogen.staining.maps import (
    Array,
    coarser,
    finer,
    looked_up,
    mean_over,
    normal_at,
    normal_field,
    ramp,
    smooth,
)
from chromogen.staining.tissue import COARSE, MPP, Tissue, means_of_nuclei

# A marker of nuclei: which nuclei are positive, and how brown and blue each of them is.

Shares = float | NDArray[np.float64]

HOT_SPOTS = ((1.2, 1.2), (18.0, 0.6), (60.0, 0.6))  # um, and how far chance decides which nuclei are positive
BY_SHAPE, BY_TISSUE = 0.9, 1.5  # how far a nucleus' shape and company decide; how far *where* does
OWN = 0.12  # how far a brown nucleus' own chromatin shows in its DAB
SHARP_UM = 0.2  # the optics of all haematoxylin
GRAIN_UM = 0.5  # of faint DAB in nuclei
MAX_LOST = 1.5  # times the DAB that a nucleus may lose where a patch does not fit, and is given back


class NuclearMaps(NamedTuple):
    """Of tissue, what neither chance nor a dial changes for a marker of nuclei: maps (H, W).

    `profile` is each nucleus' own haematoxylin, about 1; `chromatin` how that varies inside, about 0; `reached`,
    of squares of 2 px, how far DAB that leaks from nuclei stays.
    """

    distance_um: Array
    profile: Array
    chromatin: Array
    reached: Array


def nuclear_maps(tissue: Tissue, where: Array) -> NuclearMaps:
    """What a window is stained with; `where` (H, W) is how far it is stained."""
    reached = coarser(tissue.there * (0.3 + 0.7 * where), 2)
    return NuclearMaps(tissue.distance_um, nuclear_profile(tissue), _own_chromatin(tissue), reached)


def _own_chromatin(tissue: Tissue) -> Array:
    """How far haematoxylin lies over its mean in a nucleus, -1 to 1.5: 0 elsewhere."""
    mean = tissue.of_nuclei(tissue.hematoxylin).clip(MIN_OD10).astype(np.float32)
    own = smooth(tissue.hematoxylin, SHARP_UM / MPP) / mean[tissue.owner] - 1
    inside = ramp(smooth(tissue.labels > 0, 0.6 / MPP), 0.6, 1)
    return np.asarray(own.clip(-1, 1.5) * inside, np.float32)


def nuclear_stains(
    part: MapPart,
    nuclei: Nuclei,
    base: Base,
    maps: NuclearMaps,
    exemplar: Exemplar,
    levels_od10: NDArray[np.float64],
    seed: int,
) -> tuple[Array, Array]:
    """Haematoxylin and DAB of a marker of nuclei, each stained as a nucleus of the exemplar with its level is.

    `nuclei` (N) are the window's, in its pixels.
    """
    blue = focused(base, part, base.blue_od10, seed)
    ground = ground_of(base, part, exemplar, seed)
    blue += ground[0]
    stained = np.where(levels_od10 >= exemplar.stained_od10[0], levels_od10, 0)
    if exemplar.atlas is None:
        return blue, np.asarray(spread(_faint(part, base, maps, levels_od10, seed)) + ground[1], np.float32)
    dab, cover = _of_atlas(part, nuclei, base, maps, exemplar.atlas, stained, seed)
    _hide(blue, dab, cover, exemplar)
    faint = _faint(part, base, maps, np.where(stained > 0, 0, levels_od10), seed)
    beside = faint + (1 - base.inside) * (ground[1] + _haze(base, maps, stained, exemplar))
    return blue, np.asarray(spread(dab) + (1 - cover) * beside, np.float32)


def _of_atlas(
    part: MapPart,
    nuclei: Nuclei,
    base: Base,
    maps: NuclearMaps,
    atlas: Atlas,
    stained_od10: NDArray[np.float64],
    seed: int,
) -> tuple[Array, Array]:
    """DAB of stained nuclei, by patches of the exemplar's, and how far these cover (0 to 1)."""
    draws = np.stack([ndtr(normal_at(part.centres_px, 1.0 / MPP, seed + n)) for n in (22, 23, 24)], axis=1)
    corner = part.at.left, part.at.top
    painted = painted_nuclei(nuclei, base.owner, maps.distance_um, corner, atlas, stained_od10, draws)
    dab, cover = (smooth(shown, SHARP_UM / MPP) for shown in painted)
    dab = focused(base, part, dab * (1 + OWN * maps.chromatin), seed)
    lost = stained_od10 / means_of_nuclei(dab, base.labels, len(nuclei)).clip(1e-3)
    return dab * per_nucleus(lost.clip(1, MAX_LOST), base.owner, 1), cover


def _haze(base: Base, maps: NuclearMaps, stained_od10: NDArray[np.float64], exemplar: Exemplar) -> Array:
    """DAB that leaks from stained nuclei into what lies round them."""
    source = coarser(per_nucleus(stained_od10, base.labels), 2)
    return finer(exemplar.haze * smooth(source, HAZE_UM / MPP / 2) * maps.reached, 2, base.labels.shape)


def _faint(part: MapPart, base: Base, maps: NuclearMaps, levels_od10: NDArray[np.float64], seed: int) -> Array:
    """Faint DAB in nuclei: in grains, and in part as their chromatin lies."""
    grains = (1 + 0.4 * normal_field(part.corner, part.at.size, GRAIN_UM / MPP, seed + 31)).clip(0, 3)
    whole = smooth((base.labels > 0) * grains, EDGE_UM / MPP)
    return np.asarray(per_nucleus(levels_od10, base.owner) * (0.7 * whole + 0.3 * maps.profile), np.float32)


def _hide(blue: Array, dab: Array, cover: Array, exemplar: Exemplar) -> None:
    """Let stained nuclei have the haematoxylin that the exemplar shows with so much DAB."""
    shown = cover * ramp(dab, *BROWN_OD10)
    at = np.nonzero(shown)
    hidden = np.interp(dab[at], exemplar.levels_od10, exemplar.hidden_od10).astype(np.float32)
    blue[at] += shown[at] * (hidden - blue[at])


def nuclear_levels(rank: NDArray[np.float64], exemplar: Exemplar, share: Shares) -> NDArray[np.float64]:
    """Mean DAB of nuclei by their rank from 0 to 1, as the exemplar's positive and negative nuclei have it.

    `share` is that of positive nuclei, of all or where each of them lies.
    """
    blue = np.interp(rank / np.maximum(1 - share, 1e-6), QUANTILES, exemplar.unstained_od10)
    brown = np.interp((rank - (1 - share)) / np.maximum(share, 1e-6), QUANTILES, exemplar.stained_od10)
    return np.asarray(np.where(rank > 1 - share, brown, blue))


def draws_of(
    centres_px: NDArray[np.float64], logits: NDArray[np.float64], where: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """What nuclei draw, (N,): chance with hot spots by their places on the slide, their shapes, and *where*.

    `logits` say how far shape and company speak for epithelium (`nuclear_logit`).
    """
    chance = sum(weight * normal_at(centres_px, um / MPP, seed + i) for i, (um, weight) in enumerate(HOT_SPOTS))
    return np.asarray(chance + BY_SHAPE * logits.clip(-2, 2) + BY_TISSUE * where)


# A marker of cytoplasm: *where* times the exemplar's amounts, in the order of the tissue's own texture.

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
    nuclear = smooth(np.maximum(nuclear_profile(tissue), WHOLE * (tissue.labels > 0)), 0.25 / MPP).clip(0, 1)
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
    part: MapPart,
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
    return dab_over_hematoxylin(focused(base, part, base.blue_od10, seed) + ground[0], dab, exemplar), dab


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


def dab_over_hematoxylin(hematoxylin: Array, dab: Array, exemplar: Exemplar) -> Array:
    """Haematoxylin under DAB, which hides part of it, and with what the exemplar has where cytoplasm is brown."""
    most, full_od10 = COVERS
    left = hematoxylin * (1 - most * ramp(dab, 0, full_od10))
    under = looked_up(smooth(dab, 0.35 / MPP), exemplar.levels_od10, exemplar.hidden_od10)
    return np.asarray(np.maximum(left, under * ramp(dab, *UNDER_OD10)), np.float32)
