"""`chromogen nuclei`: nuclei found, counted and judged."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chromogen.app.options import numbers
from chromogen.app.terminal import (
    DebugOption,
    JsonOption,
    end_with,
    note_assumed,
    numbered,
    one_by_one,
    progress_bars,
)

if TYPE_CHECKING:
    from chromogen.app.nuclei import NucleiFound

EPILOG = """Examples:

chromogen nuclei ki67.png -o nuclei/

chromogen nuclei slides/ -o nuclei/ --mpp 0.25

chromogen nuclei er.svs -o nuclei/ --grades 0.2,0.4,0.6

chromogen nuclei he.svs -o nuclei/ --stains h-e --network my_nuclei.onnx

For every input: NAME.geojson, the outlines, which QuPath imports as detections; NAME.csv, one row a nucleus, and
the same as NAME.parquet where pyarrow is installed; NAME_nuclei.jpg, the picture with outlines, blue negative and
brown-red positive, of a slide the field with the most nuclei; NAME_labels.tif of tiles. All in one: nuclei.csv,
nuclei.json and index.html. Stopped at any moment, the same command goes on: what is found lies in NAME.nuclei
until all of an input is written."""


def nuclei(
    paths: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Slides, images, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")],
    stains: Annotated[
        str, typer.Option(help="auto, h-dab (an IHC: nuclei are positive or negative) or h-e.")
    ] = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="OD", help="DAB density from which a nucleus is positive. Default: found from its own nuclei."
        ),
    ] = None,
    grades: Annotated[
        str | None,
        typer.Option(
            metavar="OD,OD,OD",
            help="DAB densities from which nuclei are 1+, 2+ and 3+. Default: found, or 1 to 3 times --threshold.",
        ),
    ] = None,
    network: Annotated[
        Path | None, typer.Option(metavar="FILE.onnx", help="Your own network in place of Chromogen's.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Size of a pixel in um. Default: the file's, else 0.5.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find nuclei, H&E or IHC: outlines, a table, and which of them are positive."""
    from chromogen.app.nuclei import Settings, check_outputs, nuclei_of_file, said_of, thresholds_of, write_found
    from chromogen.app.nuclei_networks import named_network
    from chromogen.app.nuclei_tables import NO_PARQUET, has_parquet
    from chromogen.app.paths import in_folder, ready_folder
    from chromogen.errors import choose
    from chromogen.provenance import facts_since
    from chromogen.slides.slide import slide_files
    from chromogen.whole_slide.nuclei import STAINS

    choose("stains", stains, STAINS)
    levels = thresholds_of(threshold, numbers("grades", grades, float) if grades else ())
    files = slide_files(paths)
    in_folder(files, out)
    check_outputs(files, out)
    settings = Settings(named_network(network), stains, levels, mpp)
    ready_folder(out)
    began = time.perf_counter()
    with progress_bars() as progress:
        bar = progress.add_task("windows", total=None, loss="", rate="")

        def work(index: int, file: Path) -> tuple[Path, NucleiFound]:
            def on_window(done: int, of: int) -> None:
                progress.update(bar, completed=done, total=of, rate=numbered(index, files))

            return file, nuclei_of_file(file, out, settings, on_window)

        done, errors = one_by_one(files, work)
    note_assumed([found.mpp if found.mpp_from == "assumed" else None for _, found in done], "--mpp")
    results = [asdict(found) for _, found in done]
    facts = {
        "output": str(out),
        "settings": settings.facts(),
        "results": results,
        "errors": errors,
        **facts_since(began),
    }
    write_found(out, done, facts)
    notes = [f"{found.name}: {note}" for _, found in done for note in found.notes]
    for note in notes if has_parquet() else [*notes, NO_PARQUET]:
        print(f"Note: {note}.", file=sys.stderr)
    if as_json:
        print(json.dumps(facts))
    elif done:
        print("\n".join(f"{found.name}: {said_of(found)}" for _, found in done))
        print(f"Open {out / 'index.html'} in a browser.")
    end_with(errors)
