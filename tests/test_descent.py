"""L-BFGS and Adam take torch's own steps, bit by bit, and continue from a state as if they had not stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from chromogen.style.descent import FIRST_MOVE, WARM_UP, Adam, Lbfgs, Optimizer, cycle

RATE, STEPS, HISTORY = 0.015, 24, 5
SHAPES = [(4, 3), (9,)]


def places() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(shape, generator=generator).requires_grad_() for shape in SHAPES]


def closure_of(parameters: list[Tensor]) -> Callable[[], Tensor]:
    """A valley that curves (Rosenbrock 1960), in all values together."""

    def closure() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        x = torch.cat([parameter.reshape(-1) for parameter in parameters])
        loss = (10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        loss.backward()
        return loss

    return closure


def of_torch(parameters: list[Tensor], name: str) -> Callable[[Callable[[], Tensor]], object]:
    """The same step by torch."""
    if name == "adam":
        adam = torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.99))
        rates = torch.optim.lr_scheduler.OneCycleLR(
            adam, RATE, total_steps=STEPS + 1, pct_start=WARM_UP, cycle_momentum=False
        )
        return lambda closure: (adam.step(closure), rates.step())
    lbfgs = torch.optim.LBFGS(
        parameters,
        lr=FIRST_MOVE * sum(parameter.numel() for parameter in parameters),
        max_iter=1,
        history_size=HISTORY,
        tolerance_grad=0,
        tolerance_change=0,
    )
    return lambda closure: (lbfgs.step(closure), lbfgs.param_groups[0].update(lr=1.0))


def ours(parameters: list[Tensor], name: str) -> Optimizer:
    return Adam(parameters, RATE, STEPS) if name == "adam" else Lbfgs(parameters, HISTORY)


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_steps_are_torchs(name: str) -> None:
    here, there = places(), places()
    optimizer, step = ours(here, name), of_torch(there, name)
    for _ in range(STEPS):
        optimizer.step(closure_of(here))
        step(closure_of(there))
        assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(here, places(), strict=True))


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
@pytest.mark.parametrize("after", [0, 1, 9])
def test_it_continues_from_its_state(name: str, after: int) -> None:
    whole, first = places(), places()
    optimizer = ours(whole, name)
    for _ in range(15):
        optimizer.step(closure_of(whole))
    optimizer = ours(first, name)
    for _ in range(after):
        optimizer.step(closure_of(first))
    second = [parameter.detach().clone().requires_grad_() for parameter in first]
    resumed = ours(second, name)
    resumed.load_state_dict(optimizer.state_dict())
    for _ in range(15 - after):
        resumed.step(closure_of(second))
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_where_nothing_pulls_nothing_moves(name: str) -> None:
    here = places()

    def closure() -> None:
        for parameter in here:
            parameter.grad = torch.zeros_like(parameter)

    ours(here, name).step(closure)
    assert all(torch.equal(a, b) for a, b in zip(here, places(), strict=True))


@pytest.mark.parametrize("steps", [2, 3, 6, 40])
def test_a_cycle_rises_to_its_height_and_falls_to_nearly_nothing(steps: int) -> None:
    rates = [cycle(step, steps) for step in range(steps + 1)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(4e-6)


def test_a_picture_is_drawn_without_torchs_compiler() -> None:
    """It takes two seconds to import, before the first step."""
    code = """
import sys
import numpy as np
from dataclasses import replace
from chromogen.style.recipes import PRESETS
from chromogen.style.stylize import stylized
from skimage.data import immunohistochemistry
ihc = immunohistochemistry()[:96, :96]
for name in ("histology", "paper"):
    recipe = PRESETS[name]
    stylized(ihc[::-1].copy(), ihc, replace(recipe, steps=(1,) * len(recipe.steps)))
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor", "sympy"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
