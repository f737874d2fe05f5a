"""The options of `chromogen train`: what each takes and what its help says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import Machine, Output, Search

OfLook = partial(typer.Option, rich_help_panel="Look (IHC alone)")

Out = Annotated[
    Path,
    typer.Option(
        "-o", "--out", metavar="MODEL", help="Look (.json, of IHC alone) or model (.safetensors) to write."
    ),
]
Contents = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="CONTENT...", help="H&E images, slides, or folders of them; none for a look, or with pairs."
    ),
]
Style = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[MARKER=]IHC",
        help="IHC image, slide or folder; may be given several times. With MARKER=: one network for several. "
        "Default: the pairs' own.",
    ),
]
StyleMpp = Annotated[
    float | None, typer.Option(help="Pixel size of the IHC in um, where files do not say it or are wrong.")
]
StyleRegion = Annotated[
    str | None, OfLook(metavar="X,Y,W,H", help="A part of a single IHC, in its level-0 pixels.")
]
Name = Annotated[str, OfLook(help="Name of the look. Default: the IHC's file name.")]
Source = Annotated[str, OfLook(help="Where the IHC is from, for the look's card.")]
Licence = Annotated[str, OfLook(help="Licence of the IHC, for the look's card.")]
Preview = Annotated[
    Path | None, OfLook(metavar="HE", help="H&E on which the preview shows the look. Default: the demo's slide.")
]
Paired = Annotated[
    Path | None,
    typer.Option(metavar="PAIRS", help="Folder of pairs of H&E and IHC: they teach where the brown goes."),
]
Transform = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Registration of the pair by `chromogen register`, or a folder with NAME.json of each pair.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Finds in a pair's name which slide it is from: its first parenthesis, or all of it.",
    ),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="MODEL", help="A model to go on from: a file that `train` wrote."),
]
Site = Annotated[
    str,
    typer.Option(help="Where in a cell the marker sits: any (of a look: as the IHC shows), nuclear or cytoplasm."),
]
Network = Annotated[
    str, typer.Option(help="stain-pyramid (paints DAB over the H&E's haematoxylin) or rgb (colours, freely).")
]
Mpp = Annotated[float, typer.Option(help="Size of a pixel in um at which is trained and stained.")]
SlideMpp = Annotated[
    float | None, typer.Option(help="Pixel size of the inputs in um, where files do not say it or are wrong.")
]
Steps = Annotated[int, Search(help="Steps at most; training ends when validation gets no better.")]
Batch = Annotated[int, Search(help="Tiles a step.")]
TilePx = Annotated[int, Search("--tile", help="Side of a tile in px, a multiple of 16.")]
LearningRate = Annotated[float, Search(help="Adam's highest rate.")]
Patience = Annotated[int, Search(help="Looks without a better validation before training ends.")]
ValidateEvery = Annotated[int, Search(help="Steps between looks at tiles that are not trained on.")]
Seed = Annotated[int, Search(help="Decides which tiles are drawn.")]
Export = Annotated[
    str | None, Output(metavar="onnx", help="Write the model as NAME.onnx too, for other programs to run.")
]
Resume = Annotated[bool, Machine("--resume", help="Go on where an earlier run of this command ended.")]
Precision = Annotated[str, Machine(help="auto, fp32 or bf16, of VGG19.")]
Device = Annotated[str, Machine(help="auto, cpu, cuda or mps.")]
Devices = Annotated[int, Machine(help="Processes on each machine, one a GPU; --batch is shared out.")]
Nodes = Annotated[int, Machine(help="Machines, on each of which this command is given.")]
Strategy = Annotated[str, Machine(help="How several processes work together: ddp.")]
