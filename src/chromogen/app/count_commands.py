"""`chromogen nuclei` and `unmix`: nuclei and stains of images, counted and measured."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.arguments import Debug, Inputs, Json, Mpp, OutFolder
from chromogen.app.paths import image_files, in_folder
from chromogen.app.terminal import note_assumed, numbered, one_bar, one_by_one, tell
from chromogen.errors import choose
from chromogen.files import ready_folder
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import facts_since
from chromogen.style.recipes import numbers


def nuclei_command(
    paths: Inputs,
    out: OutFolder,
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
    mpp: Mpp = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find nuclei, H&E or IHC: outlines, a table, and which of them are positive.

    chromogen nuclei ki67.png -o nuclei/

    chromogen nuclei slides/ -o nuclei/ --mpp 0.25

    chromogen nuclei er.svs -o nuclei/ --grades 0.2,0.4,0.6

    chromogen nuclei he.svs -o nuclei/ --stains h-e --network my_nuclei.onnx

    For every input: NAME.geojson, the outlines, which QuPath imports as detections; NAME.csv, one row a
    nucleus, and the same as NAME.parquet where pyarrow is installed; NAME_nuclei.jpg, the picture with
    outlines, blue negative and brown-red positive, of a slide the field with the most nuclei; NAME_labels.tif
    of tiles. All in one: nuclei.csv, nuclei.json and index.html. You may stop it at any moment. The same
    command continues: NAME.nuclei keeps what was found until all files of an input are written.
    """
    from chromogen.app import nuclei
    from chromogen.nuclei.positivity import thresholds_of
    from chromogen.slides.slide import slide_files
    from chromogen.whole_slide.nuclei import STAINS
    from chromogen.whole_slide.nuclei_files import NO_PARQUET, has_parquet

    choose("stains", stains, STAINS)
    levels = thresholds_of(threshold, numbers("grades", grades, float) if grades else ())
    files = slide_files(paths)
    nuclei.check_outputs(files, out)
    settings = nuclei.Settings(nuclei.named_network(network), stains, levels, mpp)
    ready_folder(out)
    began = time.perf_counter()
    with one_bar("windows") as follow:

        def work(index: int, file: Path) -> nuclei.InputFacts:
            def on_window(done: int, of: int) -> None:
                follow(done, of, numbered(index, files))

            return nuclei.nuclei_of_file(file, out, settings, on_window)

        done, errors = one_by_one(files, work)
    note_assumed([found["mpp"] if found["mpp_from"] == "assumed" else None for found in done], "--mpp")
    results = {"results": done, "errors": errors}
    facts = {"output": str(out), "settings": settings.facts(), **results, **facts_since(began)}
    nuclei.write_found(out, done, facts)
    notes = [f"{found['name']}: {note}" for found in done for note in found["notes"]]
    notes += [] if has_parquet() else [NO_PARQUET]
    lines = [f"{found['name']}: {nuclei.said_of(found)}" for found in done]
    tell(facts, [*lines, *page_of(out, lines)], notes=notes, errors=errors, as_json=as_json)


def page_of(out: Path, lines: list[str]) -> list[str]:
    """Where the page is, if there is one."""
    return [f"Open {out / 'index.html'} in a browser."] if lines else []


def unmix_command(
    paths: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images or folders of them.")],
    out: OutFolder,
    stains: Annotated[
        str,
        typer.Option(help="h-dab or h-e (QuPath's), h-dab-ruifrok, h-e-ruifrok, or two vectors r,g,b;r,g,b."),
    ] = "h-dab",
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Find each image's own vectors (Macenko 2009); --stains where it fails."),
    ] = False,
    white: Annotated[
        str, typer.Option(help="Level of bare glass: 255, or auto to find it in each image.")
    ] = "255",
    thresholds: Annotated[
        str, typer.Option(metavar="OD,OD...", help="Densities above which the second stain counts as positive.")
    ] = "0.2,0.4,0.6",
    mpp: Mpp = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take stains apart: pictures, densities and vectors, and how much tissue and how many nuclei are positive.

    chromogen unmix ihc.png -o unmixed/

    chromogen unmix slides/ -o unmixed/ --stains h-e --estimate

    chromogen unmix ihc.png -o unmixed/ --stains "0.65,0.70,0.29;0.27,0.57,0.78" --thresholds 0.15,0.3

    For every image: NAME_first.png and NAME_second.png, what each stain leaves on its own, NAME_residual.png,
    what is neither, and NAME_od10.tif, the densities (float32, base 10). All in one: unmix.csv, unmix.json and
    index.html.

    Chromogen counts nuclei where pixels are at most 2 um; that takes about a second for each quarter of a mm2. In
    H-DAB you also get the share of positive nuclei. For outlines, and for whole slides, run chromogen nuclei.
    """
    from chromogen.app import unmix

    find_white = choose("white", white, ("255", "auto")) == "auto"
    matrix, levels = unmix.parse_vectors(stains), numbers("thresholds", thresholds, float)
    files = image_files(paths)
    in_folder(files, out)
    ready_folder(out)
    began = time.perf_counter()
    with one_bar("images") as follow:

        def work(index: int, file: Path) -> tuple[Path, unmix.UnmixedFacts]:
            follow(index, len(files), file.name)
            found = unmix.unmix_file(file, out, matrix, levels, estimate=estimate, find_white=find_white, mpp=mpp)
            return file, found

        done, errors = one_by_one(files, work)
    note_assumed([None if found["mpp"] else ASSUMED_MPP for _, found in done], "--mpp")
    results = [found for _, found in done]
    facts = {"output": str(out), "results": results, "errors": errors, **facts_since(began)}
    unmix.write_unmixed(out, done, facts)
    lines = [unmix.unmixed_line(found, stains) for _, found in done]
    tell(facts, [*lines, *page_of(out, lines)], errors=errors, as_json=as_json)
