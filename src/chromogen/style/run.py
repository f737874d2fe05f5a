"""A run of `stylize`: its steps and their curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from chromogen.image import Image
from chromogen.style.checkpoint import Checkpoint, Interrupts
from chromogen.style.optimize import Losses, State
from chromogen.style.recipes import Recipe

# The steps of a run: told to a listener, kept on disk, taken up again.


@dataclass(frozen=True)
class Step:
    """One evaluation of loss and gradient: the losses of the picture as it was before the step changed it.

    Number `index` of at most `of`; the picture at this `scale` has `size` (w, h).
    """

    index: int
    of: int
    scale: float
    size: tuple[int, int]
    seconds: float
    losses: Losses


OnStep: TypeAlias = Callable[[Step, Callable[[], Image]], None]


class StyleRun:
    """The steps so far, told to a listener, and kept on disk with all that going on takes."""

    def __init__(self, recipe: Recipe, on_step: OnStep | None, checkpoint: Checkpoint | None) -> None:
        self.of, self.on_step, self.checkpoint = sum(recipe.steps), on_step, checkpoint
        self.interrupts = checkpoint.interrupts if checkpoint else Interrupts()
        saved = (checkpoint.load() if checkpoint else None) or {"number": 0, "trace": [], "initial": None}
        self.number: int = saved["number"]
        self.trace = [_step_from(step) for step in saved["trace"]]
        self.initial = Losses(**saved["initial"]) if saved["initial"] else None
        self._descent: State | None = saved.get("descent")
        self._began = time.perf_counter() - (self.trace[-1].seconds if self.trace else 0.0)

    def begin(self, number: int) -> State | None:
        """Take up a scale; the state to go on from if there is one."""
        state, self._descent = self._descent, None
        self.number = number
        return state

    def record(self, scale: float, size: tuple[int, int], picture: Callable[[], Image], losses: Losses) -> None:
        """After every step."""
        step = Step(len(self.trace) + 1, self.of, scale, size, time.perf_counter() - self._began, losses)
        self.trace.append(step)
        if self.on_step:
            self.on_step(step, picture)

    def keep(self, state: Callable[[], State]) -> None:
        """Write it all down, if it is time; where that fails, go on without."""
        if self.checkpoint is None or not self.checkpoint.is_due:
            return
        trace, initial = [asdict(step) for step in self.trace], self.initial and asdict(self.initial)
        found = {"number": self.number, "trace": trace, "initial": initial, "descent": state()}
        if not self.checkpoint.save_if_it_can(found):
            self.checkpoint = None


def _step_from(record: Mapping[str, Any]) -> Step:
    """A step as a checkpoint has it."""
    return Step(**{**record, "size": tuple(record["size"]), "losses": Losses(**record["losses"])})


# The losses of a run, step by step, as curves to draw.


def total_curve(trace: Sequence[Step]) -> list[float]:
    """The total loss over the steps of a run."""
    return [step.losses.total for step in trace]


def weighted_curves(trace: Sequence[Step], recipe: Recipe) -> dict[str, list[float]]:
    """The total and each weighted term over the steps of a run, for a loss plot.

    Terms that the run left out, for want of tissue to compare, have no curve.
    """
    weighted = {
        f"{term.weight:g} x {term.name}": [term.weight * step.losses.terms[term.name] for step in trace]
        for term in recipe.objective
        if all(term.name in step.losses.terms for step in trace)
    }
    return {"total": total_curve(trace), **weighted}
