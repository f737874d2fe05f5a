"""What the tissue of an H&E is like, and which of it is epithelium."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.nuclei.outlines import NETWORK_MPP, Nuclei, labels_of
from chromogen.staining.maps import MIN_COVER, Array, coarser, finer, guided_filter, ramp, smooth
from chromogen.stains.deconvolution import Array as Matrix
from chromogen.stains.deconvolution import densities_od10, mixed_maps

# What a window of a stained slide shows: amounts of both stains, nuclei, and what lies round each of them.

CHROMATIN_UM = 0.4, 1.2  # borders of fine and less fine detail of nuclei
BANDS_UM = 0.5, 2.5, 10.0  # borders of fine and broad detail
MPP = NETWORK_MPP  # of all pictures in this room
GLASS_OD10 = (0.02, 0.06)  # from glass to tissue, of light smoothed over SMOOTH_UM
SMOOTH_UM = 0.75
COARSE = 4  # px of a square, where detail does not matter
SQUARE_PX, ROOM_PX = 8, 64  # what tissue is looked for in, and what is painted around it
NO_NUCLEUS_UM = 1e6  # from the nearest nucleus, where there is none
NEAR_UM = 5.0  # round a nucleus: its cytoplasm


@dataclass(frozen=True)
class Tissue:
    """A window of a slide at MPP, maps (H, W): densities are float32 of base 10, over the colour of glass.

    `second` is eosin or DAB. `labels` has nucleus i as i + 1, `owner` the label of the nucleus that a pixel is
    nearest to, `distance_um` how far it is. `there` is 0 on glass, 1 in tissue. Densities and amounts were found
    by `white` (3,) and `matrix` (3, 3).
    """

    density: Array  # (H, W, 3)
    hematoxylin: Array
    second: Array
    nuclei: Nuclei
    labels: NDArray[np.int32]
    owner: NDArray[np.int32]
    distance_um: Array
    there: Array
    white: Matrix
    matrix: Matrix

    @cached_property
    def total(self) -> Array:
        """Mean density of the three colours."""
        return mean_density(self.density)

    @cached_property
    def neither(self) -> Array:
        """The amount of density that is neither stain's."""
        unmix = np.linalg.inv(self.matrix).astype(np.float32)
        return np.asarray(self.density @ unmix[:, 2], np.float32)

    @cached_property
    def pale(self) -> Array:
        """`total` as if there were no nuclei: theirs is that of what lies round them."""
        nuclear = smooth(self.labels > 0, 0.35 / MPP)
        return np.asarray(self.total + nuclear * (self.around_nuclei(self.total) - self.total), np.float32)

    @cached_property
    def pale_bands(self) -> tuple[Array, Array, Array]:
        """Detail of `pale`, fine, broad and wide."""
        return bands(self.pale)

    @cached_property
    def between(self) -> Array:
        """1 in tissue that no nucleus covers."""
        return np.asarray(self.there * (self.labels == 0), np.float32)

    @cached_property
    def around_od10(self) -> Array:
        """Haematoxylin of what lies round nuclei."""
        return self.around_nuclei(self.hematoxylin)

    @cached_property
    def inside(self) -> NDArray[np.intp]:
        """Where nuclei are, as indices into a map that is made flat."""
        return np.flatnonzero(self.labels)

    @cached_property
    def labels_inside(self) -> NDArray[np.intp]:
        """The labels there."""
        return self.labels.ravel()[self.inside].astype(np.intp)

    @cached_property
    def pixels_of_nuclei(self) -> NDArray[np.int_]:
        """How many pixels each nucleus covers, (N + 1,), at least 1; the first counts what is no nucleus."""
        counts = np.bincount(self.labels_inside, minlength=len(self.nuclei) + 1)
        counts[0] = self.labels.size - len(self.inside)
        return np.maximum(counts, 1)

    def of_nuclei(self, x: Array) -> NDArray[np.float64]:
        """The mean of a map over each nucleus, float64 (N + 1,): the first stands for what is no nucleus."""
        sums = np.bincount(self.labels_inside, x.ravel()[self.inside], len(self.nuclei) + 1)
        sums[0] = x.sum(dtype=np.float64) - sums.sum()
        return np.asarray(sums / self.pixels_of_nuclei)

    def around_nuclei(self, x: Array) -> Array:
        """The mean of a map over tissue without nuclei, near every pixel."""
        weight, total = coarser(self.between, COARSE), coarser(x * self.between, COARSE)
        sigma_px = NEAR_UM / MPP / COARSE
        near = smooth(total, sigma_px) / np.maximum(smooth(weight, sigma_px), MIN_COVER)
        return finer(near, COARSE, x.shape)


