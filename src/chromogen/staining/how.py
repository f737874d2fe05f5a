"""How a stain looks on a tissue's own picture: haematoxylin and DAB from an H&E's amounts and an exemplar's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from chromogen.image import Image
from chromogen.staining.atlas import Atlas, painted_nuclei
from chromogen.staining.confidence import Typical
from chromogen.staining.epithelium import Rule, nuclear_logit
from chromogen.staining.exemplar import HAZE_UM, QUANTILES, Exemplar, Values, median_of
from chromogen.staining.maps import Array, coarser, finer, looked_up, mean_over, ramp, smooth, strips
from chromogen.staining.noise import normal_at, normal_field
from chromogen.staining.tissue import COARSE, MPP, Detail, Tissue, nuclear_bands

Location = tuple[int, int]
Shares = float | NDArray[np.float64]

LEAST_OD10 = 0.05  # densities closer than this say nothing of how much one is over the other
BACKGROUND = 0.85  # of the haematoxylin round nuclei is not the nuclei's
HALO_UM = (0.3, 1.3)  # round an outline: where a nucleus' own haematoxylin may still reach, and where it ends
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
HOT_SPOTS = ((1.2, 1.2), (18.0, 0.6), (60.0, 0.6))  # um, and how far chance decides which nuclei are positive
BY_SHAPE, BY_TISSUE = 0.9, 1.5  # how far a nucleus' shape and company decide; how far *where* does
OWN = 0.12  # how far a brown nucleus' own chromatin shows in its DAB
EDGE_UM, SHARP_UM = 0.35, 0.2  # the optics of a nucleus' edge, and of all haematoxylin
CHROMATIN_GAIN = 0.4, 3.0  # how much weaker or stronger than in the H&E detail of nuclei may become
MOST_GAIN = 2.5  # of a nucleus' haematoxylin, over the typical
MAX_DETAIL, SHOWN = 1.7, 0.42  # of usual detail: what is more is cut off; how much of the exemplar's is shown
BROWN_OD10 = 0.08, 0.3  # from here DAB decides what lies under it
LEAST_FULL, FULL_UNDER_DAB = 0.3, 0.55  # of a nucleus' haematoxylin, anywhere in it
GRAIN_UM = 0.5  # of faint DAB in nuclei
MOST_LOST = 1.5  # times the DAB that a nucleus may lose where a patch does not fit, and is given back
CLOUDS_UM, CLOUDED = (8.0, 40.0), 0.28  # over what lengths the ground varies by chance, and how far
SPREAD, SPREAD_UM = 0.03, (1.0, 2.0)  # the share of DAB that diffuses, and how far
GROUND_UM = 4.0  # over which the ground of tissue is even
FAINT = 0.04  # what is left outside nuclei of haematoxylin that is faint
MISSED_UM, MISSED = 1.0, (0.35, 0.8)  # dark blobs that no outline has are nuclei too: how large, and how dark
MOST_FULL = 1.3  # of the exemplar's darkest blue nuclei
FOCUS_UM, BLURRED = 0.7, (0.5, 2.0)  # how far a nucleus out of focus is blurred, and who draws that
COVERS = 0.3, 0.7  # share of haematoxylin that so much DAB hides
UNDER_OD10 = 0.0, 0.1  # DAB of cytoplasm from which the exemplar says what lies under it


@dataclass(frozen=True)
class SlideLook:
    """Statistics of an H&E slide at MPP; densities are of base 10.

    `everywhere_od10` is the haematoxylin of tissue without nuclei. `blue_od10`, `texture` and `draws` are
    quantiles: of nuclei's haematoxylin over what lies round them, of cytoplasm's texture, of what nuclei draw.
    `where` is what the source of *where* measured, `typical` what confidence is
    measured against.
    """

    white: Values
    matrix: tuple[Values, ...]
    blue_od10: Values
    everywhere_od10: float
    rule: Rule
    texture: Values
    draws: Values
    detail: Detail
    typical: Typical
    where: Any = None


def counterstain(
    tissue: Tissue, look: SlideLook, exemplar: Exemplar, location: Location, seed: int, full: float = LEAST_FULL
) -> Array:
    """Haematoxylin of the virtual IHC: the H&E's own over what lies round nuclei, as strong as the exemplar's.

    What lies outside nuclei and is faint fades: IHC shows fibres and cytoplasm far paler than H&E does.
    """
    over = over_ground(tissue, look.everywhere_od10)
    typical = np.float32(max(median_of(np.asarray(look.blue_od10), 0), LEAST_OD10))
    missed = ramp(smooth(over, MISSED_UM / MPP) / typical, *MISSED)
    kept = np.maximum(1 - ramp(tissue.distance_um, *HALO_UM), missed)
    own = tissue.of_nuclei(over)[1:]
    wanted = np.interp(np.interp(own, look.blue_od10, QUANTILES), QUANTILES, exemplar.blue_od10)
    typical_gain = exemplar.blue_od10[len(QUANTILES) // 2] / typical
    each = np.concatenate([[typical_gain], (wanted / own.clip(LEAST_OD10)).clip(0, MOST_GAIN * typical_gain)])
    gain = np.where(tissue.distance_um < HALO_UM[1], each.astype(np.float32)[tissue.owner], typical_gain)
    for n, band in enumerate(nuclear_bands(over)):
        over += (_gain(exemplar.detail[n], look.detail[n], *CHROMATIN_GAIN) - 1) * band
    gain = smooth(gain, EDGE_UM / MPP)
    own = over.clip(0) * (FAINT + (1 - FAINT) * kept) * gain
    body = np.concatenate([[0], wanted]).astype(np.float32)[tissue.labels]
    own = np.maximum(own, full * smooth(body, EDGE_UM / MPP))
    return _focused(tissue, np.minimum(own, MOST_FULL * exemplar.blue_od10[-1]), location, seed)


def _focused(tissue: Tissue, stain: Array, location: Location, seed: int) -> Array:
    """A stain of nuclei, some of which lie above or below the focus."""
    places = tissue.nuclei.centres_px + np.asarray(location, np.float64)
    blurred = np.concatenate([[0], ramp(normal_at(places, 1.0 / MPP, seed + 30), *BLURRED)]).astype(np.float32)
    share = smooth(blurred[tissue.owner], FOCUS_UM / MPP)
    return np.asarray(stain + share * (smooth(stain, FOCUS_UM / MPP) - stain), np.float32)


def over_ground(tissue: Tissue, everywhere_od10: float) -> Array:
    """Haematoxylin over what lies round nuclei, float32 (H, W), at least 0: below, it would bleach the ground."""
    around = np.maximum(tissue.around_od10, np.float32(0.7 * everywhere_od10))
    return np.asarray((tissue.hematoxylin - BACKGROUND * around).clip(0), np.float32)


def _gain(wanted: float, given: float, least: float, most: float) -> float:
    return float(np.clip(wanted / max(given, 1e-3), least, most))


def grain(fine: Array, look: SlideLook, exemplar: Exemplar) -> Array:
    """Fine detail of a density, as strong as the exemplar has it, of no colour: fibres bend light."""
    return _as_strong(fine, exemplar.detail.fine_od10, look.detail.fine_od10)


def _as_strong(band: Array, wanted: float, given: float) -> Array:
    """Detail as strong as wanted, of at most MAX_DETAIL times what is usual."""
    return np.asarray(
        band.clip(-MAX_DETAIL * given, MAX_DETAIL * given) * np.float32(SHOWN * _gain(wanted, given, 0, 1.5))
    )


def ground_of(
    tissue: Tissue, look: SlideLook, exemplar: Exemplar, location: Location, seed: int
) -> tuple[Array, Array]:
    """Faint haematoxylin and DAB of all tissue: more where that is denser, and more or less by chance."""
    _, broad, wide = tissue.pale_bands
    own = _as_strong(broad, exemplar.detail.broad_od10, look.detail.broad_od10)
    own = own + _as_strong(wide, exemplar.detail.wide_od10, look.detail.wide_od10)
    mean = [float(np.mean(row)) for row in exemplar.matrix]
    usual = exemplar.around_od10 * mean[0] + exemplar.background_od10 * mean[1]
    own = (1 + own / max(usual, 0.02)).clip(0.1, 3)
    uneven = min((exemplar.detail.hematoxylin_clouds + exemplar.detail.second_clouds) / 2, 1.0)
    clouds = np.exp(np.float32(CLOUDED * uneven) * _clouds(tissue, location, seed + 40))
    there = _ground(tissue)
    hematoxylin = exemplar.around_od10 * there * own * clouds
    return hematoxylin, exemplar.background_od10 * there * (0.7 + 0.3 * own) * clouds


def _clouds(tissue: Tissue, location: Location, seed: int) -> Array:
    """Chance that differs from place to place, by CLOUDS_UM."""
    size = tissue.labels.shape[1], tissue.labels.shape[0]
    near, far = (normal_field(location, size, um / MPP, seed + i) for i, um in enumerate(CLOUDS_UM))
    return np.asarray(near + far, np.float32)


def _ground(tissue: Tissue) -> Array:
    """1 over tissue and its clefts, 0 on glass: the even ground of an IHC, in which no gap glows."""
    wide = smooth(coarser(tissue.there, COARSE), GROUND_UM / MPP / COARSE)
    return finer(ramp(wide, 0.3, 0.7), COARSE, tissue.there.shape)


def profile(tissue: Tissue) -> Array:
    """Each nucleus' own haematoxylin over what lies round it, about 1 in nuclei and 0 elsewhere.

    It fades where the picture fades, and not at an outline.
    """
    around = tissue.around_od10
    mean = tissue.of_nuclei(tissue.hematoxylin).astype(np.float32)
    mean[0] = np.inf
    over = (tissue.hematoxylin - around) / np.maximum(mean[tissue.owner] - around, 0.08)
    return np.asarray(over.clip(0, 1.8) * (1 - ramp(tissue.distance_um, *HALO_UM)), np.float32)


def nuclear_stains(
    tissue: Tissue,
    look: SlideLook,
    exemplar: Exemplar,
    where: Array,
    levels_od10: NDArray[np.float64],
    location: Location,
    seed: int,
) -> tuple[Array, Array]:
    """Haematoxylin and DAB of a marker of nuclei, each stained as a nucleus of the exemplar with its level is."""
    blue = counterstain(tissue, look, exemplar, location, seed)
    ground = ground_of(tissue, look, exemplar, location, seed)
    blue += ground[0]
    stained = np.where(levels_od10 >= exemplar.stained_od10[0], levels_od10, 0)
    if exemplar.atlas is None:
        return blue, np.asarray(_spread(_faint(tissue, levels_od10, location, seed)) + ground[1], np.float32)
    dab, cover = _of_atlas(tissue, exemplar.atlas, stained, location, seed)
    shown = cover * ramp(dab, *BROWN_OD10)
    blue += shown * (_hidden(dab, exemplar) - blue)
    between = 1 - smooth(tissue.labels > 0, EDGE_UM / MPP)
    faint = _faint(tissue, np.where(stained > 0, 0, levels_od10), location, seed)
    beside = faint + between * (ground[1] + _haze(tissue, stained, where, exemplar))
    return blue, np.asarray(_spread(dab) + (1 - cover) * beside, np.float32)


def _of_atlas(
    tissue: Tissue, atlas: Atlas, stained_od10: NDArray[np.float64], location: Location, seed: int
) -> tuple[Array, Array]:
    """DAB of stained nuclei, by patches of the exemplar's, and how far these cover (0 to 1)."""
    places = tissue.nuclei.centres_px + np.asarray(location, np.float64)
    draws = np.stack([ndtr(normal_at(places, 1.0 / MPP, seed + n)) for n in (22, 23, 24)], axis=1)
    dab, cover = (smooth(part, SHARP_UM / MPP) for part in painted_nuclei(tissue, atlas, stained_od10, draws))
    dab = _focused(tissue, dab * (1 + OWN * _own_chromatin(tissue)), location, seed)
    lost = stained_od10 / tissue.of_nuclei(dab)[1:].clip(1e-3)
    return dab * np.concatenate([[1], lost.clip(1, MOST_LOST)]).astype(np.float32)[tissue.owner], cover


