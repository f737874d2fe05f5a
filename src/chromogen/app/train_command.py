"""`chromogen train`: a look from IHC alone, or a model of where a marker lies from pairs of H&E and IHC."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress, TaskID

from chromogen.app import train_options as given
from chromogen.app.options import region_of
from chromogen.app.paths import check_folder
from chromogen.app.terminal import DebugOption, JsonOption, duration, note_assumed, progress_bars
from chromogen.errors import choose, expected
from chromogen.pixel_size import check_mpp
from chromogen.provenance import NOTICE, peak_rss_mb

if TYPE_CHECKING:
    from chromogen.app.looks import LookRequest
    from chromogen.app.pairs import Pairs, Registration
    from chromogen.staining.where_network import Model
    from chromogen.training.distributed import Ranks
    from chromogen.training.train import Training, TrainStep

EPILOG = """Examples:

chromogen train --style ihc_a.png --style ihc_b.png -o my_look.json

chromogen train --style ihc_slide.svs --site nuclear --name "Ki67, our lab" -o ki67.json

chromogen train --paired pairs/ -o my_marker.safetensors

chromogen train --paired pairs/ --group '^[^_]+' --site nuclear -o my_marker.safetensors

chromogen train --paired slides/ --register -o my_marker.safetensors

chromogen train --paired few_pairs/ --from my_marker.safetensors --steps 100 -o our_marker.safetensors

chromogen stain slide.svs --stainer my_marker.safetensors -o stained.ome.tif

IHC alone gives a look in seconds: how the stain looks. Pairs also teach where the marker lies: a small network is
trained in a minute or so, and its file holds the look of the pairs' IHC, too.

PAIRS are found anywhere below the folder: NAME_he.png with NAME_ihc.png, he/NAME.png with ihc/NAME.png, or he.png
with MARKER_aligned.png beside it. What does not fit is left out, and said.

Beside a model: NAME.train.jsonl (losses of every step), NAME.loss.png, NAME.preview.png (H&E, where the model
expects DAB, where the IHC has it). Stopped at any moment, the same command continues."""


OF_LOOKS = {"style_mpp", "style_region", "name", "source", "licence", "preview"}
OF_BOTH = {"out", "style", "paired", "site", "as_json", "debug"}


def train(
    ctx: typer.Context,
    out: given.Out,
    style: given.Style = None,
    paired: given.Paired = None,
    site: given.Site = "auto",
    transform: given.Transform = None,
    register: given.Register = False,
    group: given.Group = None,
    mpp: given.Mpp = None,
    start: given.From = None,
    style_mpp: given.StyleMpp = None,
    style_region: given.StyleRegion = None,
    name: given.Name = "",
    source: given.Source = "",
    licence: given.Licence = "",
    preview: given.Preview = None,
    steps: given.Steps = 300,
    batch: given.Batch = 4,
    learning_rate: given.LearningRate = 0.01,
    patience: given.Patience = 6,
    validate_every: given.ValidateEvery = 25,
    seed: given.Seed = 0,
    export: given.Export = None,
    restart: given.Restart = False,
    device: given.Device = "auto",
    devices: given.Devices = 1,
    nodes: given.Nodes = 1,
    strategy: given.Strategy = "ddp",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure a look of IHC alone, or learn from pairs of H&E and IHC where a marker lies."""
    from chromogen.app.looks import LookRequest
    from chromogen.app.pair_transform import check_one_way
    from chromogen.app.pairs import Registration
    from chromogen.training.distributed import launched
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
    model = _begun_from(start)
    ranks, device = launched(devices, nodes, strategy, device)
    if not ranks.is_first:
        warnings.simplefilter("ignore")  # the first says it
    registration = Registration(transform) if register or transform else None
    pairs = _read(paired, mpp, group, registration)
    if ranks.is_first:
        _tell(pairs, as_json=as_json)
    facts = _train_with_bar(pairs, out, training, model, resume=not restart, ranks=ranks, device=device)
    if ranks.is_first:
        facts |= _exported(out) if export is not None else {}
        facts |= {"seconds": time.perf_counter() - began}
        print(json.dumps(facts) if as_json else _line(facts))


def _check_left_out(ctx: typer.Context, options: set[str], where: str) -> None:
    """ValueError for an option that was given and belongs to the other kind of stainer."""
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        if name in options and source is not None and source.name == "COMMANDLINE":
            raise expected(name.replace("_", "-"), f"given {where}", value, "leave it out")


