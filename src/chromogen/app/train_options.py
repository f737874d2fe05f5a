"""The options of `chromogen train`: what each takes and what its help says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import Machine, Output, Search

OfLook = partial(typer.Option, rich_help_panel="Look (IHC alone)")

OfPairs = partial(typer.Option, rich_help_panel="Model (pairs)")

Out = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="FILE", help="Look (.json, of IHC) or model (.safetensors, of pairs)."),
]
Style = Annotated[
    list[Path] | None,
    typer.Option(metavar="IHC", help="IHC image, slide or folder of one marker; may be given several times."),
]
StyleMpp = Annotated[
    float | None, OfLook(help="Pixel size of the IHC in um, where files do not say it or are wrong.")
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
    typer.Option(metavar="PAIRS", help="Folder of pairs of H&E and IHC: they teach where the marker lies."),
]
Transform = Annotated[
    Path | None,
    OfPairs(
        metavar="FILE",
        help="Registration of the pair by `chromogen register`, or a folder with NAME.json of each pair.",
    ),
]
Register = Annotated[bool, OfPairs("--register", help="Register each pair first.")]
Group = Annotated[
    str | None,
    OfPairs(
        metavar="REGEX",
        help="Finds in a pair's name which slide it is from: its first parenthesis, or all of it.",
    ),
]
From = Annotated[
    Path | None,
    OfPairs("--from", metavar="MODEL", help="A model to go on from: a file that `train` wrote."),
]
Site = Annotated[str, typer.Option(help="What the marker stains: nuclear, cytoplasm, or auto, as the IHC shows.")]
Mpp = Annotated[
    float | None, OfPairs(help="Pixel size of the pairs in um, where files do not say it or are wrong.")
]
Steps = Annotated[int, Search(help="Steps at most; training ends when validation gets no better.")]
Batch = Annotated[int, Search(help="Pairs a step, or pieces of large ones.")]
LearningRate = Annotated[float, Search(help="Adam's highest rate.")]
Patience = Annotated[int, Search(help="Looks without a better validation before training ends.")]
ValidateEvery = Annotated[int, Search(help="Steps between looks at pairs that are not trained on.")]
Seed = Annotated[int, Search(help="Decides which pairs are drawn.")]
Export = Annotated[
    str | None, Output(metavar="onnx", help="Write the model as NAME.onnx too, for other programs to run.")
]
Restart = Annotated[
    bool, Machine("--restart", help="Start anew. By default, a stopped run continues from its checkpoint.")
]
Device = Annotated[str, Machine(help="auto, cpu, cuda or mps.")]
Devices = Annotated[int, Machine(help="Processes on each machine, one a GPU; --batch is shared out.")]
Nodes = Annotated[int, Machine(help="Machines, on each of which this command is given.")]
Strategy = Annotated[str, Machine(help="How several processes work together: ddp.")]
