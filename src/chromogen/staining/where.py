"""Sources of *where*: what they are, shares of nuclei, and the rule on tissue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial import cKDTree
from scipy.special import ndtr

from chromogen.errors import expected, missing
from chromogen.image import Image
from chromogen.nuclei.outlines import Nuclei
from chromogen.provenance import sha256_of
from chromogen.staining.how import Location, SlideLook
from chromogen.staining.maps import Array, coarser, finer, guided_filter, normal_at, ramp, smooth
from chromogen.staining.tissue import COARSE, MPP, Tissue, epithelium

# Which nuclei are positive where a map gives the share of them, place by place.

RIVALS, NEAR_UM = 16, 50.0  # windows overlap by more than twice as much: both see the rivals of what they share
SAME_SHARE = 0.1  # nuclei whose shares differ by less compete with each other
TIES = 40  # the seed of what decides among as many nuclei as there are fractions of one


def shares_of(tissue: Tissue, where: Array) -> NDArray[np.float64]:
    """What a map has for each nucleus, (N,): its mean over the nucleus, apart from how pale the nucleus is."""
    there = tissue.of_nuclei(tissue.there)[1:]
    return np.asarray((tissue.of_nuclei(where)[1:] / np.maximum(there, 1e-3)).clip(0, 1))


def ranks_nearby(
    nuclei: Nuclei,
    centres_px: NDArray[np.float64],
    draws: NDArray[np.float64],
    shares: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64]:
    """The rank of each nucleus, by what it draws, among the RIVALS nearest of the same share, (N,), 0 to 1.

    A nucleus whose rank is over 1 - share is positive. So the share holds in every neighbourhood: independent
    draws would miss it by 4 points among 100 nuclei, and ranks in the whole slide by what its hot spots weigh.
    `centres_px` (N, 2) are places on the slide.
    """
    count = len(nuclei)
    if not count:
        return np.zeros(0)
    places = nuclei.centres_px * MPP
    _, nearest = cKDTree(places).query(places, np.arange(2, RIVALS + 2), distance_upper_bound=NEAR_UM)
    rivals = np.minimum(nearest, count - 1)  # what is not there has the number `count`
    alike = (nearest < count) & (abs(shares[rivals] - shares[:, None]) < SAME_SHARE)
    below = np.count_nonzero(alike & (draws[rivals] < draws[:, None]), axis=1)
    tie = ndtr(normal_at(centres_px, 1.0 / MPP, seed + TIES))
    return np.asarray((below + tie) / (np.count_nonzero(alike, axis=1) + 1))


# *Where* a marker is: what every source of *where* is asked, and what it answers.

MAX_OFF = 0.01  # of a side: how far an image of the slide may be from its aspect


@dataclass(frozen=True)
class Place:
    """A window of a slide: its picture, uint8 (H, W, 3) at MPP, what that shows, and the slide's statistics.

    `location` (x, y) is where it lies on the slide, in pixels of MPP. `site` is what the marker stains, one of
    SITES.
    """

    image: Image
    tissue: Tissue
    look: SlideLook
    site: str
    location: Location


@dataclass(frozen=True)
class Frame:
    """The whole picture that a drawing or map belongs to: sizes (w, h) in its own pixels, and in those of MPP."""

    own_px: tuple[int, int]
    size_px: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of MPP in an own pixel, across and down."""
        return self.size_px[0] / self.own_px[0], self.size_px[1] / self.own_px[1]

    def check_aspect(self, file: Path, size: tuple[int, int]) -> None:
        """ValueError for an image of `size` (w, h) that cannot show all of the picture, and no more."""
        (width, height), (own_width, own_height) = size, self.own_px
        off = abs(width * own_height / own_width - height), abs(height * own_width / own_height - width)
        if min(off) > 1 + MAX_OFF * min(size):
            wanted = f"an image of all of the slide, {own_width} x {own_height} px or that aspect"
            got = f"{width} x {height} px in {str(file)!r}"
            raise expected("where", wanted, got, "export the whole slide, without margins")

    def __str__(self) -> str:
        """In the identity of a source."""
        return f"{self.own_px[0]} x {self.own_px[1]} px as {self.size_px[0]} x {self.size_px[1]}"


