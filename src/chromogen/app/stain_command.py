"""`chromogen stain`: tiles, folders and whole slides through a stainer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from chromogen.app.options import numbers
from chromogen.app.terminal import (
    DebugOption,
    JsonOption,
    Output,
    duration,
    end_with,
    note_assumed,
    numbered,
    one_by_one,
    progress_bars,
    tell,
)
from chromogen.errors import expected
from chromogen.provenance import NOTICE

if TYPE_CHECKING:
    from chromogen.app.staining import Task
    from chromogen.stainer import Stainer
    from chromogen.whole_slide.runners import Run
    from chromogen.whole_slide.stain import OnBlock
    from chromogen.whole_slide.view import SlideFile

OfSlide = partial(typer.Option, rich_help_panel="Slide")
Running = partial(typer.Option, rich_help_panel="Running")
OfLook = partial(typer.Option, rich_help_panel="Look (where times how)")
OfGenerator = partial(typer.Option, rich_help_panel="Generator (FILE.onnx)")

EPILOG = """Examples:

chromogen stain slide.svs -o stained.ome.tif

chromogen stain slide.svs --stainer nuclear --share 0.3 -o ki67.ome.tif

chromogen stain slide.svs --style my_ihc.png --style-mpp 0.5 -o as_my_ihc.ome.tif

chromogen stain slide.svs --where regions.geojson --level Tumor=0.9 --level Stroma=0 -o drawn.ome.tif

chromogen stain slide.svs --stainer nuclear --where er_pairs.safetensors -o er.ome.tif

chromogen stain slide.svs --stainer my_stain.safetensors -o stained.ome.tif

chromogen stain slide.svs --stainer markers.safetensors --marker ER:0.7,Ki67:0.3 -o blend.ome.tif

chromogen stain slides/ --stainer normalize -o normalized/

chromogen stain slide.tif --slide-mpp 0.25 --region 20000,15000,8192,8192 -o part.ome.tif

chromogen stain slide.svs --stainer cut.onnx --mpp 0.5 --range -1..1 --blend 128 -o stained.ome.tif

STAINERS: epithelial and nuclear (measured looks; `chromogen info NAME` is their card), color-transfer (colours
of an IHC), normalize (H&E as a reference), identity (the image as it is), a file that `chromogen train` wrote,
or a generator trained elsewhere, as ONNX: `chromogen info FILE.onnx` says what it takes.

WHERE: tissue (a guess by the slide's nuclei), FILE.geojson (regions of QuPath), an image of the whole slide (a
grey heat map; with --level, labels), FILE.onnx (a model that gives a map), FILE.safetensors (by `train --paired`:
it alone may claim a place), style (style transfer, for tiles alone). Every output says which one it was.

