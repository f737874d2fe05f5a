"""Options that several commands have, and the panels in which `--help` shows options."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

Search = partial(typer.Option, rich_help_panel="Optimization")
Scale = partial(typer.Option, rich_help_panel="Size and styles")
Region = partial(typer.Option, rich_help_panel="Where the brown goes")
Machine = partial(typer.Option, rich_help_panel="Network and machine")
Output = partial(typer.Option, rich_help_panel="Output")

PART = "X,Y,W,H"
LookMpp = "Pixel size of the IHC in um, where its file does not state it or is wrong."

Json = Annotated[bool, Output("--json", help="Print one JSON object on stdout, last.")]
Debug = Annotated[bool, Output("--debug", help="Show tracebacks.")]
Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT", help="Slides, images, or folders of them.")]
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")]
Mpp = Annotated[float | None, typer.Option(help="Size of a pixel in um. Default: the file's, else 0.5.")]
Register = Annotated[bool, typer.Option("--register", help="Register H&E and IHC first.")]
Transform = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Registration of H&E and IHC by `chromogen register HE IHC`; for several pairs a folder of "
        "NAME.json.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Finds in a name which slide it is from: its first parenthesis, or all of it.",
    ),
]
Precision = Annotated[str, Machine(help="auto, fp32 or bf16; auto is bf16 where the hardware computes it.")]
Device = Annotated[str, Machine(help="auto, cpu, cuda, cuda:N or mps.")]
