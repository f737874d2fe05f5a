"""How a stain looks on a tissue's own picture, whatever it marks: haematoxylin, the ground, optics, light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.staining.confidence import Typical, median_of
from chromogen.staining.exemplar import QUANTILES, Exemplar, Values
from chromogen.staining.maps import Array, coarser, finer, looked_up, normal_at, normal_field, ramp, smooth, strips
from chromogen.staining.tissue import COARSE, MPP, Detail, Rule, Tissue, nuclear_bands

Location = tuple[int, int]

MIN_OD10 = 0.05  # densities closer than this say nothing of how much one is over the other
BACKGROUND = 0.85  # of the haematoxylin round nuclei is not the nuclei's
HALO_UM = (0.3, 1.3)  # round an outline: where a nucleus' own haematoxylin may still reach, and where it ends
EDGE_UM = 0.35  # the optics of a nucleus' edge
CHROMATIN_GAIN = 0.4, 3.0  # how much weaker or stronger than in the H&E detail of nuclei may become
MAX_GAIN = 2.5  # of a nucleus' haematoxylin, over the typical
MAX_DETAIL, SHOWN = 1.7, 0.42  # of usual detail: what is more is cut off; how much of the exemplar's is shown
BROWN_OD10 = 0.08, 0.3  # from here DAB decides what lies under it
MIN_FULL = 0.3  # of a nucleus' haematoxylin, anywhere in it
CLOUDS_UM, CLOUDED = (8.0, 40.0), 0.28  # over what lengths the ground varies by chance, and how far
SPREAD, SPREAD_UM = 0.03, (1.0, 2.0)  # the share of DAB that diffuses, and how far
GROUND_UM = 4.0  # over which the ground of tissue is even
FAINT = 0.04  # what is left outside nuclei of haematoxylin that is faint
MISSED_UM, MISSED = 1.0, (0.35, 0.8)  # dark blobs that no outline has are nuclei too: how large, and how dark
MAX_FULL = 1.3  # of the exemplar's darkest blue nuclei
FOCUS_UM, BLURRED = 0.7, (0.5, 2.0)  # how far a nucleus out of focus is blurred, and who draws that


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


@dataclass(frozen=True)
class MapPart:
    """What maps of tissue show: the part `at` of a window of a slide, which lies at `location` (x, y) on it.

    `centres_px` (N, 2) are those of all of the window's nuclei on the slide: float64, in pixels of MPP.
    """

    location: Location
    at: Window
    centres_px: NDArray[np.float64]

    @property
    def corner(self) -> Location:
        """Where the part begins on the slide."""
        return self.location[0] + self.at.left, self.location[1] + self.at.top


class Base(NamedTuple):
    """Of tissue, what neither chance nor a dial changes, whatever a marker stains: maps (H, W).

    `labels` and `owner` are those of `Tissue`. `blue_od10` is haematoxylin in focus, over the ground. `ground` is
    1 where there is tissue, `detail` how it varies there, about 1. `inside` is 1 in nuclei, with soft edges.
    """

    labels: NDArray[np.int32]
    owner: NDArray[np.int32]
    blue_od10: Array
    ground: Array
    detail: Array
    inside: Array


def base_of(tissue: Tissue, look: SlideLook, exemplar: Exemplar, full: float) -> Base:
    """The base of a window; `full` of a nucleus' haematoxylin is anywhere in it."""
    return Base(
        tissue.labels,
        tissue.owner,
        _blue(tissue, look, exemplar, full),
        _ground(tissue),
        _ground_detail(tissue, look, exemplar),
        smooth(tissue.labels > 0, EDGE_UM / MPP),
    )


