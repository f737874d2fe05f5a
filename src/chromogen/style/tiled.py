"""The loss of a whole picture and its gradient, tile by tile, in the memory of one tile.

Gram matrices of a picture are sums over its tiles, and so are distances of local statistics. A first pass adds
them up; the loss and its derivative by every sum follow; a second pass sends these derivatives back through each
tile, by the tape that the first wrote of it, or by looking at it again. What a tile's halo gets is added to what
its neighbours say of the same pixels, so the gradient is that of the whole picture, but for rounding. Padding
counts at the picture's own borders: a tile's never reaches its core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from chromogen.errors import expected
from chromogen.grid import GridTile, TileGrid, Window
from chromogen.image import Image, to_tensor
from chromogen.spill import Spill
from chromogen.style.encoder import Encoder
from chromogen.style.gram import shares_of, sum_of
from chromogen.style.layers import reach_px, stride_px
from chromogen.style.losses import DISTANCES, huber
from chromogen.style.objective import (
    Masks,
    Objective,
    Reference,
    References,
    Seen,
    Statistics,
    Term,
    distance_of,
    reference_of,
    total,
)
from chromogen.style.statistics import (
    ADDITIVE,
    LOCAL,
    STATISTICS,
    dab_by_octile,
    masked_gram_matrix,
    profile_of,
)
from chromogen.style.tape import Tape, Tapes

CORE = "core"  # the mask of what counts of a tile
Place: TypeAlias = tuple[str, str]  # a term's name and a layer
Sums: TypeAlias = "dict[Seen | Place, Tensor]"
Picture: TypeAlias = Callable[[Window], Tensor]  # a part (1, 3, h, w) of it
Preconditioners: TypeAlias = Mapping[tuple[str, str | None], Callable[[Tensor], Tensor]]  # by layer and mask
NO_PRECONDITIONERS: Preconditioners = MappingProxyType({})


@dataclass(frozen=True)
class TiledAim:
    """What a picture is compared with, tile by tile, and the masks of the whole that it is looked at through.

    `references` hold what is measured of the whole, and only the energy of what is local; that is kept by tile in
    `local`. `knees` are the root mean squares of those that Huber losses are taken of. `tapes` spare the second
    pass its way there.
    """

    grid: TileGrid
    references: References
    masks: Masks = field(default_factory=dict)
    floor: float = 0.0
    local: Spill = field(default_factory=Spill)
    knees: Mapping[Place, Tensor] = field(default_factory=dict)
    tapes: Tapes = field(default_factory=Tapes)


def picture_of(image: Image, device: torch.device) -> Picture:
    """Windows of an image, uint8 (H, W, 3)."""
    return lambda window: to_tensor(np.ascontiguousarray(image[window.at])).to(device)


def check_can_be_tiled(objective: Objective) -> None:
    """ValueError for a term whose statistic is neither local nor a sum over tiles."""
    for term in objective:
        if term.statistic not in (*ADDITIVE, *LOCAL):
            why = f"{term.statistic}, which compares all places with all others"
            raise expected(
                term.name, "a term that adds up over tiles", why, "leave it out, or use a smaller picture"
            )


def halo_px(objective: Objective) -> int:
    """How much around a core its statistics see."""
    return max(
        reach_px(layer) + LOCAL.get(term.statistic, 0) * stride_px(layer)
        for term in objective
        for layer in term.layers
    )


def evaluate(
    picture: Picture,
    aim: TiledAim,
    objective: Objective,
    loss_scale: str,
    encoder: Encoder,
    preconditioners: Preconditioners = NO_PRECONDITIONERS,
    *,
    backward: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and the terms' values of a whole picture; `backward` sends the gradient back through its parts."""
    like = torch.empty(0, dtype=encoder.dtype, device=encoder.device)

    def sums_at(number: int, tile: GridTile, tape: Tape) -> Sums:
        part = _part(picture, tile, aim, _local(aim, number), encoder.device)
        return _sums_of(part, objective, loss_scale, encoder, aim.knees, tape)

    def at_first(number: int, tile: GridTile) -> Sums:
        sums = sums_at(number, tile, tape := Tape())
        if backward:
            aim.tapes.keep(number, tape)
        return sums

    with torch.no_grad():
        sums = _added(at_first(number, tile) for number, tile in enumerate(aim.grid))
    leaves = {key: tensor.requires_grad_() for key, tensor in sums.items()}
    measured = _finished(leaves, aim.masks, aim.grid.size)
    for (layer, mask), precondition in preconditioners.items():
        measured["gram", layer, mask].register_hook(precondition)
    values = _values(objective, measured, leaves, aim.references, loss_scale)
    loss = total(objective, values)
    if backward:
        loss.backward()
        for number, tile in enumerate(aim.grid):
            sums = sums_at(number, tile, aim.tapes.of(number, like))
            asked = [(tensor, leaves[key].grad) for key, tensor in sums.items() if tensor.requires_grad]
            torch.autograd.backward([tensor for tensor, _ in asked], [gradient for _, gradient in asked])
            aim.tapes.forget(number)
    return loss.detach(), {name: value.detach() for name, value in values.items()}


