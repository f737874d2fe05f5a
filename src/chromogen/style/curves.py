"""The losses of a run, step by step, as curves to draw."""

from __future__ import annotations

from collections.abc import Sequence

from chromogen.style.recipes import Recipe
from chromogen.style.run import Step


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
