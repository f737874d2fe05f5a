"""Coarse maps on a tissue's own edges: what a map is too coarse to say, the picture of the tissue says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from chromogen.image import Image
from chromogen.staining.epithelium import epithelium
from chromogen.staining.maps import Array, coarser, finer, guided, ramp, smooth
from chromogen.staining.tissue import COARSE, MPP
from chromogen.staining.where import Place, sampled

MATTER_UM = 2.0  # over which eosin is smoothed as a guide: a gland's border is an edge, a fibre is none
EPSILON, DRAWN_EPSILON = 1e-3, 1e-2
MIN_PIXEL_UM, MAX_PIXEL_UM = 2.0, 40.0  # a finer map needs no tissue's edges; too few of a coarser vary
DRAWN_UM = 6.0  # how far a hand-drawn border may lie beside the edge that it means
STEPS_UM, NONE, FULL = (16.0, 8.0, 4.0), 0.3, 0.7  # radii of filters for a drawn border; what becomes 0 and 1
MULTIPLE_PX = 64  # of the pictures that networks are given
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
    fine = guided(values, _guides(place), side_px, EPSILON, side_px)
    return _within(fine, values, side_px * MPP) * place.tissue.there


def map_of_network(predict: Callable[[Image], Array], image: Image, place: Place) -> Array:
    """The map of a window by a network that gives (h, w) of `image`, which is the window in the network's pixels.

    What the pixels of the map are too coarse to say, the tissue's edges say.
    """
    values, (across, down) = values_of_network(predict, image)
    shape = place.image.shape[0], place.image.shape[1]
    pixel_px = across * shape[1] / image.shape[1], down * shape[0] / image.shape[0]
    return along_edges(sampled(values, pixel_px, (0, 0), shape), max(pixel_px) * MPP, place)


def values_of_network(predict: Callable[[Image], Array], image: Image) -> tuple[Array, tuple[int, int]]:
    """What a network gives for an image, (h, w), and how many px of it (x, y) a pixel of that is wide.

    The network is given the image mirrored to multiples of MULTIPLE_PX, of which it makes a map that is a whole
    number of times smaller.
    """
    height, width = image.shape[:2]
    whole = np.pad(image, ((0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX), (0, 0)), "symmetric")
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
        inside = ramp(guided(inside, guides, round(radius_um / MPP), DRAWN_EPSILON, 2), NONE, FULL)
    return inside


def _guides(place: Place) -> list[Array]:
    return [epithelium(place.tissue, place.look.rule), smooth(place.tissue.second, MATTER_UM / MPP)]


def _within(moved: Array, values: Array, reach_um: float) -> Array:
    """No lower or higher than the map's own values within reach."""
    coarse, size = coarser(values, COARSE), 2 * round(reach_um / MPP / COARSE) + 1
    lowest, highest = (filtered(coarse, size, mode="nearest") for filtered in (minimum_filter, maximum_filter))
    return np.asarray(np.clip(moved, *(finer(x, COARSE, values.shape) for x in (lowest, highest))), np.float32)
