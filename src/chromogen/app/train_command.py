"""`chromogen train`: a stainer from H&E and IHC images."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID

from chromogen.app.terminal import DebugOption, JsonOption, Machine, Output, Search, duration, progress_bars
from chromogen.errors import choose, expected
from chromogen.provenance import NOTICE

if TYPE_CHECKING:
    from chromogen.app.pairs import Pairs
    from chromogen.stainer_file import Model
    from chromogen.training.train import Training, TrainStep

EPILOG = """Examples:

chromogen train slides/ --style ihc_tile.png -o my_stain.safetensors

chromogen train he/ --style ihc/ -o my_stain.safetensors --site nuclear --steps 800

chromogen train he/ --style ER=er/ --style Ki67=ki67/ -o markers.safetensors

chromogen train --paired pairs/ -o my_stain.safetensors

chromogen train --paired few_pairs/ --from my_stain.safetensors --steps 100 -o our_stain.safetensors

chromogen stain slide.svs --stainer my_stain.safetensors -o stained.ome.tif

chromogen train slides/ --style ihc/ -o my_stain.safetensors --devices 4 --batch 16

PAIRS are found anywhere below the folder: NAME_he.png with NAME_ihc.png, he/NAME.png with ihc/NAME.png, or he.png
with MARKER_aligned.png beside it. What does not fit is left out, and said.

Beside MODEL: NAME.train.jsonl (losses of every step), NAME.loss.png, NAME.preview.png (H&E above, stained below).
Stopped at any moment, the same command with --resume goes on. Without pairs, what comes out knows how a stain
looks, not which cells express a marker."""


def train(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Model to write (.safetensors).")],
    contents: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CONTENT...", help="H&E images, slides, or folders of them; none with pairs."),
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MARKER=]IHC",
            help="IHC image, slide or folder; may be given several times. With MARKER=: one network for several. "
            "Default: the pairs' own.",
        ),
    ] = None,
    paired: Annotated[
        Path | None,
        typer.Option(metavar="PAIRS", help="Folder of pairs of H&E and IHC: they teach where the brown goes."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Finds in a pair's name which slide it is from: its first parenthesis, or all of it.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="A stainer to go on from: a file, or a built-in one."),
    ] = None,
    site: Annotated[str, typer.Option(help="Where in a cell the marker sits: any, nuclear or cytoplasm.")] = "any",
    network: Annotated[
        str, typer.Option(help="stain-pyramid (paints DAB over the H&E's haematoxylin) or rgb (colours, freely).")
    ] = "stain-pyramid",
    mpp: Annotated[float, typer.Option(help="Size of a pixel in um at which is trained and stained.")] = 0.5,
    slide_mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the inputs in um, where files do not say it or are wrong.")
    ] = None,
    steps: Annotated[int, Search(help="Steps at most; training ends when validation gets no better.")] = 400,
    batch: Annotated[int, Search(help="Tiles a step.")] = 4,
    tile_px: Annotated[int, Search("--tile", help="Side of a tile in px, a multiple of 16.")] = 128,
    learning_rate: Annotated[float, Search(help="Adam's highest rate.")] = 0.01,
    patience: Annotated[int, Search(help="Looks without a better validation before training ends.")] = 6,
    validate_every: Annotated[int, Search(help="Steps between looks at tiles that are not trained on.")] = 25,
    seed: Annotated[int, Search(help="Decides which tiles are drawn.")] = 0,
    export: Annotated[
        str | None, Output(metavar="onnx", help="Write the model as NAME.onnx too, for other programs to run.")
    ] = None,
    resume: Annotated[bool, Machine("--resume", help="Go on where an earlier run of this command ended.")] = False,
    precision: Annotated[str, Machine(help="auto, fp32 or bf16, of VGG19.")] = "auto",
    device: Annotated[str, Machine(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, Machine(help="Processes on each machine, one a GPU; --batch is shared out.")] = 1,
    nodes: Annotated[int, Machine(help="Machines, on each of which this command is given.")] = 1,
    strategy: Annotated[str, Machine(help="How several processes work together: ddp.")] = "ddp",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a stainer once, on the losses of style transfer, to stain tiles and slides in seconds."""
    from chromogen.app.pairs import read_pairs
    from chromogen.app.training import Inputs, check_files, train_on_files
    from chromogen.onnx_models.export import export_onnx
    from chromogen.onnx_models.extra import library
    from chromogen.stainer_file import read_model
    from chromogen.style.encoder import Encoder
    from chromogen.style.kinds import site_of
    from chromogen.style.marker_network import plain_of
    from chromogen.style.recipes import with_pairs
    from chromogen.training.ranks import launched
    from chromogen.training.train import Training

    styles = styles_by_marker(style or ())
    _check_given(contents, tuple(styles), paired, group)
    began = time.perf_counter()
    if export is not None:
        choose("export", export, ("onnx",))
        if len(styles) > 1:
            raise expected(
                "export", "left out with several markers", export, "`chromogen export` takes one of them"
            )
        library("onnxscript")
    training = Training(
        site=site,
        mpp=mpp,
        steps=steps,
        batch=batch,
        tile_px=tile_px,
        learning_rate=learning_rate,
        seed=seed,
        validate_every=validate_every,
        patience=patience,
        network=network,
    )
    model = _start(start, training, tuple(styles)) if start else None
    training = replace(training, site=site_of(plain_of(model.architecture))) if model else training
    inputs = Inputs(contents or (), styles, slide_mpp, start=model)
    check_files(inputs, out)
    ranks, device = launched(devices, nodes, strategy, device)
    if not ranks.is_first:
        warnings.simplefilter("ignore")  # the first says it
    pairs = read_pairs(paired, mpp, slide_mpp=slide_mpp, group=group) if paired else None
    if pairs:
        training = replace(training, objective=with_pairs(training.objective))
        inputs = replace(inputs, pairs=pairs)
        if ranks.is_first:
            _tell(pairs, as_json=as_json)
    encoder = Encoder(precision=precision, device=device)
    with progress_bars() as progress:
        bar = progress.add_task(out.name, total=steps, rate="measuring the style", loss="", visible=ranks.is_first)
        facts = train_on_files(
            inputs,
            out,
            training,
            encoder,
            on_step=lambda step, _seen: _move(progress, bar, step),
            resume=resume,
            ranks=ranks,
        )
    if not ranks.is_first:
        return
    if export is not None:
        facts |= export_onnx(read_model(out), out.with_suffix(".onnx"))
    facts["seconds"] = time.perf_counter() - began
    facts |= {"pairs": list(pairs.rows), "warnings": list(pairs.warnings)} if pairs else {}
    print(json.dumps(facts) if as_json else _line(facts))


