"""`chromogen train` makes a look from IHC alone, or a model of where a marker lies; `export` writes it as ONNX."""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from chromogen.app import terminal
from chromogen.app.arguments import LOOK_MPP, PART, Debug, Device, Json, Machine, Output, Search, region_of
from chromogen.errors import choose, expected
from chromogen.files import check_apart, check_folder
from chromogen.pixel_size import check_mpp
from chromogen.provenance import peak_rss_mb

if TYPE_CHECKING:
    from chromogen.app.looks import LookRequest
    from chromogen.training.train import OnTrained, TrainStep

OfLook = partial(typer.Option, rich_help_panel="Look (IHC alone)")
OfPairs = partial(typer.Option, rich_help_panel="Model (pairs)")
OF_LOOKS = {"style_mpp", "style_region", "name", "source", "licence", "preview"}
OF_BOTH = {"out", "style", "paired", "site", "as_json", "debug"}


def train_command(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Look (.json, of IHC) or model (.safetensors, of pairs)."
        ),
    ],
    style: Annotated[
        list[Path] | None,
        typer.Option(metavar="IHC", help="IHC image, slide or folder of one marker; may be given several times."),
    ] = None,
    paired: Annotated[
        Path | None,
        typer.Option(metavar="PAIRS", help="Folder of pairs of H&E and IHC: they teach where the marker lies."),
    ] = None,
    site: Annotated[
        str, typer.Option(help="What the marker stains: nuclear, cytoplasm, or auto, as the IHC shows.")
    ] = "auto",
    transform: Annotated[
        Path | None,
        OfPairs(
            metavar="FILE",
            help="Registration of the pair by `chromogen register`, or a folder with NAME.json of each pair.",
        ),
    ] = None,
    register: Annotated[bool, OfPairs("--register", help="Register each pair first.")] = False,
    group: Annotated[
        str | None,
        OfPairs(
            metavar="REGEX",
            help="Finds in a pair's name which slide it is from: its first parenthesis, or all of it.",
        ),
    ] = None,
    mpp: Annotated[
        float | None, OfPairs(help="Pixel size of the pairs in um, where files do not say it or are wrong.")
    ] = None,
    start: Annotated[
        Path | None,
        OfPairs("--from", metavar="MODEL", help="A model to continue from: a file that `train` wrote."),
    ] = None,
    style_mpp: Annotated[float | None, OfLook(help=LOOK_MPP)] = None,
    style_region: Annotated[
        str | None, OfLook(metavar=PART, help="A part of a single IHC, in its level-0 pixels.")
    ] = None,
    name: Annotated[str, OfLook(help="Name of the look. Default: the IHC's file name.")] = "",
    source: Annotated[str, OfLook(help="Where the IHC is from, for the look's card.")] = "",
    licence: Annotated[str, OfLook(help="Licence of the IHC, for the look's card.")] = "",
    preview: Annotated[
        Path | None,
        OfLook(metavar="HE", help="H&E on which the preview shows the look. Default: the demo's slide."),
    ] = None,
    steps: Annotated[int, Search(help="Steps at most; training ends when validation gets no better.")] = 300,
    batch: Annotated[int, Search(help="Pairs a step, or pieces of large ones.")] = 4,
    learning_rate: Annotated[float, Search(help="Highest learning rate of Adam.")] = 0.01,
    patience: Annotated[int, Search(help="Validations without a better result before training ends.")] = 6,
    validate_every: Annotated[int, Search(help="Steps between validations, on pairs that are held out.")] = 25,
    seed: Annotated[int, Search(help="Seed of which pairs are drawn.")] = 0,
    export: Annotated[
        str | None, Output(metavar="onnx", help="Write the model as NAME.onnx too, for other programs to run.")
    ] = None,
    restart: Annotated[
        bool, Machine("--restart", help="Start anew. By default, a stopped run continues from its checkpoint.")
    ] = False,
    device: Device = "auto",
    devices: Annotated[int, Machine(help="Processes on each machine, one a GPU; --batch is shared out.")] = 1,
    nodes: Annotated[int, Machine(help="Machines, on each of which this command is given.")] = 1,
    strategy: Annotated[str, Machine(help="How several processes work together: ddp.")] = "ddp",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a look of IHC alone, or learn from pairs of H&E and IHC where a marker lies.

    chromogen train --style ihc_a.png --style ihc_b.png -o my_look.json

    chromogen train --style ihc_slide.svs --site nuclear --name "Ki67, our lab" -o ki67.json

    chromogen train --paired pairs/ -o my_marker.safetensors

    chromogen train --paired pairs/ --group '^[^_]+' --site nuclear -o my_marker.safetensors

    chromogen train --paired slides/ --register -o my_marker.safetensors

    chromogen train --paired few_pairs/ --from my_marker.safetensors --steps 100 -o our_marker.safetensors

    chromogen stain slide.svs --stainer my_marker.safetensors -o stained.ome.tif

    IHC alone gives a look in seconds: how the stain looks. Pairs also teach where the marker lies: a small
    network is trained in a minute or so, and its file holds the look of the pairs' IHC, too.

    PAIRS are found anywhere below the folder: NAME_he.png with NAME_ihc.png, he/NAME.png with ihc/NAME.png, or
    he.png with MARKER_aligned.png beside it. Chromogen leaves out pairs that do not fit, and names them.

    Beside a model: NAME.train.jsonl (losses of every step), NAME.loss.png, NAME.preview.png (H&E, where the model
    expects DAB, where the IHC has it). You may stop it at any moment; the same command continues.
    """
    from chromogen.app.looks import LookRequest
    from chromogen.app.training import train_on_pairs
    from chromogen.registration.pairs import check_one_way
    from chromogen.staining.tissue import MPP
    from chromogen.staining.where_network import export_onnx, read_model
    from chromogen.training.distributed import launched
    from chromogen.training.pairs import Registration, read_pairs
    from chromogen.training.train import Training

    began = time.perf_counter()
    if bool(style) == bool(paired):
        got = "both" if style else "neither"
        raise expected("style", "given, or pairs", got, "name IHC by --style for a look, or --paired for a model")
    if style:
        _check_left_out(ctx, set(ctx.params) - OF_LOOKS - OF_BOTH, "with pairs, for a model")
        region = region_of("style-region", style_region)
        asked = LookRequest(style, site, style_mpp, region, name, source, licence, preview)
        _make_look(asked, out, began, as_json=as_json)
        return
    check_mpp("mpp", mpp)
    check_one_way(transform, register=register)
    assert paired is not None  # noqa: S101 - either is given
    _check_left_out(ctx, OF_LOOKS, "with IHC alone, for a look")
    _check_model(out, export)
    training = Training(site, steps, batch, learning_rate, seed, validate_every, patience)
    model = read_model(start) if start else None
    ranks, device = launched(devices, nodes, strategy, device)
    if not ranks.is_first:
        warnings.simplefilter("ignore")  # the first says it
    registration = Registration(transform) if register or transform else None
    with terminal.one_bar("registering the pairs" if registration else "pairs") as follow:
        pairs = read_pairs(paired, mpp=mpp, group=group, registration=registration, on_pair=follow)
    terminal.note_assumed([MPP] * pairs.assumed, "--mpp", "pair")
    if ranks.is_first:
        for line in () if as_json else _table(pairs.rows):
            print(line)
        for warning in pairs.warnings:
            print(f"Warning: {warning}.", file=sys.stderr)
    with terminal.progress_bars() as progress:
        follow_steps = _step_bar(progress, out.name, training.steps, visible=ranks.is_first)
        facts = train_on_pairs(
            pairs,
            out,
            training,
            start=model,
            on_step=follow_steps,
            resume=not restart,
            ranks=ranks,
            device=device,
        )
    if ranks.is_first:
        facts |= {"pairs": list(pairs.rows), "warnings": list(pairs.warnings)}
        facts |= export_onnx(read_model(out), out.with_suffix(".onnx")) if export else {}
        facts |= {"seconds": time.perf_counter() - began}
        terminal.tell(facts, _lines(facts), as_json=as_json)


def _check_left_out(ctx: typer.Context, options: set[str], where: str) -> None:
    """ValueError for an option that was given and belongs to the other kind of stainer."""
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        if name in options and source is not None and source.name == "COMMANDLINE":
            raise expected(name.replace("_", "-"), f"given {where}", value, "leave it out")


def _make_look(asked: LookRequest, out: Path, began: float, *, as_json: bool) -> None:
    """Measure a look, write it, and say what it is."""
    from chromogen.app.info import look_lines, titled_lines
    from chromogen.app.looks import make_look
    from chromogen.staining.tissue import MPP

    facts = make_look(asked, out)
    terminal.note_assumed([MPP] * facts["without_mpp"], "--style-mpp", "reference IHC")
    facts |= {"seconds": time.perf_counter() - began, "peak_rss_mb": round(peak_rss_mb(), 1)}
    took = terminal.duration(facts["seconds"])
    title = f"{out}: look of {facts['exemplars']} IHC, in {took}; {facts['preview']} shows it"
    terminal.tell(facts, [titled_lines(title, look_lines(facts)), _stain_with(str(out))], as_json=as_json)


def _check_model(out: Path, export: str | None) -> None:
    """ValueError or OSError for what cannot be written, before anything is trained."""
    from chromogen.staining.onnx_file import library
    from chromogen.staining.where_network import check_suffix

    check_suffix(out)
    check_folder(out.parent)
    if export is not None:
        choose("export", export, ("onnx",))
        library("onnxscript")


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every pair: how far it is apart before and after, how surely, and whether it is used."""
    from chromogen.training.pairs import REFUSED

    named = [("pair", "displacement", "left after", "confidence", "")]
    named += [
        (
            row["pair"],
            *(
                "-" if row["left_out"] == REFUSED else f"{row[f'{of}_um']:g} um, {row[f'{of}_px']:g} px"
                for of in ("displacement", "residual")
            ),
            f"{row['confidence']:.2f}",
            f"left out: {row['left_out']}" if row["left_out"] else "used",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*named, strict=True)]
    return ["  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in named]


def _step_bar(progress: Progress, name: str, steps: int, *, visible: bool) -> OnTrained:
    """The listener to training that moves a bar."""
    bar = progress.add_task(name, total=steps, rate="measuring the pairs", loss="", visible=visible)

    def move(step: TrainStep, _shown: object) -> None:
        held = f", validation {step.validation['loss']:.3g}" if step.validation else ""
        rate, loss = terminal.steps_per_s(step.index, step.seconds), f"loss {step.loss:.3g}{held}"
        progress.update(bar, total=step.of, completed=step.index, rate=rate, loss=loss)

    return move


def _lines(facts: dict[str, Any]) -> list[str]:
    """What came of it."""
    figures = ", ".join(f"{name} {value:.3g}" for name, value in facts["validation"].items())
    exported = f" Also {facts['onnx']}." if "onnx" in facts else ""
    return [
        f"{facts['output']}: {facts['bytes'] / 1000:.0f} kB, {facts['steps']} steps in "
        f"{terminal.duration(facts['seconds'])}; on {facts['validated_on']}: {figures}.{exported}",
        f"It claims {facts['claim']}.",
        terminal.USE,
        _stain_with(facts["output"]),
    ]


def _stain_with(stainer: str) -> str:
    return f"Stain with it: chromogen stain SLIDE --stainer {shlex.quote(stainer)} -o stained.ome.tif"


def export_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `chromogen train` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.onnx", help="ONNX model to write.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model by `train --paired` as an ONNX model, for other programs to run.

    chromogen export my_marker.safetensors -o my_marker.onnx

    chromogen stain slide.svs --where my_marker.onnx -o stained.ome.tif

    onnxruntime then gives the same map, without Chromogen: sRGB uint8, 1 x 3 x height x width in, levels from 0
    to 1 of squares of 16 px out. A slide's white and stain strengths are in other inputs, which have usual
    values; the model's card is in the metadata.
    """
    from chromogen.staining.where_network import export_onnx, read_model

    check_apart([out], [model])
    check_folder(out.parent)
    facts = export_onnx(read_model(model), out)
    line = f"{facts['onnx']}: {facts['onnx_bytes'] / 1000:.0f} kB, opset {facts['opset']}"
    then = f"Stain by it: chromogen stain SLIDE --where {shlex.quote(str(out))} -o stained.ome.tif"
    terminal.tell(facts, [line, terminal.USE, then], as_json=as_json)
