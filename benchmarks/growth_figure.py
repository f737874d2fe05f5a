"""What `growth.py` measured, as a figure of four panels and as tables, with the slopes of the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chromogen.files import write_whole
from measuring import markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Panels: TypeAlias = Mapping[str, Rows]

TIME, MEMORY, OTHER = "tab:blue", "tab:brown", "tab:cyan"
LAST = 3  # sizes of the second slope
SIZE_IN, DPI, QUALITY = (10, 7.6), 110, 85


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line through the logarithms, by least squares.

    >>> round(slope([1, 10, 100], [3, 300, 30_000]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def slopes(sizes: Sequence[float], values: Sequence[float]) -> str:
    """Over all sizes, and over the largest where there are more."""
    if len(sizes) < 2:
        return "one size"
    last = f", largest {LAST}: {slope(sizes[-LAST:], values[-LAST:]):.2f}" if len(sizes) > LAST else ""
    return f"{slope(sizes, values):.2f}{last}"


def of_kind(rows: Rows, **wanted: object) -> Rows:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def named(rows: Rows, name: str) -> list[Any]:
    """One column."""
    return [row[name] for row in rows]


def table(panels: Panels) -> str:
    """A table for each panel that was measured, and its slopes."""
    ways = {"tile": _tile_table, "slide": _slide_table, "batch": _batch_table, "workers": _workers_table}
    return "\n\n".join(ways[name](rows) for name, rows in panels.items())


def _tile_table(rows: Rows) -> str:
    cells = [[f"{row['side_px']}^2", *_costs(row)] for row in rows]
    return f"{markdown(['tile', *COSTS], cells)}\n\n{_told(rows, 'px')}"


COSTS = ("s", "processor s", "peak memory")


def _costs(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['seconds']:.1f}", f"{row['cpu_s']:.1f}", f"{row['peak_mb']:.0f} MB"]


def _told(rows: Rows, size: str) -> str:
    sizes = named(rows, size)
    return f"Slopes: time {slopes(sizes, named(rows, 'cpu_s'))}; memory {slopes(sizes, named(rows, 'peak_mb'))}."


def _slide_table(rows: Rows) -> str:
    cells = [[row["stainer"], f"{row['px']:.1e}", f"{row['stained_mpx']:.0f}", *_costs(row)] for row in rows]
    columns = ["stainer", "px", "stained Mpx", *COSTS]
    told = [
        f"{name}: {_told(of_kind(rows, stainer=name), 'px')}" for name in dict.fromkeys(named(rows, "stainer"))
    ]
    return "\n\n".join([markdown(columns, cells), *told])


def _batch_table(rows: Rows) -> str:
    cells = [[row["tiles"], *_costs(row), f"{row['cpu_s'] / row['tiles']:.2f}"] for row in rows]
    return f"{markdown(['tiles', *COSTS, 'processor s a tile'], cells)}\n\n{_told(rows, 'tiles')}"


def _workers_table(rows: Rows) -> str:
    found = of_kind(rows, kind="simulated")
    cells = []
    for row in found:
        alone = of_kind(found, blocks=row["blocks"], workers=1)[0]["seconds"]
        shares = f"{alone / row['seconds'] / row['workers']:.0%}", f"{row['painted'] / row['blocks']:.2f}"
        cells.append([row["blocks"], row["workers"], f"{row['seconds']:.1f}", *shares])
    simulated = markdown(["blocks", "workers", "simulated s", "efficiency", "windows painted a block"], cells)
    return "\n\n".join([simulated, *map(_compared, of_kind(rows, kind="measured"))])


def _compared(row: Mapping[str, Any]) -> str:
    """How far the simulation is from what was measured."""
    told = [
        f"{what}: measured {row[name]:.{digits}f}, simulated {row['simulated'][name]:.{digits}f} "
        f"({row['simulated'][name] / row[name] - 1:+.0%})"
        for name, what, digits in (
            ("seconds", "seconds", 1),
            ("busy_s", "processor seconds of workers", 1),
            ("painted", "windows", 0),
        )
        if row[name]
    ]
    return f"Workers: {row['workers']}. {'; '.join(told)}."


# The figure.


def draw(panels: Panels, file: Path) -> None:
    """Write the figure as JPEG; a panel that was not measured stays empty."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_IN, layout="constrained")
    ways = {"tile": _draw_tile, "slide": _draw_slide, "batch": _draw_batch, "workers": _draw_workers}
    for axes, (name, way) in zip(figure.subplots(2, 2).flat, ways.items(), strict=True):
        if panels.get(name):
            way(axes, panels[name])
    data = BytesIO()
    figure.savefig(data, format="jpeg", dpi=DPI, pil_kwargs={"quality": QUALITY, "optimize": True})
    write_whole(file, data.getvalue())


def _draw_tile(axes: Axes, rows: Rows) -> None:
    axes.set(title="A tile: chromogen stain he.png", xlabel="pixels")
    _with_memory(axes, [("", rows)], "px")


def _draw_slide(axes: Axes, rows: Rows) -> None:
    axes.set(title="A slide, 64 % tissue, by stainer", xlabel="pixels")
    names = dict.fromkeys(named(rows, "stainer"))
    _with_memory(axes, [(f"{name}: ", of_kind(rows, stainer=name)) for name in names], "px")


def _draw_batch(axes: Axes, rows: Rows) -> None:
    axes.set(title="Tiles of 256 px in one command", xlabel="tiles")
    _with_memory(axes, [("", rows)], "tiles")
    a_tile = [row["cpu_s"] / row["tiles"] for row in rows]
    _line(axes, named(rows, "tiles"), a_tile, "processor s a tile", OTHER, "s--")
    axes.set_ylim(bottom=min(a_tile) / 2)
    axes.legend(loc="upper left", fontsize=8)


def _with_memory(axes: Axes, lines: Sequence[tuple[str, Rows]], size: str) -> None:
    """Time on the left, memory on the right."""
    right = axes.twinx()
    for (name, rows), marker in zip(lines, ("o-", "^-"), strict=False):
        sizes = named(rows, size)
        _line(axes, sizes, named(rows, "cpu_s"), f"{name}processor s", TIME, marker)
        _line(right, sizes, named(rows, "peak_mb"), f"{name}memory", MEMORY, marker)
    axes.set_ylim(top=4 * axes.get_ylim()[1])  # room for legends
    axes.set_ylabel("processor seconds", color=TIME)
    right.set_ylabel("peak memory, MB", color=MEMORY)
    right.set_yscale("log")
    right.set_ylim(50, 20_000)
    axes.legend(loc="upper left", fontsize=8)
    right.legend(loc="lower right", fontsize=8)


def _line(
    axes: Axes, sizes: Sequence[float], values: Sequence[float], name: str, colour: str, marker: str
) -> None:
    axes.plot(sizes, values, marker, color=colour, label=f"{name}, slope {slopes(sizes, values)}", markersize=5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(visible=True, which="major", alpha=0.25)


def _draw_workers(axes: Axes, rows: Rows) -> None:
    axes.set(title="Workers, simulated from measured blocks", xlabel="workers", ylabel="seconds")
    found = of_kind(rows, kind="simulated")
    for blocks, colour in zip(dict.fromkeys(named(found, "blocks")), (OTHER, TIME), strict=False):
        line = of_kind(found, blocks=blocks)
        _line(axes, named(line, "workers"), named(line, "seconds"), f"{blocks} blocks", colour, "o-")
    axes.set_ylim(top=4 * max(named(found, "seconds")))
    axes.legend(loc="upper right", fontsize=8)
