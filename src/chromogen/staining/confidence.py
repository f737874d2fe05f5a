"""How far the tissue of a slide is from the exemplar's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.staining.maps import MIN_COVER, Array, coarser, finer, ramp, smooth
from chromogen.staining.tissue import MPP, Tissue, elongation

# How far a place's tissue is from any that an exemplar had, by what H&E and IHC show alike: nuclei and grain.

Values = tuple[float, ...]

SQUARE_PX = 16  # of MPP: features are of squares
NEAR_UM, TEXTURE_UM = 18.0, 8.0  # over which nuclei are averaged, and grain and colour
OWN_UM, GROUND_UM = (4.0, 8.0), 8.0  # round a nucleus is tissue, however pale; so are gaps in tissue
SLIDES_OWN = 3e-4  # nuclei in a um2, as the slide's typical one, that are added everywhere
AREA_UM2, AXES, DENSITY = (5.0, 400.0), (1.0, 4.0), (0.2, 5.0)  # of nuclei, within which they count
SIZE_VARIANCE = 0.2  # of the logarithm of areas, where nuclei are few
MIN_COVERED = 0.02  # where nuclei cover less, how much less says nothing
PALEST_OD10 = 0.05  # a slide's typical nucleus
NOISE = 1e-6  # variance of density: that of noise and of 8 bits
FOREIGN_OD10 = 0.01
# Features, and how far they differ for the same tissue between labs, and between H&E and IHC: seen in H&E of six
# labs and IHC of three. The last four, of grain and colour, count over the slide's medians.
BETWEEN_LABS = {
    "cover": 0.45,  # share that nuclei cover, logarithm
    "size": 0.2,  # area of nuclei over the slide's typical one, logarithm
    "size_spread": 0.08,  # standard deviation of that
    "elongation": 0.06,  # long axis of nuclei over short axis, logarithm
    "density": 0.1,  # haematoxylin of nuclei over the slide's typical one, logarithm
    "between": 0.1,  # haematoxylin between nuclei over that of the slide's typical nucleus
    "fine_grain": 0.2,  # variance between pixels over that between squares of 2 um, logarithm
    "coarse_grain": 0.25,  # the same of 1 um over 4 um
    "contrast": 0.3,  # variance between squares of 1 and of 2 um, logarithm
    "foreign": 0.15,  # density that is neither stain, logarithm
}
SHARES = np.linspace(0, 0.95, 20)
TAIL = 0.25  # of distance: what is farther than most of an exemplar loses confidence e times
LEVEL, SOFT = 1e-3, 2.0  # of confidence: half of the stain is left; all or nothing with SOFT times more or less


@dataclass(frozen=True)
class Typical:
    """The typical nucleus of a slide or exemplar, and its medians of grain and colour."""

    area_um2: float
    elongation: float
    nucleus_od10: float
    texture: Values


@dataclass(frozen=True)
class KnownTissue:
    """Which tissue an exemplar had: mean and covariance of the features of its squares.

    `distances` has quantiles, at SHARES, of how far its own squares are from the rest of it.
    """

    means: Values
    covariance: tuple[Values, ...]
    distances: Values


def typical_of(tissue: Tissue) -> Typical:
    """What is typical of a slide, by a sample of its tissue."""
    nuclei, there = tissue.nuclei, ground(tissue) > 0.5
    texture = _texture(tissue)
    none = np.zeros(texture.shape[2])
    return Typical(
        median_of(nuclei.areas_um2, 35.0),
        median_of(elongation(nuclei), 1.3),
        max(median_of(tissue.of_nuclei(tissue.hematoxylin)[1:], 0.3), PALEST_OD10),
        tuple(map(float, np.median(texture[there], axis=0) if there.any() else none)),
    )


def median_of(values: NDArray[Any], otherwise: float) -> float:
    """The median, or what stands for it where there are no values."""
    return float(np.median(values)) if len(values) else otherwise


def known_tissue(tissue: Tissue) -> KnownTissue:
    """Which tissue an exemplar shows.

    Each quarter of it is compared with the other three: squares beside each other are too alike to be witnesses.
    """
    features, there = _features(tissue, typical_of(tissue)), ground(tissue) > 0.5
    if not there.any():
        there = np.ones_like(there)
    rows, columns = np.indices(there.shape)
    quarter = 2 * (2 * rows // len(there)) + 2 * columns // there.shape[1]
    parts = [(features[there & (quarter != q)], features[there & (quarter == q)]) for q in range(4)]
    held_out = [_distance(held, *_moments(rest)) for rest, held in parts if len(rest) and len(held)]
    distances = np.concatenate(held_out) if held_out else np.ones(1)
    means, covariance = _moments(features[there])
    return KnownTissue(_rounded(means), tuple(map(_rounded, covariance)), _rounded(np.quantile(distances, SHARES)))


def _moments(squares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return squares.mean(axis=0), np.atleast_2d(np.cov(squares.T, ddof=0))


def _rounded(values: NDArray[np.float64]) -> Values:
    """To five digits: a look is a file that people read."""
    return tuple(float(f"{value:.5g}") for value in values)


def confidence(tissue: Tissue, typical: Typical, known: Sequence[KnownTissue]) -> Array:
    """How near tissue is to what the nearest exemplar had, float32 (h, w), 0 to 1, of squares of SQUARE_PX.

    A place of confidence 0.05 is as far as one in twenty places of the exemplar are from the rest of it; smaller
    numbers are extrapolated. On glass it means nothing. The distance is that of Mahalanobis (1936), over what an
    exemplar varies and labs differ; it finds what a network has not seen, too (Lee et al. 2018).
    """
    features = _features(tissue, typical)
    return np.asarray(np.max([_confidence(features, one) for one in known], axis=0), np.float32)


def ground(tissue: Tissue) -> Array:
    """1 in tissue, 0 on glass and in wide gaps, float32 (h, w) of squares of SQUARE_PX."""
    own = np.maximum(tissue.there, 1 - ramp(tissue.distance_um, *OWN_UM))
    return ramp(_near(coarser(own, SQUARE_PX), GROUND_UM), 0.2, 0.6)


def painted_share(confidence: Array) -> Array:
    """How much of its stain a place gets: all at SOFT times LEVEL, nothing where LEVEL is SOFT times more."""
    steps = np.log(np.maximum(confidence, 1e-12) / LEVEL) / np.log(SOFT)
    return ramp(steps, -1, 1)


def on_pixels(squares: Array, shape: tuple[int, ...]) -> Array:
    """A map of squares on the pixels (H, W) of its window, linear between their centres."""
    return finer(squares, SQUARE_PX, shape)


def _confidence(features: NDArray[np.float64], known: KnownTissue) -> NDArray[np.float64]:
    distance = _distance(features, np.array(known.means), np.array(known.covariance))
    farther = 1 - np.interp(distance, known.distances, SHARES)
    beyond = (distance - known.distances[-1]).clip(0) / TAIL
    return np.asarray(farther * np.exp(-beyond))


def _distance(
    features: NDArray[np.float64], means: NDArray[np.float64], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mahalanobis distance over the root of the number of features."""
    labs = np.diag(np.square(list(BETWEEN_LABS.values())))
    root = np.linalg.cholesky(np.linalg.inv(covariance + labs))
    return np.asarray(np.sqrt(np.square((features - means) @ root).mean(axis=-1)))


