"""Where the time goes when a window of a slide is painted, step by step.

    python benchmarks/painting.py [--looks epithelial nuclear] [--rounds N] [--out DIR]

One window of the tissue that comes with pip, as large as a slide's windows are, on one thread: processor time of
each step, the fastest of all rounds, since others on a machine only ever add to it; its share of the whole; and
the most memory that numpy takes in it. The last rows are the whole, and the whole for a Mpx of a slide: windows
overlap.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from chromogen.image import Image
from chromogen.models import LOOKS
from chromogen.nuclei.find import built_in, nuclei_seen
from chromogen.staining.confidence import confidence
from chromogen.staining.how import rendered_stains
from chromogen.staining.ready import amounts_of, ready_of, seen
from chromogen.staining.stainer import LOOK_BLEND_PX, LOOK_WINDOW_PX, load_look
from chromogen.staining.tissue import epithelium, tissue_of
from chromogen.staining.window import Dials, look_of, painted_window
from measuring import as_the_command_line, command_line, machine, markdown, pin_threads, publish, seconds
from slides import Mosaic

AT = 0, 0


def window(side_px: int = LOOK_WINDOW_PX) -> Image:
    """Tissue without glass, by default as much as a window of a slide."""
    return Mosaic(2 * side_px).read(0, (side_px // 2, side_px // 2), (side_px, side_px))


def steps_of(name: str, image: Image) -> dict[str, Callable[[], object]]:
    """What painting does, each step on what those before it have made."""
    exemplar = load_look(name).exemplar
    dials = Dials(exemplar.share)
    look = look_of(dials, image)
    white, matrix = np.array(look.white), np.array(look.matrix)
    nuclei = nuclei_seen(image, white, built_in(views=1))
    tissue = seen(image, look)
    ready = ready_of(exemplar, dials.where, dials.fill, image, look, AT)
    amounts = amounts_of(ready, exemplar, look, dials.share, dials.seed)
    return {
        "nuclei, by the network": partial(nuclei_seen, image, white, built_in(views=1)),
        "amounts of both stains, labels, distances": partial(tissue_of, image, nuclei, white, matrix),
        "where": partial(epithelium, tissue, look.rule),
        "how sure": partial(confidence, tissue, look.typical, exemplar.known),
        "all before chance and dials, nuclei known": partial(
            ready_of, exemplar, dials.where, dials.fill, image, look, AT
        ),
        "both stains": partial(amounts_of, ready, exemplar, look, dials.share, dials.seed),
        "the picture": partial(rendered_stains, *amounts[:3], exemplar),
        "all, nuclei known": partial(painted_window, exemplar, dials, image, look, AT),
    }


def measured(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Fewest processor seconds of each step, and most memory in MB."""
    found = {}
    for name, step in steps.items():
        step()
        least_s = min(seconds(step, time.process_time) for _ in range(rounds))
        tracemalloc.start()
        step()
        found[name] = least_s, tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return found


def table(found: Mapping[str, tuple[float, float]]) -> str:
    """A row a step."""
    all_s, all_mb = found["all, nuclei known"]
    per_px = LOOK_WINDOW_PX**2 / 1e6
    overlap = (LOOK_WINDOW_PX / (LOOK_WINDOW_PX - LOOK_BLEND_PX)) ** 2
    rows = [
        [name, f"{1e3 * s:.0f} ms", f"{s / all_s:.0%}", f"{mb:.0f} MB"]
        for name, (s, mb) in found.items()
        if name != "all, nuclei known"
    ]
    rows.append([f"all, {LOOK_WINDOW_PX} px", f"{1e3 * all_s:.0f} ms", "100%", f"{all_mb:.0f} MB"])
    rows.append(["a Mpx of a slide", f"{1e3 * all_s / per_px * overlap:.0f} ms", "", ""])
    return markdown(["step", "processor time", "share", "memory of numpy"], rows)


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--looks", nargs="+", default=list(LOOKS))
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    as_the_command_line()
    pin_threads(1)
    image = window()
    found: dict[str, Any] = {name: measured(steps_of(name, image), asked.rounds) for name in asked.looks}
    text = "\n\n".join(f"{name}\n\n{table(steps)}" for name, steps in found.items())
    publish("painting", {"machine": machine(), "looks": found}, text, asked)


if __name__ == "__main__":
    main()