def means_of_nuclei(x: Array, labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """The mean of a map (H, W) over each of `count` nuclei, float64 (count,); 0 of one that has no pixel there."""
    inside = np.flatnonzero(labels)
    found = labels.ravel()[inside].astype(np.intp)
    sums = np.bincount(found, x.ravel()[inside], count + 1)
    return np.asarray(sums / np.maximum(np.bincount(found, minlength=count + 1), 1))[1:]


def mean_density(density: Array) -> Array:
    """The mean of three colours of (H, W, 3), float32 (H, W)."""
    total = density[..., 0] + density[..., 1]
    total += density[..., 2]
    total /= np.float32(3)
    return np.asarray(total)


def tissue_part(image: Image, white: Matrix) -> Window | None:
    """The part of an image, uint8 (H, W, 3) at MPP, beyond which lies bare glass alone; None where that is all."""
    green = coarser(image[..., 1], SQUARE_PX)
    shown = green < (white[1] + 1) / 10 ** GLASS_OD10[0] - 1
    if not shown.any():
        return None
    (top, bottom), (left, right) = (
        (ends[0] * SQUARE_PX - ROOM_PX, (ends[-1] + 1) * SQUARE_PX + ROOM_PX)
        for ends in (np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0))
    )
    return Window(int(left), int(top), int(right), int(bottom)).grown(0, (image.shape[1], image.shape[0]))


def tissue_of(image: Image, nuclei: Nuclei, white: Matrix, matrix: Matrix) -> Tissue:
    """What an image, uint8 (H, W, 3) at MPP, shows by the colour of its glass and its stain matrix."""
    colors = densities_od10(image, white)
    density = np.moveaxis(colors, 0, 2)
    hematoxylin, second = (mixed_maps(colors, amounts) for amounts in np.linalg.inv(matrix).T[:2])
    labels = labels_of(nuclei, image.shape[:2])
    distance_um, owner = _nearest(labels)
    there = ramp(smooth(mean_density(density), SMOOTH_UM / MPP), *GLASS_OD10)
    return Tissue(density, hematoxylin, second, nuclei, labels, owner, distance_um, there, white, matrix)


class Detail(NamedTuple):
    """How strong detail is, as standard deviations.

    `crisp` and `chromatin` are fine and less fine detail of haematoxylin in blue nuclei, over its mean there above
    the ground's. `fine_od10`, `broad_od10` and `wide_od10` are detail of the density of pale tissue, of base 10;
    `hematoxylin_clouds` and `second_clouds` say how uneven both stains are there, from place to place.
    """

    crisp: float
    chromatin: float
    fine_od10: float
    broad_od10: float
    wide_od10: float
    hematoxylin_clouds: float
    second_clouds: float


def detail_of(tissue: Tissue, blue: NDArray[np.bool_], pale: NDArray[np.bool_]) -> Detail:
    """The detail of the nuclei that `blue` (N,) names and of the tissue that `pale` (H, W) does."""
    of_blue = np.concatenate([[False], blue])[tissue.labels] & (tissue.labels > 0)
    over = (tissue.hematoxylin - tissue.around_od10)[of_blue]
    strength = max(float(np.mean(over)), 0.05) if len(over) else 1.0
    crisp, chromatin = (_deviation(band[of_blue]) / strength for band in nuclear_bands(tissue.hematoxylin))
    fine, broad, wide = (_deviation(band[pale]) for band in tissue.pale_bands)
    clouds = [_cloudy(tissue, x, pale) for x in (tissue.hematoxylin, tissue.second)]
    return Detail(crisp, chromatin, fine, broad, wide, *clouds)


def nuclear_bands(hematoxylin: Array) -> tuple[Array, Array]:
    """Detail of nuclei: finer than the first of CHROMATIN_UM, and between both."""
    sharp, soft = (smooth(hematoxylin, um / MPP) for um in CHROMATIN_UM)
    return hematoxylin - sharp, sharp - soft


def _cloudy(tissue: Tissue, x: Array, pale: NDArray[np.bool_]) -> float:
    """How uneven a faint stain is from place to place: the spread of its logarithm."""
    near = tissue.around_nuclei(x)[pale].clip(0.01)
    return _deviation(np.log(near / np.median(near))) if len(near) else 0.0


def bands(density: Array) -> tuple[Array, Array, Array]:
    """Detail of a map: finer than the first of BANDS_UM, and between neighbours."""
    sharp, soft, softest = (smooth(density, um / MPP) for um in BANDS_UM)
    return density - sharp, sharp - soft, soft - softest