def _haze(tissue: Tissue, stained_od10: NDArray[np.float64], where: Array, exemplar: Exemplar) -> Array:
    """DAB that leaks from stained nuclei into what lies round them."""
    source = coarser(np.concatenate([[0], stained_od10]).astype(np.float32)[tissue.labels], 2)
    reached = coarser(tissue.there * (0.3 + 0.7 * where), 2)
    return finer(exemplar.haze * smooth(source, HAZE_UM / MPP / 2) * reached, 2, where.shape)


def _faint(tissue: Tissue, levels_od10: NDArray[np.float64], location: Location, seed: int) -> Array:
    """Faint DAB in nuclei: in grains, and in part as their chromatin lies."""
    size = tissue.labels.shape[1], tissue.labels.shape[0]
    grains = (1 + 0.4 * normal_field(location, size, GRAIN_UM / MPP, seed + 31)).clip(0, 3)
    whole = smooth((tissue.labels > 0) * grains, EDGE_UM / MPP)
    level = np.concatenate([[0], levels_od10]).astype(np.float32)[tissue.owner]
    return np.asarray(level * (0.7 * whole + 0.3 * profile(tissue)), np.float32)


def _hidden(dab: Array, exemplar: Exemplar) -> Array:
    """Haematoxylin that the exemplar shows with so much DAB."""
    return np.interp(dab, exemplar.levels_od10, exemplar.hidden_od10).astype(np.float32)


