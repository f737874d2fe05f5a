"""The way down: a canvas is changed until its picture's losses are low, at one scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from chromogen.image import Image, to_tensor
from chromogen.style.canvas import Canvas
from chromogen.style.encoder import Encoder
from chromogen.style.gram import preconditioner
from chromogen.style.interrupts import Interrupts
from chromogen.style.objective import Masks, References, look, term_values, total
from chromogen.style.recipes import Recipe, style_terms
from chromogen.style.tiled import NO_PRECONDITIONERS, Preconditioners, TiledAim, evaluate, picture_of

PLATEAU_STEPS = 10
FIRST_MOVE = 0.003  # of values in [0, 1]
WARM_UP = 0.15  # of the steps, with a rising rate
WILD = 2.0  # times the lowest loss: curvature was misjudged


@dataclass(frozen=True)
class Losses:
    """The total, and every term's value before its own weight."""

    total: float
    terms: dict[str, float]


@dataclass(frozen=True)
class Aim:
    """What a picture of one scale is compared with, and the masks it is looked at through."""

    references: References
    masks: Masks = field(default_factory=dict)
    floor: float = 0.0  # of the style error: below it nothing is gained


def judge(image: Image, aim: Aim | TiledAim, recipe: Recipe, encoder: Encoder) -> Losses:
    """The losses of a finished picture, uint8 (H, W, 3), in fp32."""
    with torch.no_grad():
        if isinstance(aim, TiledAim):
            parts = picture_of(image, encoder.device)
            given = parts, aim, recipe.objective, recipe.loss_scale, encoder.exact
            return _losses(recipe, *evaluate(*given, backward=False))
        picture = to_tensor(image).to(encoder.device)
        return _losses(recipe, *_values(picture, aim, recipe, encoder.exact))


Record: TypeAlias = Callable[[Losses], None]
State: TypeAlias = dict[str, Any]
Keep: TypeAlias = Callable[[Callable[[], State]], None]


@dataclass(frozen=True)
class Watch:
    """Who is told the losses of every step, who may ask for the state after it, and what may end the descent."""

    record: Record
    keep: Keep
    interrupts: Interrupts


class NotFiniteInBf16Error(ArithmeticError):
    """The loss was not finite in bf16; the descent continues in fp32 from `state`."""

    def __init__(self, state: State) -> None:
        super().__init__("The loss was not finite in bf16.")
        self.state = state


