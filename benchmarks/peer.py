"""Step by step beside pastiche 1.6, our peer on equal terms: same weights, same objective, same pictures, one run.

    python benchmarks/peer.py [--size 512] [--steps 40] [--out DIR] [--json]

Both minimize pastiche's default objective from the content with L-BFGS, one evaluation a step, at one scale.
Blocks of ten steps, each in a process of its own, take turns, so that a noisy machine disturbs all alike; the
first two of a block are its warm-up. pastiche is timed as its users get it and once more with freed memory kept,
as our command line does; so are we, without. Pictures after all the steps are judged after rounding to 8 bits,
in fp32, by pastiche's own code. Memory is the peak of a process that does nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pastiche.pastiche import save_image

from chromogen.image import read_image, write_image
from chromogen.style.encoder import Encoder
from chromogen.style.stylize import stylized
from measuring import (
    apart,
    as_the_command_line,
    command_line,
    machine,
    markdown,
    pin_threads,
    positive,
    publish,
    seconds,
    spread,
)
from pair import pictures
from pastiche_objective import artist_of, judged, pair_in, peer_recipe

BLOCK = 10
WARM_UP = 2
Pair = tuple[Path, Path]
Run = Callable[[Pair, int, Path | None], list[float]]


def pastiche(pair: Pair, steps: int, picture: Path | None = None) -> list[float]:
    """Seconds of each of pastiche's steps; its picture goes to a file, if one is named."""
    artist = artist_of(*pair)
    times = [seconds(artist.draw) for _ in range(steps)]
    if picture:
        save_image(artist.pastiche, str(picture))
    return times


def ours(precision: str, pair: Pair, steps: int, picture: Path | None = None) -> list[float]:
    """Seconds of each of our steps but the first, by the same rules."""
    content, style = (read_image(path) for path in pair)
    recipe = replace(peer_recipe(content.shape[1], content.shape[0]), steps=(steps,))
    result = stylized(content, style, recipe, encoder=Encoder(precision=precision))
    if picture:
        write_image(picture, result.image)
    at = [step.seconds for step in result.trace]
    return [later - earlier for earlier, later in pairwise(at)]


def keeping(run: Run, pair: Pair, steps: int, picture: Path | None = None) -> list[float]:
    """A run in a process that keeps freed memory."""
    as_the_command_line()
    return run(pair, steps, picture)


def runs() -> dict[str, Run]:
    """Whom to compare."""
    alone: dict[str, Run] = {"pastiche 1.6, fp32": pastiche}
    for precision in dict.fromkeys(["fp32", Encoder().precision]):
        alone[f"Chromogen, {precision}"] = partial(ours, precision)
    kept = {f"{name}, memory kept": partial(keeping, run) for name, run in alone.items()}
    return {name: run for pair in zip(alone.items(), kept.items(), strict=True) for name, run in pair}


def compare(size_px: int, steps: int, folder: Path) -> dict[str, Any]:
    """Run all, block by block, and gather the figures; the first block of each goes all the way and is judged."""
    pair = pair_in(folder, *pictures(size_px))
    times: dict[str, list[float]] = {name: [] for name in runs()}
    memory: dict[str, float] = {}
    objective = {"content": judged(pair[0], *pair)}
    for name, run in runs().items():
        picture = folder / f"{name.replace(', ', '_').replace(' ', '_')}.png"
        found, memory[name] = apart(run, pair, steps, picture)
        times[name] += found[WARM_UP:]
        objective[name] = judged(picture, *pair)
    for _ in range(max(1, steps // BLOCK)):
        for name, run in runs().items():
            found, _ = apart(run, pair, BLOCK, None)
            times[name] += found[WARM_UP:]
    return {
        "size_px": size_px,
        "steps": steps,
        "seconds_per_step": {name: spread(values) for name, values in times.items()},
        "objective": objective,
        "peak_mb": memory,
        "machine": machine(),
    }


def table(figures: Mapping[str, Any]) -> str:
    """One row for each run."""
    base = next(iter(figures["seconds_per_step"].values()))["median"]

    def row(name: str, s: Mapping[str, float]) -> list[str]:
        times = f"{s['median']:.3f} ({s['quartile_1']:.3f}-{s['quartile_3']:.3f})"
        reached = f"{figures['objective'][name]:.0f}"
        return [name, times, f"{base / s['median']:.2f}", f"{figures['peak_mb'][name] / 1000:.2f} GB", reached]

    columns = [f"{figures['size_px']} px, {figures['steps']} steps", "s per step, median (quartiles)"]
    columns += ["times pastiche's speed", "peak memory", "pastiche's objective reached"]
    return markdown(columns, [row(*item) for item in figures["seconds_per_step"].items()])


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--size", type=positive, default=512, metavar="PX")
    parser.add_argument("--steps", type=positive, default=40)
    given = parser.parse_args()
    pin_threads(given.threads)
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    figures = compare(given.size, given.steps, folder)
    publish("peer", figures, table(figures), given)


if __name__ == "__main__":
    main()