def _own_chromatin(tissue: Tissue) -> Array:
    """How far haematoxylin lies over its mean in a nucleus, -1 to 1.5: 0 elsewhere."""
    mean = tissue.of_nuclei(tissue.hematoxylin).clip(LEAST_OD10).astype(np.float32)
    own = smooth(tissue.hematoxylin, SHARP_UM / MPP) / mean[tissue.owner] - 1
    inside = ramp(smooth(tissue.labels > 0, 0.6 / MPP), 0.6, 1)
    return np.asarray(own.clip(-1, 1.5) * inside, np.float32)


def _spread(dab: Array) -> Array:
    """DAB as it lies: a little of it diffuses before it settles, near and far."""
    half = coarser(dab, 2)
    near, far = (smooth(half, um / MPP / 2) for um in SPREAD_UM)
    return (1 - 2 * SPREAD) * dab + SPREAD * finer(near + far, 2, dab.shape)


def levels_of(rank: NDArray[np.float64], exemplar: Exemplar, share: Shares) -> NDArray[np.float64]:
    """Mean DAB of nuclei by their rank from 0 to 1, as the exemplar's positive and negative nuclei have it.

    `share` is that of positive nuclei, of all or where each of them lies.
    """
    blue = np.interp(rank / np.maximum(1 - share, 1e-6), QUANTILES, exemplar.unstained_od10)
    brown = np.interp((rank - (1 - share)) / np.maximum(share, 1e-6), QUANTILES, exemplar.stained_od10)
    return np.asarray(np.where(rank > 1 - share, brown, blue))