def checked_file(file: Path) -> str:
    """The hash of a source's file. Raises: FileNotFoundError, which names `where`."""
    if not file.is_file():
        raise missing("where", "an existing file", file)
    return sha256_of(file)


def check_unchanged(argument: str, sha256: str, found: str) -> None:
    """ValueError where a file, whose hash is `found` now, is not the one that work began with."""
    if found != sha256:
        raise expected(argument, f"the file with hash {sha256[:12]}", found[:12], "do not change it under way")


def sampled_map(
    values: Array, pixel_px: tuple[float, float], location: tuple[int, int], shape: tuple[int, int]
) -> Array:
    """A window of a map whose pixels are `pixel_px` (x, y) wide, linear between their centres."""
    x = values
    for axis, (start, pixel) in enumerate(zip(location[::-1], pixel_px[::-1], strict=True)):
        places = ((start + np.arange(shape[axis]) + 0.5) / pixel - 0.5).clip(0, values.shape[axis] - 1)
        before = places.astype(int)
        after = np.minimum(before + 1, values.shape[axis] - 1)
        part = (places - before).astype(np.float32)
        part = part[:, None] if axis == 0 else part
        x = np.take(x, before, axis) * (1 - part) + np.take(x, after, axis) * part
    return np.asarray(x, np.float32)


def nothing(_sample: Image) -> None:
    """What most sources measure of a slide."""


@dataclass(frozen=True)
class Where:
    """A source of *where*, sent along with every block of a slide: small, hashable, picklable.

    `map_of(place)` gives the map of a window, float32 (H, W), 0 to 1, along the tissue's edges and nowhere on
    glass: a module-level function, bound to names and hashes of files rather than to what is in them. Chance, if
    any, comes from the place on the slide. `identity` says all that decides the map, `claim` what the source may
    claim, and `facts`, JSON, what the claim rests on. `measure(sample)` finds what must be the same over a slide,
    of uint8 (H, W, 3) of its tissue at MPP, for `SlideLook.where`.
    With `gives_shares`, values are levels of their own, and for a marker of nuclei the local share of positive
    nuclei. Without, a map only says which tissue is likely, and a dial says how many nuclei are positive.
    """

    name: str
    claim: str
    identity: str
    map_of: Callable[[Place], Array] = field(compare=False, repr=False)
    measure: Callable[[Image], Any] = field(default=nothing, compare=False, repr=False)
    facts: str = "{}"
    gives_shares: bool = True

    def record(self) -> dict[str, Any]:
        """What an output says of the source, as plain data: `source`, `claim`, and the facts."""
        return {"source": self.name, "claim": self.claim, **json.loads(self.facts)}

    def __call__(self, place: Place) -> Array:
        """The map of a window, as `map_of` makes it."""
        return self.map_of(place)


# Coarse maps on a tissue's own edges: what a map is too coarse to say, the picture of the tissue says.

MATTER_UM = 2.0  # over which eosin is smoothed as a guide: a gland's border is an edge, a fibre is none
EPSILON, DRAWN_EPSILON = 1e-3, 1e-2
MIN_PIXEL_UM, MAX_PIXEL_UM = 2.0, 40.0  # a finer map needs no tissue's edges; too few of a coarser vary
DRAWN_UM = 6.0  # how far a hand-drawn border may lie beside the edge that it means
STEPS_UM, NONE, FULL = (16.0, 8.0, 4.0), 0.3, 0.7  # radii of filters for a drawn border; what becomes 0 and 1
MAP_MULTIPLE_PX = 64  # of the pictures that networks are given
MOVED = 0.1, 0.4  # by how much tissue changes what a filter alone makes: not at all, and enough to believe it