def _blue(tissue: Tissue, look: SlideLook, exemplar: Exemplar, full: float) -> Array:
    """Haematoxylin of the virtual IHC: the H&E's own over what lies round nuclei, as strong as the exemplar's.

    What lies outside nuclei and is faint fades: IHC shows fibres and cytoplasm far paler than H&E does.
    """
    over = over_ground(tissue, look.everywhere_od10)
    typical = np.float32(max(median_of(np.asarray(look.blue_od10), 0), MIN_OD10))
    missed = ramp(smooth(over, MISSED_UM / MPP) / typical, *MISSED)
    kept = np.maximum(1 - ramp(tissue.distance_um, *HALO_UM), missed)
    own = tissue.of_nuclei(over)[1:]
    wanted = np.interp(np.interp(own, look.blue_od10, QUANTILES), QUANTILES, exemplar.blue_od10)
    typical_gain = exemplar.blue_od10[len(QUANTILES) // 2] / typical
    each = np.concatenate([[typical_gain], (wanted / own.clip(MIN_OD10)).clip(0, MAX_GAIN * typical_gain)])
    gain = np.where(tissue.distance_um < HALO_UM[1], each.astype(np.float32)[tissue.owner], typical_gain)
    for n, band in enumerate(nuclear_bands(over)):
        over += (_gain(exemplar.detail[n], look.detail[n], *CHROMATIN_GAIN) - 1) * band
    gain = smooth(gain, EDGE_UM / MPP)
    own = over.clip(0) * (FAINT + (1 - FAINT) * kept) * gain
    body = np.concatenate([[0], wanted]).astype(np.float32)[tissue.labels]
    own = np.maximum(own, full * smooth(body, EDGE_UM / MPP))
    return np.asarray(np.minimum(own, MAX_FULL * exemplar.blue_od10[-1]), np.float32)


def focused(base: Base, part: MapPart, stain: Array, seed: int) -> Array:
    """A stain of nuclei, some of which lie above or below the focus."""
    blurred = ramp(normal_at(part.centres_px, 1.0 / MPP, seed + 30), *BLURRED)
    share = smooth(per_nucleus(blurred, base.owner), FOCUS_UM / MPP)
    return np.asarray(stain + share * (smooth(stain, FOCUS_UM / MPP) - stain), np.float32)


def per_nucleus(values: NDArray[Any], labels: NDArray[np.int32], elsewhere: float = 0.0) -> Array:
    """A map (H, W) of values of nuclei, (N,), at the pixels with their labels."""
    return np.asarray(np.concatenate([[elsewhere], values]).astype(np.float32)[labels])


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


def _ground_detail(tissue: Tissue, look: SlideLook, exemplar: Exemplar) -> Array:
    """How the ground varies as the H&E's tissue does, about 1: it is denser where that is."""
    _, broad, wide = tissue.pale_bands
    own = _as_strong(broad, exemplar.detail.broad_od10, look.detail.broad_od10)
    own = own + _as_strong(wide, exemplar.detail.wide_od10, look.detail.wide_od10)
    mean = [float(np.mean(row)) for row in exemplar.matrix]
    usual = exemplar.around_od10 * mean[0] + exemplar.background_od10 * mean[1]
    return np.asarray((1 + own / max(usual, 0.02)).clip(0.1, 3), np.float32)


def _ground(tissue: Tissue) -> Array:
    """1 over tissue and its clefts, 0 on glass: the even ground of an IHC, in which no gap glows."""
    wide = smooth(coarser(tissue.there, COARSE), GROUND_UM / MPP / COARSE)
    return finer(ramp(wide, 0.3, 0.7), COARSE, tissue.there.shape)


def ground_of(base: Base, part: MapPart, exemplar: Exemplar, seed: int) -> tuple[Array, Array]:
    """Faint haematoxylin and DAB of all tissue: more where that is denser, and more or less by chance."""
    uneven = min((exemplar.detail.hematoxylin_clouds + exemplar.detail.second_clouds) / 2, 1.0)
    clouds = np.exp(np.float32(CLOUDED * uneven) * _clouds(part, seed + 40))
    hematoxylin = exemplar.around_od10 * base.ground * base.detail * clouds
    return hematoxylin, exemplar.background_od10 * base.ground * (0.7 + 0.3 * base.detail) * clouds


def _clouds(part: MapPart, seed: int) -> Array:
    """Chance that differs from place to place, by CLOUDS_UM."""
    near, far = (normal_field(part.corner, part.at.size, um / MPP, seed + i) for i, um in enumerate(CLOUDS_UM))
    return np.asarray(near + far, np.float32)


def nuclear_profile(tissue: Tissue) -> Array:
    """Each nucleus' own haematoxylin over what lies round it, about 1 in nuclei and 0 elsewhere.

    It fades where the picture fades, and not at an outline.
    """
    around = tissue.around_od10
    mean = tissue.of_nuclei(tissue.hematoxylin).astype(np.float32)
    mean[0] = np.inf
    over = (tissue.hematoxylin - around) / np.maximum(mean[tissue.owner] - around, 0.08)
    return np.asarray(over.clip(0, 1.8) * (1 - ramp(tissue.distance_um, *HALO_UM)), np.float32)


def spread(dab: Array) -> Array:
    """DAB as it lies: a little of it diffuses before it settles, near and far."""
    half = coarser(dab, 2)
    near, far = (smooth(half, um / MPP / 2) for um in SPREAD_UM)
    return (1 - 2 * SPREAD) * dab + SPREAD * finer(near + far, 2, dab.shape)


def hue_of(hematoxylin: Array, dab: Array, exemplar: Exemplar) -> Array:
    """Density of no stain that the exemplar has with so much of both: a stain's hue changes with its amount."""
    stained = (hematoxylin / max(exemplar.around_od10, 0.01)).clip(0, 1)
    pale = exemplar.ground_hue_od10 * stained
    pale += exemplar.blue_hue * (hematoxylin - exemplar.around_od10).clip(0)
    brown = looked_up(dab, exemplar.levels_od10, exemplar.hue_od10)
    return np.asarray(pale + ramp(dab, *BROWN_OD10) * (brown - pale), np.float32)


def rendered_stains(hematoxylin: Array, dab: Array, texture: Array, exemplar: Exemplar) -> Image:
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