Ask `chromogen info slide.svs` first: how large, how long. Stopped at any moment, the same command goes
on: finished blocks lie in OUT.chromogen until the output is there."""


def stain(
    paths: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Slides, images, or folders of them.")],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Slide to write (.ome.tif, .ome.zarr) or image (.png ...); a folder for several inputs.",
        ),
    ],
    stainer: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="One that comes with Chromogen (below), a file by `train`, or an ONNX model."
        ),
    ] = "epithelial",
    style: Annotated[
        list[Path] | None,
        OfLook(
            metavar="IHC", help="A reference IHC whose look to give, instead of --stainer; several are averaged."
        ),
    ] = None,
    style_mpp: Annotated[
        float | None, OfLook(help="Pixel size of the IHC in um, where its file does not say it.")
    ] = None,
    site: Annotated[
        str, OfLook(help="What the marker of the IHC stains: nuclear, cytoplasm, or auto, as the IHC shows.")
    ] = "auto",
    share: Annotated[
        float | None,
        OfLook(help="Of nuclei that become positive, 0 to 1; by default as many as in the IHC.", min=0, max=1),
    ] = None,
    seed: Annotated[int, OfLook(help="Another number: other nuclei are positive.", min=0)] = 0,
    where: Annotated[
        str,
        OfLook(
            metavar="tissue|FILE|style",
            help="What says where the stain lies (below): a guess by the tissue, regions, a map, or a model.",
        ),
    ] = "tissue",
    level: Annotated[
        list[str] | None,
        OfLook(
            metavar="CLASS=VALUE",
            help="With regions: the level of a class, 0 to 1, once for each; elsewhere=VALUE for the rest. By "
            "default every class has 1. It is the share of positive nuclei, or the strength of other stains.",
        ),
    ] = None,
    marker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a model of several markers: ER, or a blend, ER:0.7,Ki67:0.3."),
    ] = None,
    slide_mpp: Annotated[
        float | None,
        OfSlide(help="Pixel size of the inputs in um, where files do not say it or are wrong."),
    ] = None,
    mpp: Annotated[
        float | None,
        OfSlide(help="With FILE.onnx: pixel size in um that it was trained at. Else the same as --slide-mpp."),
    ] = None,
    value_range: Annotated[
        str | None,
        OfGenerator(
            "--range", metavar="LOW..HIGH", help="Of its numbers: 0..1, -1..1 or 0..255; by its last layer."
        ),
    ] = None,
    blend: Annotated[
        int | None,
        OfGenerator(metavar="PX", help="By how much its windows overlap and are blended; a quarter of a window."),
    ] = None,
    icc: Annotated[
        bool, OfSlide("--icc/--no-icc", help="Convert colours to sRGB by the slide's ICC profile.")
    ] = True,
    tissue_mask: Annotated[
        bool,
        OfSlide("--tissue-mask/--no-tissue-mask", help="Stain tissue alone; the rest is glass."),
    ] = True,
    region: Annotated[
        str | None, OfSlide(metavar="X,Y,W,H", help="A part of the slide alone, in its level-0 pixels.")
    ] = None,
    compression: Annotated[
        str, Output(help="Of .ome.tif: jpeg, jpeg2000, or deflate, which loses nothing.")
    ] = "jpeg",
    anonymous: Annotated[bool, Output("--anonymous", help="Leave names and dates out of the output.")] = False,
    restart: Annotated[bool, Running("--restart", help="Begin anew, whatever an earlier run has left.")] = False,
    strict: Annotated[
        bool,
        OfSlide("--strict", help="Stop where a slide cannot be read, instead of leaving it white."),
    ] = False,
    trace: Annotated[Path | None, Output(help="Note every finished block here, as JSON Lines.")] = None,
    workers: Annotated[int | None, Running(help="Work in so many processes on this machine.", min=1)] = None,
    scheduler: Annotated[
        str | None,
        Running(metavar="ADDRESS", help="Work on a Dask cluster: its scheduler's address or .json file."),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Tiles and whole slides through a stainer: a slide in, a pyramidal OME-TIFF out, without seams."""
    from chromogen.app.staining import (
        any_stainer,
        begin_trace,
        look_and_references,
        noted,
        plan_stains,
        stain_tile,
    )
    from chromogen.app.where import LookStainer, WhereOption, levels_of
    from chromogen.stainer import is_look
    from chromogen.whole_slide.job import SlideJob
    from chromogen.whole_slide.output import Output as OutputFile
    from chromogen.whole_slide.stain import stain_slide
    from chromogen.whole_slide.view import SlideFile

    began = time.perf_counter()
    of_look = bool(style) or is_look(stainer)
    if of_look:
        check_left_out({"range": value_range, "blend": blend})
        slide_mpp = _one_of(slide_mpp, mpp)
        option = WhereOption(where, levels_of(level or []), marker)
        dials = LookStainer(*look_and_references(style or [], stainer, site, style_mpp), share, seed, option)
        tasks = plan_stains(paths, out)
        stainer_for = dials.stainers(tasks, slide_mpp, icc=icc)
    else:
        of_looks = {"share": share, "style-mpp": style_mpp, "level": level}
        check_left_out({**of_looks, "where": None if where == "tissue" else where}, "with a look")
        made_by = any_stainer(stainer, marker, mpp, value_range, blend)
        slide_mpp = slide_mpp if made_by.lattice else _one_of(slide_mpp, mpp)
        tasks = plan_stains(paths, out)
        stainer_for = _always(made_by)
    model_load_s = time.perf_counter() - began
    part = _region(region, tasks)
    outputs = {task: OutputFile(task.out, compression, anonymous=anonymous) for task in tasks if task.is_slide}
    if trace:
        begin_trace(trace, tasks)

    def stain_one(task: Task, run: Run | None, follow: OnBlock) -> dict[str, Any]:
        if not task.is_slide:
            return stain_tile(task, stainer_for(task), mpp=slide_mpp, icc=icc)
        follow = noted(follow, trace, task.file) if trace else follow
        file = SlideFile(task.file, slide_mpp, icc)
        made_by = stainer_for(task)
        if made_by.lattice is not None and not of_look:
            _check_mpp(file)
        job = SlideJob(file, made_by, part, tissue_mask)
        return stain_slide(job, outputs[task], run=run, strict=strict, restart=restart, on_block=follow)

    files = [task.file for task in tasks]
    with _runner(workers, scheduler) as run, progress_bars() as progress:

        def work(index: int, _file: Path) -> dict[str, Any]:
            with _bar(progress, numbered(index, files)) as follow:
                return {**stain_one(tasks[index], run, follow), "model_load_s": model_load_s}

        results, errors = one_by_one(files, work)
    _report(results, errors, time.perf_counter() - began, as_json=as_json)


