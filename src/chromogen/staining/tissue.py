"""What a window of a stained slide shows: amounts of both stains, nuclei, and what lies round each of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from chromogen.grid import Window
from chromogen.image import Image
from chromogen.nuclei.contract import NETWORK_MPP
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.staining.maps import MIN_COVER, Array, coarser, finer, ramp, smooth
from chromogen.stains.deconvolution import Array as Matrix
from chromogen.stains.deconvolution import densities_od10

CHROMATIN_UM = 0.4, 1.2  # borders of fine and less fine detail of nuclei
BANDS_UM = 0.5, 2.5, 10.0  # borders of fine and broad detail
MPP = NETWORK_MPP  # of all pictures in this room
GLASS_OD10 = (0.02, 0.06)  # from glass to tissue, of light smoothed over SMOOTH_UM
SMOOTH_UM = 0.75
COARSE = 4  # px of a square, where detail does not matter
SQUARE_PX, ROOM_PX = 8, 64  # what tissue is looked for in, and what is painted around it
FAR_UM = 1e6  # where there is no nucleus at all
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
    hematoxylin, second = (_mixed(colors, amounts) for amounts in np.linalg.inv(matrix).T[:2])
    labels = labels_of(nuclei, image.shape[:2])
    distance_um, owner = _nearest(labels)
    there = ramp(smooth(mean_density(density), SMOOTH_UM / MPP), *GLASS_OD10)
    return Tissue(density, hematoxylin, second, nuclei, labels, owner, distance_um, there, white, matrix)


def _mixed(maps: Array, weights: NDArray[np.float64]) -> Array:
    """The weighted sum of three maps (3, H, W): in this order, whatever the processor."""
    first, second, third = weights.astype(np.float32)
    total = maps[0] * first
    total += maps[1] * second
    total += maps[2] * third
    return np.asarray(total)


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
        return np.full(labels.shape, FAR_UM, np.float32), labels
    distance, (rows, columns) = distance_transform_edt(half == 0, return_indices=True)
    outside = labels == 0
    distance_um = finer((distance - 0.25).clip(0) * (2 * MPP), 2, labels.shape) * outside
    near = half[rows, columns].repeat(2, axis=0).repeat(2, axis=1)[: labels.shape[0], : labels.shape[1]]
    return distance_um, np.where(outside, near, labels)
