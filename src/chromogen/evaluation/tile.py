"""What a metric sees of a tile, and sums over tiles: float64 (K,)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias, TypeVar

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
T = TypeVar("T")
Pair: TypeAlias = tuple[T, T]  # of a prediction, and of the real IHC

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
    _sides: dict[str, Side] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    def side(self, name: str) -> Side:
        """The tile's "prediction", "he" or "real", and what is seen in it. Raises: UndefinedError without it."""
        if name not in self._sides:
            self._sides[name] = Side(self, name, needed(self, name))
        return self._sides[name]

    @property
    def tissue(self) -> Mask:
        """Where there is tissue, bool (H, W): in the H&E if there is one, else in the prediction."""
        return self.side("prediction" if self.he is None else "he").tissue

    def in_core(self, nuclei: Nuclei) -> NDArray[np.bool_]:
        """Which nuclei (N,) of this tile have their centre in the part that counts."""
        left, top, right, bottom = self.halo
        height, width = self.prediction.shape[:2]
        inside = nuclei.centres_px - np.array([left, top], np.float32)
        size = np.array([width - left - right, height - top - bottom])
        return np.asarray(((inside >= 0) & (inside < size)).all(axis=1))


@dataclass(frozen=True, eq=False)
class Side:
    """One picture of a tile, uint8 (H, W, 3), and what is seen in it, each measured once."""

    tile: Tile
    name: str
    image: Image

    @property
    def mpp(self) -> float:
        """The size of a pixel in um, as lengths are taken at."""
        return self.tile.mpp or ASSUMED_MPP

    @cached_property
    def background(self) -> Background:
        """That of the whole image, of which the tile is a part."""
        return self.tile.backgrounds.get(self.name) or background(self.image, self.mpp)

    @cached_property
    def tissue(self) -> Mask:
        """Where it shows tissue, bool (H, W)."""
        return self.background.tissue(self.image, self.mpp, self.tile.part)

    @cached_property
    def density_od10(self) -> Array:
        """Optical densities of red, green and blue, (H, W, 3)."""
        return optical_density_od10(self.image)

    @cached_property
    def od10(self) -> Array:
        """Concentrations (H, W, 3): hematoxylin, eosin of an H&E or DAB of an IHC, and what is neither."""
        return separate_stains_od10(self.image, H_E if self.name == "he" else H_DAB)

    @cached_property
    def dab_od10(self) -> Array:
        """DAB over its own glass, (H, W), at least 0."""
        return np.asarray(np.maximum(separate_stains_od10(self.image, H_DAB, self.background.white)[..., 1], 0))

    @cached_property
    def nuclei(self) -> Nuclei:
        """Its nuclei, blue and brown, in pixels of the tile, those of the halo too."""
        if self.mpp > MAX_MPP:
            raise UndefinedError(f"pixels of {self.mpp:g} um do not show nuclei")
        return nuclei_of_image(self.image, self.mpp, white=self.background.white)

    @cached_property
    def measured(self) -> Measurements:
        """What was measured of its nuclei that have their centre in the part that counts."""
        found = measure(self.nuclei, self.image, self.mpp, self.background.white, H_DAB)
        return found.take(self.tile.in_core(self.nuclei))

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Its nuclei as a label image (H, W)."""
        height, width = self.image.shape[:2]
        return labels_of(self.nuclei, (height, width))

    @cached_property
    def from_nuclei_um(self) -> Array:
        """How far every pixel is from its nearest nucleus, (H, W): 0 within, inf without any."""
        outside = self.labels == 0
        if outside.all():
            return np.full(outside.shape, np.inf)
        return np.asarray(ndimage.distance_transform_edt(outside) * self.mpp)


def needed(tile: Tile, name: str) -> Image:
    """The tile's "he" or "real", uint8 (H, W, 3); UndefinedError where it has none."""
    image: Image | None = getattr(tile, name)
    if image is None:
        raise UndefinedError(f"no {CALLED[name]}")
    return image
