"""Options that several commands have, the panels in which `--help` shows options, and text as values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chromogen.errors import expected
from chromogen.style.recipes import numbers

Search = partial(typer.Option, rich_help_panel="Optimization")
Scale = partial(typer.Option, rich_help_panel="Size and styles")
Region = partial(typer.Option, rich_help_panel="Where the brown goes")
Machine = partial(typer.Option, rich_help_panel="Network and machine")
Output = partial(typer.Option, rich_help_panel="Output")

PART = "X,Y,W,H"
LOOK_MPP = "Pixel size of the IHC in um, where its file does not state it or is wrong."

Json = Annotated[bool, Output("--json", help="Print one JSON object on stdout, last.")]
Debug = Annotated[bool, Output("--debug", help="Show tracebacks.")]
Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT", help="Slides, images, or folders of them.")]
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")]
Mpp = Annotated[float | None, typer.Option(help="Size of a pixel in um. Default: the file's, else 0.5.")]
Precision = Annotated[str, Machine(help="auto, fp32 or bf16; auto is bf16 where the hardware computes it.")]
Device = Annotated[str, Machine(help="auto, cpu, cuda, cuda:N or mps.")]
BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def region_of(option: str, text: str | None) -> tuple[int, int, int, int] | None:
    """A part of a slide from text, X,Y,W,H. Raises: ValueError, which names the option.

    >>> region_of("region", "0,512,1024,1024")
    (0, 512, 1024, 1024)
    """
    if text is None:
        return None
    found = numbers(option, text, int)
    if len(found) != 4:
        raise expected(option, "X,Y,W,H", text)
    x, y, width, height = found
    return x, y, width, height


def byte_count(option: str, text: str) -> int:
    """A number of bytes from text like 2G, 1.5 GB or 500M. Raises: ValueError, which names the option.

    >>> byte_count("max_memory", "1.5G")
    1500000000
    """
    unit = text.strip().upper().removesuffix("B").lstrip("0123456789. ")
    number = text.strip().upper().removesuffix("B").removesuffix(unit)
    try:
        return int(float(number) * BYTES[unit])
    except (ValueError, KeyError):
        raise expected(option, "a number of bytes like 2G or 500M", text) from None


def check_left_out(given: Mapping[str, object], where: str) -> None:
    """ValueError for an option that was given and does not go with this stainer."""
    for option, value in given.items():
        if value is not None:
            raise expected(option, f"given {where}", value, "leave it out")
