"""What a metric sees of a tile, and sums over tiles: float64 (K,)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.nuclei.find import MAX_MPP, nuclei_of_image
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.nuclei.positivity import Measurements, measure
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.deconvolution import H_DAB, H_E, optical_density_od10, separate_stains_od10
from chromogen.stains.tissue import WHOLE, Background, Part, background

# Sums that add up over tiles, float64 (K,), and what is computed from them.

Array: TypeAlias = NDArray[np.float64]


class UndefinedError(ValueError):
    """A metric has no value for these pictures; the text says why."""


NO_PAIRS: Array = np.zeros(6)


def add_pairs(sums: Array, x: NDArray[Any], y: NDArray[Any]) -> Array:
    """Count, sums, sums of squares and of products with pairs of values (N,) added."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.asarray(np.add(sums, [x.size, x.sum(), y.sum(), x @ x, y @ y, x @ y]))


def pearson(sums: Array) -> float:
    """Pearson's correlation (1895) of all pairs, from -1 to 1; undefined where one side does not vary."""
    n, x, y, xx, yy, xy = sums
    if n < 2:
        raise UndefinedError("no pixels to compare")
    x_variance, y_variance = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    if min(x_variance, y_variance) < 1e-12:
        raise UndefinedError("one of the two does not vary")
    return float((xy / n - x * y / n**2) / np.sqrt(x_variance * y_variance))


NO_OVERLAP: Array = np.zeros(2)


def add_overlap(sums: Array, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Array:
    """Twice the overlap, and both areas together, of two masks (H, W) added."""
    return np.asarray(np.add(sums, [2 * np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)]))


def dice(sums: Array) -> float:
    """Dice's coefficient (1945), from 0 to 1; undefined where both masks are empty."""
    overlap, areas = sums
    if areas == 0:
        raise UndefinedError("both masks are empty")
    return float(overlap / areas)


NOTHING: Array = np.zeros(2)


def add_values(sums: Array, values: NDArray[Any]) -> Array:
    """Sum and count with values (N,) added."""
    return np.asarray(np.add(sums, [values.sum(dtype=np.float64), values.size]))


def mean(sums: Array) -> float:
    """The mean of all values; undefined where there are none."""
    return ratio(sums, "no pixels to measure")


def ratio(sums: Array, why: str) -> float:
    """The first sum over the second, undefined for the reason `why` where that is zero."""
    if sums[1] == 0:
        raise UndefinedError(why)
    return float(sums[0] / sums[1])


# What a metric is shown: pictures of one place, and what is seen in them, each measured once.

Mask: TypeAlias = NDArray[np.bool_]

CALLED = {"he": "H&E", "real": "real IHC"}
blur = partial(ndimage.gaussian_filter, truncate=3.0)


