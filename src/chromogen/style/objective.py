"""Layers and terms: an objective as data."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from chromogen.errors import choose, expected
from chromogen.style.statistics import DISTANCES, LOCAL, MASKED, STATISTICS

if TYPE_CHECKING:
    from torch import Tensor


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
