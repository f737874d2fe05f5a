"""`chromogen demo` and `info`: see everything once, and what a slide is."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.arguments import Debug, Json, OutFolder
from chromogen.app.terminal import USE, add_bar, add_step_bar, one_by_one, progress_bars, result_line, tell

if TYPE_CHECKING:
    from chromogen.app.info import SlideInfo
    from chromogen.style.run import OnStep


def demo_command(
    out: OutFolder = Path("demo"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Everything once, on a real H&E slide that comes with pip, in minutes: pictures and a page, index.html.

    chromogen demo

    chromogen demo -o somewhere/

    The first time the slide is fetched by pip (2 MB). Then: chromogen view demo, to look closely.
    """
    from chromogen.app.demo import make_demo
    from chromogen.app.paths import ready_folder
    from chromogen.provenance import run_facts

    ready_folder(out)
    with progress_bars() as progress, ExitStack() as until_made:
        on_slide = add_bar(progress, "whole slide", "fetching it, once")

        def listener(name: str, steps: int) -> OnStep:
            on_slide(0, 1, "last")
            return until_made.enter_context(add_step_bar(progress, name, steps))

        made = make_demo(out, listener, lambda done, of: on_slide(done, of, "blocks"))
    results = {name: facts for name, (_, facts) in made.results.items()}
    facts = {"output": str(made.index), "seconds": made.seconds, "results": results, **run_facts()}
    then = [f"Open {made.index} in a browser.", f"To look closely and compare: chromogen view {out}"]
    tell(facts, [*map(result_line, results.values()), USE, *then], as_json=as_json)


def info_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Slides, images, OME-Zarr folders, folders, or stainers."),
    ],
    mpp: Annotated[
        float | None, typer.Option(help="Size of a level-0 pixel in um, instead of what the files say.")
    ] = None,
    stain_mpp: Annotated[
        float, typer.Option(help="Pixel size in um for which Chromogen estimates the time of staining.")
    ] = 0.5,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What a slide or image is: format, size, levels, mpp, tissue, time it takes to stain; or a stainer's card.

    chromogen info slide.svs

    chromogen info slides/ --json

    chromogen info scan.tif --mpp 0.25

    chromogen info my_stain.safetensors

    chromogen info epithelial

    chromogen info generator.onnx

    Where the pixel size is unknown, `stain` needs it by --mpp. Label and macro images are named, for they may
    show who a slide is from, and are never opened.
    """
    from chromogen.app.info import described, text_of
    from chromogen.provenance import peak_rss_mb, versions
    from chromogen.slides.slide import slide_files

    began = time.perf_counter()

    def work(_index: int, file: Path) -> SlideInfo | dict[str, Any]:
        found = described(file, mpp, stain_mpp)
        if not as_json:
            print(text_of(found))
        return found

    found, errors = one_by_one(slide_files(paths), work)
    results = [one if isinstance(one, dict) else asdict(one) for one in found]
    took = {"seconds": round(time.perf_counter() - began, 3), "peak_rss_mb": round(peak_rss_mb(), 1)}
    facts = {"results": results, "errors": errors, **took, "versions": versions()}
    tell(facts, [], errors=errors, as_json=as_json)
