"""The loss as data: statistics of features, the distances between them, layers, and terms.

Features are (B, C, H, W) in any float type; a statistic is float32 with batch first, a distance one value (B,).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from chromogen.errors import choose, expected
from chromogen.stains.deconvolution import H_DAB, blurred, concentrations_of

if TYPE_CHECKING:
    from torch import Tensor

# What is measured of features: (B, C, H, W) in any float type in, a float32 tensor with batch first out.


def activations(features: Tensor) -> Tensor:
    """The features themselves: what content losses compare (local)."""
    return features.float()


def gram_matrix(features: Tensor) -> Tensor:
    """Mean over positions of the products of channels, (B, C, C) (a picture's is the mean of its tiles').

    The report's G = F F^T (Gatys et al. 2016) divided by the number of positions M, so that images of different
    size can be compared: the same as scaling the style's G by M_generated / M_style.

    >>> import torch
    >>> gram_matrix(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])).tolist()
    [[[2.5, 5.5], [5.5, 12.5]]]
    """
    from chromogen.style.gram import mean_products, vectors_of

    return mean_products(vectors_of(features))


def masked_gram_matrix(features: Tensor, mask: Tensor) -> Tensor:
    """The same mean weighted by a mask (1, 1, H, W) of the picture, 0 to 1; zero where the mask covers nothing.

    White counts as texture: over a picture that is half glass, a Gram matrix asks for holes in the tissue.
    """
    from chromogen.style.gram import mean_products, position_shares, vectors_of

    return mean_products(vectors_of(features), position_shares(mask, features.shape[2:]))


def neighbor_differences(features: Tensor) -> Tensor:
    """Differences to the right and lower neighbour, (B, 2C, H, W), zero past the border (local, halo 1 px)."""
    import torch
    from torch.nn.functional import pad

    x = features.float()
    right = pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    down = pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, down], dim=1)


def laplacian(features: Tensor) -> Tensor:
    """Four times each value minus its four neighbours, the border going on outside (local, halo 1 px).

    Content by edges, whatever their colours (Li et al. 2017, who pool first; a term's layer decides that here).
    """
    from torch.nn.functional import pad

    x = features.float()
    around = pad(x, (1, 1, 1, 1), "replicate")
    sides = (around[..., 1:-1, :-2], around[..., 1:-1, 2:], around[..., :-2, 1:-1], around[..., 2:, 1:-1])
    return 4 * x - sum(sides[1:], sides[0])


HEMATOXYLIN_SMOOTHING_PX = 1.5


def hematoxylin_density(picture: Tensor) -> Tensor:
    """Blurred haematoxylin of a picture (B, 3, H, W) in [0, 1], by H-DAB vectors (local, halo 5 px)."""
    density = concentrations_of(picture.float(), H_DAB)[:, :1]
    return blurred(density, HEMATOXYLIN_SMOOTHING_PX)


MAX_PATCHES = 24  # along a side: all are compared with all


def self_similarity(features: Tensor) -> Tensor:
    """Cosines between the features of all patches and all others, (B, P, P) (global: patches are compared across).

    Content as which places look alike, whatever they look like (Kolkin et al. 2019, who sample positions; we
    average over at most 24 x 24 patches).
    """
    from torch.nn.functional import adaptive_avg_pool2d, normalize

    height, width = (min(side, MAX_PATCHES) for side in features.shape[2:])
    patches = adaptive_avg_pool2d(features.float(), (height, width)).flatten(2)
    centred = normalize(patches - patches.mean(2, keepdim=True), dim=1)
    return centred.transpose(1, 2) @ centred


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "activations": activations,
    "gram": gram_matrix,
    "differences": neighbor_differences,
    "laplacian": laplacian,
    "self_similarity": self_similarity,
    "hematoxylin": hematoxylin_density,
}
MASKED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"gram": masked_gram_matrix}
MEANS = ("gram",)  # over positions: that of a picture is the mean of its tiles'
# Values at every position, by how many positions around it they depend on.
LOCAL = {
    "activations": 0,
    "differences": 1,
    "laplacian": 1,
    "hematoxylin": 5,
}
OF_LIGHT = ("hematoxylin",)  # only a picture in [0, 1] has it


# How two measurements compare: float32 with batch first in, one value per item of the batch (B,) out.


def _sum_per_item(x: Tensor) -> Tensor:
    # Flattening would first copy what lies channels-last.
    return x.sum(tuple(range(1, x.dim())))


def mse(measured: Tensor, reference: Tensor) -> Tensor:
    """Half the sum of squares, 1/2 sum (F - P)^2: the content loss of the report and of Gatys et al. (2016).

    >>> import torch
    >>> mse(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
    2.0
    """
    return _sum_per_item((measured - reference).square()) / 2


def mae(measured: Tensor, reference: Tensor) -> Tensor:
    """Sum of absolute differences: the report's other content loss (its figure 8); total variation against 0.

    >>> import torch
    >>> mae(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]])).item()
    3.0
    """
    return _sum_per_item((measured - reference).abs())


def huber(measured: Tensor, reference: Tensor, delta: Tensor | None = None) -> Tensor:
    """Sum of Huber losses (1964), quadratic up to `delta` and linear beyond, of (B, ...): (B,).

    `delta` is the root mean square of the reference, unless given: that of the whole, where this is a part of it.

    >>> import torch
    >>> huber(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]])).item()
    1.5
    """
    if delta is None:
        delta = reference.square().mean().sqrt()
    error = (measured - reference).abs()
    return _sum_per_item((error.square() / 2).where(error <= delta, delta * (error - delta / 2)))


def gram_mse(measured: Tensor, reference: Tensor) -> Tensor:
    """The report's style loss of one layer, 1/(4 N^2 M^2) sum (G - A)^2, from Gram matrices already over M.

    >>> import torch
    >>> gram_mse(torch.full((1, 2, 2), 3.0), torch.ones(1, 2, 2)).item()
    1.0
    """
    return _sum_per_item((measured - reference).square()) / (4 * measured.shape[-1] ** 2)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "gram_mse": gram_mse,
}

# The names of VGG19's activations, without loading it.

CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)
CONVOLUTIONS = tuple(
    f"{block}_{i}" for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, 1) for i in range(1, count + 1)
)
LAYERS = ("image", *(f"relu{name}" for name in CONVOLUTIONS))


def check_layers(layers: Collection[str]) -> None:
    """ValueError with the nearest valid name for a layer that VGG19 does not have."""
    for layer in layers:
        choose("layer", layer, LAYERS)


def deepest(layers: Collection[str]) -> str:
    """The deepest of `layers`.

    >>> deepest({"relu1_1", "image", "relu4_2"})
    'relu4_2'
    """
    return max(layers, key=LAYERS.index)


def stride_px(layer: str) -> int:
    """How many pixels lie between neighbouring positions of a layer.

    >>> stride_px("image"), stride_px("relu1_2"), stride_px("relu5_1")
    (1, 1, 16)
    """
    return 1 if layer == "image" else 2 ** (int(layer[4]) - 1)


def reach_px(layer: str) -> int:
    """How far beyond the pixels it stands for a position of a layer sees, on every side.

    >>> reach_px("relu1_1"), reach_px("relu3_1"), reach_px("relu5_1")
    (1, 10, 70)
    """
    return sum(stride_px(below) for below in LAYERS[1 : LAYERS.index(layer) + 1])


def smallest_side_px(layers: Collection[str]) -> int:
    """The image side that the deepest of `layers` needs to be one position wide.

    >>> smallest_side_px({"relu1_1", "relu5_1"})
    16
    """
    return stride_px(deepest(layers))


# A loss term is data: which statistic of which layers is compared how with what. Terms make an objective.

LOSS_SCALES = ("relative", "paper")
REFERENCES = ("content", "style", "hematoxylin")
COMPARTMENTS = ("brown nuclei", "blue nuclei", "brown", "pale")  # of an IHC, real or virtual
MASKS = ("tissue", *COMPARTMENTS)
GUIDE = "guide:"  # and a name: a region that the user drew on both pictures


@dataclass(frozen=True)
class Term:
    """One part of a loss: `distance` between the `statistic` of the image at `layers` and of the `reference`.

    `layers` maps layer names to weights inside the term. `reference` is "content", "style", "hematoxylin"
    (the content's haematoxylin alone, as strong as in the style) or None, which compares with nothing (total
    variation). A `mask` says where both count: the "tissue", one of `COMPARTMENTS` in stain space, or a region
    drawn on both, "guide:NAME". Raises: ValueError for unknown names, weights below zero, statistics that know no
    mask, and values at positions of a style, whose positions are not those of the content.
    """

    name: str
    weight: float
    layers: Mapping[str, float]
    statistic: str
    distance: str
    reference: str | None
    mask: str | None = None

    def __post_init__(self) -> None:
        choose("statistic", self.statistic, {**STATISTICS, **MASKED})
        choose("distance", self.distance, DISTANCES)
        if self.reference is not None:
            choose("reference", self.reference, REFERENCES)
        if self.mask is not None:
            if not self.mask.startswith(GUIDE):
                choose("mask", self.mask, MASKS)
            choose("statistic", self.statistic, MASKED)
        if self.reference == "style" and self.statistic in LOCAL:
            raise expected("reference", f"content or hematoxylin for {self.statistic}", "style")
        check_layers(self.layers)
        if not self.layers:
            raise expected(f"{self.name}_layers", "at least one layer", "none")
        for name, weight in {f"{self.name}_weight": self.weight, **self.layers}.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise expected(name, "a finite weight of at least 0", weight)


Objective: TypeAlias = tuple[Term, ...]


@dataclass(frozen=True)
class Reference:
    """A statistic of a reference image, and per distance its energy: the distance from nothing."""

    measured: Tensor
    energy: Tensor


References: TypeAlias = dict[tuple[str, str], Reference]  # by term's name and layer
Measured: TypeAlias = tuple[str, str, str | None]  # statistic, layer, mask
Masks: TypeAlias = "Mapping[str, Tensor]"  # by name, (1, 1, H, W) of the picture, 0 to 1
NO_MASKS: Masks = MappingProxyType({})


def layers_of(objective: Objective) -> set[str]:
    """All layers that the objective looks at."""
    return {layer for term in objective for layer in term.layers}


def for_scale(objective: Objective, scale: float, loss_scale: str) -> Objective:
    """The objective for a picture at a fraction of its size: `paper` sums over pixels weigh 1 / scale^2 more.

    Only local statistics have a value for every position; the others are means, or of bounded size, and relative
    losses know no size. So every scale of a run minimizes the same thing, and the coarse ones do not trade content
    for style.
    """
    if loss_scale != "paper":
        return objective
    return tuple(
        replace(term, weight=term.weight / scale**2) if term.statistic in LOCAL else term for term in objective
    )


def refers_to(objective: Objective, reference: str) -> bool:
    """Whether any term is compared with this reference."""
    return any(term.reference == reference for term in objective)


def masks_asked(objective: Objective) -> set[str]:
    """The masks that the objective looks through."""
    return {term.mask for term in objective if term.mask is not None}


def reference_of(term: Term, measured: Tensor) -> Reference:
    """What the term compares with, from the statistic (1, ...) of a reference image."""
    return Reference(measured, DISTANCES[term.distance](measured.new_zeros(measured.shape), measured))


def average(objective: Objective, references: Iterable[References], weights: Sequence[float]) -> References:
    """Weighted mean of the statistics of several images, one held at a time: what a mix of styles is."""
    terms = {term.name: term for term in objective}
    sums: dict[tuple[str, str], Tensor] = {}
    for measured, weight in zip(references, weights, strict=True):
        for key, reference in measured.items():
            part = weight / math.fsum(weights) * reference.measured
            sums[key] = sums[key] + part if key in sums else part
    return {key: reference_of(terms[key[0]], mean) for key, mean in sums.items()}


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    return reduce(operator.add, tensors)


def values_by(objective: Objective, at: Callable[[Term, str], Tensor]) -> dict[str, Tensor]:
    """Each term's value before its own weight, from a function that gives its distance at one layer."""
    return {
        term.name: _sum([weight * at(term, layer) for layer, weight in term.layers.items()]) for term in objective
    }


def distance_of(term: Term, measured: Tensor, reference: Reference | None, loss_scale: str) -> Tensor:
    """How far the statistic of one layer, (1, ...), is from the reference: one number.

    `paper` is the report's absolute formula, on features of 0-255 images; `relative` divides by the energy of the
    reference (for a term without one: by the number of values).
    """
    target = measured.new_zeros(measured.shape) if reference is None else reference.measured
    distance = DISTANCES[term.distance](measured, target).mean()
    if loss_scale == "paper":
        return distance
    if reference is None:
        return distance / measured[0].numel()
    return distance / reference.energy.mean().clamp_min(1e-12)


def total(objective: Objective, values: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of the terms: what is minimized."""
    return _sum([term.weight * values[term.name] for term in objective])