def styles_by_marker(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Paths by the marker before them, "" where there is none. Raises: ValueError.

    >>> {marker: len(paths) for marker, paths in styles_by_marker(["ER=a.png", "Ki67=b", "ER=c.png"]).items()}
    {'ER': 2, 'Ki67': 1}
    """
    found: dict[str, list[Path]] = {}
    for text in texts:
        marker, named, path = text.partition("=")
        name, file = (marker, path) if named and not Path(text).exists() else ("", text)
        found.setdefault(name, []).append(Path(file))
    if len(found) > 1 and "" in found:
        raise expected("style", "MARKER=IHC for every one, or for none", found[""][0])
    return found


def _check_given(
    contents: Sequence[Path] | None, markers: Sequence[str], paired: Path | None, group: str | None
) -> None:
    """ValueError for what does not go together."""
    if paired is None and not (contents and markers):
        got = "H&E without IHC" if contents else "IHC without H&E" if markers else "neither"
        raise expected("content and style", "given, or pairs", got, "name H&E and --style, or --paired")
    if paired is None and group is not None:
        raise expected("group", "given with pairs", group, "leave it out")
    if paired is not None and any(markers):
        raise expected("style", "without markers' names: pairs are of one marker", ", ".join(markers))


def _start(name: str, training: Training, markers: Sequence[str]) -> Model:
    """The model to go on from. Raises: ValueError where it has another network, pixel size or site."""
    from chromogen.stainer_file import located, read_model
    from chromogen.style.kinds import site_of
    from chromogen.style.marker_network import plain_of
    from chromogen.training.beginning import check_start

    model = read_model(located(name))
    check_start(model.architecture, training.network, markers)
    if abs(model.mpp / training.mpp - 1) > 1e-3:
        raise expected("mpp", f"that of the model, {model.mpp:g}", training.mpp, "leave it out, or train anew")
    site = site_of(plain_of(model.architecture))
    if training.site not in ("any", site):
        raise expected("site", f"that of the model, {site}", training.site, "train anew")
    return model


def _tell(pairs: Pairs, *, as_json: bool) -> None:
    """What was found, and what is doubtful."""
    for line in () if as_json else _table(pairs.rows):
        print(line)
    for warning in pairs.warnings:
        print(f"Warning: {warning}.", file=sys.stderr)


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every pair: how far it is apart before and after, how surely, and whether it is used."""
    named = [("pair", "displacement", "left after", "confidence", "")]
    named += [
        (
            row["pair"],
            *(f"{row[f'{of}_um']:g} um, {row[f'{of}_px']:g} px" for of in ("displacement", "residual")),
            f"{row['confidence']:.2f}",
            f"left out: {row['left_out']}" if row["left_out"] else "used",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*named, strict=True)]
    return ["  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in named]


def _move(progress: Progress, bar: TaskID, step: TrainStep) -> None:
    held = f", validation {step.validation['total']:.3g}" if step.validation else ""
    rate = f"{step.index / max(step.seconds, 1e-9):.2f} steps/s"
    progress.update(bar, total=step.of, completed=step.index, rate=rate, loss=f"loss {step.loss:.3g}{held}")


def _line(facts: dict[str, Any]) -> str:
    """What came of it."""
    losses = ", ".join(f"{name} {value:.3g}" for name, value in facts["validation"].items())
    collapsed = f" It has collapsed: {facts['collapse']}." if facts["collapse"] else ""
    exported = f" Also {facts['onnx']}." if "onnx" in facts else ""
    return (
        f"{facts['output']}: {facts['bytes'] / 1000:.0f} kB, {facts['steps']} steps in "
        f"{duration(facts['seconds'])}; on {facts['validated_on']}: {losses}.{collapsed}{exported}\n"
        f"It claims {facts['claim']}.\n{NOTICE.capitalize()}."
    )