def _deviation(values: NDArray[Any]) -> float:
    """A standard deviation that few large values do not change: from the median of absolute ones."""
    return float(1.4826 * np.median(abs(values))) if len(values) else 0.0


def _nearest(labels: NDArray[np.int32]) -> tuple[Array, NDArray[np.int32]]:
    """Distance in um to the nearest label, and which it is; without labels far, and 0.

    Beside nuclei both are found on every second pixel, which is a fifth of the work: a border lies half a pixel
    nearer than the pixel that shows it.
    """
    half = labels[::2, ::2]
    if not half.any():
        return np.full(labels.shape, NO_NUCLEUS_UM, np.float32), labels
    distance, (rows, columns) = distance_transform_edt(half == 0, return_indices=True)
    outside = labels == 0
    distance_um = finer((distance - 0.25).clip(0) * (2 * MPP), 2, labels.shape) * outside
    near = half[rows, columns].repeat(2, axis=0).repeat(2, axis=1)[: labels.shape[0], : labels.shape[1]]
    return distance_um, np.where(outside, near, labels)


# Which tissue is epithelium: told by the shape of its nuclei, then by how the slide itself stains round
# those.

LARGE_PERCENT = 80  # the percentile of a slide's nuclear areas that stands for large nuclei
SMALL = 0.62  # of a large one's area: what is smaller is rather no epithelium
LONG = 1.7  # ratio of axes: what is longer is rather stroma
NEIGHBOURS, NEIGHBOURS_UM = 5, 18.0
CROWDED = 0.3, 0.42  # of the tissue round a nucleus covered by nuclei: lymphocytes have hardly any cytoplasm
LYMPHOCYTE_UM2 = 45.0, 70.0  # from the area of a lymphocyte's nucleus to what is surely none
ALONE_UM, ALONE = 12.0, (0.12, 0.3)  # epithelium comes in sheets: a lone cell is rather something else
CELL_UM, FAR_UM = 5.0, 12.0  # tissue of a nucleus' own cell; tissue that no cell reaches
FAR_SHARE, FAR_WEIGHT = 0.05, 0.7  # what lies far from all nuclei is hardly epithelium
SCALES_UM = (1.5, 4.0, 9.0)
RIDGE, MAX_STEPS = 30.0, 12
MIN_KNOWN, OTHERWISE = 50, -2.0  # squares of tissue that a rule is learnt from; the logit where there are fewer
STEEP = 1.6
GUIDE_UM = 0.6  # over which the tissue is smoothed whose edges count
EDGES = ((10.0, 3e-3, 0.2, 0.8), (4.0, 2e-3, 0.3, 0.7))  # radius in um, epsilon, and what becomes 0 and 1


@dataclass(frozen=True)
class Rule:
    """A slide's own rule: what is large for a nucleus, and a logistic regression on features of tissue."""

    large_um2: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float


def rule_of(tissue: Tissue) -> Rule:
    """The rule of a sample of a slide.

    Nuclei that are large, round and in company name the tissue round them epithelium, others name it something
    else. A logistic regression with a ridge then learns from most pixels how either looks on this slide: nuclei
    are often misjudged, their surroundings together seldom.
    """
    large_um2 = float(np.percentile(tissue.nuclei.areas_um2, LARGE_PERCENT)) if len(tissue.nuclei) else 60.0
    share = np.concatenate([[0], 1 / (1 + np.exp(-2 * nuclear_logit(tissue.nuclei, large_um2)))])
    owned, distance = tissue.owner[::COARSE, ::COARSE], tissue.distance_um[::COARSE, ::COARSE]
    there = coarser(tissue.there, COARSE) > 0.5
    far = there & (distance > FAR_UM)
    known = (there & (distance < CELL_UM)) | far
    features = _features(tissue).astype(np.float64).transpose(1, 2, 0)
    if np.count_nonzero(known) < MIN_KNOWN:
        none = (0.0,) * features.shape[2]
        return Rule(large_um2, none, none, none, OTHERWISE)
    aim = np.where(far, FAR_SHARE, share[owned])[known]
    weight = np.where(far, FAR_WEIGHT, 1.0)[known]
    means, deviations = features[there].mean(axis=0), features[there].std(axis=0) + 1e-4
    fitted = _logistic((features[known] - means) / deviations, aim, weight)
    found = [tuple(map(float, values)) for values in (means, deviations, fitted[:-1])]
    return Rule(large_um2, found[0], found[1], found[2], float(fitted[-1]))


