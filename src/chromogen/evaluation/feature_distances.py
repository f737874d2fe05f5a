"""Distances in features: FID, KID, patches, style."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.spatial import KDTree

from chromogen.evaluation.tile import Array, Mask, Side, Tile, UndefinedError, blur
from chromogen.image import Image, to_tensor
from chromogen.stains.deconvolution import optical_density_od10, separate_stains_od10
from chromogen.style.objective import smallest_side_px

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from chromogen.style.encoder import Encoder


# Fréchet and kernel distance between two sets of pictures, on features of our own encoder.

LAYER = "relu4_1"
DIMENSION = 512
WIDE_PX = 128
MIN_WIDE_TISSUE = 0.2
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
        (y, x) for y in range(0, height - WIDE_PX + 1, WIDE_PX) for x in range(0, width - WIDE_PX + 1, WIDE_PX)
    ]
    patches = [(slice(y, y + WIDE_PX), slice(x, x + WIDE_PX)) for y, x in corners]
    seen = [_features(encoder, image[patch]) for patch in patches if tissue[patch].mean() >= MIN_WIDE_TISSUE]
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
        raise UndefinedError(f"fewer than two patches of {WIDE_PX} px with tissue on one side")


def _as_they_are() -> torch.nn.Module:
    """What torchmetrics takes for a network: it hands on the features it is given."""
    import torch

    network = torch.nn.Identity()
    network.num_features = DIMENSION  # type: ignore[assignment]
    return network


# How many small patches look like some real one? Precision of a set against the real ones' manifold.

LAYERS = ("relu1_1", "relu2_1", "relu3_1")  # of which a position sees 3, 10 and 24 px: less than a patch
CHANNELS = 64 + 128 + 256
SMALL_PX = 64
MIN_SMALL_TISSUE = 0.5
MAX_PATCHES = 256  # of a picture
BATCH = 32
NEIGHBOURS = 3
MAX_COMPONENTS = 32
PATCHES_A_COMPONENT = 8  # with fewer, whitening makes all patches equally far from each other


def patch_statistics(encoder: Encoder, image: Image, tissue: Mask) -> Array:
    """Means and standard deviations over positions of LAYERS, (N, 2 CHANNELS), of patches of SMALL_PX with tissue.

    At most MAX_PATCHES whole patches without overlap, evenly spread over the image, uint8 (H, W, 3). `tissue` is
    bool (H, W).
    """
    rows, columns = (side // SMALL_PX for side in image.shape[:2])
    whole = tissue[: rows * SMALL_PX, : columns * SMALL_PX]
    share = whole.reshape(rows, SMALL_PX, columns, SMALL_PX).mean(axis=(1, 3))
    corners = np.argwhere(share >= MIN_SMALL_TISSUE) * SMALL_PX
    if len(corners) > MAX_PATCHES:
        corners = corners[np.linspace(0, len(corners) - 1, MAX_PATCHES).astype(int)]
    patches = [image[y : y + SMALL_PX, x : x + SMALL_PX] for y, x in corners]
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
        raise UndefinedError(f"fewer than {least} real patches of {SMALL_PX} px with tissue, or none predicted")
    ours, theirs = whitened(predicted, real), whitened(real, real)
    radii = KDTree(theirs).query(theirs, NEIGHBOURS + 1)[0][:, -1]  # the nearest is the patch itself
    return float(np.mean([(np.linalg.norm(theirs - patch, axis=1) <= radii).any() for patch in ours]))


def whitened(patches: Array, real: Array) -> Array:
    """Principal components of `real` (N, D), each over its deviation there, of `patches` (M, D): (M, K).

    K is at most MAX_COMPONENTS, and one for PATCHES_A_COMPONENT real patches.
    """
    centre, unit = real.mean(axis=0), real.std(axis=0) + 1e-9
    _, sizes, directions = np.linalg.svd((real - centre) / unit, full_matrices=False)
    count = min(MAX_COMPONENTS, len(real) // PATCHES_A_COMPONENT, int((sizes > 1e-6 * sizes[0]).sum()))
    deviations = sizes[:count] / np.sqrt(len(real))
    return np.asarray((patches - centre) / unit @ directions[:count].T / deviations)


# Does the prediction look like the stain? Distances of texture and colour to a real IHC, over tissue only.

GRAM_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


Sums: TypeAlias = "tuple[Tensor, float, Tensor, float]"


@dataclass(frozen=True)
class Grams:
    """By layer: sums over tissue of the products of channels, and how much tissue, of prediction and style."""

    sums: dict[str, Sums] = field(default_factory=dict)


def add_grams(encoder: Encoder, grams: Grams, tile: Tile) -> Grams:
    """A tile's products of channels added, of the prediction and of the real IHC, each over its own tissue."""
    sides, least_px = [tile.side(name) for name in ("prediction", "real")], smallest_side_px(GRAM_LAYERS)
    if min(tile.prediction.shape[:2]) < least_px:
        raise UndefinedError(f"smaller than {least_px} px")
    found = [_tissue_products(encoder, side) for side in sides]
    return Grams(
        {layer: _added(grams.sums.get(layer), *found[0][layer], *found[1][layer]) for layer in GRAM_LAYERS}
    )


