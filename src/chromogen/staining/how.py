"""How a stain looks on a tissue's own picture: haematoxylin and DAB from an H&E's amounts and an exemplar's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.staining.epithelium import Rule, nuclear_logit
from chromogen.staining.exemplar import QUANTILES, Exemplar, Values
from chromogen.staining.maps import Array, coarser, finer, looked_up, mean_over, ramp, smooth
from chromogen.staining.noise import normal_at, normal_field
from chromogen.staining.tissue import COARSE, MPP, Tissue

Location = tuple[int, int]

LEAST_OD10 = 0.05  # densities closer than this say nothing of how much one is over the other
BACKGROUND = 0.85  # of the haematoxylin round nuclei is not the nuclei's
HALO_UM = (0.3, 1.3)  # round an outline: where a nucleus' own haematoxylin may still reach, and where it ends
FLOOR_OD10 = 0.04  # added to cytoplasm's density, so that its logarithm stays calm
TEXTURE_UM, NEAR_UM, AROUND_UM = 0.25, 2.5, 10.0
FINE, BROAD = 0.9, 0.6  # how far cytoplasm's own texture decides its DAB: within a cell, between cells
PATCHES = ((7.0, 0.25), (25.0, 0.25), (70.0, 0.2))  # um, and how far chance decides
SPARED = 1.1  # how far nuclei are spared by a marker of cytoplasm
MEMBRANE, MEMBRANE_UM, REACH_UM = 0.8, 0.5, 6.0
MEMBRANE_OVER = 1.9  # what smoothing takes from a line
HOT_SPOTS = ((1.2, 1.2), (18.0, 0.6), (60.0, 0.6))  # um, and how far chance decides which nuclei are positive
BY_SHAPE, BY_TISSUE = 0.9, 1.5  # how far a nucleus' shape and company decide; how far *where* does
DEPOSIT = (0.45, 0.22, 0.12)  # of a nucleus' DAB: its own chromatin, clumps and grains, in the typical nucleus
RAGGED_UM, RAGGED = 1.5, 0.17  # the border of a brown nucleus wavers: over what length, and how far in um
EDGE_UM, SHARP_UM = 0.35, 0.2  # the optics of a brown nucleus' edge, and of all haematoxylin
SPREAD, SPREAD_UM = 0.05, (1.2, 5.0)  # the share of DAB that diffuses, and how far
MATTER_UM = 2.5  # over which faint stain is even
GROUND_UM = 4.0  # over which the ground of tissue is even
FAINT = 0.15  # what is left outside nuclei of haematoxylin that is faint
FADING = 0.15, 0.6  # of a nucleus' haematoxylin: what counts as faint, and what does not
COVERS = {"nuclear": (0.4, 0.8), "cytoplasm": (0.45, 0.7)}  # share of haematoxylin that so much DAB hides
UNDER_OD10 = {
    "nuclear": (0.2, 0.6),
    "cytoplasm": (0.0, 0.1),
}  # DAB from which the exemplar says what lies under it


@dataclass(frozen=True)
class SlideLook:
    """Statistics of an H&E slide at MPP; densities are of base 10.

    `nucleus_od10` is its nuclei's haematoxylin, `around_od10` that of what lies round them, `everywhere_od10` that
    of tissue without nuclei; `cytoplasm_od10` is the typical density of what stains beside nuclei. `texture` and
    `draws` are quantiles, of cytoplasm's texture in epithelium and of what nuclei draw.
    """

    white: Values
    matrix: tuple[Values, ...]
    nucleus_od10: float
    around_od10: float
    everywhere_od10: float
    cytoplasm_od10: float
    rule: Rule
    texture: Values
    draws: Values


def counterstain(tissue: Tissue, look: SlideLook, exemplar: Exemplar) -> Array:
    """Haematoxylin of the virtual IHC: the H&E's own over what lies round nuclei, as strong as the exemplar's.

    What lies outside nuclei and is faint fades: IHC shows fibres and cytoplasm far paler than H&E does.
    """
    around = np.maximum(tissue.around_od10, np.float32(0.7 * look.everywhere_od10))
    strength = max(look.nucleus_od10 - BACKGROUND * look.around_od10, LEAST_OD10)
    over = smooth(tissue.hematoxylin, SHARP_UM / MPP) - BACKGROUND * around
    relative = over.clip(0) / np.float32(strength)  # below 0 it would bleach the ground
    kept = np.maximum(1 - ramp(tissue.distance_um, *HALO_UM), ramp(relative, *FADING))
    own = relative * (FAINT + (1 - FAINT) * kept) * (exemplar.nucleus_od10 - exemplar.around_od10)
    return np.asarray(own + exemplar.around_od10 * _ground(tissue), np.float32)


def _ground(tissue: Tissue) -> Array:
    """1 over tissue and its clefts, 0 on glass: the even ground of an IHC, in which no gap glows."""
    wide = smooth(coarser(tissue.there, COARSE), GROUND_UM / MPP / COARSE)
    return finer(ramp(wide, 0.1, 0.6), COARSE, tissue.there.shape)


def _matter(tissue: Tissue, look: SlideLook) -> Array:
    """How much there is to take a faint stain, 0 to 1.3: 1 in the slide's typical tissue, smoothed."""
    second, hematoxylin = (coarser(x, COARSE) for x in (tissue.second, tissue.hematoxylin))
    matter = smooth((second + 0.5 * hematoxylin).clip(0), MATTER_UM / MPP / COARSE)
    relative = (matter / max(look.cytoplasm_od10, 0.02)).clip(0, 1.3)
    return finer(relative, COARSE, tissue.there.shape)


