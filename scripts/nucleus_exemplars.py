"""Real H&E and IHC without drawn nuclei, labelled by a first network: self-training, where it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.nuclei.outlines import NETWORK_MPP, STRIDE_PX, Network, Prediction, decoded, labels_of
from chromogen.slides.slide import read_picture
from chromogen.stains.appearance import appearance
from chromogen.stains.deconvolution import H_DAB, H_E, estimate_stains, optical_density_od10
from chromogen.stains.glass import white_level
from nucleus_views import VIEWS, inverse, turned, turned_radii

SURE, UNSURE = 0.55, 0.15  # depth that makes a nucleus; less than sure and more than unsure is left out


@dataclass(frozen=True)
class Exemplar:
    """Amounts (3, H, W) of haematoxylin, the other stain and neither, in densities of base 10, with labels (H, W).

    `stains` is h-e or h-dab, and `unsure` (H, W) is where the network that made the labels was not sure.
    """

    amounts: NDArray[np.float32]
    labels: NDArray[np.int32]
    unsure: NDArray[np.bool_]
    stains: str


def exemplar(path: Path, network: Network) -> Exemplar:
    """The file's picture at NETWORK_MPP with the nuclei that a network is sure of in eight views of it."""
    picture = read_picture(path, at_mpp=NETWORK_MPP).pixels
    picture = picture[: picture.shape[0] // 16 * 16, : picture.shape[1] // 16 * 16]
    white = white_level(picture, NETWORK_MPP)
    kind = appearance(picture, NETWORK_MPP).stains
    matrix = estimate_stains(picture, H_E if kind == "h-e" else H_DAB, white).matrix
    density = optical_density_od10(picture, white)
    amounts = (density @ np.linalg.inv(matrix)).astype(np.float32).transpose(2, 0, 1)
    depth, radii = _eight_views(density, network)
    sure = decoded(Prediction(depth, lambda rows, columns: radii[:, rows, columns].T), STRIDE_PX, NETWORK_MPP)
    labels = labels_of(sure.take(sure.confidence > SURE), picture.shape[:2])
    doubtful = ndimage.zoom(depth > UNSURE, STRIDE_PX, order=0) & (labels == 0)
    return Exemplar(amounts, labels, ndimage.binary_opening(doubtful), kind)


def _eight_views(density: NDArray[Any], network: Network) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean depth and radii over all views of a picture."""
    depths, radii = [], []
    picture = np.asarray(density.transpose(2, 0, 1), np.float32)
    for view in range(VIEWS):
        found = network(np.ascontiguousarray(turned(picture, view)[None]))
        depths.append(turned(found.depth, inverse(view)))
        places = np.indices(found.depth.shape).reshape(2, -1)
        everywhere = found.radii_px(places[0], places[1]).T.reshape(-1, *found.depth.shape)
        radii.append(turned_radii(everywhere, inverse(view)))
    return np.mean(depths, axis=0), np.mean(radii, axis=0)
