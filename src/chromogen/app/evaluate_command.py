"""`chromogen evaluate`: how good is it?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption, Machine, progress_bars, tell_report

EPILOG = """Examples:

chromogen evaluate virtual/ --content he/ --real ihc/ --mpp 0.5 -o report/

chromogen evaluate virtual.png --content he.png -o report/

chromogen evaluate virtual/ --real ihc/ --group "^(slide[0-9]+)_" -o report/ --json

Open report/index.html. Two baselines stand beside the prediction, the H&E itself and the H&E in the colours of the
real IHC, and a floor: one real IHC against another."""


def evaluate(
    prediction: Annotated[Path, typer.Argument(help="Virtual stain: an image or slide, or a folder of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for index.html, evaluation.json and .csv.")],
    content: Annotated[
        Path | None,
        typer.Option(help="The H&E they came from: an image or slide, or a folder with the same names."),
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Real IHC: an image or slide, or a folder with the same names.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Size of a pixel in um. Default: the file's, else 0.5.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Regular expression that finds in a name which slide it is from.")
    ] = None,
    shift_um: Annotated[float, typer.Option(help="How far the real IHC may be moved to fit, in um.")] = 25.0,
    device: Annotated[str, Machine(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure virtual stains against the H&E they came from and a real IHC: JSON, CSV and one page."""
    from chromogen.app.paths import ready_folder
    from chromogen.evaluation.evaluate import evaluate as score
    from chromogen.evaluation.report import mean_lines, write_report
    from chromogen.provenance import facts_since
    from chromogen.style.encoder import Encoder

    ready_folder(out)
    began = time.perf_counter()
    with progress_bars() as progress:
        task = progress.add_task("images", total=None, loss="", rate="")

        def follow(done: int, of: int, name: str) -> None:
            progress.update(task, completed=done, total=of, rate=name)

        encoder = Encoder(precision="fp32", device=device)
        found = score(
            prediction, content, real, encoder=encoder, mpp=mpp, group=group, shift_um=shift_um, on_case=follow
        )
    files = write_report(found, out, facts_since(began))
    tell_report(files, found.warnings, mean_lines(found), as_json=as_json)
