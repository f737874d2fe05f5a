"""One network for several markers: a plain one whose layers each marker scales and shifts in its own way.

Conditional affine transformations, as in FiLM (Perez et al. 2018) and, for styles that blend, by Dumoulin et al.
(2017). We fold them into the layers before: the network of a marker, or of a blend, is a plain one again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from chromogen.errors import choose, expected
from chromogen.style.kinds import KINDS, PlainArchitecture, PlainNetwork, kind_of
from chromogen.style.rgb_network import Affine
from chromogen.style.slide_densities import Target

Blend: TypeAlias = tuple[float, ...]  # shares of markers, which add up to 1; none where there is one look
MOST_MARKERS = 64
NAME = re.compile(r"[^\s,:=]([^,:=]*[^\s,:=])?")
CONDITIONED = (nn.Linear, Affine)


@dataclass(frozen=True)
class MarkerArchitecture:
    """A plain architecture for several `markers`, by their names."""

    of: PlainArchitecture
    markers: tuple[str, ...]
    kind: str = "markers"

    def __post_init__(self) -> None:
        if self.kind != "markers" or not 1 <= len(set(self.markers)) == len(self.markers) <= MOST_MARKERS:
            raise expected("markers", f"1 to {MOST_MARKERS} different names", ", ".join(self.markers))
        for name in self.markers:
            check_marker(name)


def check_marker(name: str) -> None:
    """ValueError for a name that could not be told from a blend."""
    if not NAME.fullmatch(name):
        raise expected("marker", "a name without comma, colon or equals sign", repr(name))


AnyArchitecture: TypeAlias = PlainArchitecture | MarkerArchitecture
Stained: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


class MarkerNetwork(nn.Module):
    """What all markers share (`base`), and for each a factor and a shift of every channel of its layers.

    `targets` (M, 11) are the markers' stain vectors and strengths. At first all markers are alike.
    """

    targets: Tensor

    def __init__(self, architecture: MarkerArchitecture, target: Target) -> None:
        super().__init__()
        self.architecture, self.target = architecture, target
        self.base: PlainNetwork = kind_of(architecture.of).build(architecture.of, target)
        count = len(architecture.markers)
        self.layers = [name for name, part in self.base.named_modules() if isinstance(part, CONDITIONED)]
        widths = [self.base.get_parameter(f"{name}.bias").numel() for name in self.layers]
        self.scales = nn.ParameterList([torch.zeros(count, width) for width in widths])
        self.shifts = nn.ParameterList([torch.zeros(count, width) for width in widths])
        self.register_buffer("targets", torch.tensor([_row(target)] * count))

    def set_targets(self, targets: Sequence[Target]) -> None:
        """Each marker's stain vectors and strengths."""
        self.targets.copy_(torch.tensor([_row(target) for target in targets]))

    def folded(self, blend: Sequence[float]) -> dict[str, Tensor]:
        """Weights of the plain network that stains in a blend of markers, with their gradient."""
        shares = self.targets.new_tensor(blend)
        weights = dict(self.base.named_parameters()) | dict(self.base.named_buffers())
        for name, scale, shift in zip(self.layers, self.scales, self.shifts, strict=True):
            weight, bias, factor = weights[f"{name}.weight"], weights[f"{name}.bias"], 1 + shares @ scale
            weights[f"{name}.weight"] = factor.view(-1, *[1] * (weight.dim() - 1)) * weight
            weights[f"{name}.bias"] = factor * bias + shares @ shift
        return weights

    def target_at(self, blend: Sequence[float]) -> Target:
        """The stain vectors and strengths of a blend."""
        *vectors, hematoxylin, dab = (self.targets.new_tensor(blend) @ self.targets).tolist()
        rows = [vectors[i : i + 3] for i in (0, 3, 6)]
        unit = tuple(tuple(x / math.hypot(*row) for x in row) for row in rows)
        return Target(unit, hematoxylin, dab)

    def at(self, blend: Sequence[float]) -> PlainNetwork:
        """The plain network that stains in a blend of markers."""
        made = self._plain(blend)
        made.load_state_dict(self.folded(blend))
        return made.eval().requires_grad_(False)

    def stained(self, blend: Sequence[float]) -> Stained:
        """The same as a function through which gradients go."""
        plain, weights = self._plain(blend), self.folded(blend)
        return lambda *given: functional_call(plain, weights, given)

    def _plain(self, blend: Sequence[float]) -> PlainNetwork:
        made: PlainNetwork = kind_of(self.architecture.of).build(self.architecture.of, self.target_at(blend))
        return made.to(self.targets.device)


