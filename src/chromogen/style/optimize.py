"""Optimize at one scale: change a canvas until its picture's losses are low."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from chromogen.image import Image
from chromogen.style.canvas import Canvas
from chromogen.style.checkpoint import Interrupts
from chromogen.style.descent import Adam, Lbfgs, Optimizer, State
from chromogen.style.encoder import Encoder
from chromogen.style.gram import preconditioner
from chromogen.style.loss import LossFunction, Preconditioners, Targets, Value, add_gradient, picture_of, value_of
from chromogen.style.objective import References
from chromogen.style.recipes import Recipe, style_terms

PLATEAU_STEPS = 10
WILD = 2.0  # times the lowest loss: curvature was misjudged


@dataclass(frozen=True)
class Losses:
    """The total, and every term's value before its own weight."""

    total: float
    terms: dict[str, float]


def judge(image: Image, targets: Targets, recipe: Recipe, encoder: Encoder) -> Losses:
    """The losses of a finished picture, uint8 (H, W, 3), in fp32."""
    loss = loss_function(recipe, encoder).exact
    return _losses(value_of(loss, picture_of(image, encoder.device), targets))


def loss_function(recipe: Recipe, encoder: Encoder) -> LossFunction:
    """How the recipe compares pictures."""
    return LossFunction(recipe.objective, recipe.loss_scale, encoder)


Record: TypeAlias = Callable[[Losses], None]
SaveState: TypeAlias = Callable[[Callable[[], State]], None]


@dataclass(frozen=True)
class Watch:
    """What follows an optimization: `record` gets the losses of every step, `save_state` may ask for the state.

    `interrupts` may end it.
    """

    record: Record
    save_state: SaveState
    interrupts: Interrupts


class NotFiniteInBf16Error(ArithmeticError):
    """The loss was not finite in bf16; the descent continues in fp32 from `state`."""

    def __init__(self, state: State) -> None:
        super().__init__("The loss was not finite in bf16.")
        self.state = state


def optimize(
    canvas: Canvas,
    targets: Targets,
    recipe: Recipe,
    steps: int,
    encoder: Encoder,
    watch: Watch,
    saved: State | None = None,
) -> None:
    """Optimize at one scale, and leave the canvas at its best picture.

    `saved` is a state to continue from, as `save_state` gets it. Interrupts come in while loss and gradient are
    computed, which changes nothing; then `save_state` is called once more. Raises: NotFiniteInBf16Error with the
    state to continue from in fp32, in which the steps so far count; ArithmeticError where fp32 gives no finite
    loss either; KeyboardInterrupt.
    """
    run = Optimization(canvas, recipe, steps)
    if saved:
        run.load_state_dict(saved)
    try:
        _optimize(run, targets, encoder, watch)
    except KeyboardInterrupt:
        if watch.interrupts.asked:
            watch.save_state(partial(run.state_dict, encoder.precision))
        raise
    if run.totals:
        run.end(_losses(value_of(loss_function(recipe, encoder), canvas.picture, targets)).total)


