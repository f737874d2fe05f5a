"""`chromogen train`: a look from IHC alone, or a network from H&E and IHC."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress, TaskID

from chromogen.app import train_options as given
from chromogen.app.options import region_of
from chromogen.app.terminal import DebugOption, JsonOption, duration, note_assumed, progress_bars
from chromogen.errors import choose, expected
from chromogen.provenance import NOTICE, peak_rss_mb

if TYPE_CHECKING:
    from chromogen.app.looks import Asked
    from chromogen.app.pairs import Pairs
    from chromogen.app.training import Inputs
    from chromogen.stainer_file import Model
    from chromogen.style.encoder import Encoder
    from chromogen.training.ranks import Ranks
    from chromogen.training.train import Training, TrainStep

EPILOG = """Examples:

chromogen train --style ihc_a.png --style ihc_b.png -o my_look.json

chromogen train --style ihc_slide.svs --site nuclear --name "Ki67, our lab" -o ki67.json

chromogen train slides/ --style ihc_tile.png -o my_stain.safetensors

chromogen train he/ --style ihc/ -o my_stain.safetensors --site nuclear --steps 800

chromogen train he/ --style ER=er/ --style Ki67=ki67/ -o markers.safetensors

chromogen train --paired pairs/ -o my_stain.safetensors

chromogen train --paired few_pairs/ --from my_stain.safetensors --steps 100 -o our_stain.safetensors

chromogen stain slide.svs --stainer my_stain.safetensors -o stained.ome.tif

chromogen train slides/ --style ihc/ -o my_stain.safetensors --devices 4 --batch 16

IHC alone gives a look in seconds: `stain --stainer my_look.json` stains by it. With H&E, or with pairs, a network
is trained in minutes to an hour.

PAIRS are found anywhere below the folder: NAME_he.png with NAME_ihc.png, he/NAME.png with ihc/NAME.png, or he.png
with MARKER_aligned.png beside it. What does not fit is left out, and said.

Beside MODEL: NAME.train.jsonl (losses of every step), NAME.loss.png, NAME.preview.png (H&E above, stained below).
Stopped at any moment, the same command with --resume goes on. Without pairs, what comes out knows how a stain
looks, not which cells express a marker."""


OF_LOOKS = {"style_region", "name", "source", "licence", "preview"}
OF_BOTH = {"out", "style", "site", "style_mpp", "as_json", "debug"}


def train(
    ctx: typer.Context,
    out: given.Out,
    contents: given.Contents = None,
    style: given.Style = None,
    paired: given.Paired = None,
    transform: given.Transform = None,
    group: given.Group = None,
    start: given.From = None,
    site: given.Site = "any",
    network: given.Network = "stain-pyramid",
    mpp: given.Mpp = 0.5,
    slide_mpp: given.SlideMpp = None,
    style_mpp: given.StyleMpp = None,
    style_region: given.StyleRegion = None,
    name: given.Name = "",
    source: given.Source = "",
    licence: given.Licence = "",
    preview: given.Preview = None,
    steps: given.Steps = 400,
    batch: given.Batch = 4,
    tile_px: given.TilePx = 128,
    learning_rate: given.LearningRate = 0.01,
    patience: given.Patience = 6,
    validate_every: given.ValidateEvery = 25,
    seed: given.Seed = 0,
    export: given.Export = None,
    resume: given.Resume = False,
    precision: given.Precision = "auto",
    device: given.Device = "auto",
    devices: given.Devices = 1,
    nodes: given.Nodes = 1,
    strategy: given.Strategy = "ddp",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a stainer once, to stain tiles and slides in seconds: a look of IHC alone, or a network with H&E."""
    from chromogen.app.looks import Asked
    from chromogen.app.training import Inputs, check_files
    from chromogen.style.encoder import Encoder
    from chromogen.training.ranks import launched
    from chromogen.training.train import Training

    began = time.perf_counter()
    styles = styles_by_marker(style or ())
    if styles and not contents and not paired:
        _check_left_out(ctx, set(ctx.params) - OF_LOOKS - OF_BOTH, "with H&E as CONTENT, for a network")
        region = region_of("style-region", style_region)
        shown = "auto" if site == "any" else site
        asked = Asked(_of_one_marker(styles), shown, style_mpp, region, name, source, licence, preview)
        _make_look(asked, out, began, as_json=as_json)
        return
    _check_left_out(ctx, OF_LOOKS, "with IHC alone, for a look")
    _check_given(contents, tuple(styles), paired, group)
    if transform is not None and paired is None:
        raise expected("transform", "given with pairs", transform, "name the pairs by --paired")
    _check_export(export, tuple(styles))
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
    model, training = _begun_from(start, training, tuple(styles)) if start else (None, training)
    inputs = Inputs(contents or (), styles, slide_mpp, style_mpp=style_mpp, start=model)
    check_files(inputs, out)
    ranks, device = launched(devices, nodes, strategy, device)
    if not ranks.is_first:
        warnings.simplefilter("ignore")  # the first says it
    if paired:
        inputs, training = _with_pairs(inputs, training, paired, group, transform)
        if inputs.pairs and ranks.is_first:
            _tell(inputs.pairs, as_json=as_json)
    encoder = Encoder(precision=precision, device=device)
    facts = _train_with_bar(inputs, out, training, encoder, resume=resume, ranks=ranks)
    if ranks.is_first:
        facts |= _exported(out) if export is not None else {}
        note_assumed([mpp] * facts.get("without_mpp", 0), "--slide-mpp")
        facts["seconds"] = time.perf_counter() - began
        print(json.dumps(facts) if as_json else _line(facts))


