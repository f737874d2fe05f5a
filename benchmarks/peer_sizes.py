"""How large a picture can be: seconds of a step and peak memory, beside pastiche 1.6 up to where it fails.

    python benchmarks/peer_sizes.py [--sizes 512 1024 2048 4096] [--within 20] [--out DIR] [--json]

Both minimize pastiche's default objective from the content with L-BFGS, one evaluation a step; the style has
512 px. Each run is a process of its own whose address space is limited to `--within` GB, so that one that asks for
too much fails and the machine does not. Three steps; the last two are timed, by the processor's time. pastiche has
one piece alone; we have it too, and cores of 1024 px where the picture is larger.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.allocator import give_back_freed_memory
from chromogen.image import read_image, write_image
from chromogen.style.encoder import Encoder
from chromogen.style.run import Step
from chromogen.style.stylize import stylize
from measuring import apart, command_line, machine, markdown, pin_threads, positive, publish
from pair import pictures
from pastiche_objective import artist_of, peer_recipe
from tiles import enlarged

STYLE_PX, TILE_PX, STEPS = 512, 1024, 3
Run = Callable[[Path, Path], list[float]]


def pastiche(content: Path, style: Path) -> list[float]:
    """When, by the processor's time, each of pastiche's steps ends."""
    artist = artist_of(content, style)
    ends = []
    for _ in range(STEPS):
        artist.draw()
        ends.append(time.process_time())
    return ends


def ours(tile_px: int | None, content: Path, style: Path) -> list[float]:
    """When each of ours ends."""
    if tile_px:
        give_back_freed_memory()
    he, ihc = read_image(content), read_image(style)
    recipe = replace(peer_recipe(he.shape[1], he.shape[0]), steps=(STEPS,))
    ends = []

    def follow(_step: Step, _picture: object) -> None:
        ends.append(time.process_time())

    stylize(he, ihc, recipe, encoder=Encoder(precision="fp32"), tile_px=tile_px, on_step=follow)
    return ends


def limited(run: Run, within_gb: float, content: Path, style: Path) -> list[float] | str:
    """A run, or what it says where memory is not enough."""
    resource.setrlimit(resource.RLIMIT_AS, (int(within_gb * 1e9), resource.RLIM_INFINITY))
    try:
        return run(content, style)
    except (MemoryError, RuntimeError, ValueError) as error:  # we say before that it will not fit
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in ("memory", "GB free")):
            raise
        return "does not fit"


def measured(run: Run, within_gb: float, content: Path, style: Path) -> dict[str, Any]:
    """Processor seconds of a step, and peak memory in MB; neither where the run fails."""
    try:
        ends, peak_mb = apart(limited, run, within_gb, content, style)
    except BrokenProcessPool:
        ends = "does not fit"
    if isinstance(ends, str):
        return {"failed": ends}
    return {"step_s": float(np.diff(ends).mean()), "peak_mb": peak_mb}


def runs(size_px: int) -> dict[str, Run]:
    """Whom to compare at a size."""
    found: dict[str, Run] = {"pastiche 1.6": pastiche, "Chromogen, one piece": partial(ours, None)}
    return found | ({f"Chromogen, cores of {TILE_PX} px": partial(ours, TILE_PX)} if size_px > TILE_PX else {})


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row a run."""
    rows = [
        [f"{f['size_px']}^2", f["name"], *([f["failed"], "-", "-"] if "failed" in f else _figures(f))]
        for f in found
    ]
    return markdown(["size", "by", "processor s a step", "us a step and pixel", "peak memory"], rows)


def _figures(found: Mapping[str, Any]) -> list[str]:
    step_s = found["step_s"]
    return [f"{step_s:.1f}", f"{1e6 * step_s / found['size_px'] ** 2:.1f}", f"{found['peak_mb'] / 1000:.2f} GB"]


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[512, 1024, 2048, 4096], metavar="PX")
    parser.add_argument("--within", type=float, default=20.0, metavar="GB")
    given = parser.parse_args()
    pin_threads(given.threads)
    he, ihc = pictures(STYLE_PX)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        content, style = Path(folder) / "content.png", Path(folder) / "style.png"
        write_image(style, ihc)
        for size_px in given.sizes:
            write_image(content, enlarged(he, size_px))
            for name, run in runs(size_px).items():
                found.append({"size_px": size_px, "name": name, **measured(run, given.within, content, style)})
                print(table(found).splitlines()[-1], flush=True)
    publish("peer_sizes", {"machine": machine(), "within_gb": given.within, "cases": found}, table(found), given)


if __name__ == "__main__":
    main()
