"""`chromogen train`: a stainer from H&E and IHC images."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID

from chromogen.app.terminal import DebugOption, JsonOption, Machine, Output, Search, duration, progress_bars
from chromogen.errors import choose, expected
from chromogen.provenance import NOTICE

if TYPE_CHECKING:
    from chromogen.training.train import TrainStep

EPILOG = """Examples:

chromogen train slides/ --style ihc_tile.png -o my_stain.safetensors

chromogen train he/ --style ihc/ -o my_stain.safetensors --site nuclear --steps 800

chromogen train he/ --style ER=er/ --style Ki67=ki67/ -o markers.safetensors

chromogen stain slide.svs --stainer my_stain.safetensors -o stained.ome.tif

chromogen train slides/ --style ihc/ -o my_stain.safetensors --devices 4 --batch 16

Beside MODEL: NAME.train.jsonl (losses of every step), NAME.loss.png, NAME.preview.png (H&E above, stained below).
Stopped at any moment, the same command with --resume goes on. What comes out knows how a stain looks, not which
cells express a marker."""


def train(
    contents: Annotated[
        list[Path], typer.Argument(metavar="CONTENT...", help="H&E images, slides, or folders of them.")
    ],
    style: Annotated[
        list[str],
        typer.Option(
            metavar="[MARKER=]IHC",
            help="IHC image, slide or folder; may be given several times. With MARKER=: one network for several.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Model to write (.safetensors).")],
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
    from chromogen.app.training import Inputs, check_files, train_on_files
    from chromogen.onnx_models.export import export_onnx
    from chromogen.onnx_models.extra import library
    from chromogen.stainer_file import read_model
    from chromogen.style.encoder import Encoder
    from chromogen.training.ranks import launched
    from chromogen.training.train import Training

    began = time.perf_counter()
    if export is not None:
        choose("export", export, ("onnx",))
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
    inputs = Inputs(contents, styles_by_marker(style), slide_mpp)
    check_files(inputs, out)
    ranks, device = launched(devices, nodes, strategy, device)
    if not ranks.is_first:
        warnings.simplefilter("ignore")  # the first says it
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
        f"{NOTICE.capitalize()}."
    )
