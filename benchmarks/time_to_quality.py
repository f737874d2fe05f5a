"""Seconds until Chromogen's picture is as good as pastiche 1.6's after N steps, by pastiche's own objective.

    python benchmarks/time_to_quality.py --content C --style S --peer-steps N [--out DIR] [--json]

Any two images of one size. pastiche draws N steps from the content, as its users get it; only its steps are timed.
Chromogen starts from nothing but the two images and is timed from there, measuring the style included, until its
picture, rounded to 8 bits, has pastiche's objective at or below that of pastiche's written picture. It runs three
times, each in a process of its own, and between the runs pastiche takes more steps, which show whether the machine
has changed meanwhile. Both pictures, `peer.png` and `chromogen.png`, are judged by pastiche's own code in fp32.

Judging is not timed, for either. pastiche does not clamp, so the picture it writes is worse than the one it holds.
The time to reach the objective of the one it holds is given beside, as `chromogen_running_s` (null where it was
not reached). Several N share one run of pastiche; their pictures go to DIR/N, and --json prints a line for each.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pastiche.pastiche import PasticheArtist, save_image

from chromogen.image import Image, read_image, to_tensor, write_image
from chromogen.style.encoder import Encoder
from chromogen.style.loss import picture_windows, targets_of, tiles_of, with_reference
from chromogen.style.measured_style import measure_style
from chromogen.style.optimize import judge, loss_function
from chromogen.style.stylize import Step, stylized
from measuring import (
    apart,
    as_the_command_line,
    command_line,
    heading,
    machine,
    markdown,
    pin_threads,
    positive,
    seconds,
)
from pastiche_objective import artist_of, fast_recipe, judged, pair_from, peer_recipe

RUNS = 3
STEPS_BETWEEN = 5
PATIENCE_STEPS = 100  # how long, at full size, to go on for targets beyond the written pictures
SAFETY = 1e-3  # two programs' sums in fp32 differ in their last digits


@dataclass(frozen=True)
class Peer:
    """pastiche after so many steps: what they took, and its objective as written and as held."""

    steps: int
    seconds: float
    written: float
    running: float


def draw(artist: PasticheArtist, pair: tuple[Path, Path], marks: Mapping[int, Path]) -> Iterator[Peer]:
    """Let pastiche draw, and at every mark write its picture into the mark's folder and judge it."""
    spent = 0.0
    for step in range(1, max(marks) + 1):
        spent += seconds(artist.draw)
        if step in marks:
            written = marks[step] / "peer.png"
            save_image(artist.pastiche, str(written))
            yield Peer(step, spent, judged(written, *pair), artist._calc_loss().item())


class EnoughError(Exception):
    """Ends a run from inside its listener."""


Found: TypeAlias = dict[float, tuple[float, Image]]  # target -> (seconds, picture)


class Judge:
    """pastiche's objective of pictures, by our code in fp32."""

    def __init__(self, content: Image, style: Image) -> None:
        recipe = self.recipe = peer_recipe(content.shape[1], content.shape[0])
        self.encoder = Encoder(precision="fp32")
        loss = loss_function(recipe, self.encoder)
        self.targets = targets_of(loss, tiles_of((content.shape[1], content.shape[0]), recipe.objective))
        for name, picture in {"content": content, "style": style}.items():
            self.targets = with_reference(loss, name, picture_windows(to_tensor(picture)), self.targets)

    def __call__(self, picture: Image) -> float:
        return judge(picture, self.targets, self.recipe, self.encoder).total


class Watch:
    """Listens to a run of ours and notes when each target is reached, by the rounded picture judged in fp32.

    `needed` is the lowest target worth any number of steps; for lower ones patience ends.
    """

    def __init__(self, targets: Sequence[float], needed: float, judge: Judge) -> None:
        self.open = sorted(targets)
        self.needed, self.judge = needed, judge
        self.full_size_steps = 0
        self.judging_s = 0.0
        self.found: Found = {}
        self.lowest = (math.inf, 0.0)  # objective judged, and when
        self.began = time.perf_counter()

    def __call__(self, step: Step, picture: Callable[[], Image]) -> None:
        if step.scale < 1:
            return
        self.full_size_steps += 1
        impatient = self.open[-1] < self.needed and self.full_size_steps >= PATIENCE_STEPS
        # A hint when to look: the loss is that of the picture before the step, in bf16 and unrounded.
        if step.losses.total <= 2 * self.open[-1] or impatient:
            self._check(picture(), time.perf_counter())
        if not self.open or impatient:
            raise EnoughError

    def _check(self, picture: Image, now: float) -> None:
        value = self.judge(picture) * (1 + SAFETY)
        at = now - self.began - self.judging_s
        self.judging_s += time.perf_counter() - now
        self.lowest = min(self.lowest, (value, at))
        while self.open and value <= self.open[-1]:
            self.found[self.open.pop()] = at, picture