def _make_look(asked: LookRequest, out: Path, began: float, *, as_json: bool) -> None:
    """Measure a look, write it, and say what it is."""
    from chromogen.app.info_command import look_lines
    from chromogen.app.looks import make_look
    from chromogen.staining.tissue import MPP

    facts = make_look(asked, out)
    note_assumed([MPP] * facts["without_mpp"], "--style-mpp", "reference IHC")
    facts |= {"seconds": time.perf_counter() - began, "peak_rss_mb": round(peak_rss_mb(), 1)}
    if as_json:
        print(json.dumps(facts))
        return
    made = f"{out}: look of {facts['exemplars']} IHC, in {duration(facts['seconds'])}; {facts['preview']} shows it"
    print("\n".join([made, *(f"  {name:11}{text}" for name, text in look_lines(facts).items())]))
    print(f"Stain with it: chromogen stain SLIDE --stainer {shlex.quote(str(out))} -o stained.ome.tif")


def _check_model(out: Path, export: str | None) -> None:
    """ValueError or OSError for what cannot be written, before anything is trained."""
    from chromogen.staining.onnx_file import library
    from chromogen.staining.where_network import check_suffix

    check_suffix(out)
    check_folder(out.parent)
    if export is not None:
        choose("export", export, ("onnx",))
        library("onnxscript")


def _begun_from(file: Path | None) -> Model | None:
    """The model to go on from. Raises: as `read_model`."""
    from chromogen.staining.where_network import read_model

    return None if file is None else read_model(file)


def _read(folder: Path, mpp: float | None, group: str | None, registration: Registration | None) -> Pairs:
    """The pairs of a folder; notes how many state no pixel size."""
    from chromogen.app.pairs import read_pairs
    from chromogen.staining.tissue import MPP

    with progress_bars() as progress:
        bar = progress.add_task("pairs", total=None, rate="", loss="")

        def follow(done: int, of: int, name: str) -> None:
            progress.update(bar, completed=done, total=of, rate=f"registering {name}" if registration else name)

        pairs = read_pairs(folder, mpp=mpp, group=group, registration=registration, on_pair=follow)
    note_assumed([MPP] * pairs.assumed, "--mpp", "pair")
    return pairs


def _train_with_bar(
    pairs: Pairs, out: Path, training: Training, start: Model | None, *, resume: bool, ranks: Ranks, device: str
) -> dict[str, Any]:
    """As `train_on_pairs`, with what is to be told of the pairs."""
    from chromogen.app.training import train_on_pairs

    with progress_bars() as progress:
        rate = "measuring the pairs"
        bar = progress.add_task(out.name, total=training.steps, rate=rate, loss="", visible=ranks.is_first)

        def follow(step: TrainStep, _shown: object) -> None:
            _move(progress, bar, step)

        facts = train_on_pairs(
            pairs,
            out,
            training,
            start=start,
            on_step=follow,
            resume=resume,
            ranks=ranks,
            device=device,
        )
    return {**facts, "pairs": list(pairs.rows), "warnings": list(pairs.warnings)}


def _exported(model: Path) -> dict[str, Any]:
    """The model as ONNX beside it; the facts."""
    from chromogen.staining.onnx_export import export_onnx
    from chromogen.staining.where_network import read_model

    return export_onnx(read_model(model), model.with_suffix(".onnx"))


def _tell(pairs: Pairs, *, as_json: bool) -> None:
    """What was found, and what is doubtful."""
    for line in () if as_json else _table(pairs.rows):
        print(line)
    for warning in pairs.warnings:
        print(f"Warning: {warning}.", file=sys.stderr)


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every pair: how far it is apart before and after, how surely, and whether it is used."""
    from chromogen.app.pairs import REFUSED

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


def _move(progress: Progress, bar: TaskID, step: TrainStep) -> None:
    held = f", validation {step.validation['loss']:.3g}" if step.validation else ""
    rate = f"{step.index / max(step.seconds, 1e-9):.2f} steps/s"
    progress.update(bar, total=step.of, completed=step.index, rate=rate, loss=f"loss {step.loss:.3g}{held}")


def _line(facts: dict[str, Any]) -> str:
    """What came of it."""
    figures = ", ".join(f"{name} {value:.3g}" for name, value in facts["validation"].items())
    exported = f" Also {facts['onnx']}." if "onnx" in facts else ""
    return (
        f"{facts['output']}: {facts['bytes'] / 1000:.0f} kB, {facts['steps']} steps in "
        f"{duration(facts['seconds'])}; on {facts['validated_on']}: {figures}.{exported}\n"
        f"It claims {facts['claim']}.\n{NOTICE.capitalize()}.\n"
        f"Stain with it: chromogen stain SLIDE --stainer {shlex.quote(facts['output'])} -o stained.ome.tif"
    )