def profile(tissue: Tissue) -> Array:
    """Each nucleus' own haematoxylin over what lies round it, about 1 in nuclei and 0 elsewhere.

    It fades where the picture fades, and not at an outline.
    """
    around = tissue.around_od10
    mean = tissue.of_nuclei(tissue.hematoxylin).astype(np.float32)
    mean[0] = np.inf
    over = (tissue.hematoxylin - around) / np.maximum(mean[tissue.owner] - around, 0.08)
    return np.asarray(over.clip(0, 1.8) * (1 - ramp(tissue.distance_um, *HALO_UM)), np.float32)


def nuclear_dab(
    tissue: Tissue, look: SlideLook, exemplar: Exemplar, where: Array, location: Location, share: float, seed: int
) -> Array:
    """DAB of a marker of nuclei: a level for each nucleus, whole, with a little of its chromatin, softly ended."""
    draws = draws_of(tissue, look.rule, where, location, seed)
    rank = np.interp(draws, look.draws, QUANTILES)
    level = np.concatenate([[0], levels_of(rank, exemplar, share)]).astype(np.float32)
    whole = smooth(_ragged(level[tissue.labels], location, seed), EDGE_UM / MPP)
    kept = (level[1:] / tissue.of_nuclei(whole)[1:].clip(1e-3)).clip(1, 1.6)
    kept = np.concatenate([[1], kept]).astype(np.float32)[tissue.owner]
    stained = whole * kept * _deposit(tissue, location, seed)
    return np.asarray(_spread(stained) + exemplar.background_od10 * _ground(tissue), np.float32)


def _ragged(x: Array, location: Location, seed: int) -> Array:
    """A map whose borders are moved a little, this way and that."""
    height, width = x.shape
    fields = (normal_field(location, (width, height), RAGGED_UM / MPP, seed + n) for n in (20, 21))
    rows, columns = (np.rint(field * (RAGGED / MPP)).astype(np.intp) for field in fields)
    y, x_at = np.arange(height)[:, None], np.arange(width)
    moved = x[(y + rows).clip(0, height - 1), (x_at + columns).clip(0, width - 1)]
    return np.asarray(moved, np.float32)


def _deposit(tissue: Tissue, location: Location, seed: int) -> Array:
    """How DAB lies in nuclei, 1 on average: in each another mixture of its own chromatin, clumps and grains."""
    size = tissue.labels.shape[1], tissue.labels.shape[0]
    places = tissue.nuclei.centres_px + np.asarray(location, np.float64)
    kinds = [np.abs(normal_at(places, 1.0 / MPP, seed + n)) for n in (22, 23, 24)]
    mean = tissue.of_nuclei(tissue.hematoxylin).clip(LEAST_OD10).astype(np.float32)
    own = (smooth(tissue.hematoxylin, SHARP_UM / MPP) / mean[tissue.owner] - 1).clip(-1, 1.5)
    textures = [own] + [normal_field(location, size, um / MPP, seed + n) for um, n in ((1.6, 25), (0.6, 26))]
    made = np.ones(tissue.labels.shape, np.float32)
    for texture, kind, weight in zip(textures, kinds, DEPOSIT, strict=True):
        made += weight * np.concatenate([[0], kind]).astype(np.float32)[tissue.owner] * texture
    return smooth(made.clip(0.15, 2), SHARP_UM / MPP)


def _spread(dab: Array) -> Array:
    """DAB as it lies: a little of it diffuses before it settles, near and far."""
    half = coarser(dab, 2)
    near, far = (smooth(half, um / MPP / 2) for um in SPREAD_UM)
    return (1 - 2 * SPREAD) * dab + SPREAD * finer(near + far, 2, dab.shape)


def levels_of(rank: NDArray[np.float64], exemplar: Exemplar, share: float) -> NDArray[np.float64]:
    """Mean DAB of nuclei by their rank from 0 to 1, as the exemplar's positive and negative nuclei have it."""
    blue = np.interp(rank / max(1 - share, 1e-6), QUANTILES, exemplar.unstained_od10)
    brown = np.interp((rank - (1 - share)) / max(share, 1e-6), QUANTILES, exemplar.stained_od10)
    return np.asarray(np.where(rank > 1 - share, brown, blue))