def draws_of(tissue: Tissue, rule: Rule, where: Array, location: Location, seed: int) -> NDArray[np.float64]:
    """What each nucleus draws, (N,): chance with hot spots by its place on the slide, its shape, and *where*."""
    places = tissue.nuclei.centres_px + np.asarray(location, np.float64)
    chance = sum(weight * normal_at(places, um / MPP, seed + i) for i, (um, weight) in enumerate(HOT_SPOTS))
    shape = nuclear_logit(tissue.nuclei, rule.large_um2).clip(-2, 2)
    return np.asarray(chance + BY_SHAPE * shape + BY_TISSUE * tissue.of_nuclei(where)[1:])


def cytoplasm_stains(
    tissue: Tissue, look: SlideLook, exemplar: Exemplar, where: Array, location: Location, seed: int
) -> tuple[Array, Array]:
    """Haematoxylin and DAB of a marker of cytoplasm: *where* times the exemplar's amounts, in the order of the
    tissue's texture.
    """
    texture = cytoplasm_texture(tissue, location, seed)
    stained = looked_up(texture, look.texture, exemplar.stained_od10)
    ground = ground_of(tissue, look, exemplar, location, seed)
    dab = (where * stained + (1 - where) * ground[1]) * ramp(smooth(tissue.total, 0.35 / MPP), 0.03, 0.08)
    dab = _spread(np.asarray(dab, np.float32))
    return covered(
        counterstain(tissue, look, exemplar, location, seed, FULL_UNDER_DAB) + ground[0], dab, exemplar
    ), dab


