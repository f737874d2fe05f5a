"""Fréchet and kernel distance between two sets of pictures, on features of our own encoder."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from chromogen.evaluation.sums import UndefinedError
from chromogen.evaluation.tile import Mask
from chromogen.image import Image, to_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from chromogen.style.encoder import Encoder

LAYER = "relu4_1"
DIMENSION = 512
PATCH_PX = 128
MIN_TISSUE = 0.2
UNIT = 600.0  # the root mean square of these features of IHCs, so that the kernel sees numbers around one
SUBSETS = 50
SUBSET_SIZE = 100
SUBSET_SEED = 0


def patch_features(encoder: Encoder, image: Image, tissue: Mask) -> Tensor:
    """Means over positions of relu4_1, (N, 512), in `UNIT`, of the whole patches of 128 px with tissue.

    `tissue` is where the image, uint8 (H, W, 3), shows tissue: bool (H, W).
    """
    import torch

    height, width = image.shape[:2]
    corners = [
        (y, x) for y in range(0, height - PATCH_PX + 1, PATCH_PX) for x in range(0, width - PATCH_PX + 1, PATCH_PX)
    ]
    patches = [(slice(y, y + PATCH_PX), slice(x, x + PATCH_PX)) for y, x in corners]
    seen = [_features(encoder, image[patch]) for patch in patches if tissue[patch].mean() >= MIN_TISSUE]
    return torch.cat(seen) if seen else torch.empty(0, DIMENSION)


def _features(encoder: Encoder, patch: Image) -> Tensor:
    import torch

    with torch.no_grad():
        return encoder(to_tensor(patch).to(encoder.device), [LAYER])[LAYER].float().mean((2, 3)).cpu() / UNIT


def too_few(n: int) -> str:
    """What to say of distances from so many patches; nothing where there are enough.

    A covariance of n features has rank n - 1 at most, and the Fréchet distance is biased upward by some d / n.
    """
    if n >= 2 * DIMENSION:
        return ""
    return (
        f"{n} patches are few for {DIMENSION} features: vgg19_fid is biased upward, compare it only between "
        "sets of one size; vgg19_kid is unbiased but noisy"
    )


def vgg19_fid(predicted: Tensor, real: Tensor) -> float:
    """Fréchet distance (Heusel et al. 2017) of two sets of features (N, 512): 0 for the same set, no upper end.

    The formula of FID on another network, so never to be compared with a published FID.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _check(predicted, real)
    distance = FrechetInceptionDistance(feature=_as_they_are()).set_dtype(predicted.double().dtype)
    distance.update(real.double(), real=True)
    distance.update(predicted.double(), real=False)
    found: float = distance.compute().item()
    return max(found, 0.0)


def vgg19_kid(predicted: Tensor, real: Tensor) -> float:
    """Kernel distance (Binkowski et al. 2018): unbiased squared MMD with a cubic kernel, mean over 50 subsets.

    Subsets of 100 features (N, 512), or of all where there are fewer. Around 0 for the same kind of pictures, and
    a little below by chance; no upper end.
    """
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    _check(predicted, real)
    size = min(SUBSET_SIZE, len(predicted), len(real))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance`")
        torch.manual_seed(SUBSET_SEED)
        distance = KernelInceptionDistance(feature=_as_they_are(), subsets=SUBSETS, subset_size=size)
        distance.update(real, real=True)
        distance.update(predicted, real=False)
        mean: float = distance.compute()[0].item()
        return mean


def _check(predicted: Tensor, real: Tensor) -> None:
    if min(len(predicted), len(real)) < 2:
        raise UndefinedError(f"fewer than two patches of {PATCH_PX} px with tissue on one side")


def _as_they_are() -> torch.nn.Module:
    """What torchmetrics takes for a network: it hands on the features it is given."""
    import torch

    network = torch.nn.Identity()
    network.num_features = DIMENSION  # type: ignore[assignment]
    return network