def _check_left_out(ctx: typer.Context, options: set[str], where: str) -> None:
    """ValueError for an option that was given and belongs to the other kind of stainer."""
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        if name in options and source is not None and source.name == "COMMANDLINE":
            raise expected(name.replace("_", "-"), f"given {where}", value, "leave it out")


def _of_one_marker(styles: dict[str, list[Path]]) -> list[Path]:
    """The paths of one marker. Raises: ValueError where there are several."""
    if len(styles) > 1:
        raise expected("style", "IHC of one marker, for a look", ", ".join(styles), "make a look of each")
    return next(iter(styles.values()))


def _make_look(asked: Asked, out: Path, began: float, *, as_json: bool) -> None:
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
        got = "H&E without IHC" if contents else "neither"
        raise expected("style", "given, or pairs", got, "name IHC by --style, or --paired")
    if paired is None and group is not None:
        raise expected("group", "given with pairs", group, "leave it out")
    if paired is not None and any(markers):
        raise expected("style", "without markers' names: pairs are of one marker", ", ".join(markers))


def _check_export(export: str | None, markers: Sequence[str]) -> None:
    """ValueError for what cannot be exported, before anything is trained."""
    from chromogen.onnx_models.extra import library

    if export is None:
        return
    choose("export", export, ("onnx",))
    if len(markers) > 1:
        raise expected("export", "left out with several markers", export, "`chromogen export` takes one of them")
    library("onnxscript")


def _begun_from(file: Path, training: Training, markers: Sequence[str]) -> tuple[Model, Training]:
    """The model to go on from, and the training at its site.

    Raises: ValueError where it has another network, pixel size or site.
    """
    from chromogen.stainer_file import read_model
    from chromogen.style.kinds import site_of
    from chromogen.style.marker_network import plain_of
    from chromogen.training.beginning import check_start

    model = read_model(file)
    check_start(model.architecture, training.network, markers)
    if abs(model.mpp / training.mpp - 1) > 1e-3:
        raise expected("mpp", f"that of the model, {model.mpp:g}", training.mpp, "leave it out, or train anew")
    site = site_of(plain_of(model.architecture))
    if training.site not in ("any", site):
        raise expected("site", f"that of the model, {site}", training.site, "train anew")
    return model, replace(training, site=site)


def _with_pairs(
    inputs: Inputs, training: Training, folder: Path, group: str | None, transform: Path | None
) -> tuple[Inputs, Training]:
    """The same with the pairs of a folder, and the terms that learn from them."""
    from chromogen.app.pairs import read_pairs
    from chromogen.style.recipes import with_pairs

    pairs = read_pairs(folder, training.mpp, slide_mpp=inputs.mpp, group=group, transform=transform)
    return replace(inputs, pairs=pairs), replace(training, objective=with_pairs(training.objective))


def _train_with_bar(
    inputs: Inputs, out: Path, training: Training, encoder: Encoder, *, resume: bool, ranks: Ranks
) -> dict[str, Any]:
    """As `train_on_files`, with what is to be told of pairs."""
    from chromogen.app.training import train_on_files

    with progress_bars() as progress:
        rate = "measuring the style"
        bar = progress.add_task(out.name, total=training.steps, rate=rate, loss="", visible=ranks.is_first)

        def follow(step: TrainStep, _seen: object) -> None:
            _move(progress, bar, step)

        facts = train_on_files(inputs, out, training, encoder, on_step=follow, resume=resume, ranks=ranks)
    pairs = inputs.pairs
    return {**facts, "pairs": list(pairs.rows), "warnings": list(pairs.warnings)} if pairs else facts


def _exported(model: Path) -> dict[str, Any]:
    """The model as ONNX beside it; the facts."""
    from chromogen.onnx_models.export import export_onnx
    from chromogen.stainer_file import read_model

    return export_onnx(read_model(model), model.with_suffix(".onnx"))


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
        f"It claims {facts['claim']}.\n{NOTICE.capitalize()}.\n"
        f"Stain with it: chromogen stain SLIDE --stainer {shlex.quote(facts['output'])} -o stained.ome.tif"
    )