def _added(before: Sums | None, ours: Tensor, our_tissue: float, style: Tensor, style_tissue: float) -> Sums:
    if before is None:
        return ours, our_tissue, style, style_tissue
    return before[0] + ours, before[1] + our_tissue, before[2] + style, before[3] + style_tissue


def gram_errors(grams: Grams) -> dict[str, float]:
    """Relative Gram error by layer, ||G - A||^2 / ||A||^2 of means over tissue: 0 for the style, no upper end.

    Gatys et al. (2016), over tissue only: a tile with 40 % of it painted white would score 0.42 against itself.
    """
    if not grams.sums:
        raise UndefinedError("no pixels to compare")
    return {layer: _relative_error(layer, *sums) for layer, sums in grams.sums.items()}


def gram_error(grams: Grams) -> float:
    """The mean of `gram_errors` over relu1_1 to relu5_1: the style error."""
    return float(np.mean(list(gram_errors(grams).values())))


def _relative_error(layer: str, ours: Tensor, our_tissue: float, style: Tensor, style_tissue: float) -> float:
    if min(our_tissue, style_tissue) <= 0:
        raise UndefinedError("no tissue")
    g, a = ours / our_tissue, style / style_tissue
    energy = a.square().sum().item()
    if energy == 0:
        raise UndefinedError(f"the style has no {layer}")
    return (g - a).square().sum().item() / energy


def _tissue_products(encoder: Encoder, side: Side) -> dict[str, tuple[Tensor, float]]:
    """By layer: sum over positions of weight times f f^T, and of weights: shares of tissue."""
    import torch

    tissue = torch.from_numpy(side.tissue).float()[None, None]
    with torch.no_grad():
        features = encoder(to_tensor(side.image).to(encoder.device), GRAM_LAYERS)
        return {layer: _products(side.tile, layer, found.float(), tissue) for layer, found in features.items()}


