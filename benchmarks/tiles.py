"""Seconds per step and pixel and peak memory of pictures in one piece and in tiles.

    python benchmarks/tiles.py [--cases 1024:0 1024:512] [--preset histology] [--deepest relu5_1] [--steps 3]

Every case is a process of its own, at the full scale alone, on the tissue that comes with pip, mirrored until it
is large enough. A tile of 0 is one piece. Seconds are those between steps: what is done once before and after is
listed beside. The last column is against the first case, per pixel and by processor time, which with `--threads 1`
does not depend on what else the machine does. `--deepest` leaves out the style's layers behind it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chromogen.compute.memory import give_back_freed_memory
from chromogen.image import Image
from chromogen.style.encoder import Encoder
from chromogen.style.measured_style import measure_style
from chromogen.style.recipes import PRESETS, STYLE_LAYERS, with_style
from chromogen.style.stylize import Step, stylized
from measuring import apart, as_the_command_line, command_line, machine, markdown, pin_threads, publish
from pair import pictures


def enlarged(image: Image, side_px: int) -> Image:
    """The image and its mirror images, side by side, of `side_px` on a side."""
    more = [(0, max(0, side_px - side)) for side in image.shape[:2]]
    return np.pad(image, (*more, (0, 0)), mode="symmetric")[:side_px, :side_px]


def one_case(preset: str, deepest: str, side_px: int, tile_px: int, steps: int) -> dict[str, Any]:
    """Seconds of a step after the first, by the clock and of the processor; seconds of all else."""
    as_the_command_line()
    if tile_px:
        give_back_freed_memory()
    he, ihc = pictures(512)
    recipe = replace(PRESETS[preset], scales=(1.0,), steps=(steps,), stop_at_floor=False, plateau=0.0)
    layers = STYLE_LAYERS[: STYLE_LAYERS.index(deepest) + 1]
    recipe = with_style(recipe, layers=dict.fromkeys(layers, 1 / len(layers)))
    encoder = Encoder()
    style = measure_style([ihc], recipe, encoder)
    began = time.perf_counter()
    at: list[tuple[float, float]] = []

    def follow(_step: Step, _picture: object) -> None:
        at.append((time.perf_counter(), time.process_time()))

    made = stylized(enlarged(he, side_px), style, recipe, encoder=encoder, tile_px=tile_px or None, on_step=follow)
    whole_s = time.perf_counter() - began
    step_s, processor_s = (float(x) for x in np.median(np.diff(at, axis=0), axis=0))
    return {
        "step_s": step_s,
        "step_processor_s": processor_s,
        "other_s": whole_s - steps * step_s,
        "precision": made.precision,
    }


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row a case."""
    columns = ["size", "tile", "s a step", "processor s", "s before and after", "peak memory"]
    columns += ["processor us a step and pixel", "ratio"]
    first = found[0]["step_processor_s"] / found[0]["side_px"] ** 2
    rows = [
        [
            f"{f['side_px']}^2",
            f"{f['tile_px']}" if f["tile_px"] else "one piece",
            f"{f['step_s']:.2f}",
            f"{f['step_processor_s']:.2f}",
            f"{f['other_s']:.1f}",
            f"{f['peak_rss_mb'] / 1000:.2f} GB",
            f"{1e6 * f['step_processor_s'] / f['side_px'] ** 2:.2f}",
            f"{f['step_processor_s'] / f['side_px'] ** 2 / first:.2f}",
        ]
        for f in found
    ]
    return markdown(columns, rows)


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--cases", nargs="+", default=["1024:0", "1024:512"], help="SIDE:TILE, in px")
    parser.add_argument("--preset", default="histology", choices=list(PRESETS))
    parser.add_argument("--deepest", default=STYLE_LAYERS[-1], choices=STYLE_LAYERS)
    parser.add_argument("--steps", type=int, default=3)
    given: argparse.Namespace = parser.parse_args()
    pin_threads(given.threads)
    found = []
    for case in given.cases:
        side_px, tile_px = (int(part) for part in case.split(":"))
        figures, peak_rss_mb = apart(one_case, given.preset, given.deepest, side_px, tile_px, given.steps)
        found.append({"side_px": side_px, "tile_px": tile_px, **figures, "peak_rss_mb": peak_rss_mb})
        print(table(found).splitlines()[-1], flush=True)
    report = {"machine": machine(), "preset": given.preset, "deepest": given.deepest, "cases": found}
    publish("tiles", report, table(found), given)


if __name__ == "__main__":
    main()
