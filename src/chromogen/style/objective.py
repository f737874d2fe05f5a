"""A loss term is data: which statistic of which layers is compared how with what. An objective: a tuple of them.

Measure the references once, then ask for the terms' values as often as you like:

    references = measure(objective, "style", encoder, style, "relative")
    measured = look(encoder, image, objective, "relative")
    values = term_values(objective, measured, references, "relative")
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from chromogen.errors import choose, expected
from chromogen.style.layers import check_layers
from chromogen.style.losses import DISTANCES
from chromogen.style.statistics import LOCAL, MASK_NEEDED, MASKED, STATISTICS

if TYPE_CHECKING:
    from torch import Tensor

    from chromogen.style.encoder import Encoder

LOSS_SCALES = ("relative", "paper")
REFERENCES = ("content", "style", "hematoxylin")
COMPARTMENTS = ("brown nuclei", "blue nuclei", "brown", "pale")  # of an IHC, real or virtual
MASKS = ("tissue", "cells", "stroma", "octiles", *COMPARTMENTS)
GUIDE = "guide:"  # and a name: a region that the user drew on both pictures


@dataclass(frozen=True)
class Term:
    """One part of a loss: `distance` between the `statistic` of the image at `layers` and of the `reference`.

    `layers` maps layer names to weights inside the term. `reference` is "content", "style", "hematoxylin"
    (the content's haematoxylin alone, as strong as in the style) or None, which compares with nothing (total
    variation). A `mask` says where both count: the
    "tissue", its "cells", "stroma" or "octiles", one of `COMPARTMENTS` in stain space, or a region drawn on
    both, "guide:NAME".
    Raises: ValueError for unknown names, weights below zero, and statistics that know no mask.
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
        elif self.statistic in MASK_NEEDED:
            raise expected("mask", f"given for {self.statistic}", "none", f"there are {', '.join(MASKS)}")
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
Seen: TypeAlias = tuple[str, str, str | None]  # statistic, layer, mask
Statistics: TypeAlias = "dict[Seen, Tensor]"
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


def look(
    encoder: Encoder, image: Tensor, objective: Objective, loss_scale: str, masks: Masks = NO_MASKS
) -> Statistics:
    """Every statistic of an image (B, 3, H, W) that the terms compare, measured once.

    In the `paper` loss scale the image itself counts from 0 to 255.
    """
    asked: set[Seen] = {(term.statistic, layer, term.mask) for term in objective for layer in term.layers}
    on_the_way = {seen for seen in asked if seen[0] == "gram" and seen[1] != "image"}
    of_features = asked - on_the_way
    features, grams = encoder.look(
        image, {layer for _, layer, _ in of_features}, {seen[1:] for seen in on_the_way}, masks
    )
    if loss_scale == "paper" and "image" in features:
        features["image"] = 255 * features["image"]
    measured = {seen: _statistic(*seen, features, masks) for seen in of_features}
    return measured | {("gram", *of): gram for of, gram in grams.items()}


def _statistic(
    statistic: str, layer: str, mask: str | None, features: Mapping[str, Tensor], masks: Masks
) -> Tensor:
    if mask is None:
        return STATISTICS[statistic](features[layer])
    return MASKED[statistic](features[layer], masks[mask])


def measure(
    objective: Objective,
    reference: str,
    encoder: Encoder,
    image: Tensor,
    loss_scale: str,
    masks: Masks = NO_MASKS,
) -> References:
    """What the terms that refer to `reference` (one of `REFERENCES`) measure of its image (1, 3, H, W)."""
    import torch

    terms = tuple(term for term in objective if term.reference == reference)
    with torch.no_grad():
        measured = look(encoder, image, terms, loss_scale, masks)
        return {
            (term.name, layer): reference_of(term, measured[term.statistic, layer, term.mask])
            for term in terms
            for layer in term.layers
        }


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


def term_values(
    objective: Objective, measured: Statistics, references: References, loss_scale: str
) -> dict[str, Tensor]:
    """Each term's value: the sum over its layers, weighted, before the term's own weight; mean over the batch.

    `paper` is the report's absolute formula, on features of 0-255 images; `relative` divides each layer's
    distance by the energy of the reference (for a term without one: by the number of values).
    """
    values = {}
    for term in objective:
        layers = [
            weight
            * distance_of(
                term, measured[term.statistic, layer, term.mask], references.get((term.name, layer)), loss_scale
            )
            for layer, weight in term.layers.items()
        ]
        values[term.name] = _sum(layers)
    return values


def distance_of(term: Term, measured: Tensor, reference: Reference | None, loss_scale: str) -> Tensor:
    """How far what was measured at one layer, (B, ...), is from the reference, in this loss scale: one number."""
    wanted = measured.new_zeros(measured.shape) if reference is None else reference.measured
    distance = DISTANCES[term.distance](measured, wanted).mean()
    if loss_scale == "paper":
        return distance
    if reference is None:
        return distance / measured[0].numel()
    return distance / reference.energy.mean().clamp_min(1e-12)


def total(objective: Objective, values: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of the terms: what is minimized."""
    return _sum([term.weight * values[term.name] for term in objective])