def _features(tissue: Tissue, typical: Typical) -> NDArray[np.float64]:
    """Of squares of SQUARE_PX, (h, w, 10), as BETWEEN_LABS names them."""
    texture = _texture(tissue) - np.array(typical.texture)
    return np.concatenate([_cells(tissue, typical), texture], axis=2)


def _cells(tissue: Tissue, typical: Typical) -> NDArray[np.float64]:
    """Features of nuclei and of what lies between them, (h, w, 6)."""
    nuclei = tissue.nuclei
    size = np.log(nuclei.areas_um2.clip(*AREA_UM2) / typical.area_um2)
    long = np.log(elongation(nuclei).clip(*AXES) / typical.elongation)
    own = tissue.of_nuclei(tissue.hematoxylin)[1:] / typical.nucleus_od10
    means = _means((size, size**2 - SIZE_VARIANCE, long, np.log(own.clip(*DENSITY))), tissue)
    cover = _near(coarser(tissue.labels > 0, SQUARE_PX), NEAR_UM)
    between, gaps = (
        _near(coarser(x, SQUARE_PX), NEAR_UM) for x in (tissue.hematoxylin * tissue.between, tissue.between)
    )
    plain = between / np.maximum(gaps, MIN_COVER) / typical.nucleus_od10
    maps = (
        np.log(cover + MIN_COVERED),
        means[0],
        np.sqrt((means[1] + SIZE_VARIANCE - means[0] ** 2).clip(0)),
        means[2] + np.log(typical.elongation),
        means[3],
        plain.clip(-1, 3),
    )
    return np.stack(maps, axis=2).astype(np.float64)


