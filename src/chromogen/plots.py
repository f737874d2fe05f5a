"""Curves of numbers, drawn without a screen."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chromogen.files import write_whole

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox
    from numpy.typing import NDArray


PLOT_SUFFIXES = (".png", ".svg", ".pdf")
DECADE = 10
NAME_PT = (8, 4)  # right of a point and above it


def loss_plot(curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Loss against step, logarithmic, one line a name; values must be finite, zeros are left out of the line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, values in curves.items():
        shown = [value if value > 0 else float("nan") for value in values]
        axes.plot(range(1, len(values) + 1), shown, label=name, linewidth=1.5)
    if any(value > 0 for values in curves.values() for value in values):
        axes.set_yscale("log")
    axes.set(title=title, xlabel="step (loss and gradient evaluations)", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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


def pareto_plot(points: Mapping[str, tuple[float, float]], x_label: str, y_label: str) -> Figure:
    """Named points, of which less x and more y is better, with the front that none of the others beats."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    axes = figure.subplots()
    front = pareto_front(points)
    axes.plot(*zip(*(points[name] for name in front), strict=True), "--", color="0.6", linewidth=1)
    for name, (x, y) in points.items():
        axes.scatter(x, y, s=28, color="tab:brown" if name in front else "tab:blue")
    axes.margins(0.12)
    least, most = (of(x for x, _ in points.values()) for of in (min, max))
    if least > 0 and most > DECADE * least:
        axes.set_xscale("log")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(visible=True, which="both", alpha=0.25)
    _name_points(figure, axes, points)
    return figure


def _name_points(figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """A name at each point, as much higher as other names need, with a line to its point."""
    from matplotlib.text import Text

    line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
    upward = sorted(points.items(), key=lambda item: item[1][1])
    names = [
        axes.annotate(name, place, NAME_PT, textcoords="offset points", fontsize=9, arrowprops=line)
        for name, place in upward
    ]
    figure.draw_without_rendering()  # only then names have a place and a size
    taken: list[Bbox] = []
    for name in names:
        box, raised_pt = Text.get_window_extent(name), 0
        while any(box.translated(0, raised_pt * figure.dpi / 72).overlaps(other) for other in taken):
            raised_pt += 1
        name.xyann = (NAME_PT[0], NAME_PT[1] + raised_pt)
        taken.append(box.translated(0, raised_pt * figure.dpi / 72))


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points that no other equals or beats in both, by x.

    >>> pareto_front({"a": (1, 1), "b": (2, 3), "c": (3, 2)})
    ['a', 'b']
    """
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def picture_grid(rows: Sequence[Sequence[NDArray[np.uint8]]], titles: Sequence[str], px: int = 256) -> Figure:
    """Pictures, uint8 (H, W, 3), in rows of equal length, a title over each column, each drawn about `px` wide."""
    from matplotlib.figure import Figure

    dpi, columns = 100, len(titles)
    wrapped = [textwrap.wrap(title, 28) for title in titles]
    above = 0.1 + 0.09 * max(map(len, wrapped), default=1)  # of a picture's height
    size = (columns * px * 1.04 / dpi, (len(rows) * 1.04 + above) * px / dpi)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, images in zip(axes, rows, strict=True):
        for place, image in zip(line, images, strict=True):
            place.imshow(image)
            place.set_axis_off()
    for place, lines in zip(axes[0], wrapped, strict=True):
        place.set_title("\n".join(lines), fontsize=11)
    return figure


def save_plot(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure as .png, .svg or .pdf, by suffix."""
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix.lstrip(".").lower() or "png", dpi=dpi)
    write_whole(path, data.getvalue())


def svg(figure: Figure) -> str:
    """A figure as an <svg> element for a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