def nuclear_logit(nuclei: Nuclei, large_um2: float) -> NDArray[np.float64]:
    """How far a nucleus' shape and company speak for epithelium, (N,): 0 is undecided."""
    from scipy.spatial import cKDTree

    if not len(nuclei):
        return np.zeros(0)
    places = nuclei.centres_px * nuclei.mpp
    tree = cKDTree(places)
    areas_um2 = nuclei.areas_um2
    nearby = tree.query_ball_point(places, NEIGHBOURS_UM)
    company = np.array([len(near) - 1 for near in nearby])
    size = np.log((areas_um2 / (SMALL * large_um2)).clip(0.3, 1.8))
    long = (elongation(nuclei) - LONG).clip(-0.3, 1.5)
    covered = np.array([areas_um2[near].sum() for near in nearby]) / (np.pi * NEIGHBOURS_UM**2)
    crowded = ramp(covered, *CROWDED) * (1 - ramp(areas_um2, *LYMPHOCYTE_UM2))
    company_logit = 0.5 * ((company - NEIGHBOURS) / 4).clip(-1, 1)
    return np.asarray(2.2 * size - 1.8 * long + company_logit - 3.0 * crowded)


def epithelium(tissue: Tissue, rule: Rule) -> Array:
    """How far a pixel lies in epithelium, float32 (H, W) from 0 to 1, brought to the tissue's own edges."""
    logit = np.full(coarse_shape(tissue), rule.offset, np.float32)
    for feature, mean, deviation, weight in zip(
        _features(tissue), rule.means, rule.deviations, rule.weights, strict=True
    ):
        logit += (feature - np.float32(mean)) * np.float32(weight / max(deviation, 1e-4))
    coarse = 1 / (1 + np.exp(-STEEP * logit)) * coarser(tissue.there, COARSE)
    coarse *= ramp(smooth(coarse, ALONE_UM / MPP / COARSE), *ALONE)
    there, *guides = (coarser(x, 2) for x in (tissue.there, tissue.hematoxylin, tissue.second))
    guides = [smooth(x, GUIDE_UM / MPP / 2) for x in guides]
    share = finer(coarse, COARSE // 2, there.shape) * there
    for radius_um, eps, none, full in EDGES:
        share = ramp(guided_filter(share, guides, round(radius_um / MPP / 4), eps, 2), none, full)
    return finer(share, 2, tissue.labels.shape) * tissue.there


def elongation(nuclei: Nuclei) -> NDArray[np.float64]:
    """Long axis over short axis of every outline."""
    around = (nuclei.outlines_px - nuclei.centres_px[:, None]).astype(np.float64)
    spread = np.linalg.eigvalsh(np.einsum("nri,nrj->nij", around, around))
    return np.asarray(np.sqrt(spread[:, 1] / np.maximum(spread[:, 0], 1e-6)))


def coarse_shape(tissue: Tissue) -> tuple[int, int]:
    """How many squares of COARSE px there are, (h, w)."""
    height, width = tissue.labels.shape
    return -(-height // COARSE), -(-width // COARSE)


def _features(tissue: Tissue) -> Array:
    """Of squares of COARSE px, (11, h, w): both stains of cytoplasm by scale, haematoxylin, grain, nuclei."""
    pixel_um = MPP * COARSE
    between, nuclear = coarser(tissue.between, COARSE), coarser(tissue.labels > 0, COARSE)
    stains = [coarser(x * tissue.between, COARSE) for x in (tissue.hematoxylin, tissue.second)]
    maps: list[Array] = []
    for um in SCALES_UM:
        cover = np.maximum(smooth(between, um / pixel_um), MIN_COVER)
        maps += [np.asarray(smooth(stain, um / pixel_um) / cover) for stain in stains]
    all_hematoxylin = coarser(tissue.hematoxylin, COARSE)
    maps += [smooth(all_hematoxylin, um / pixel_um) for um in SCALES_UM[1:]]
    grain = coarser(abs(tissue.total - smooth(tissue.total, 1.5 / MPP)), COARSE)
    maps += [smooth(grain, SCALES_UM[1] / pixel_um)]
    maps += [smooth(nuclear, um / pixel_um) for um in (5.0, 12.0)]
    return np.stack(maps)


def _logistic(
    x: NDArray[np.float64], aim: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights and offset (F + 1,) of a logistic regression with a ridge, by Newton's method; aims are shares."""
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    ridge = np.eye(design.shape[1]) * RIDGE * len(x) / 1000
    ridge[-1, -1] = 1e-9
    found = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        share = 1 / (1 + np.exp(-design @ found))
        slope = design.T @ (weight * (aim - share)) - ridge @ found
        bend = (design * (weight * share * (1 - share))[:, None]).T @ design + ridge
        found = found + np.linalg.solve(bend, slope)
    return found