def draws_of(tissue: Tissue, rule: Rule, where: Array, location: Location, seed: int) -> NDArray[np.float64]:
    """What each nucleus draws, (N,): chance with hot spots by its place on the slide, its shape, and *where*."""
    places = tissue.nuclei.centres_px + np.asarray(location, np.float64)
    chance = sum(weight * normal_at(places, um / MPP, seed + i) for i, (um, weight) in enumerate(HOT_SPOTS))
    shape = nuclear_logit(tissue.nuclei, rule.large_um2).clip(-2, 2)
    return np.asarray(chance + BY_SHAPE * shape + BY_TISSUE * tissue.of_nuclei(where)[1:])


def cytoplasm_dab(
    tissue: Tissue, look: SlideLook, exemplar: Exemplar, where: Array, location: Location, seed: int
) -> Array:
    """DAB of a marker of cytoplasm: *where* times the exemplar's amounts, in the order of the tissue's texture."""
    texture = cytoplasm_texture(tissue, location, seed)
    stained = looked_up(texture, look.texture, exemplar.stained_od10)
    dab = where * stained + (1 - where) * exemplar.background_od10 * _matter(tissue, look)
    return _spread(np.asarray(dab * ramp(smooth(tissue.total, 0.35 / MPP), 0.03, 0.08), np.float32))


def cytoplasm_texture(tissue: Tissue, location: Location, seed: int) -> Array:
    """By what cytoplasm's DAB is ordered: the H&E's own texture, membranes, less in nuclei, and some chance."""
    shape = tissue.labels.shape
    nuclear = smooth(profile(tissue), 0.25 / MPP).clip(0, 1)
    matter = (tissue.second + 0.6 * tissue.hematoxylin * (1 - nuclear)).clip(0)
    between = (nuclear < 0.35) * tissue.there
    near, around = (_logarithm(matter, between, um, by) for um, by in ((NEAR_UM, 2), (AROUND_UM, COARSE)))
    wide = _chance(location, around.shape, seed) - (FINE + BROAD) * around
    half = BROAD * near + finer(wide, COARSE // 2, near.shape) + _membranes(tissue, location, seed)
    own = FINE * np.log(smooth(matter, TEXTURE_UM / MPP) + np.float32(FLOOR_OD10))
    return np.asarray(own + finer(half, 2, shape) - SPARED * nuclear, np.float32)


def _logarithm(x: Array, mask: Array, um: float, by: int) -> Array:
    """The logarithm of the mean of a map over a mask within `um`, of squares of `by` px."""
    weight = coarser(mask, by)
    inside = coarser(x * mask, by) / np.maximum(weight, np.float32(1e-3))
    return np.asarray(np.log(mean_over(inside, weight, um / MPP / by) + np.float32(FLOOR_OD10)))


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
    height, width = owner.shape
    chance = normal_field((location[0] / 2, location[1] / 2), (width, height), 2.0 / MPP, seed + len(PATCHES))
    return np.asarray(lines * (MEMBRANE * 0.6 * (1 + chance)), np.float32)


def rendered(hematoxylin: Array, dab: Array, density: Array, exemplar: Exemplar) -> Image:
    """The picture, uint8 (H, W, 3): both stains over the exemplar's glass, which keeps the grain of the H&E.

    `density` (H, W, 3) is the H&E's own.
    """
    light = np.empty(density.shape, np.uint8)
    colors = [density[..., channel] for channel in range(3)]
    even = [smooth(color, 0.5 / MPP) for color in colors]
    glass = 0.8 * (1 - ramp((even[0] + even[1] + even[2]) / np.float32(3), 0, 0.08))
    for channel, (white, h, d) in enumerate(zip(exemplar.white, *exemplar.matrix[:2], strict=True)):
        shown = (colors[channel] - even[channel]) * glass
        shown += hematoxylin * np.float32(h)
        shown += dab * np.float32(d)
        np.maximum(shown, -0.02, out=shown)
        shown *= np.float32(-np.log(10))
        np.exp(shown, out=shown)
        shown *= np.float32(white + 1)
        shown -= np.float32(0.5)  # which rounds: numbers are cut off
        light[..., channel] = shown.clip(0, 255.5, out=shown)
    return light


def covered(hematoxylin: Array, dab: Array, exemplar: Exemplar) -> Array:
    """Haematoxylin under DAB, which hides part of it, and with what the exemplar has where cytoplasm is brown."""
    most, full_od10 = COVERS[exemplar.site]
    left = hematoxylin * (1 - most * ramp(dab, 0, full_od10))
    under = looked_up(smooth(dab, 0.35 / MPP), exemplar.levels_od10, exemplar.hidden_od10)
    return np.asarray(np.maximum(left, under * ramp(dab, *UNDER_OD10[exemplar.site])), np.float32)
