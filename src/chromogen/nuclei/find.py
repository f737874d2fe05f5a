"""Find nuclei in a picture, or in a slide window by window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.tiles import GridTile, windows_of
from chromogen.errors import expected
from chromogen.image import Image, resize, shrunk
from chromogen.nuclei.outlines import MULTIPLE_PX, NETWORK_MPP, STRIDE_PX, Network, Nuclei, decoded, joined
from chromogen.pixel_size import check_mpp
from chromogen.stains.deconvolution import put_densities_od10
from chromogen.stains.glass import white_level

MAX_MPP = 2.0  # of a picture: of a nucleus of 6 um, three pixels are left
OVERVIEW_PX = 1024  # the longer side of a view that shows glass
CORE_PX, HALO_PX = 1024, 160  # of a window; the halo covers all that decides a nucleus in the core


def nuclei_windows(size_px: tuple[int, int]) -> list[GridTile]:
    """The windows of a picture of `size_px` (w, h) at NETWORK_MPP whose nuclei are found at once, row by row.

    A nucleus belongs to the window that has its centre in the core. Halos end where the picture does.
    """
    return [GridTile(core, core.grown(HALO_PX, size_px)) for core in windows_of(size_px, CORE_PX)]


def nuclei_in(window: GridTile, seen: Image, white: NDArray[np.float64], network: Network) -> Nuclei:
    """Nuclei whose centre lies in the window's core, in pixels of NETWORK_MPP of the whole picture.

    `seen` is uint8 (H, W, 3), what the window sees; `white` (3,) is the colour of bare glass of the whole picture.
    """
    found = nuclei_seen(seen, white, network).moved(window.outer.location)
    return found.take(in_core(found, window))


def in_core(nuclei: Nuclei, window: GridTile) -> NDArray[np.bool_]:
    """Which nuclei (N,), in pixels of NETWORK_MPP of the whole picture, have their centre in a window's core."""
    inside = nuclei.centres_px - np.asarray(window.core.location)
    return np.asarray(((inside >= 0) & (inside < window.core.size)).all(axis=1))


def nuclei_seen(seen: Image, white: NDArray[np.float64], network: Network) -> Nuclei:
    """All nuclei of a picture, uint8 (H, W, 3), at NETWORK_MPP, in its own pixels."""
    found = network(_padded(seen, white))
    height, width = seen.shape[:2]
    depth = found.depth[: -(-height // STRIDE_PX), : -(-width // STRIDE_PX)]
    return decoded(replace(found, depth=depth), STRIDE_PX, NETWORK_MPP)


def _padded(seen: Image, white: NDArray[np.float64]) -> NDArray[np.float32]:
    """Densities of a picture as a network takes them, (1, 3, H', W'), glass added to the right and below."""
    height, width = seen.shape[:2]
    padded = np.zeros((1, 3, height + -height % MULTIPLE_PX, width + -width % MULTIPLE_PX), np.float32)
    put_densities_od10(seen, white, padded[0, :, :height, :width])
    return padded


def nuclei_of_image(
    image: Image, mpp: float, network: Network | None = None, white: NDArray[np.float64] | None = None
) -> Nuclei:
    """The nuclei of an H&E or IHC image, uint8 (H, W, 3), with pixels of `mpp` um; in pixels of the image.

    Star-convex outlines (Schmidt et al. 2018) by a small network on optical densities, or by `network`: densities
    of base 10, float32 (1, 3, H, W) at 0.5 um/px, to a `nuclei.contract.Prediction` of the middles of 2 x 2 px.
    `white` (3,) is the colour of bare glass, 0 to 255, where the image is part of a larger one. Raises: ValueError
    for what is no image, and for pixels too large to show nuclei.
    """
    check_visible(mpp)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise expected("image", "uint8 (H, W, 3)", f"{image.dtype} {image.shape}", "convert it first")
    white = _white_of(image, mpp) if white is None else white
    height, width = image.shape[:2]
    size = max(1, round(width * mpp / NETWORK_MPP)), max(1, round(height * mpp / NETWORK_MPP))
    picture = resize(image, size)
    network = network or built_in()
    found = (nuclei_in(window, picture[window.outer.at], white, network) for window in nuclei_windows(size))
    return joined(found, NETWORK_MPP).moved((0, 0), width / size[0]).with_mpp(mpp)


def _white_of(image: Image, mpp: float) -> NDArray[np.float64]:
    """The colour of bare glass (3,), seen from afar where the image is large."""
    view = shrunk(image, OVERVIEW_PX)
    return white_level(view, mpp * image.shape[1] / view.shape[1])


def check_visible(mpp: float) -> None:
    """Raises: ValueError for pixels that no microscope has, and for those too large to show nuclei."""
    check_mpp("mpp", mpp)
    if mpp > MAX_MPP:
        raise expected("mpp", f"at most {MAX_MPP:g} um/px, where nuclei show", f"{mpp:g}", "take a finer image")


def built_in(views: int = 2) -> Network:
    """The network that comes with Chromogen, which looks once, or twice for a fiftieth more nuclei."""
    from chromogen.nuclei.network import built_in_network

    return built_in_network(views)