@contextmanager
def _bar(progress: Progress, name: str) -> Iterator[OnBlock]:
    """Shows how far a slide is, until it is finished."""
    bar = progress.add_task(name, total=None, loss="", rate="looking")
    try:
        yield lambda done, of: progress.update(bar, completed=done, total=of, rate="blocks")
    finally:
        progress.remove_task(bar)


def check_left_out(given: Mapping[str, object], where: str = "with a network or generator") -> None:
    """ValueError for an option that was given and does not go with this stainer."""
    for option, value in given.items():
        if value is not None:
            raise expected(option, f"given {where}", value, "leave it out")


def _check_mpp(file: SlideFile) -> None:
    """ValueError where a slide does not say its pixel size: with a generator --mpp is not the slide's."""
    with file.open() as slide:
        if slide.mpp is None:
            wanted = f"given, as {str(file.path)!r} does not say its pixel size"
            raise expected("slide-mpp", wanted, "none", "0.25 at 40x, 0.5 at 20x")


def _one_of(slide_mpp: float | None, mpp: float | None) -> float | None:
    """The inputs' pixel size, by either name."""
    if slide_mpp is not None and mpp is not None:
        raise expected("mpp", "left out where --slide-mpp is given", mpp, "the stainer says its own")
    return mpp if slide_mpp is None else slide_mpp


def _always(stainer: Stainer) -> Callable[[Task], Stainer]:
    """The same stainer for every input."""
    return lambda _task: stainer


def _region(text: str | None, tasks: Sequence[Task]) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    if len(tasks) > 1 or not tasks[0].is_slide:
        raise expected("region", "given with one slide", f"{len(tasks)} inputs", "stain one by one")
    found = numbers("region", text, int)
    if len(found) != 4:
        raise expected("region", "X,Y,W,H", text)
    x, y, width, height = found
    return x, y, width, height


@contextmanager
def _runner(workers: int | None, scheduler: str | None) -> Iterator[Run | None]:
    """Where blocks are worked on; None: here."""
    from chromogen.whole_slide.runners import cluster_at, local_cluster, on_cluster

    if workers and scheduler:
        raise expected("workers", "left out where --scheduler is given", workers)
    if not (workers or scheduler):
        yield None
        return
    with cluster_at(scheduler) if scheduler else local_cluster(workers or 1) as client:
        yield on_cluster(client)


def _report(results: list[dict[str, Any]], errors: dict[str, str], seconds: float, *, as_json: bool) -> None:
    """Say what was done: one line a file, or one JSON object; exit 1 if any failed."""
    note_assumed([result.get("mpp_assumed") for result in results], "--slide-mpp")
    for result in results:
        if result.get("unreadable"):
            print(_unreadable(result), file=sys.stderr)
    if as_json:
        tell(results, errors, seconds)
    else:
        print("\n".join([*map(_line, results), f"{NOTICE.capitalize()}."]))
    end_with(errors)


def _unreadable(result: dict[str, Any]) -> str:
    places = "; ".join("x {}, y {}, {} x {} px".format(*place) for place in result["unreadable"][:5])
    more = len(result["unreadable"]) - 5
    return f"Warning: {result['output']}: left white, since the slide cannot be read there: {places}" + (
        f"; and {more} more" if more > 0 else ""
    )


def _line(result: dict[str, Any]) -> str:
    """What became of one file."""
    if result.get("already_done"):
        return f"{result['output']}: is there already, by the same stainer and settings; --restart makes it again"
    width, height = result["size"]
    took = f"{duration(result['seconds'])}, {result['mpx_per_s']:.1f} Mpx/s"
    words = f"{result['output']}: {width} x {height} px at {result['mpp']:.3g} um/px"
    seams = "none to see" if result["seam_score"] is None else f"{result['seam_score']:.2f} (none: 1)"
    if result["tissue_fraction"] is None:
        return f"{words}; {took}" + ("" if result["seam_score"] is None else f"; seams {seams}")
    skipped = result["tiles"] - result["tiles_stained"]
    glass = f"{result['tissue_fraction']:.0%} tissue, {skipped} of {result['tiles']} blocks skipped as glass"
    return f"{words}, {glass}; {took}; seams {seams}"
