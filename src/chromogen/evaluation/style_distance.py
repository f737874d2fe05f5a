"""Does the prediction look like the stain? Distances of texture and colour to a real IHC, over tissue only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from chromogen.evaluation.sums import Array, UndefinedError
from chromogen.evaluation.tile import Tile, blur, needed
from chromogen.image import Image, to_tensor
from chromogen.stains.deconvolution import optical_density_od10, separate_stains_od10
from chromogen.style.layers import smallest_side_px

if TYPE_CHECKING:
    from torch import Tensor

    from chromogen.style.encoder import Encoder


GRAM_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


Sums: TypeAlias = "tuple[Tensor, float, Tensor, float]"


@dataclass(frozen=True)
class Grams:
    """By layer: sums over tissue of the products of channels, and how much tissue, of prediction and style."""

    sums: dict[str, Sums] = field(default_factory=dict)


def add_grams(encoder: Encoder, grams: Grams, tile: Tile) -> Grams:
    """A tile's products of channels added, of the prediction and of the real IHC, each over its own tissue."""
    sides, least_px = (tile.prediction, needed(tile, "real")), smallest_side_px(GRAM_LAYERS)
    if min(tile.prediction.shape[:2]) < least_px:
        raise UndefinedError(f"smaller than {least_px} px")
    found = [_tissue_products(encoder, tile, image) for image in sides]
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


def _tissue_products(encoder: Encoder, tile: Tile, image: Image) -> dict[str, tuple[Tensor, float]]:
    """By layer: sum over positions of weight times f f^T, and of weights: shares of tissue."""
    import torch

    tissue = torch.from_numpy(tile.tissue_of(image)).float()[None, None]
    with torch.no_grad():
        features = encoder(to_tensor(image).to(encoder.device), GRAM_LAYERS)
        return {layer: _products(tile, layer, found.float(), tissue) for layer, found in features.items()}


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
    sides = (tile.prediction, needed(tile, "real"))
    return histograms + np.stack([_color_histograms(tile, image) for image in sides])


def _color_histograms(tile: Tile, image: Image) -> Array:
    density = optical_density_od10(tile.core(image)[tile.core(tile.tissue_of(image))])
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
    he, real = needed(tile, "he"), needed(tile, "real")
    sides = ((he, tile.prediction), (real, real))
    return histograms + np.stack([_profile_histogram(tile, *side) for side in sides])


def _profile_histogram(tile: Tile, morphology: Image, stained: Image) -> Array:
    tissue = tile.core(tile.tissue_of(morphology))
    density = tile.core(nuclear_texture_od10(tile, morphology))[tissue]
    dab = np.maximum(separate_stains_od10(tile.core(stained)[tissue])[:, 1], 0)
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
