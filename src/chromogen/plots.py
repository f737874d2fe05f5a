"""Curves of numbers, drawn without a screen."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chromogen.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def loss_plot(curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Loss against step, logarithmic, one line a name; values must be finite, zeros are left out of the line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, values in curves.items():
        shown = [value if value > 0 else float("nan") for value in values]
        axes.plot(range(1, len(values) + 1), shown, label=name, linewidth=1.5)
    if any(value > 0 for values in curves.values() for value in values):
        axes.set_yscale("log")
    axes.set(title=title, xlabel="step (loss and gradient evaluations)", ylabel="loss")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(frameon=False)
    return figure


def bland_altman_plot(predicted: Sequence[float], real: Sequence[float], what: str) -> Figure:
    """Difference against mean of two measurements of each image, with the mean difference and its 95 % limits.

    Bland & Altman (1986): a correlation would not show that one of the two is always higher.
    """
    import numpy as np
    from matplotlib.figure import Figure

    means, differences = (np.add(predicted, real) / 2), np.subtract(predicted, real)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(means, differences, s=18)
    middle, spread = differences.mean(), 1.96 * differences.std(ddof=1) if len(differences) > 1 else 0.0
    for level, style in ((middle, "-"), (middle - spread, ":"), (middle + spread, ":")):
        axes.axhline(level, linestyle=style, linewidth=1, color="0.4")
    axes.set(title=what, xlabel="mean of prediction and real", ylabel="prediction - real")
    axes.grid(visible=True, alpha=0.25)
    return figure


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure as .png, .svg or .pdf, by suffix."""
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.lstrip(".").lower() or "png", dpi=150)
    write_whole(path, data.getvalue())


def svg(figure: Figure) -> str:
    """A figure as an <svg> element for a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
