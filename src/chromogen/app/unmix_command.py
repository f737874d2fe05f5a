"""`chromogen unmix`: stain separation."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chromogen.app.options import numbers
from chromogen.app.terminal import DebugOption, JsonOption, end_with, note_assumed, one_by_one, progress_bars

if TYPE_CHECKING:
    from chromogen.app.unmix import Unmixed

EPILOG = """Examples:

chromogen unmix ihc.png -o unmixed/

chromogen unmix slides/ -o unmixed/ --stains h-e --estimate

chromogen unmix ihc.png -o unmixed/ --stains "0.65,0.70,0.29;0.27,0.57,0.78" --thresholds 0.15,0.3

For every image: NAME_first.png and NAME_second.png, what each stain leaves on its own, NAME_residual.png, what is
neither, and NAME_od10.tif, the densities (float32, base 10). All in one: unmix.csv, unmix.json and index.html.

Chromogen counts nuclei where pixels are at most 2 um; that takes about a second for each quarter of a mm2.
In H-DAB you also get the share of positive nuclei. For outlines, and for whole slides, run chromogen nuclei."""


def unmix(
    paths: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")],
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
    mpp: Annotated[
        float | None, typer.Option(help="Size of a pixel in um. Default: the file's, else 0.5.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take stains apart: pictures, densities and vectors, and how much tissue and how many nuclei are positive."""
    from chromogen.app.paths import image_files, in_folder, ready_folder
    from chromogen.app.unmix import parse_vectors, unmix_file, write_unmixed
    from chromogen.errors import choose
    from chromogen.pixel_size import ASSUMED_MPP
    from chromogen.provenance import facts_since

    find_white = choose("white", white, ("255", "auto")) == "auto"
    matrix, levels = parse_vectors(stains), numbers("thresholds", thresholds, float)
    files = image_files(paths)
    in_folder(files, out)
    ready_folder(out)
    began = time.perf_counter()
    with progress_bars() as progress:
        bar = progress.add_task("images", total=len(files), loss="", rate="")

        def work(index: int, file: Path) -> tuple[Path, Unmixed]:
            progress.update(bar, completed=index, rate=file.name)
            found = unmix_file(file, out, matrix, levels, estimate=estimate, find_white=find_white, mpp=mpp)
            return file, found

        done, errors = one_by_one(files, work)
    results = [asdict(result) for _, result in done]
    note_assumed([None if found.mpp else ASSUMED_MPP for _, found in done], "--mpp")
    facts = {"output": str(out), "results": results, "errors": errors, **facts_since(began)}
    write_unmixed(out, done, facts)
    if as_json:
        print(json.dumps(facts))
    elif done:
        print("\n".join(_line(result, stains) for _, result in done))
        print(f"Open {out / 'index.html'} in a browser.")
    end_with(errors)


def _line(result: Unmixed, stains: str) -> str:
    second = {"h-dab": "DAB", "h-e": "eosin"}.get(stains.removesuffix("-ruifrok"), "second stain")
    shares = [
        f"{second} above {level} in {share:.1f} %" for level, share in (result.positive_percent or {}).items()
    ]
    positive = ", ".join(shares) or "no tissue"
    fallback = f"; the image does not tell its own vectors: {result.why}" if result.why else ""
    tissue = f"of tissue, {result.tissue_percent:.0f} % of the image"
    return f"{result.name}: {positive} ({tissue}); {_nuclei_line(result)}{fallback}"


def _nuclei_line(result: Unmixed) -> str:
    if result.nuclei is None:
        return result.nuclei_doubt
    per_mm2 = f" ({result.nuclei_per_mm2:,.0f} per mm2 of tissue)" if result.nuclei_per_mm2 else ""
    counted = f"{result.nuclei:,} {'nucleus' if result.nuclei == 1 else 'nuclei'}{per_mm2}"
    shares = [f"{share:.1f} % above {level}" for level, share in (result.positive_nuclei_percent or {}).items()]
    own, threshold = result.own_positive_nuclei_percent, result.nuclei_threshold_od10
    if own is not None and threshold is not None:
        shares.insert(0, f"{own:.1f} % positive (DAB above {threshold:.2f}, {_whence(result)})")
    return ", ".join([counted, *shares])


def _whence(result: Unmixed) -> str:
    return f"in doubt: {result.nuclei_doubt}" if result.nuclei_doubt else "found from its nuclei"