Network: TypeAlias = PlainNetwork | MarkerNetwork


def _row(target: Target) -> list[float]:
    return [*(x for row in target.matrix for x in row), target.hematoxylin, target.dab]


def built(architecture: AnyArchitecture, target: Target) -> Network:
    """A new network."""
    if isinstance(architecture, MarkerArchitecture):
        return MarkerNetwork(architecture, target)
    made: PlainNetwork = kind_of(architecture).build(architecture, target)
    return made


def markers_of(architecture: AnyArchitecture) -> tuple[str, ...]:
    """Its markers; none where it has one look."""
    return architecture.markers if isinstance(architecture, MarkerArchitecture) else ()


def plain_of(architecture: AnyArchitecture) -> PlainArchitecture:
    """What stains in the end."""
    return architecture.of if isinstance(architecture, MarkerArchitecture) else architecture


def looks_of(network: Network) -> list[Blend]:
    """The blends it is trained for: each marker alone."""
    count = len(markers_of(network.architecture))
    return [tuple(float(i == j) for i in range(count)) for j in range(count)] or [()]


def stained_in(network: Network, blend: Blend) -> Stained:
    """How densities become those of a blend of markers, with gradient."""
    return network.stained(blend) if isinstance(network, MarkerNetwork) else network


def chosen(network: Network, blend: Blend) -> PlainNetwork:
    """The plain network of a blend of markers."""
    return network.at(blend) if isinstance(network, MarkerNetwork) else network


def blend_of(text: str | None, markers: Sequence[str]) -> Blend:
    """Shares of markers from `ER`, or `ER:0.7,Ki67:0.3`. Raises: ValueError, with the nearest name.

    >>> blend_of("Ki67:1,ER:3", ["ER", "Ki67"])
    (0.75, 0.25)
    """
    if not markers:
        if text is not None:
            raise expected("marker", "left out: this stainer has one look", text)
        return ()
    if text is None and len(markers) == 1:
        return (1.0,)
    if text is None:
        raise expected("marker", f"one of {', '.join(markers)}, or a blend", "none", f"such as {markers[0]}")
    weights = dict.fromkeys(markers, 0.0)
    for part in text.split(","):
        name, _, weight = part.partition(":")
        weights[choose("marker", name.strip(), markers)] += _weight(weight or "1")
    whole = math.fsum(weights.values())
    if whole <= 0:
        raise expected("marker", "a blend with a weight above 0", text)
    return tuple(weight / whole for weight in weights.values())


def shares_in_words(markers: Sequence[str], blend: Blend) -> str:
    """What a blend is made of, "" where there is one look.

    >>> shares_in_words(["ER", "Ki67"], (0.75, 0.25))
    'ER 0.75, Ki67 0.25'
    """
    return ", ".join(f"{marker} {share:.3g}" for marker, share in zip(markers, blend, strict=True) if share)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise expected("marker", "NAME, or NAME:WEIGHT,NAME:WEIGHT with weights of at least 0", text)
    return weight


def architecture_from(facts: Mapping[str, Any]) -> AnyArchitecture:
    """An architecture of what `asdict` has made of it. Raises: ValueError, TypeError, KeyError."""
    if facts["kind"] == "markers":
        of = architecture_from(facts["of"])
        return MarkerArchitecture(plain_of(of), tuple(map(str, facts["markers"])))
    made: PlainArchitecture = KINDS[choose("network", facts["kind"], KINDS)].architecture(**facts)
    return made