def run_ours(
    pair: tuple[Path, Path], targets: Sequence[float], needed: float, most_steps: int
) -> tuple[Found, tuple[float, float]]:
    """When our picture reaches each target, and the lowest objective with its time.

    Seconds are counted from two images in memory and an encoder that is ready.
    """
    as_the_command_line()
    content, image = (read_image(path) for path in pair)
    recipe = fast_recipe(content.shape[1], content.shape[0], most_steps)
    encoder = Encoder()
    _warm_up(encoder)
    watch = Watch(targets, needed, Judge(content, image))
    style = measure_style([image], recipe, encoder)
    with suppress(EnoughError):
        stylized(content, style, recipe, encoder=encoder, on_step=watch)
    return watch.found, watch.lowest


def _warm_up(encoder: Encoder) -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    stylized(grey, grey, fast_recipe(64, 64, 2), encoder=encoder)


def compare(pair: tuple[Path, Path], marks: Mapping[int, Path]) -> list[dict[str, Any]]:
    """Run both, write both pictures for every mark, and gather the figures."""
    artist_of(*pair).draw()
    artist = artist_of(*pair)
    peers = list(draw(artist, pair, marks))
    targets = sorted({value for peer in peers for value in (peer.written, peer.running)})
    needed = min(peer.written for peer in peers)
    runs: list[Found] = []
    meanwhile: list[float] = []
    for _ in range(RUNS):
        (found, lowest), peak_mb = apart(run_ours, pair, targets, needed, max(PATIENCE_STEPS, *marks))
        runs.append(found)
        meanwhile += [seconds(artist.draw) for _ in range(STEPS_BETWEEN)]
    common = {
        "chromogen_peak_mb": round(peak_mb),
        "chromogen_lowest_objective": lowest[0],
        "chromogen_lowest_s": lowest[1],
        "peer_step_meanwhile_s": statistics.median(meanwhile),
    }
    return [_figures(peer, runs, pair, marks[peer.steps]) | common for peer in peers]


def _figures(peer: Peer, runs: Sequence[Found], pair: tuple[Path, Path], folder: Path) -> dict[str, Any]:
    times = _times(runs, peer.written)
    written = folder / "chromogen.png"
    if times:
        write_image(written, runs[0][peer.written][1])
    reached_s = statistics.median(times) if times else None
    running = _times(runs, peer.running)
    return {
        "peer_steps": peer.steps,
        "peer_s": peer.seconds,
        "chromogen_s": reached_s,
        "ratio": peer.seconds / reached_s if reached_s else None,
        "peer_objective": peer.written,
        "chromogen_objective": judged(written, *pair) if times else None,
        "chromogen_runs_s": times,
        "peer_running_objective": peer.running,
        "chromogen_running_s": statistics.median(running) if running else None,
        "running_ratio": peer.seconds / statistics.median(running) if running else None,
        "peer_step_s": peer.seconds / peer.steps,
    }


def _times(runs: Sequence[Found], target: float) -> list[float]:
    """Seconds to the target in each run; none unless every run reached it."""
    return [run[target][0] for run in runs] if all(target in run for run in runs) else []


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row for each number of the peer's steps."""
    columns = ["pastiche's steps", "pastiche", "Chromogen (three runs)", "times faster"]
    columns += [
        "objective written: pastiche / Chromogen",
        "pastiche's unwritten objective: reached in, times faster",
    ]
    return markdown(columns, [_row(f) for f in found])


def _row(f: Mapping[str, Any]) -> list[str]:
    runs = ", ".join(f"{value:.1f}" for value in f["chromogen_runs_s"])
    ours = [f"{f['chromogen_s']:.1f} s ({runs})", f"{f['ratio']:.1f}"] if runs else ["not reached", "-"]
    written = f"{f['peer_objective']:.0f} / " + (f"{f['chromogen_objective']:.0f}" if runs else "-")
    lowest = f"not reached; {f['chromogen_lowest_objective']:.0f} in {f['chromogen_lowest_s']:.1f} s"
    beyond = f"{f['chromogen_running_s']:.1f} s, {f['running_ratio']:.1f}" if f["running_ratio"] else lowest
    return [
        str(f["peer_steps"]),
        f"{f['peer_s']:.0f} s",
        *ours,
        written,
        f"{f['peer_running_objective']:.0f}: {beyond}",
    ]


def _marks(steps: Sequence[int], out: Path) -> dict[int, Path]:
    """The folder of every number of steps, made."""
    folders = {n: out if len(steps) == 1 else out / str(n) for n in sorted(set(steps))}
    for folder in (out, *folders.values()):
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--content", type=Path, required=True, help="an image")
    parser.add_argument("--style", type=Path, required=True, help="an image of the same size")
    parser.add_argument("--peer-steps", type=positive, nargs="+", default=[100], metavar="N")
    given = parser.parse_args()
    pin_threads(given.threads)
    folder = given.out or Path(tempfile.mkdtemp())
    try:
        marks = _marks(given.peer_steps, folder)
        pair = pair_from(given.content, given.style, folder)
    except (OSError, ValueError) as error:
        sys.exit(f"Error: {error}")
    facts: dict[str, Any] = {"size": list(read_image(pair[0]).shape[1::-1]), "machine": machine()}
    found = [figures | facts for figures in compare(pair, marks)]
    (folder / "time_to_quality.json").write_text(json.dumps(found, indent=1))
    print("\n".join(map(json.dumps, found)) if given.json else f"{heading(facts['machine'])}\n\n{table(found)}\n")


if __name__ == "__main__":
    main()