def measure_tiled(
    objective: Objective,
    reference: str,
    encoder: Encoder,
    picture: Picture,
    loss_scale: str,
    aim: TiledAim,
) -> TiledAim:
    """The aim with what the terms that refer to `reference` measure of its image, in fp32."""
    additive, local = _split(tuple(term for term in objective if term.reference == reference))
    references, knees = dict(aim.references), dict(aim.knees)
    with torch.no_grad():
        if additive:
            references |= _measured(additive, encoder, picture, loss_scale, aim)
        if local:
            _keep_local(local, encoder, picture, loss_scale, aim)
            knees |= _knees(local, aim)
            energies = _energies(local, aim, knees)
            references |= {place: Reference(energy, energy) for place, energy in energies.items()}
    return replace(aim, references=references, knees=knees)


def _measured(
    additive: Objective, encoder: Encoder, picture: Picture, loss_scale: str, aim: TiledAim
) -> References:
    parts = (_part(picture, tile, aim, {}, encoder.device) for tile in aim.grid)
    sums = _added(_sums_of(part, additive, loss_scale, encoder, {}) for part in parts)
    measured = _finished(sums, aim.masks, aim.grid.size)
    return {
        (term.name, layer): reference_of(term, measured[term.statistic, layer, term.mask])
        for term in additive
        for layer in term.layers
    }


def _keep_local(local: Objective, encoder: Encoder, picture: Picture, loss_scale: str, aim: TiledAim) -> None:
    layers = {layer for term in local for layer in term.layers}
    for number, tile in enumerate(aim.grid):
        features = _scaled(encoder(picture(tile.outer), layers), loss_scale)
        cores = {_key(t.name, layer): _of_core(t, layer, features, tile) for t in local for layer in t.layers}
        aim.local.keep(number, cores)


def _split(terms: Objective) -> tuple[Objective, Objective]:
    """Those whose statistic is a sum over tiles, and the local ones."""
    additive = tuple(term for term in terms if term.statistic in ADDITIVE)
    return additive, tuple(term for term in terms if term.statistic in LOCAL)


def _key(name: str, layer: str) -> str:
    return f"{name}\t{layer}"


def _local(aim: TiledAim, number: int) -> dict[Place, Tensor]:
    """What is kept of local references for a tile."""
    parts = ((key.partition("\t"), tensor) for key, tensor in aim.local.of(number).items())
    return {(name, layer): tensor for (name, _, layer), tensor in parts}


def _knees(local: Objective, aim: TiledAim) -> dict[Place, Tensor]:
    places = [(t.name, layer) for t in local if t.distance == "huber" for layer in t.layers]
    kept = [_local(aim, number) for number in range(len(aim.grid))] if places else []
    squares = {place: torch.stack([k[place].square().sum() for k in kept]).sum() for place in places}
    return {place: (square / sum(k[place].numel() for k in kept)).sqrt() for place, square in squares.items()}


def _energies(local: Objective, aim: TiledAim, knees: Mapping[Place, Tensor]) -> dict[Place, Tensor]:
    """The distance of each reference from nothing, as a vector of one."""
    energies: dict[Place, Tensor] = {}
    for number in range(len(aim.grid)):
        kept = _local(aim, number)
        for term in local:
            for layer in term.layers:
                part = kept[term.name, layer]
                energy = _distance(term, layer, knees)(torch.zeros_like(part), part)
                energies[term.name, layer] = energies.get((term.name, layer), 0) + energy
    return energies


