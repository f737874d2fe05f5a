"""Optimizers of one evaluation a step: L-BFGS, and Adam in a cycle of rates.

torch's own optimizers import torch's compiler when they are made: two seconds in which nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

FIRST_MOVE = 0.003  # of values in [0, 1]
LOWEST_CURVATURE = 1e-10  # of a step that L-BFGS remembers
BETAS = 0.9, 0.99
EPSILON = 1e-8
WARM_UP = 0.15  # of the steps, with a rising rate
RATES = 1 / 25, 1.0, 1 / 25e4  # of a cycle: at its beginning, at its height, at its end

Parameters: TypeAlias = Sequence[Tensor]
State: TypeAlias = dict[str, Any]


class Optimizer(Protocol):
    """What changes parameters by their gradients, step by step."""

    def step(self, closure: Callable[[], object]) -> None:
        """Call the closure, which computes the gradients, and change the parameters once."""

    def state_dict(self) -> State:
        """All that the next step depends on besides the parameters."""

    def load_state_dict(self, state: State) -> None:
        """Continue from a state."""


class Lbfgs:
    """L-BFGS without a line search (Liu & Nocedal 1989); its history grows with every step.

    The first step moves all values by `FIRST_MOVE` each, on average. One that moved them all together by 1 would
    be so small that in bf16 rounding decides what curvature it sees, and the second step may explode.
    """

    def __init__(self, parameters: Parameters, history: int) -> None:
        self.parameters, self.history = parameters, history
        self.latest: tuple[Tensor, Tensor] | None = None  # gradient, and the move it led to
        self.changes: list[tuple[Tensor, Tensor, Tensor]] = []  # of gradient and place, with 1 / their product
        self.inverse_curvature = torch.ones(())  # along the latest move

    def step(self, closure: Callable[[], object]) -> None:
        """One evaluation."""
        closure()
        gradient = _flat(self.parameters)
        if not gradient.any():
            return
        if self.latest is None:
            way = -gradient
            rate = ((1 / gradient.abs().sum()).clamp_max(1) * (FIRST_MOVE * len(gradient))).item()
        else:
            self._remember(gradient - self.latest[0], self.latest[1])
            way, rate = self._way(gradient), 1.0
        if gradient @ way > 0:
            return
        self.latest = gradient, way * rate
        _move(self.parameters, way, rate)

    def _remember(self, of_gradient: Tensor, of_place: Tensor) -> None:
        product = of_gradient @ of_place
        if product > LOWEST_CURVATURE:
            self.changes = [*self.changes, (of_gradient, of_place, 1 / product)][-self.history :]
            self.inverse_curvature = product / (of_gradient @ of_gradient)

    def _way(self, gradient: Tensor) -> Tensor:
        """Minus the gradient, by the inverse curvature that the remembered steps saw: two loops over them."""
        way, shares = -gradient, []
        for of_gradient, of_place, inverse in reversed(self.changes):
            share = (of_place @ way) * inverse
            way.add_(of_gradient, alpha=-share.item())
            shares.append(share)
        way.mul_(self.inverse_curvature)
        for (of_gradient, of_place, inverse), share in zip(self.changes, reversed(shares), strict=True):
            way.add_(of_place, alpha=(share - (of_gradient @ way) * inverse).item())
        return way

    def state_dict(self) -> State:
        """The latest gradient and move, and what is remembered."""
        return {"latest": self.latest, "changes": self.changes, "inverse_curvature": self.inverse_curvature}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state."""
        here = self.parameters[0].device
        self.latest = state["latest"] and _moved_to(here, state["latest"])
        self.changes = [_moved_to(here, change) for change in state["changes"]]
        self.inverse_curvature = state["inverse_curvature"].to(here)


class Adam:
    """Adam (Kingma & Ba 2015); with a number of `steps`, its rate rises and falls in one cycle (Smith 2018)."""

    def __init__(self, parameters: Parameters, rate: float, steps: int | None = None) -> None:
        self.parameters, self.rate, self.steps = parameters, rate, steps
        self.taken = 0
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]

    def step(self, closure: Callable[[], object]) -> None:
        """One evaluation."""
        closure()
        rate = self.rate * (cycle(self.taken, self.steps) if self.steps else 1)
        self.taken += 1
        unbiased, root = 1 - BETAS[0] ** self.taken, math.sqrt(1 - BETAS[1] ** self.taken)
        with torch.no_grad():
            for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
                if parameter.grad is None:
                    continue
                mean.lerp_(parameter.grad, 1 - BETAS[0])
                square.mul_(BETAS[1]).addcmul_(parameter.grad, parameter.grad, value=1 - BETAS[1])
                parameter.addcdiv_(mean, square.sqrt().div_(root).add_(EPSILON), value=-rate / unbiased)

    def state_dict(self) -> State:
        """The steps taken, and the running means."""
        return {"taken": self.taken, "means": self.means, "squares": self.squares}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state."""
        here = self.parameters[0].device
        self.taken = state["taken"]
        self.means, self.squares = (list(_moved_to(here, state[name])) for name in ("means", "squares"))


def cycle(step: int, steps: int) -> float:
    """The share of its highest rate that a step (from 0 on) has: from low to high, and down to nearly nothing."""
    begin, height, end = RATES
    top = WARM_UP * (steps + 1) - 1
    if step <= top:
        return _eased(begin, height, step / top if top else 1.0)
    return _eased(height, end, (step - top) / (steps - top))


def _eased(begin: float, end: float, share: float) -> float:
    return end + (begin - end) / 2 * (1 + math.cos(math.pi * share))


def _flat(parameters: Parameters) -> Tensor:
    """All gradients as one vector; none counts as 0."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])


def _move(parameters: Parameters, way: Tensor, rate: float) -> None:
    parts = way.split([parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.add_(part.view_as(parameter), alpha=rate)


def _moved_to(device: torch.device, tensors: Iterable[Tensor]) -> tuple[Any, ...]:
    return tuple(tensor.to(device) for tensor in tensors)
