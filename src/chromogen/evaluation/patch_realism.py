"""How many small patches look like some real one? Precision of a set against the real ones' manifold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

from chromogen.evaluation.sums import Array, UndefinedError
from chromogen.evaluation.tile import Mask
from chromogen.image import Image, to_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from chromogen.style.encoder import Encoder

LAYERS = ("relu1_1", "relu2_1", "relu3_1")  # of which a position sees 3, 10 and 24 px: less than a patch
CHANNELS = 64 + 128 + 256
PATCH_PX = 64
MIN_TISSUE = 0.5
MAX_PATCHES = 256  # of a picture
BATCH = 32
NEIGHBOURS = 3
MAX_COMPONENTS = 32
PATCHES_A_COMPONENT = 8  # with fewer, whitening makes all patches equally far from each other


def patch_statistics(encoder: Encoder, image: Image, tissue: Mask) -> Array:
    """Means and standard deviations over positions of LAYERS, (N, 2 CHANNELS), of patches of PATCH_PX with tissue.

    At most MAX_PATCHES whole patches without overlap, evenly spread over the image, uint8 (H, W, 3). `tissue` is
    bool (H, W).
    """
    rows, columns = (side // PATCH_PX for side in image.shape[:2])
    whole = tissue[: rows * PATCH_PX, : columns * PATCH_PX]
    share = whole.reshape(rows, PATCH_PX, columns, PATCH_PX).mean(axis=(1, 3))
    corners = np.argwhere(share >= MIN_TISSUE) * PATCH_PX
    if len(corners) > MAX_PATCHES:
        corners = corners[np.linspace(0, len(corners) - 1, MAX_PATCHES).astype(int)]
    patches = [image[y : y + PATCH_PX, x : x + PATCH_PX] for y, x in corners]
    parts = [_statistics(encoder, patches[i : i + BATCH]) for i in range(0, len(patches), BATCH)]
    return np.concatenate([np.empty((0, 2 * CHANNELS)), *parts])


def _statistics(encoder: Encoder, patches: Sequence[Image]) -> Array:
    import torch

    with torch.no_grad():
        features = encoder(torch.cat([to_tensor(patch) for patch in patches]).to(encoder.device), LAYERS)
        found = [_means_and_deviations(features[layer].float()) for layer in LAYERS]
    return np.asarray(torch.cat(found, dim=1).cpu().double().numpy())


def _means_and_deviations(features: Tensor) -> Tensor:
    import torch

    return torch.cat([features.mean((2, 3)), features.std((2, 3), correction=0)], dim=1)


def patch_precision(predicted: Array, real: Array) -> float:
    """Share of predicted patches that lie within the real ones' manifold, 0 to 1 (Kynkaanniemi et al. 2019).

    The manifold is the union of balls round the real patches (N, D), each as wide as to its third nearest real
    neighbour. Distances are of whitened principal components, which the real patches give.
    Raises: UndefinedError for too few patches.
    """
    least = 2 * PATCHES_A_COMPONENT
    if len(real) < least or not len(predicted):
        raise UndefinedError(f"fewer than {least} real patches of {PATCH_PX} px with tissue, or none predicted")
    ours, theirs = whitened(predicted, real), whitened(real, real)
    radii = KDTree(theirs).query(theirs, NEIGHBOURS + 1)[0][:, -1]  # the nearest is the patch itself
    return float(np.mean([_is_within(patch, theirs, radii) for patch in ours]))


def _is_within(patch: Array, centres: Array, radii: Array) -> bool:
    return bool((np.linalg.norm(centres - patch, axis=1) <= radii).any())


def whitened(patches: Array, real: Array) -> Array:
    """Principal components of `real` (N, D), each over its deviation there, of `patches` (M, D): (M, K).

    K is at most MAX_COMPONENTS, and one for PATCHES_A_COMPONENT real patches.
    """
    centre, unit = real.mean(axis=0), real.std(axis=0) + 1e-9
    _, sizes, directions = np.linalg.svd((real - centre) / unit, full_matrices=False)
    count = min(MAX_COMPONENTS, len(real) // PATCHES_A_COMPONENT, int((sizes > 1e-6 * sizes[0]).sum()))
    deviations = sizes[:count] / np.sqrt(len(real))
    return np.asarray((patches - centre) / unit @ directions[:count].T / deviations)