def _distance(term: Term, layer: str, knees: Mapping[Place, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    knee = knees.get((term.name, layer))
    return DISTANCES[term.distance] if knee is None else partial(huber, knee=knee)


@dataclass(frozen=True)
class Part:
    """What is seen of a tile: its picture, masks that are nothing in its halo, local references of its core."""

    picture: Tensor
    tile: GridTile
    masks: Masks
    wanted: Mapping[Place, Tensor]


def _part(
    picture: Picture, tile: GridTile, aim: TiledAim, wanted: Mapping[Place, Tensor], device: torch.device
) -> Part:
    width, height = tile.outer.size
    core = torch.zeros(1, 1, height, width, device=device)
    core[..., *tile.inner.at] = 1
    masks = {name: mask[..., *tile.outer.at] * core for name, mask in aim.masks.items()}
    return Part(picture(tile.outer), tile, {CORE: core, **masks}, wanted)


def _scaled(features: dict[str, Tensor], loss_scale: str) -> dict[str, Tensor]:
    if loss_scale == "paper" and "image" in features:
        return features | {"image": 255 * features["image"]}
    return features


def _of_core(term: Term, layer: str, features: Mapping[str, Tensor], tile: GridTile) -> Tensor:
    """A local statistic where it counts."""
    return STATISTICS[term.statistic](features[layer])[..., *tile.inner.coarser(stride_px(layer)).at]


def _sums_of(
    part: Part,
    objective: Objective,
    loss_scale: str,
    encoder: Encoder,
    knees: Mapping[Place, Tensor],
    tape: Tape | None = None,
) -> Sums:
    """What a tile adds: products of channels, DAB, distances with how many values they are of."""
    additive, local = _split(objective)
    seen = {(term.statistic, layer, term.mask) for term in additive for layer in term.layers}
    on_the_way = {s for s in seen if s[0] == "gram" and s[1] != "image"}
    layers = {layer for _, layer, _ in seen - on_the_way} | {layer for term in local for layer in term.layers}
    grams_of = {(layer, mask or CORE) for _, layer, mask in on_the_way}
    features, grams = encoder.look(part.picture, layers, grams_of, part.masks, tape)
    features = _scaled(features, loss_scale)
    sums: Sums = {s: _sum_of_seen(s, features, grams, part.masks) for s in seen}
    for term in local:
        for layer in term.layers:
            measured = _of_core(term, layer, features, part.tile)
            there = part.wanted.get((term.name, layer))
            reference = torch.zeros_like(measured) if there is None else there.to(measured.device)
            distance = _distance(term, layer, knees)(measured, reference).mean()
            sums[term.name, layer] = torch.stack([distance, distance.new_tensor(measured[0].numel())])
    return sums


def _sum_of_seen(
    seen: Seen, features: Mapping[str, Tensor], grams: Mapping[tuple[str, str | None], Tensor], view: Masks
) -> Tensor:
    statistic, layer, mask = seen
    through = view[mask or CORE]
    if statistic == "dab_profile":
        return dab_by_octile(features[layer], through)
    mean = grams[layer, mask or CORE] if layer != "image" else masked_gram_matrix(features[layer], through)
    return mean * _positions(layer, through)


def _positions(layer: str, mask: Tensor) -> Tensor:
    """How many positions of a layer count by a mask of the picture."""
    stride = stride_px(layer)
    return sum_of(shares_of(mask, (mask.shape[2] // stride, mask.shape[3] // stride)))


def _added(parts: Iterable[Sums]) -> Sums:
    sums: Sums = {}
    for part in parts:
        sums = {key: sums[key] + tensor if key in sums else tensor for key, tensor in part.items()}
    return sums


def _finished(sums: Sums, masks: Masks, size: tuple[int, int]) -> Statistics:
    """The additive statistics of the whole picture from their sums."""
    finished = {}
    for key, tensor in sums.items():
        if len(key) == 2:
            continue
        statistic, layer, mask = key
        if statistic == "dab_profile":
            finished[key] = profile_of(tensor, masks[mask or CORE].sum((2, 3)))
        else:
            finished[key] = tensor / (_positions(layer, masks[mask]) if mask else _all_positions(layer, size))
    return finished


def _all_positions(layer: str, size: tuple[int, int]) -> int:
    return math.prod(side // stride_px(layer) for side in size)


def _values(
    objective: Objective, measured: Statistics, sums: Sums, references: References, loss_scale: str
) -> dict[str, Tensor]:
    """Each term's value, as `term_values` has it of a picture in one piece."""

    def at(term: Term, layer: str) -> Tensor:
        reference = references.get((term.name, layer))
        if term.statistic in ADDITIVE:
            return distance_of(term, measured[term.statistic, layer, term.mask], reference, loss_scale)
        distance, count = sums[term.name, layer].unbind()
        if loss_scale == "paper":
            return distance
        relative: Tensor = distance / (count if reference is None else reference.energy.mean().clamp_min(1e-12))
        return relative

    return {
        term.name: torch.stack([weight * at(term, layer) for layer, weight in term.layers.items()]).sum()
        for term in objective
    }
