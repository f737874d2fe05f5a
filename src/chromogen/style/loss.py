"""The loss of a whole picture and its gradient, tile by tile, in the memory of one tile.

The Gram matrix of a picture is the mean of its tiles', and distances of local statistics add up. A forward pass
gathers both; the loss and its derivative by each of them follow; a second pass sends these derivatives back
through each tile. What a tile's halo gets is added to what its neighbours get at the same pixels, so the gradient
is that of the whole picture, but for rounding. Padding counts at the picture's own borders: a tile's never reaches
its core. A small picture is one tile, whose forward pass runs once.
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

from chromogen.compute.memory import InMemory, Spill, Store
from chromogen.compute.tiles import ALIGNED_PX, GridTile, TileGrid, Window
from chromogen.errors import expected
from chromogen.image import Image, to_tensor
from chromogen.style.encoder import Encoder
from chromogen.style.gram import position_shares, sum_of
from chromogen.style.objective import (
    DISTANCES,
    LOCAL,
    MASKED,
    MEANS,
    NO_MASKS,
    STATISTICS,
    Masks,
    Measured,
    Objective,
    Reference,
    References,
    Term,
    distance_of,
    huber,
    reach_px,
    reference_of,
    stride_px,
    total,
    values_by,
)

CORE = "core"  # the mask of what counts of a tile
Place: TypeAlias = tuple[str, str]  # a term's name and a layer
Sums: TypeAlias = "dict[Measured | Place, Tensor]"
Picture: TypeAlias = Callable[[Window], Tensor]  # a part (1, 3, h, w) of it
Preconditioners: TypeAlias = Mapping[tuple[str, str | None], Callable[[Tensor], Tensor]]  # by layer and mask
NO_PRECONDITIONERS: Preconditioners = MappingProxyType({})
Positions: TypeAlias = "Mapping[tuple[str, str | None], Tensor | int]"  # by layer and mask, how many count


@dataclass(frozen=True)
class LossFunction:
    """How pictures are compared: the terms, the scale of their values, and the network that sees the pictures."""

    objective: Objective
    loss_scale: str
    encoder: Encoder

    @property
    def exact(self) -> LossFunction:
        """The same in fp32."""
        return replace(self, encoder=self.encoder.exact)

    @property
    def means(self) -> Objective:
        """The terms whose statistics are means over positions, or of a picture as a whole."""
        return tuple(term for term in self.objective if term.statistic not in LOCAL)

    @property
    def local(self) -> Objective:
        """The terms whose statistics have a value at every position."""
        return tuple(term for term in self.objective if term.statistic in LOCAL)


@dataclass(frozen=True)
class Targets:
    """What a picture is compared with, and the masks of the whole that it is compared through.

    `references` hold what is measured of the whole, and only the energy of what is local; that is kept by tile in
    `local`. `deltas` are the root mean squares of references of Huber losses. The style error has a `floor`, below
    which nothing is gained.
    """

    grid: TileGrid
    references: References
    masks: Masks
    positions: Positions
    floor: float
    local: Store
    deltas: Mapping[Place, Tensor] = field(default_factory=dict)


def targets_of(
    loss: LossFunction,
    grid: TileGrid,
    masks: Masks = NO_MASKS,
    references: References | None = None,
    floor: float = 0.0,
) -> Targets:
    """Targets on a grid, with those `references` that are known already."""
    local: Store = InMemory() if len(grid) == 1 else Spill()
    return Targets(grid, references or {}, masks, _positions_of(loss, grid, masks), floor, local)


def _positions_of(loss: LossFunction, grid: TileGrid, masks: Masks) -> Positions:
    asked = {(layer, term.mask) for term in loss.means for layer in term.layers}
    everywhere = (math.prod(side // stride_px(layer) for side in grid.size) for layer, _ in asked)
    return {
        (layer, mask): count if mask is None else _positions(layer, masks[mask])
        for (layer, mask), count in zip(asked, everywhere, strict=True)
    }


def picture_of(image: Image, device: torch.device) -> Picture:
    """Windows of an image, uint8 (H, W, 3)."""
    return lambda window: to_tensor(np.ascontiguousarray(image[window.at])).to(device)


def picture_windows(picture: Tensor) -> Picture:
    """Windows of a picture (1, 3, H, W)."""
    return lambda window: picture[..., *window.at]


def tiles_of(size: tuple[int, int], objective: Objective, tile_px: int | None = None) -> TileGrid:
    """The tiles of a picture of `size` (w, h), with cores of at most `tile_px`; None: one tile."""
    one_px = -(-max(size) // ALIGNED_PX) * ALIGNED_PX
    return TileGrid(size, tile_px or one_px, halo_px(objective))


def check_can_be_tiled(objective: Objective) -> None:
    """ValueError for a term whose statistic is neither local nor a mean over positions."""
    for term in objective:
        if term.statistic not in (*MEANS, *LOCAL):
            why = f"{term.statistic}, which compares all places with all others"
            raise expected(
                term.name, "a term that adds up over tiles", why, "leave it out, or use a smaller picture"
            )


def halo_px(objective: Objective) -> int:
    """How many pixels around a core its statistics depend on."""
    return max(
        reach_px(layer) + LOCAL.get(term.statistic, 0) * stride_px(layer)
        for term in objective
        for layer in term.layers
    )


Value: TypeAlias = tuple[Tensor, dict[str, Tensor]]  # the total, and each term's value before its own weight


def value_of(loss: LossFunction, picture: Picture, targets: Targets) -> Value:
    """The loss of a whole picture, without gradient."""
    with torch.no_grad():
        sums = _added(_sums_of(loss, picture, targets, number, tile) for number, tile in enumerate(targets.grid))
        return _value(loss, sums, targets)


def add_gradient(
    loss: LossFunction,
    picture: Picture,
    targets: Targets,
    preconditioners: Preconditioners = NO_PRECONDITIONERS,
) -> Value:
    """The loss of a whole picture; its gradient is sent back through the picture's parts.

    Preconditioners change the gradient alone.
    """
    forward = partial(_sums_of, loss, picture, targets)
    once = len(targets.grid) == 1
    with torch.set_grad_enabled(once):
        sums = _added(forward(number, tile) for number, tile in enumerate(targets.grid))
    leaves = {key: tensor.detach().requires_grad_() for key, tensor in sums.items()}
    value, terms = _value(loss, leaves, targets, preconditioners)
    value.backward()
    for number, tile in enumerate(targets.grid):
        part = sums if once else forward(number, tile)
        # As `torch.autograd.backward` with gradients, which would import sympy for that.
        asked = [(tensor, leaves[key].grad) for key, tensor in part.items() if tensor.requires_grad]
        products = [(tensor * gradient).sum() for tensor, gradient in asked if gradient is not None]
        torch.stack(products).sum().backward()
    return value.detach(), {name: term.detach() for name, term in terms.items()}


def with_reference(loss: LossFunction, reference: str, picture: Picture, targets: Targets) -> Targets:
    """The targets with what the terms that refer to `reference` measure of its picture, in fp32."""
    asked = tuple(term for term in loss.objective if term.reference == reference)
    part = replace(loss.exact, objective=asked)
    references, deltas = dict(targets.references), dict(targets.deltas)
    with torch.no_grad():
        if part.means:
            references |= _measured(replace(part, objective=part.means), picture, targets)
        if part.local:
            _keep_local(part, picture, targets)
            deltas |= _deltas(part.local, targets)
            energies = _energies(part.local, targets, deltas)
            references |= {place: Reference(energy, energy) for place, energy in energies.items()}
    return replace(targets, references=references, deltas=deltas)


def _measured(loss: LossFunction, picture: Picture, targets: Targets) -> References:
    measured = _added(_sums_of(loss, picture, targets, number, tile) for number, tile in enumerate(targets.grid))
    return {
        (term.name, layer): reference_of(term, measured[term.statistic, layer, term.mask])
        for term in loss.objective
        for layer in term.layers
    }


def _keep_local(loss: LossFunction, picture: Picture, targets: Targets) -> None:
    layers = {layer for term in loss.local for layer in term.layers}
    for number, tile in enumerate(targets.grid):
        features = _scaled(loss.encoder(picture(tile.outer), layers), loss.loss_scale)
        cores = {
            f"{term.name}\t{layer}": _of_core(term, layer, features, tile)
            for term in loss.local
            for layer in term.layers
        }
        targets.local.keep(number, cores)


def _local(targets: Targets, number: int) -> dict[Place, Tensor]:
    """The local references of a tile."""
    parts = ((key.partition("\t"), tensor) for key, tensor in targets.local.of(number).items())
    return {(name, layer): tensor for (name, _, layer), tensor in parts}


def _deltas(local: Objective, targets: Targets) -> dict[Place, Tensor]:
    places = [(t.name, layer) for t in local if t.distance == "huber" for layer in t.layers]
    kept = [_local(targets, number) for number in range(len(targets.grid))] if places else []
    squares = {place: torch.stack([k[place].square().sum() for k in kept]).sum() for place in places}
    return {place: (square / sum(k[place].numel() for k in kept)).sqrt() for place, square in squares.items()}


def _energies(local: Objective, targets: Targets, deltas: Mapping[Place, Tensor]) -> dict[Place, Tensor]:
    """The distance of each reference from nothing, as a vector of one."""
    energies: dict[Place, Tensor] = {}
    for number in range(len(targets.grid)):
        for place, part in _local(targets, number).items():
            term = next((term for term in local if term.name == place[0]), None)
            if term is not None:
                energy = _distance(term, place[1], deltas)(torch.zeros_like(part), part)
                energies[place] = energies[place] + energy if place in energies else energy
    return energies


def _distance(term: Term, layer: str, deltas: Mapping[Place, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    delta = deltas.get((term.name, layer))
    return DISTANCES[term.distance] if delta is None else partial(huber, delta=delta)


def _scaled(features: dict[str, Tensor], loss_scale: str) -> dict[str, Tensor]:
    """In the `paper` loss scale the image itself counts from 0 to 255."""
    if loss_scale == "paper" and "image" in features:
        return features | {"image": 255 * features["image"]}
    return features


def _of_core(term: Term, layer: str, features: Mapping[str, Tensor], tile: GridTile) -> Tensor:
    """A local statistic where it counts."""
    return STATISTICS[term.statistic](features[layer])[..., *tile.inner.coarser(stride_px(layer)).at]


def _masks_of_tile(targets: Targets, tile: GridTile, device: torch.device) -> Masks:
    """The masks of the whole, and of the core, as the tile sees them: nothing in its halo."""
    width, height = tile.outer.size
    core = torch.zeros(1, 1, height, width, device=device)
    core[..., *tile.inner.at] = 1
    return {CORE: core} | {name: mask[..., *tile.outer.at] * core for name, mask in targets.masks.items()}


def _sums_of(loss: LossFunction, picture: Picture, targets: Targets, number: int, tile: GridTile) -> Sums:
    """What a tile adds: its share of each mean, and distances of local statistics with their number of values."""
    masks = _masks_of_tile(targets, tile, loss.encoder.device)
    everything = None if tile.core == tile.outer else CORE
    asked = {(term.statistic, layer, term.mask) for term in loss.means for layer in term.layers}
    by_network = {one for one in asked if one[0] == "gram" and one[1] != "image"}
    layers = {layer for _, layer, _ in asked - by_network}
    layers |= {layer for term in loss.local for layer in term.layers}
    grams_of = {(layer, mask or everything) for _, layer, mask in by_network}
    features, grams = loss.encoder.with_grams(picture(tile.outer), layers, grams_of, masks)
    features = _scaled(features, loss.loss_scale)
    sums: Sums = {}
    for statistic, layer, mask in asked:
        through = mask or everything
        if (statistic, layer, mask) in by_network:
            mean = grams[layer, through]
        else:
            mean = _statistic(statistic, features[layer], masks.get(through or ""))
        count = _positions(layer, masks[mask]) if mask else math.prod(tile.inner.coarser(stride_px(layer)).size)
        sums[statistic, layer, mask] = mean * (count / targets.positions[layer, mask])
    if loss.local:
        sums |= _local_sums(loss, features, targets, number, tile)
    return sums


def _statistic(statistic: str, features: Tensor, mask: Tensor | None) -> Tensor:
    return STATISTICS[statistic](features) if mask is None else MASKED[statistic](features, mask)


def _local_sums(
    loss: LossFunction, features: Mapping[str, Tensor], targets: Targets, number: int, tile: GridTile
) -> Sums:
    references = _local(targets, number)
    sums: Sums = {}
    for term in loss.local:
        for layer in term.layers:
            measured = _of_core(term, layer, features, tile)
            known = references.get((term.name, layer))
            reference = torch.zeros_like(measured) if known is None else known.to(measured.device)
            distance = _distance(term, layer, targets.deltas)(measured, reference).mean()
            sums[term.name, layer] = torch.stack([distance, distance.new_tensor(measured[0].numel())])
    return sums


def _positions(layer: str, mask: Tensor) -> Tensor:
    """How many positions of a layer count by a mask of the picture."""
    stride = stride_px(layer)
    return sum_of(position_shares(mask, (mask.shape[2] // stride, mask.shape[3] // stride)))


def _added(parts: Iterable[Sums]) -> Sums:
    sums: Sums = {}
    for part in parts:
        sums = {key: sums[key] + tensor if key in sums else tensor for key, tensor in part.items()}
    return sums


def _value(
    loss: LossFunction, sums: Sums, targets: Targets, preconditioners: Preconditioners = NO_PRECONDITIONERS
) -> Value:
    """The loss, from what all tiles add up to."""
    for (layer, mask), precondition in preconditioners.items():
        sums["gram", layer, mask].register_hook(precondition)

    def at(term: Term, layer: str) -> Tensor:
        reference = targets.references.get((term.name, layer))
        if term.statistic not in LOCAL:
            return distance_of(term, sums[term.statistic, layer, term.mask], reference, loss.loss_scale)
        distance, count = sums[term.name, layer].unbind()
        if loss.loss_scale == "paper":
            return distance
        relative: Tensor = distance / (count if reference is None else reference.energy.mean().clamp_min(1e-12))
        return relative

    values = values_by(loss.objective, at)
    return total(loss.objective, values), values