def _put_back(parameters: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, copy in zip(parameters, copies, strict=True):
            parameter.copy_(copy)


class Optimization:
    """One scale of a run: the canvas, its optimizer, the losses so far, and the best picture yet.

    `lowest` is the best picture's loss, in the precision of the present steps. The optimizer's history began after
    `began` steps.
    """

    def __init__(self, canvas: Canvas, recipe: Recipe, steps: int) -> None:
        self.canvas, self.recipe, self.steps = canvas, recipe, steps
        self.totals: list[float] = []
        self.best: list[Tensor] = []
        self.lowest = math.inf
        self._begin()

    def _begin(self) -> None:
        """With no history."""
        self.began = len(self.totals)
        self.optimizer = _optimizer_of(self.canvas, self.recipe, self.steps - self.began)

    @property
    def since_restart(self) -> list[float]:
        """The losses since the optimizer began: those before a restart say nothing of how fast it goes now."""
        return self.totals[self.began :]

    def step(self, closure: Callable[[], float]) -> list[Tensor]:
        """One step; returns the parameters before it, whose loss the step computed."""
        before = [parameter.detach().clone() for parameter in self.canvas.parameters]
        self.optimizer.step(closure)
        return before

    def remember(self, total: float, before: list[Tensor]) -> None:
        """Keep a better picture; where a step made the loss `WILD`, begin again at the best one."""
        self.totals.append(total)
        if total < self.lowest:
            self.best, self.lowest = before, total
        elif total > WILD * self.lowest:
            self.restart_at_best()

    def restart_at_best(self) -> None:
        """Begin again at the best picture."""
        _put_back(self.canvas.parameters, self.best)
        self._begin()

    def end(self, total: float) -> None:
        """Leave the canvas at its best picture, where the last step led to another, of this loss."""
        if not total < self.lowest:
            _put_back(self.canvas.parameters, self.best)

    def state_dict(self, precision: str) -> State:
        """All that continuing in a precision needs."""
        return {
            "precision": precision,
            "parameters": self.canvas.parameters,
            "best": self.best,
            "lowest": self.lowest,
            "totals": self.totals,
            "began": self.began,
            "optimizer": self.optimizer.state_dict(),
        }

    def state_in_fp32(self, before: list[Tensor]) -> State:
        """The state to continue from in fp32: the best picture, else the current one.

        Its loss in bf16 is not kept, since fp32 rounds otherwise: the first step in fp32 judges it anew.
        """
        kept = {"parameters": self.best or before, "totals": self.totals, "began": len(self.totals)}
        return {**kept, "best": [], "lowest": math.inf, "optimizer": None, "precision": "fp32"}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state of a canvas like this one."""
        _put_back(self.canvas.parameters, state["parameters"])
        self.totals = state["totals"][: state["began"]]
        self._begin()
        self.totals = list(state["totals"])
        here = self.canvas.parameters[0].device
        self.best, self.lowest = [best.to(here) for best in state["best"]], state["lowest"]
        if state["optimizer"]:
            self.optimizer.load_state_dict(state["optimizer"])


def _optimize(run: Optimization, targets: Targets, encoder: Encoder, watch: Watch) -> None:
    """Step by step to the end of the scale."""
    canvas, recipe, totals = run.canvas, run.recipe, run.totals
    loss = loss_function(recipe, encoder)
    preconditioners = _preconditioners(targets.references, recipe) if recipe.preconditioned_steps else {}
    latest: list[Losses] = []

    def closure() -> float:
        with watch.interrupts.let_in():
            for parameter in canvas.parameters:
                parameter.grad = None
            used = preconditioners if len(totals) < recipe.preconditioned_steps else {}
            latest[:] = [_losses(add_gradient(loss, canvas.picture, targets, used))]
        canvas.clip_gradients()
        return latest[0].total

    while len(totals) < run.steps:
        before = run.step(closure)
        if not (math.isfinite(latest[0].total) and all(p.isfinite().all() for p in canvas.parameters)):
            if encoder.precision != "fp32":
                raise NotFiniteInBf16Error(run.state_in_fp32(before))
            if not run.since_restart:
                raise ArithmeticError(f"The loss is {latest[0].total} after {len(totals)} steps; try adam.")
            run.restart_at_best()
            continue
        canvas.project()
        watch.record(latest[0])
        run.remember(latest[0].total, before)
        if _has_converged(run.since_restart, recipe.plateau):
            break
        if len(totals) > PLATEAU_STEPS and _is_at_floor(latest[0], targets, recipe):
            break
        watch.save_state(partial(run.state_dict, encoder.precision))


def _preconditioners(references: References, recipe: Recipe) -> Preconditioners:
    """Of every Gram matrix that is compared with the style's."""
    return {
        (layer, term.mask): preconditioner(references[term.name, layer].measured)
        for term in style_terms(recipe)
        for layer in term.layers
    }


def _losses(value: Value) -> Losses:
    total, terms = value
    return Losses(total.item(), {name: term.item() for name, term in terms.items()})


def _optimizer_of(canvas: Canvas, recipe: Recipe, steps: int) -> Optimizer:
    if recipe.optimizer == "lbfgs":
        return Lbfgs(canvas.parameters, recipe.history)
    cycled = canvas.one_cycle and steps > 1
    return Adam(canvas.parameters, canvas.learning_rate, steps if cycled else None)


def _is_at_floor(losses: Losses, targets: Targets, recipe: Recipe) -> bool:
    if not targets.floor:
        return False
    terms = style_terms(recipe)
    weighted = math.fsum(term.weight * losses.terms[term.name] for term in terms)
    return weighted <= targets.floor * math.fsum(term.weight for term in terms)


def _has_converged(totals: Sequence[float], plateau: float) -> bool:
    """Whether the loss fell by less than the fraction `plateau` over the last steps."""
    if plateau == 0 or len(totals) <= PLATEAU_STEPS:
        return False
    return totals[-1] > totals[-1 - PLATEAU_STEPS] * (1 - plateau)
