"""The network that a training begins with: a new one, or a trained one to go on from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from chromogen.errors import expected
from chromogen.style.kinds import PlainArchitecture, kind_of
from chromogen.style.marker_network import AnyArchitecture, MarkerArchitecture, MarkerNetwork, Network, built
from chromogen.training.fields import Tile
from chromogen.training.wanted import Wanted


def new_network(plain: PlainArchitecture, wanted: Sequence[Wanted], sample: Sequence[Tile], seed: int) -> Network:
    """An untrained network for what is wanted, told of the tissue by tiles that stand for all."""
    markers = tuple(one.marker for one in wanted)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = built(plain if markers == ("",) else MarkerArchitecture(plain, markers), wanted[0].target)
    if isinstance(network, MarkerNetwork):
        network.set_targets([one.target for one in wanted])
    base = network.base if isinstance(network, MarkerNetwork) else network
    seen = [(tile.density, torch.tensor(tile.look.strength)) for tile in sample]
    kind_of(base.architecture).prepare(base, seen)
    return network


def going_on(start: Network, wanted: Sequence[Wanted]) -> Network:
    """A copy of a trained network that paints with the stains that are wanted now; see `check_start`."""
    network = built(start.architecture, wanted[0].target)
    network.load_state_dict(start.state_dict())
    return network


def check_start(architecture: AnyArchitecture, kind: str, markers: Sequence[str]) -> None:
    """ValueError unless a training of one look, for this kind of network, can go on from the architecture."""
    if isinstance(architecture, MarkerArchitecture):
        raise expected(
            "from", "a model of one marker", f"one of {', '.join(architecture.markers)}", "train it anew"
        )
    if any(markers):
        raise expected("style", "without markers' names: a model of one is gone on from", ", ".join(markers))
    if kind != architecture.kind:
        raise expected("network", f"that of the model, {architecture.kind}", kind)