def _means(values: Sequence[NDArray[np.float64]], tissue: Tissue) -> list[Array]:
    """Means over the nuclei near every square, nearer to 0 the fewer there are: 0 is the slide's typical."""
    rows, columns = (-(-side // SQUARE_PX) for side in tissue.labels.shape)
    x, y = (tissue.nuclei.centres_px // SQUARE_PX).astype(int).clip(0, (columns - 1, rows - 1)).T

    def summed(each: NDArray[np.float64]) -> Array:
        sums = np.bincount(y * columns + x, each, rows * columns).reshape(rows, columns)
        return _near(sums, NEAR_UM) / np.float32((SQUARE_PX * MPP) ** 2)

    count = summed(np.ones(len(tissue.nuclei))) + SLIDES_OWN
    return [np.asarray(summed(each) / count, np.float32) for each in values]


def _texture(tissue: Tissue) -> NDArray[np.float64]:
    """Features of grain and colour, (h, w, 4): variance by scale, in a Laplacian pyramid (Burt & Adelson 1983)."""
    image, bands = _whole_squares(tissue.total), []
    for level in range(4):
        blurred = smooth(image, 1.0)
        bands.append(np.log(_near(coarser((image - blurred) ** 2, SQUARE_PX >> level), TEXTURE_UM) + NOISE))
        image = coarser(blurred, 2)
    third = tissue.density @ np.linalg.inv(tissue.matrix)[:, 2].astype(np.float32)
    foreign = _near(coarser(abs(coarser(_whole_squares(third), 2)), SQUARE_PX // 2), TEXTURE_UM)
    contrast = np.logaddexp(bands[1], bands[2])
    maps = (bands[0] - bands[2], bands[1] - bands[3], contrast, np.log(foreign + FOREIGN_OD10))
    return np.stack(maps, axis=2).astype(np.float64)


def _whole_squares(x: Array) -> Array:
    """The map, grown by its border so that squares are whole at every level."""
    return np.pad(x, [(0, -side % SQUARE_PX) for side in x.shape], mode="edge")


def _near(squares: NDArray[Any], um: float) -> Array:
    return smooth(squares, um / (SQUARE_PX * MPP))


# Confidence as a picture: whole numbers for every pixel, squares of them, how much is unlike, and colours.

Levels: TypeAlias = NDArray[np.uint8]  # 0 on glass, 1 to 255 by the logarithm of confidence

DECADES = 5  # of confidence, from 1 down
COLORS = np.array([(40, 20, 70), (60, 80, 140), (40, 145, 140), (130, 205, 90), (250, 230, 40)])  # over the levels
GLASS = 255


def confidence_levels(confidence: Array, tissue: Tissue) -> Levels:
    """What `confidence` says of squares, as levels of pixels (H, W)."""
    decades = np.log10(np.maximum(confidence, 10.0**-DECADES)) / DECADES + 1
    shape = tissue.labels.shape
    levels = np.rint(1 + 254 * on_pixels(decades.astype(np.float32), shape))
    return np.asarray(levels * (on_pixels(ground(tissue), shape) > 0.5), np.uint8)


def squares_of(levels: Levels) -> Levels:
    """The levels of squares of SQUARE_PX: means over their tissue, 0 where less than half is tissue."""
    there = coarser(levels > 0, SQUARE_PX)
    mean = coarser(levels, SQUARE_PX) / np.maximum(there, 0.5)
    return np.asarray(np.rint(mean) * (there >= 0.5), np.uint8)


def confidence_of(levels: Levels) -> Array:
    """The confidence that levels stand for, float32, 1e-5 to 1; NaN on glass."""
    known = 10.0 ** (DECADES * ((levels.astype(np.float32) - 1) / 254 - 1))
    return np.asarray(np.where(levels > 0, known, np.nan), np.float32)


def unlike_fraction(levels: Levels) -> float:
    """The share of tissue that is unlike the exemplar's: its stain is left out. 0 where there is no tissue."""
    tissue = levels[levels > 0]
    return 1 - float(painted_share(confidence_of(tissue)).mean()) if len(tissue) else 0.0


def heat_map(levels: Levels) -> Image:
    """Levels (h, w) in colours, uint8 (h, w, 3): from violet, which is unlike, to yellow; glass is white."""
    places = np.linspace(1, 255, len(COLORS))
    colors = np.stack([np.interp(np.arange(256), places, channel) for channel in COLORS.T], axis=1)
    colors[0] = GLASS
    return np.asarray(np.rint(colors), np.uint8)[levels]


def levels_in(picture: Image) -> Levels:
    """The levels (h, w) that a picture by `heat_map` shows; 0 where a colour is none of its."""
    known = heat_map(np.arange(256, dtype=np.uint8)[None])[0]
    packed, wanted = (colors.astype(np.int64) @ (65536, 256, 1) for colors in (known, picture))
    order = np.argsort(packed)
    found = order[np.searchsorted(packed[order], wanted).clip(0, 255)]
    return np.asarray(np.where(packed[found] == wanted, found, 0), np.uint8)
