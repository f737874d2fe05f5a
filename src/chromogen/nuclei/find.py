"""Find nuclei in a picture, or in a slide window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.nuclei.outlines import RAYS, Nuclei, no_nuclei

NETWORK_MPP = 0.5  # the pixel size that the network reads
CORE_PX, HALO_PX = 1536, 128  # of a window, at NETWORK_MPP; the halo covers all that decides a nucleus in the core


@dataclass(frozen=True)
class Window:
    """A part of a picture whose nuclei are found at once; in pixels of NETWORK_MPP, (x, y) first.

    A nucleus belongs to the window that has its centre in the core. `seen` is the core and its halo, within the picture.
    """

    core_location: tuple[int, int]
    core_size: tuple[int, int]
    seen_location: tuple[int, int]
    seen_size: tuple[int, int]


def windows_of(size_px: tuple[int, int]) -> list[Window]:
    """The windows of a picture of `size_px` (w, h) at NETWORK_MPP, row by row."""
    width, height = size_px
    return [_window(x, y, size_px) for y in range(0, height, CORE_PX) for x in range(0, width, CORE_PX)]


def _window(x: int, y: int, size_px: tuple[int, int]) -> Window:
    core = tuple(min(CORE_PX, size - at) for at, size in zip((x, y), size_px, strict=True))
    start = tuple(max(0, at - HALO_PX) for at in (x, y))
    end = tuple(min(size, at + c + HALO_PX) for at, c, size in zip((x, y), core, size_px, strict=True))
    return Window((x, y), core, start, tuple(b - a for a, b in zip(start, end, strict=True)))  # type: ignore[arg-type]


def nuclei_in(window: Window, seen: Image, white: NDArray[np.float64]) -> Nuclei:
    """Nuclei whose centre lies in the window's core, in pixels of NETWORK_MPP of the whole picture.

    `seen` is uint8 (H, W, 3), what the window sees; `white` (3,) is the colour of bare glass of the whole picture.
    """
    found = _temporary(seen, NETWORK_MPP).moved(window.seen_location)
    inside = found.centres_px - np.asarray(window.core_location)
    return found.take(((inside >= 0) & (inside < window.core_size)).all(axis=1))


def find_nuclei(image: Image, mpp: float) -> Nuclei:
    """TEMPORARY: will scale to NETWORK_MPP, find by windows, and move outlines back to the picture's own pixels."""
    return _temporary(image, mpp)


def _temporary(image: Image, mpp: float) -> Nuclei:
    """TEMPORARY: a threshold; the network replaces it."""
    from skimage.measure import find_contours, regionprops
    from skimage.morphology import remove_small_objects
    from skimage.segmentation import watershed
    from scipy import ndimage as ndi

    density = -np.log10((image + 1.0) / 256)
    fine = ndi.gaussian_filter(density.max(axis=2), 0.75 / mpp)
    excess = fine - ndi.gaussian_filter(fine, 16 / mpp)
    mask = remove_small_objects(ndi.binary_opening(excess > 0.06), int(12 / mpp**2))
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1 / mpp)
    seeds = ndi.label((distance == ndi.maximum_filter(distance, round(5 / mpp))) & mask)[0]
    labels = watershed(-distance, seeds, mask=mask)
    out = []
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    for region in regionprops(labels):
        y, x = region.centroid
        radii = np.full(RAYS, np.sqrt(region.area / np.pi))
        contours = find_contours(np.pad(region.image, 1).astype(float), 0.5)
        points = max(contours, key=len)[:, ::-1] - 1 + np.array(region.bbox[1::-1]) - (x, y)
        at = np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
        order = np.argsort(at)
        radii = np.interp(angles, at[order], np.hypot(*points.T)[order], period=2 * np.pi)
        out.append(((x + 0.5, y + 0.5), radii))
    if not out:
        return no_nuclei(mpp)
    centres = np.array([centre for centre, _ in out], np.float32)
    radii_px = np.array([radii for _, radii in out], np.float32)
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return Nuclei(centres, centres[:, None] + radii_px[..., None] * rays, np.ones(len(out), np.float32), mpp)
