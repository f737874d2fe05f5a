"""`chromogen stylize`: the report's method on images and folders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from chromogen.app import stylize_options as given
from chromogen.app.options import (
    DEFAULT_PRESET,
    build_recipe,
    byte_count,
    numbers,
)
from chromogen.app.terminal import (
    DebugOption,
    JsonOption,
    duration,
    end_with,
    move_bar,
    note_assumed,
    numbered,
    one_by_one,
    progress_bars,
    result_line,
    tell,
)
from chromogen.errors import expected
from chromogen.files import CHECKPOINT_ENDING, named_beside
from chromogen.provenance import NOTICE
from chromogen.style.recipes import Recipe

if TYPE_CHECKING:
    from chromogen.app.jobs import Stylist
    from chromogen.app.paths import SideOutputs
    from chromogen.app.regions import Regions
    from chromogen.style.run import OnStep, Step

EPILOG = """Examples:

chromogen stylize he.png ihc.png -o virtual.png

chromogen stylize tiles/ ihc.png -o results/ --preset fast

chromogen stylize he.png ihc.png -o fig9.png --preset paper --set content.layers=relu4_2 --plot loss.png

chromogen stylize he.png ihc.png -o virtual.png --preset nuclear --mpp 0.25 --dry-run

How good is it? chromogen evaluate virtual.png --content he.png --real ihc.png -o report/. Side by side: chromogen
view FOLDER.

Layers are names with commas between, each with an optional =weight: `--set style.layers=relu1_1=0.5,relu2_1=0.5`.
There are image and relu1_1 to relu5_4. The report's 4th convolutional layer is relu2_2. A step is one evaluation
of loss and gradient."""


def stylize(
    paths: given.Paths,
    out: given.Out,
    preset: given.Preset = DEFAULT_PRESET,
    settings: given.Set = None,
    steps: given.Steps = None,
    seed: given.Seed = None,
    share: given.Share = None,
    size: given.Size = None,
    style_size: given.StyleSize = None,
    mpp: given.Mpp = None,
    style_mpp: given.StyleMpp = None,
    extra_style: given.ExtraStyle = None,
    style_mix: given.StyleMix = None,
    site: given.Site = None,
    dab_amount: given.DabAmount = None,
    content_mask: given.ContentMask = None,
    style_mask: given.StyleMask = None,
    pooling: given.Pooling = "max",
    weights: given.Weights = None,
    precision: given.Precision = "auto",
    tile: given.Tile = None,
    max_memory: given.MaxMemory = None,
    device: given.Device = "auto",
    trace: given.Trace = None,
    plot: given.Plot = None,
    preview: given.Preview = None,
    preview_every: given.PreviewEvery = 10,
    restart: given.Restart = False,
    dry_run: given.DryRun = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """An H&E image in the look of an IHC image that you give, by optimization: the report's method, taken further.

    Minutes a picture. Slides and many tiles are for `stain`, with a stainer trained once.
    """
    steps_each = _parsed(steps, partial(numbers, "steps", kind=int))
    fields = {"steps": steps_each, "seed": seed, "share": share, "site": site, "dab_amount": dab_amount}
    recipe = build_recipe(preset, fields, settings or ())
    from chromogen.app.jobs import Styles, Stylist
    from chromogen.app.paths import SideOutputs, check_side_outputs, plan
    from chromogen.style.encoder import Encoder, load_weights
    from chromogen.style.memory import Limits

    *contents, style = paths
    mix = _parsed(style_mix, partial(numbers, "style_mix", kind=float))
    styles = Styles((style, *(extra_style or [])), mix, style_mpp, style_size)
    jobs, side = plan(contents, out, styles.files), SideOutputs(trace, plot, preview, preview_every)
    if not dry_run:
        check_side_outputs(jobs, styles.files, side, resume=not restart and any(map(_has_begun, jobs)))
    files = [content for content, _ in jobs]
    regions = _drawn(content_mask or (), style_mask or (), files, styles.files)
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
            _foretell(stylist, files, as_json=as_json)
        else:
            _stylize_all(stylist, jobs, side, progress, resume=not restart, as_json=as_json)


def _has_begun(job: tuple[Path, Path]) -> bool:
    """Whether an earlier run has left its output or checkpoint."""
    _, output = job
    return output.exists() or named_beside(output, CHECKPOINT_ENDING).exists()


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
    from chromogen.app.callbacks import listeners_of

    began = time.perf_counter()
    files = [content for content, _ in jobs]
    traces: dict[str, tuple[Step, ...]] = {}

    def work(index: int, content: Path) -> dict[str, Any]:
        if resume and side.are_there and (known := stylist.finished(content, jobs[index][1])):
            return known
        with _bar(progress, numbered(index, files), sum(stylist.recipe.steps)) as move:
            follow = [move, *listeners_of(side, content, index)]
            result, facts = stylist.stylize_file(content, jobs[index][1], follow, resume=resume)
        traces[content.name] = result.trace
        return facts

    results, errors = one_by_one(files, work)
    note_assumed([facts.get("mpp_assumed") for facts in results], "--mpp")
    styles = dict.fromkeys(tuple(facts.get("style_mpp_assumed", ())) for facts in results)
    note_assumed(chain.from_iterable(styles), "--style-mpp", "style")
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


def _drawn(
    content_masks: Sequence[Path], style_masks: Sequence[Path], contents: Sequence[Path], styles: Sequence[Path]
) -> Regions | None:
    """Regions of the one content and the one style. Raises: ValueError where there are several."""
    from chromogen.app.regions import read_region_masks

    if not (content_masks or style_masks):
        return None
    if len(contents) > 1 or len(styles) > 1:
        raise expected("content_mask", "given with one CONTENT and one STYLE", "several", "stylize one by one")
    return read_region_masks((contents[0], content_masks), (styles[0], style_masks))


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
    from chromogen.style.run import total_curve, weighted_curves

    first, *others = traces.values()
    several = {name: total_curve(trace) for name, trace in traces.items()}
    save_plot(loss_plot(several if others else weighted_curves(first, recipe)), path)