def cytoplasm_texture(tissue: Tissue, location: Location, seed: int) -> Array:
    """By what cytoplasm's DAB is ordered: the H&E's own texture, membranes, less in nuclei, and some chance."""
    shape = tissue.labels.shape
    nuclear = smooth(np.maximum(profile(tissue), WHOLE * (tissue.labels > 0)), 0.25 / MPP).clip(0, 1)
    matter = (tissue.second + 0.6 * tissue.hematoxylin * (1 - nuclear)).clip(0)
    between = (nuclear < 0.35) * tissue.there
    near, around = (_logarithm(matter, between, um, by) for um, by in ((NEAR_UM, 2), (AROUND_UM, COARSE)))
    wide = _chance(location, around.shape, seed) - (FINE + BROAD) * around
    half = BROAD * near + finer(wide, COARSE // 2, near.shape) + _membranes(tissue, location, seed)
    own = FINE * np.log(smooth(matter, TEXTURE_UM / MPP) + np.float32(FLOOR_OD10))
    own += GRANULAR * normal_field(location, (shape[1], shape[0]), GRANULE_UM / MPP, seed + 50)
    own += finer(half, 2, shape)
    mean = tissue.of_nuclei(own).astype(np.float32)[tissue.labels]
    own += EVEN * smooth(tissue.labels > 0, EDGE_UM / MPP) * (mean - own)
    return np.asarray(own - SPARED * nuclear, np.float32)


def _logarithm(x: Array, mask: Array, um: float, by: int) -> Array:
    """The logarithm of the mean of a map over a mask within `um`, of squares of `by` px."""
    weight = coarser(mask, by)
    inside = coarser(x * mask, by) / np.maximum(weight, np.float32(1e-3))
    mean = mean_over(inside, weight, um / MPP / by)
    return np.asarray(np.log(mean + np.float32(FLOOR_OD10)), np.float32)


def _chance(location: Location, shape: tuple[int, ...], seed: int) -> Array:
    """How cytoplasm varies from cell to cell and from patch to patch, of squares of COARSE px."""
    at, size = (location[0] / COARSE, location[1] / COARSE), (shape[1], shape[0])
    fields = (normal_field(at, size, um / MPP / COARSE, seed + i) for i, (um, _) in enumerate(PATCHES))
    return np.asarray(sum(weight * field for (_, weight), field in zip(PATCHES, fields, strict=True)), np.float32)


def _membranes(tissue: Tissue, location: Location, seed: int) -> Array:
    """Lines midway between neighbouring nuclei, 0 to about MEMBRANE, unevenly strong, of squares of 2 px."""
    owner, distance_um = tissue.owner[::2, ::2], tissue.distance_um[::2, ::2]
    line: Array = np.zeros(owner.shape, np.float32)
    line[:-1] += owner[:-1] != owner[1:]
    line[:, :-1] += owner[:, :-1] != owner[:, 1:]
    soft = smooth(line.clip(0, 1), MEMBRANE_UM / MPP / 2) * MEMBRANE_OVER
    lines = (soft * (1.3 - distance_um / REACH_UM).clip(0, 1)).clip(0, 1.2)
    at, size = (location[0] / 2, location[1] / 2), owner.shape[::-1]
    uneven = 1 + normal_field(at, (size[0], size[1]), 4.0 / MPP / 2, seed + len(PATCHES))
    return np.asarray(MEMBRANE * 0.6 * lines * uneven, np.float32)


def hue_of(hematoxylin: Array, dab: Array, exemplar: Exemplar) -> Array:
    """Density of no stain that the exemplar has with so much of both: a stain's hue changes with its amount."""
    stained = (hematoxylin / max(exemplar.around_od10, 0.01)).clip(0, 1)
    pale = exemplar.ground_hue_od10 * stained
    pale += exemplar.blue_hue * (hematoxylin - exemplar.around_od10).clip(0)
    brown = looked_up(dab, exemplar.levels_od10, exemplar.hue_od10)
    return np.asarray(pale + ramp(dab, *BROWN_OD10) * (brown - pale), np.float32)


def rendered(hematoxylin: Array, dab: Array, texture: Array, exemplar: Exemplar) -> Image:
    """The picture, uint8 (H, W, 3): both stains and a texture of no colour over the exemplar's glass."""
    light = np.empty((*texture.shape, 3), np.uint8)
    for strip in strips(len(texture)):
        stains = hematoxylin[strip], dab[strip]
        hue = hue_of(*stains, exemplar)
        for channel, (h, d, n) in enumerate(zip(*exemplar.matrix, strict=True)):
            shown = stains[0] * np.float32(h) + texture[strip]
            shown += stains[1] * np.float32(d)
            shown += hue * np.float32(n)
            light[strip, :, channel] = _light(_passing(shown), exemplar.white[channel])
    return light


def glass(texture: Array, exemplar: Exemplar) -> Image:
    """As `rendered`, without any stain."""
    light = np.empty((*texture.shape, 3), np.uint8)
    for strip in strips(len(texture)):
        passing = _passing(texture[strip].copy())
        for channel, white in enumerate(exemplar.white):
            light[strip, :, channel] = _light(passing.copy(), white)
    return light


def _passing(density: Array) -> Array:
    """The share of light that a density lets through, in its place."""
    np.maximum(density, -0.03, out=density)
    density *= np.float32(-np.log(10))
    return np.exp(density, out=density)


def _light(passing: Array, white: float) -> Array:
    """Levels from 0 to 255.5, in place: numbers are cut off, which then rounds."""
    passing *= np.float32(white + 1)
    passing -= np.float32(0.5)
    return passing.clip(0, 255.5, out=passing)


def covered(hematoxylin: Array, dab: Array, exemplar: Exemplar) -> Array:
    """Haematoxylin under DAB, which hides part of it, and with what the exemplar has where cytoplasm is brown."""
    most, full_od10 = COVERS
    left = hematoxylin * (1 - most * ramp(dab, 0, full_od10))
    under = looked_up(smooth(dab, 0.35 / MPP), exemplar.levels_od10, exemplar.hidden_od10)
    return np.asarray(np.maximum(left, under * ramp(dab, *UNDER_OD10)), np.float32)