def descend(
    canvas: Canvas,
    aim: Aim | TiledAim,
    recipe: Recipe,
    steps: int,
    encoder: Encoder,
    watch: Watch,
    saved: State | None = None,
) -> None:
    """Optimize at one scale, and leave the canvas at its best picture.

    `saved` is a state to go on from, as `keep` is given. Interrupts come in while loss and gradient are computed,
    which changes nothing; `keep` is asked once more before they end the descent. Raises: NotFiniteInBf16Error with
    the state to continue from in fp32, in which the steps so far count; ArithmeticError where fp32 gives no finite
    loss either; KeyboardInterrupt.
    """
    descent = Descent(canvas, recipe, steps)
    if saved:
        descent.go_on(saved)
    try:
        _optimize(descent, aim, encoder, watch)
    except KeyboardInterrupt:
        if watch.interrupts.asked:
            watch.keep(partial(descent.state, encoder.precision))
        raise
    if descent.totals:
        descent.end(_seen(canvas, aim, recipe, encoder).total)


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _put_back(parameters: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, copy in zip(parameters, copies, strict=True):
            parameter.copy_(copy)


class Descent:
    """A canvas on its way down at one scale: the optimizer, the losses so far, and the best picture yet.

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
        left = self.steps - self.began
        self.optimizer, self.cycle = OPTIMIZERS[self.recipe.optimizer](self.canvas, self.recipe.history, left)

    @property
    def lately(self) -> list[float]:
        """The losses since the optimizer began: those before a restart say nothing of how fast it goes now."""
        return self.totals[self.began :]

    def step(self, closure: Callable[[], float]) -> list[Tensor]:
        """One step; the parameters as they were before, which is where the loss was looked at."""
        looked_at = _copies(self.canvas.parameters)
        self.optimizer.step(closure)
        if self.cycle:
            self.cycle.step()
        return looked_at

    def remember(self, total: float, looked_at: list[Tensor]) -> None:
        """Keep a better picture; where a step made the loss `WILD`, begin again at the best one."""
        self.totals.append(total)
        if total < self.lowest:
            self.best, self.lowest = looked_at, total
        elif total > WILD * self.lowest:
            self.go_back()

    def go_back(self) -> None:
        """Begin again at the best picture."""
        _put_back(self.canvas.parameters, self.best)
        self._begin()

    def end(self, total: float) -> None:
        """Leave the canvas at its best picture, where the last step led to another, of this loss."""
        if not total < self.lowest:
            _put_back(self.canvas.parameters, self.best)

    def state(self, precision: str) -> State:
        """All that going on in a precision takes."""
        return {
            "precision": precision,
            "parameters": self.canvas.parameters,
            "best": self.best,
            "lowest": self.lowest,
            "totals": self.totals,
            "began": self.began,
            "optimizer": self.optimizer.state_dict(),
            "cycle": self.cycle.last_epoch if self.cycle else None,
        }

    def state_in_fp32(self, looked_at: list[Tensor]) -> State:
        """The state to continue from in fp32: the best picture, else the current one.

        Its loss in bf16 is not kept, since fp32 rounds otherwise: the first step in fp32 judges it anew.
        """
        kept = {"parameters": self.best or looked_at, "totals": self.totals, "began": len(self.totals)}
        return {**kept, "best": [], "lowest": math.inf, "optimizer": None, "cycle": None, "precision": "fp32"}

    def go_on(self, state: State) -> None:
        """Take on a state, of a canvas like this one."""
        _put_back(self.canvas.parameters, state["parameters"])
        self.totals = state["totals"][: state["began"]]
        self._begin()
        self.totals = list(state["totals"])
        here = self.canvas.parameters[0].device
        self.best, self.lowest = [best.to(here) for best in state["best"]], state["lowest"]
        if state["optimizer"]:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.cycle and state["cycle"] is not None:
            self.cycle.last_epoch = state["cycle"]


def _optimize(descent: Descent, aim: Aim | TiledAim, encoder: Encoder, watch: Watch) -> None:
    """Step by step to the end of the scale."""
    canvas, recipe, totals = descent.canvas, descent.recipe, descent.totals
    preconditioners = _preconditioners(aim.references, recipe) if recipe.preconditioned_steps else {}
    latest: list[Losses] = []

    def closure() -> float:
        with watch.interrupts.let_in():
            descent.optimizer.zero_grad()
            used = preconditioners if len(totals) < recipe.preconditioned_steps else {}
            loss, values = _with_gradient(canvas, aim, recipe, encoder, used)
        canvas.tame()
        latest[:] = [_losses(recipe, loss, values)]
        return latest[0].total

    while len(totals) < descent.steps:
        looked_at = descent.step(closure)
        if not (math.isfinite(latest[0].total) and all(p.isfinite().all() for p in canvas.parameters)):
            if encoder.precision != "fp32":
                raise NotFiniteInBf16Error(descent.state_in_fp32(looked_at))
            if not descent.lately:
                raise ArithmeticError(f"The loss is {latest[0].total} after {len(totals)} steps; try adam.")
            descent.go_back()
            continue
        canvas.settle()
        watch.record(latest[0])
        descent.remember(latest[0].total, looked_at)
        if _has_settled(descent.lately, recipe.plateau):
            break
        if len(totals) > PLATEAU_STEPS and _is_at_floor(latest[0], aim, recipe):
            break
        watch.keep(partial(descent.state, encoder.precision))


def _seen(canvas: Canvas, aim: Aim | TiledAim, recipe: Recipe, encoder: Encoder) -> Losses:
    """The losses of the present picture, as the steps see it; no gradient."""
    with torch.no_grad():
        if isinstance(aim, TiledAim):
            given = canvas.picture, aim, recipe.objective, recipe.loss_scale, encoder
            return _losses(recipe, *evaluate(*given, backward=False))
        return _losses(recipe, *_values(canvas.picture().detach(), aim, recipe, encoder))


def _with_gradient(
    canvas: Canvas, aim: Aim | TiledAim, recipe: Recipe, encoder: Encoder, used: Preconditioners
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and the terms' values; adds the gradient to the canvas's parameters."""
    if isinstance(aim, TiledAim):
        return evaluate(canvas.picture, aim, recipe.objective, recipe.loss_scale, encoder, used)
    loss, values = _values(canvas.picture(), aim, recipe, encoder, used)
    loss.backward()
    return loss, values


def _preconditioners(references: References, recipe: Recipe) -> Preconditioners:
    """Of every Gram matrix that is compared with the style's."""
    return {
        (layer, term.mask): preconditioner(references[term.name, layer].measured)
        for term in style_terms(recipe)
        for layer in term.layers
    }


def _values(
    picture: Tensor,
    aim: Aim,
    recipe: Recipe,
    encoder: Encoder,
    preconditioners: Preconditioners = NO_PRECONDITIONERS,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The total and the terms' values; preconditioners change the gradient alone."""
    measured = look(encoder, picture, recipe.objective, recipe.loss_scale, aim.masks)
    for (layer, mask), precondition in preconditioners.items():
        measured["gram", layer, mask].register_hook(precondition)
    values = term_values(recipe.objective, measured, aim.references, recipe.loss_scale)
    return total(recipe.objective, values), values


def _losses(recipe: Recipe, loss: Tensor, values: dict[str, Tensor]) -> Losses:
    return Losses(loss.item(), {term.name: values[term.name].item() for term in recipe.objective})


Search: TypeAlias = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR | None]


def _lbfgs(canvas: Canvas, history: int, _steps: int) -> Search:
    """L-BFGS of one evaluation a step, no line search; the history goes on from step to step.

    torch's first step moves all pixels together by 1: so little that in bf16 rounding decides what curvature it
    sees, and the second step may explode. Ours moves them by `FIRST_MOVE` each, on average.
    """
    optimizer = torch.optim.LBFGS(
        canvas.parameters,
        lr=FIRST_MOVE * sum(parameter.numel() for parameter in canvas.parameters),
        max_iter=1,
        history_size=history,
        tolerance_grad=0,
        tolerance_change=0,
    )
    optimizer.register_step_post_hook(_step_in_full)
    return optimizer, None


def _step_in_full(optimizer: torch.optim.Optimizer, *_given: object) -> None:
    optimizer.param_groups[0]["lr"] = 1.0


def _adam(canvas: Canvas, _history: int, steps: int) -> Search:
    """Adam (Kingma & Ba 2015) at the canvas's rate; where it asks for one, in a cycle (Smith 2018)."""
    optimizer = torch.optim.Adam(canvas.parameters, lr=canvas.learning_rate, betas=(0.9, 0.99))
    if canvas.one_cycle and steps > 1:
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(
            optimizer, canvas.learning_rate, total_steps=steps + 1, pct_start=WARM_UP, cycle_momentum=False
        )
    return optimizer, None


OPTIMIZERS: dict[str, Callable[[Canvas, int, int], Search]] = {"lbfgs": _lbfgs, "adam": _adam}


def _is_at_floor(losses: Losses, aim: Aim | TiledAim, recipe: Recipe) -> bool:
    if not aim.floor:
        return False
    terms = style_terms(recipe)
    weighted = math.fsum(term.weight * losses.terms[term.name] for term in terms)
    return weighted <= aim.floor * math.fsum(term.weight for term in terms)


def _has_settled(totals: Sequence[float], plateau: float) -> bool:
    """Whether the loss fell by less than the fraction `plateau` over the last steps."""
    if plateau == 0 or len(totals) <= PLATEAU_STEPS:
        return False
    return totals[-1] > totals[-1 - PLATEAU_STEPS] * (1 - plateau)