def _products(tile: Tile, layer: str, features: Tensor, tissue: Tensor) -> tuple[Tensor, float]:
    from torch.nn.functional import avg_pool2d

    step = smallest_side_px([layer])
    height, width = features.shape[2:]
    share = avg_pool2d(tissue, step)[0, 0, :height, :width].to(features.device)
    left, top, right, bottom = (side // step for side in tile.halo)
    rows, columns = slice(top, height - bottom), slice(left, width - right)
    vectors, weights = features[0, :, rows, columns].flatten(1), share[rows, columns].flatten()
    return (vectors * weights) @ vectors.T, weights.sum().item()


# Sliced Wasserstein distance of colours: histograms along fixed directions, so that tiles add up.
DIRECTIONS = 32
BINS = 4096
EXTENT_OD10 = 4.2  # no density of three channels lies further from zero


def _directions() -> Array:
    directions = np.random.default_rng(0).normal(size=(DIRECTIONS, 3))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


NO_COLORS: Array = np.zeros((2, DIRECTIONS, BINS))


def add_colors(histograms: Array, tile: Tile) -> Array:
    """Histograms (2, 32, 4096) of densities along every direction added: prediction and real IHC, over tissue."""
    return histograms + np.stack([_color_histograms(tile.side(name)) for name in ("prediction", "real")])


def _color_histograms(side: Side) -> Array:
    density = side.tile.core(side.density_od10)[side.tile.core(side.tissue)]
    bins = ((density @ _directions().T + EXTENT_OD10) * (BINS / (2 * EXTENT_OD10))).astype(int)
    return np.stack([np.bincount(column, minlength=BINS) for column in bins.T]).astype(np.float64)


def sliced_wasserstein(histograms: Array) -> float:
    """Sliced Wasserstein-1 distance of colours as base-10 densities, from (2, 32, 4096): 0 for the same colours.

    Rabin et al. (2011): the mean over directions of the area between cumulative histograms. We take 32 fixed
    directions and bins of 0.002.
    """
    counts = histograms.sum(axis=2)
    if counts.min() == 0:
        raise UndefinedError("no tissue")
    cumulative = histograms.cumsum(axis=2) / counts[..., None]
    width = 2 * EXTENT_OD10 / BINS
    return float(np.abs(cumulative[0] - cumulative[1]).sum(axis=1).mean() * width)


# DAB profile: which tissue gets the brown?
TEXTURE_BINS = 2048
TEXTURE_UM = (0.5, 3.0, 6.0)  # fine and coarse scale of nuclear texture, and over which it is averaged
OCTILES = 8
TEXTURE_MOST_OD10 = 1.0
NO_PROFILES: Array = np.zeros((2, 2, TEXTURE_BINS))


def add_profiles(histograms: Array, tile: Tile) -> Array:
    """Histograms (2, 2, 2048) of nuclear texture and of the DAB there: the prediction by its H&E, the real IHC."""
    he, prediction, real = (tile.side(name) for name in ("he", "prediction", "real"))
    return histograms + np.stack([_profile_histogram(he, prediction), _profile_histogram(real, real)])


def _profile_histogram(morphology: Side, stained: Side) -> Array:
    core = stained.tile.core
    tissue = core(morphology.tissue)
    density = core(nuclear_texture_od10(stained.tile, morphology.image))[tissue]
    dab = np.maximum(separate_stains_od10(core(stained.image)[tissue])[:, 1], 0)
    bins = (density * (TEXTURE_BINS / TEXTURE_MOST_OD10)).astype(int).clip(0, TEXTURE_BINS - 1)
    return np.stack([np.bincount(bins, weights, TEXTURE_BINS) for weights in (np.ones_like(dab), dab)])


def nuclear_texture_od10(tile: Tile, image: Image) -> Array:
    """How dense nuclei lie, (H, W): red density at 0.5 um less that at 3 um, what is above 0 averaged over 6 um.

    Unmixed haematoxylin is no substitute: DAB hides it.
    """
    fine, coarse, around = map(tile.px, TEXTURE_UM)
    red = blur(optical_density_od10(image[..., 0]), fine)
    return np.asarray(blur(np.maximum(red - blur(red, coarse), 0), around))


def profile(histogram: Array) -> Array:
    """Mean DAB in eighths of the tissue by nuclear texture, over the mean of the eight: (8,) from (2, 2048)."""
    counts, dab = histogram
    if counts.sum() == 0 or dab.sum() == 0:
        raise UndefinedError("no tissue" if counts.sum() == 0 else "no DAB")
    edges = counts.sum() * np.arange(OCTILES + 1) / OCTILES
    reached = np.concatenate([[0], counts.cumsum()])
    shares = np.diff(np.interp(edges, reached, np.concatenate([[0], dab.cumsum()])))
    return np.asarray(shares / shares.mean())


def profile_error(histograms: Array) -> float:
    """Mean absolute difference of two DAB profiles, from (2, 2, 2048): prediction on H&E, real IHC on itself.

    0: the same tissue gets the brown; 2: each has all of it in an eighth of its own. Ours (2026).
    """
    return float(np.abs(profile(histograms[0]) - profile(histograms[1])).mean())