def along_edges(values: Array, pixel_um: float, place: Place) -> Array:
    """A map (H, W), 0 to 1, that was made of pixels of `pixel_um`, with the tissue's own edges in them.

    A local regression on the slide's epithelium and eosin is fitted in the map's own pixels and applied in those
    of the picture (He & Sun 2015): so a pixel half in a gland and half beside it becomes both. No value leaves
    the range that the map has nearby, and nothing is left on glass.
    """
    if pixel_um <= MIN_PIXEL_UM or values.min() == values.max():
        return values * place.tissue.there
    side_px = round(min(pixel_um, MAX_PIXEL_UM) / MPP)
    fine = guided_filter(values, _guides(place), side_px, EPSILON, side_px)
    return _within(fine, values, side_px * MPP) * place.tissue.there


def map_of_network(predict: Callable[[Image], Array], image: Image, place: Place) -> Array:
    """The map of a window by a network that gives (h, w) of `image`, which is the window in the network's pixels.

    What the pixels of the map are too coarse to say, the tissue's edges say.
    """
    values, (across, down) = values_of_network(predict, image)
    shape = place.image.shape[0], place.image.shape[1]
    pixel_px = across * shape[1] / image.shape[1], down * shape[0] / image.shape[0]
    return along_edges(sampled_map(values, pixel_px, (0, 0), shape), max(pixel_px) * MPP, place)


def values_of_network(predict: Callable[[Image], Array], image: Image) -> tuple[Array, tuple[int, int]]:
    """What a network gives for an image, (h, w), and how many px of it (x, y) a pixel of that is wide.

    The network is given the image mirrored to multiples of MAP_MULTIPLE_PX, of which it makes a map that is a
    whole number of times smaller.
    """
    height, width = image.shape[:2]
    whole = np.pad(image, ((0, -height % MAP_MULTIPLE_PX), (0, -width % MAP_MULTIPLE_PX), (0, 0)), "symmetric")
    found = predict(whole)
    down, across = whole.shape[0] // found.shape[0], whole.shape[1] // found.shape[1]
    return found[: -(-height // down), : -(-width // across)], (across, down)


def border_along_edges(inside: Array, pixel_um: float, place: Place) -> Array:
    """A drawn region (H, W), 0 or 1, whose border lies on the tissue's edge where there is one nearby.

    Nearby is `DRAWN_UM`, or a pixel of the drawing where that is more. Where the tissue goes on alike on both
    sides, the border stays where a person drew it.
    """
    if inside.min() == inside.max():
        return inside
    blind = np.zeros_like(inside)
    with_tissue, without = _moved(inside, _guides(place)), _moved(inside, [blind, blind])
    by_tissue = ramp(abs(with_tissue - without), *MOVED)
    moved = by_tissue * with_tissue + (1 - by_tissue) * inside
    return _within(moved, inside, min(max(pixel_um, DRAWN_UM), MAX_PIXEL_UM))


def _moved(inside: Array, guides: list[Array]) -> Array:
    """A region filtered by guides, coarse to fine, with a border as sharp as before."""
    for radius_um in STEPS_UM:
        inside = ramp(guided_filter(inside, guides, round(radius_um / MPP), DRAWN_EPSILON, 2), NONE, FULL)
    return inside


def _guides(place: Place) -> list[Array]:
    return [epithelium(place.tissue, place.look.rule), smooth(place.tissue.second, MATTER_UM / MPP)]


def _within(moved: Array, values: Array, reach_um: float) -> Array:
    """No lower or higher than the map's own values within reach."""
    coarse, size = coarser(values, COARSE), 2 * round(reach_um / MPP / COARSE) + 1
    lowest, highest = (filtered(coarse, size, mode="nearest") for filtered in (minimum_filter, maximum_filter))
    return np.asarray(np.clip(moved, *(finer(x, COARSE, values.shape) for x in (lowest, highest))), np.float32)


# *Where* by the slide's own tissue: epithelium, as the shapes and the company of its nuclei tell.

CLAIM = "a guess by the tissue's nuclei, which knows nothing of the marker"


def _in_epithelium(place: Place) -> Array:
    """How far pixels lie in epithelium: it takes the stain, other tissue does not."""
    return epithelium(place.tissue, place.look.rule)


BY_TISSUE = Where("tissue", CLAIM, "tissue", _in_epithelium, gives_shares=False)