@dataclass(frozen=True)
class Tile:
    """A prediction, and as far as there are any the H&E it came from and a real IHC, uint8 (H, W, 3), of one size.

    `mpp` is the size of a pixel in um; where it is not known, lengths are taken at `ASSUMED_MPP`. `location` is
    the place (x, y) of the first pixel that counts, in its image, and `halo` (left, top, right, bottom) what was
    read around for context and does not count, in px. `backgrounds` are those of the whole images, by the name of
    the picture, and the tile is a `part` of these; without backgrounds a tile is whole. Raises: ValueError for
    pictures of different sizes.
    """

    prediction: Image
    he: Image | None = None
    real: Image | None = None
    mpp: float | None = None
    location: tuple[int, int] = (0, 0)
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)
    backgrounds: Mapping[str, Background] = field(default_factory=dict)
    part: Part = WHOLE

    def __post_init__(self) -> None:
        for name, other in (("he", self.he), ("real", self.real)):
            if other is not None and other.shape != self.prediction.shape:
                here, there = (f"{image.shape[1]} x {image.shape[0]} px" for image in (self.prediction, other))
                advice = "make it without --size, or resample one"
                raise expected(name, f"as large as the prediction, {here}", there, advice)

    def px(self, length_um: float) -> float:
        """A length in pixels."""
        return length_um / (self.mpp or ASSUMED_MPP)

    def core(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Of an array (H, W, ...) the part that counts."""
        left, top, right, bottom = self.halo
        height, width = pixels.shape[:2]
        return pixels[top : height - bottom, left : width - right]

    def tissue_of(self, image: Image) -> Mask:
        """Where an image of this tile shows tissue, bool (H, W)."""
        mpp = self.mpp or ASSUMED_MPP
        known = (self.backgrounds[name] for name in self.backgrounds if getattr(self, name) is image)
        return (next(known, None) or background(image, mpp)).tissue(image, mpp, self.part)

    @cached_property
    def tissue(self) -> Mask:
        """Where there is tissue: in the H&E if there is one, else in the prediction."""
        return self.tissue_of(self.prediction if self.he is None else self.he)

    @cached_property
    def prediction_od10(self) -> Array:
        """Concentrations in the prediction, H-DAB vectors: hematoxylin, DAB, and what is neither."""
        return separate_stains_od10(self.prediction, H_DAB)

    @cached_property
    def real_od10(self) -> Array:
        """Concentrations in the real IHC, H-DAB vectors."""
        return separate_stains_od10(needed(self, "real"), H_DAB)

    @cached_property
    def he_od10(self) -> Array:
        """Concentrations in the H&E, H&E vectors: hematoxylin, eosin, and what is neither."""
        return separate_stains_od10(needed(self, "he"), H_E)

    @cached_property
    def he_density_od10(self) -> Array:
        """Optical densities of red, green and blue in the H&E."""
        return optical_density_od10(needed(self, "he"))

    @cached_property
    def he_nuclei(self) -> Nuclei:
        """The nuclei of the H&E, in pixels of this tile, those of the halo too."""
        return self._nuclei_of(needed(self, "he"))

    @cached_property
    def prediction_nuclei(self) -> Nuclei:
        """The nuclei of the prediction, blue and brown."""
        return self._nuclei_of(self.prediction)

    @cached_property
    def real_nuclei(self) -> Nuclei:
        """The nuclei of the real IHC, blue and brown."""
        return self._nuclei_of(needed(self, "real"))

    @cached_property
    def prediction_measured(self) -> Measurements:
        """What was measured of the nuclei of the prediction that have their centre in the part that counts."""
        return self._measured(self.prediction, self.prediction_nuclei)

    @cached_property
    def real_measured(self) -> Measurements:
        """The same of the real IHC."""
        return self._measured(needed(self, "real"), self.real_nuclei)

    @cached_property
    def prediction_dab_od10(self) -> Array:
        """DAB in the prediction over its own glass, (H, W), at least 0."""
        return self._dab_of(self.prediction)

    @cached_property
    def real_dab_od10(self) -> Array:
        """The same of the real IHC."""
        return self._dab_of(needed(self, "real"))

    @cached_property
    def prediction_from_nuclei_um(self) -> Array:
        """How far every pixel of the prediction is from its nearest nucleus, (H, W): 0 within, inf without any."""
        return self._from_nuclei_um(self.prediction_nuclei)

    @cached_property
    def real_from_nuclei_um(self) -> Array:
        """The same of the real IHC."""
        return self._from_nuclei_um(self.real_nuclei)

    def _dab_of(self, image: Image) -> Array:
        return np.asarray(np.maximum(separate_stains_od10(image, H_DAB, self.white_of(image))[..., 1], 0))

    def _from_nuclei_um(self, nuclei: Nuclei) -> Array:
        height, width = self.prediction.shape[:2]
        outside = labels_of(nuclei, (height, width)) == 0
        if outside.all():
            return np.full(outside.shape, np.inf)
        return np.asarray(ndimage.distance_transform_edt(outside) * (self.mpp or ASSUMED_MPP))

    def _measured(self, image: Image, nuclei: Nuclei) -> Measurements:
        mpp = self.mpp or ASSUMED_MPP
        return measure(nuclei, image, mpp, self.white_of(image), H_DAB).take(self.in_core(nuclei))

    def white_of(self, image: Image) -> Array:
        """The colour of bare glass (3,), 0 to 255, of the whole image that an image of this tile is a part of."""
        known = (self.backgrounds[name] for name in self.backgrounds if getattr(self, name) is image)
        return (next(known, None) or background(image, self.mpp or ASSUMED_MPP)).white

    def _nuclei_of(self, image: Image) -> Nuclei:
        mpp = self.mpp or ASSUMED_MPP
        if mpp > MAX_MPP:
            raise UndefinedError(f"pixels of {mpp:g} um do not show nuclei")
        return nuclei_of_image(image, mpp, white=self.white_of(image))

    def in_core(self, nuclei: Nuclei) -> NDArray[np.bool_]:
        """Which nuclei (N,) of this tile have their centre in the part that counts."""
        left, top, right, bottom = self.halo
        height, width = self.prediction.shape[:2]
        inside = nuclei.centres_px - np.array([left, top], np.float32)
        size = np.array([width - left - right, height - top - bottom])
        return np.asarray(((inside >= 0) & (inside < size)).all(axis=1))


def needed(tile: Tile, name: str) -> Image:
    """The tile's "he" or "real", uint8 (H, W, 3); UndefinedError where it has none."""
    image: Image | None = getattr(tile, name)
    if image is None:
        raise UndefinedError(f"no {CALLED[name]}")
    return image
