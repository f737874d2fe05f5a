"""A marker of nuclei: which nuclei are positive, and how brown and blue each of them is."""

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
    Part,
    focused,
    ground_of,
    per_nucleus,
    profile,
    spread,
)
from chromogen.staining.maps import Array, coarser, finer, ramp, smooth
from chromogen.staining.noise import normal_at, normal_field
from chromogen.staining.tissue import MPP, Tissue, means_of_nuclei

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
    return NuclearMaps(tissue.distance_um, profile(tissue), _own_chromatin(tissue), reached)


def _own_chromatin(tissue: Tissue) -> Array:
    """How far haematoxylin lies over its mean in a nucleus, -1 to 1.5: 0 elsewhere."""
    mean = tissue.of_nuclei(tissue.hematoxylin).clip(MIN_OD10).astype(np.float32)
    own = smooth(tissue.hematoxylin, SHARP_UM / MPP) / mean[tissue.owner] - 1
    inside = ramp(smooth(tissue.labels > 0, 0.6 / MPP), 0.6, 1)
    return np.asarray(own.clip(-1, 1.5) * inside, np.float32)


def nuclear_stains(
    part: Part,
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
    part: Part,
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


def _faint(part: Part, base: Base, maps: NuclearMaps, levels_od10: NDArray[np.float64], seed: int) -> Array:
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


def levels_of(rank: NDArray[np.float64], exemplar: Exemplar, share: Shares) -> NDArray[np.float64]:
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
