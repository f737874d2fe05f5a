"""`chromogen calibrate`: a stainer with the DAB of a lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption, note_assumed
from chromogen.errors import expected
from chromogen.provenance import NOTICE

EPILOG = """Examples:

chromogen calibrate my_stain.safetensors he/ --style ihc/ -o our_lab.safetensors

chromogen calibrate my_stain.safetensors --paired few_pairs/ -o our_lab.safetensors

A gain and an offset of DAB are fitted, so that its amounts over tissue are those of the IHC. Where the
brown lies does not change. A few tiles do; H&E and IHC should show the same kinds of tissue, and need not show
the same place."""


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `chromogen train` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Model to write (.safetensors).")],
    contents: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CONTENT...", help="A few H&E tiles of the lab, or folders."),
    ] = None,
    style: Annotated[
        list[Path] | None, typer.Option(help="Its IHC tile, or a folder; may be given several times.")
    ] = None,
    paired: Annotated[
        Path | None, typer.Option(metavar="PAIRS", help="Instead: a folder of pairs of H&E and IHC.")
    ] = None,
    slide_mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the tiles in um, where files do not say it or are wrong.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Give a stainer the amount of DAB that a lab's own IHC has."""
    from chromogen.app.calibration import calibrate_on_files

    if paired is None and not (contents and style):
        raise expected("content and style", "given, or pairs", "neither", "name H&E and --style, or --paired")
    facts = calibrate_on_files(model, contents or [], style or [], out, paired=paired, slide_mpp=slide_mpp)
    note_assumed(facts["mpp_assumed"], "--slide-mpp")
    if as_json:
        print(json.dumps(facts))
        return
    print(
        f"{facts['output']}: DAB times {facts['gain']:.2f}, plus {facts['offset']:.3f} (natural density); its "
        f"quantiles were {facts['error_before']:.3f} off on average, now {facts['error_after']:.3f}.\n"
        f"{NOTICE.capitalize()}."
    )
