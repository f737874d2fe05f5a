"""`chromogen stain`: tiles, folders and whole slides through a stainer."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from chromogen.app import terminal
from chromogen.app.arguments import LOOK_MPP, PART, Debug, Inputs, Json, Output, check_left_out, region_of
from chromogen.compute.memory import give_back_freed_memory
from chromogen.models import MODEL_SUFFIX, ONNX_SUFFIX

OfSlide = partial(typer.Option, rich_help_panel="Slide")
Running = partial(typer.Option, rich_help_panel="Running")
OfLook = partial(typer.Option, rich_help_panel="Look (where times how)")
OfGenerator = partial(typer.Option, rich_help_panel="Generator (FILE.onnx)")

MIN_TOLD = 0.0005  # of the tissue that is unlike the exemplar's: less rounds to nothing
LARGE_BYTES = 8 * 2**20  # maps of a network: kept, they leave gaps, and memory grows with the slide
SHOWN_DAMAGE = 5


def stain_command(
    paths: Inputs,
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
            metavar="IHC",
            help="A reference IHC (image, slide or folder) whose look to give, instead of --stainer; several are "
            "averaged.",
        ),
    ] = None,
    style_mpp: Annotated[float | None, OfLook(help=LOOK_MPP)] = None,
    style_region: Annotated[
        str | None, OfLook(metavar=PART, help="A part of the IHC alone, in its level-0 pixels.")
    ] = None,
    site: Annotated[
        str, OfLook(help="What the marker of the IHC stains: nuclear, cytoplasm, or auto, as the IHC shows.")
    ] = "auto",
    share: Annotated[
        float | None,
        OfLook(help="Share of nuclei that become positive, 0 to 1. Default: as many as in the IHC.", min=0, max=1),
    ] = None,
    seed: Annotated[int, OfLook(help="Another number: other nuclei are positive.", min=0)] = 0,
    where: Annotated[
        str | None,
        OfLook(
            metavar="tissue|FILE|style",
            help="Where the stain lies (below): a guess by the tissue, regions, a map, or a model. Default: the "
            "model that is given as --stainer, else tissue.",
        ),
    ] = None,
    level: Annotated[
        list[str] | None,
        OfLook(
            metavar="CLASS=VALUE",
            help="With regions: the level of a class, 0 to 1, once for each; elsewhere=VALUE for the rest. "
            "Default: 1 for every class. The level is the share of positive nuclei, or the strength of other "
            "stains.",
        ),
    ] = None,
    intensity: Annotated[
        float, OfLook(help="Strength of the brown, or other second stain, times that of the IHC: 0 to 4.")
    ] = 1.0,
    counterstain: Annotated[float, OfLook(help="Strength of haematoxylin, times that of the IHC: 0 to 4.")] = 1.0,
    fill: Annotated[bool, OfLook("--fill", help="Stain tissue that is unlike any in the IHC, too.")] = False,
    confidence: Annotated[
        Path | None,
        OfLook(metavar="FILE", help="Image to write: how far tissue is like any in the IHC, 8 um to a pixel."),
    ] = None,
    mpp: Annotated[
        float | None,
        OfSlide(help="Pixel size of the inputs in um, where files do not say it or are wrong."),
    ] = None,
    model_mpp: Annotated[
        float | None,
        OfGenerator(help="Pixel size in um that the generator was trained at. Default: what its file says."),
    ] = None,
    value_range: Annotated[
        str | None,
        OfGenerator(
            "--range",
            metavar="LOW..HIGH",
            help="Range of its numbers: 0..1, -1..1 or 0..255. Default: by its last layer.",
        ),
    ] = None,
    blend: Annotated[
        int | None,
        OfGenerator(
            metavar="PX", help="How far its windows overlap and are blended. Default: a quarter of a window."
        ),
    ] = None,
    icc: Annotated[
        bool, OfSlide("--icc/--no-icc", help="Convert colours to sRGB by the slide's ICC profile.")
    ] = True,
    tissue_mask: Annotated[
        bool, OfSlide("--tissue-mask/--no-tissue-mask", help="Stain tissue alone, and leave the rest as glass.")
    ] = True,
    region: Annotated[
        str | None, OfSlide(metavar=PART, help="A part of the slide alone, in its level-0 pixels.")
    ] = None,
    compression: Annotated[
        str, Output(help="Compression of .ome.tif: jpeg, jpeg2000, or deflate, which loses nothing.")
    ] = "jpeg",
    anonymous: Annotated[bool, Output("--anonymous", help="Leave names and dates out of the output.")] = False,
    restart: Annotated[
        bool, Running("--restart", help="Start anew. By default, a stopped run continues.")
    ] = False,
    strict: Annotated[
        bool, OfSlide("--strict", help="Stop where a slide cannot be read, instead of leaving it white.")
    ] = False,
    trace: Annotated[Path | None, Output(help="Note every finished block here, as JSON Lines.")] = None,
    workers: Annotated[int | None, Running(help="Work in so many processes on this machine.", min=1)] = None,
    scheduler: Annotated[
        str | None,
        Running(metavar="ADDRESS", help="Work on a Dask cluster: its scheduler's address or .json file."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tiles and whole slides through a stainer: a slide in, a pyramidal OME-TIFF out, without seams.

    chromogen stain slide.svs -o stained.ome.tif

    chromogen stain slide.svs --stainer nuclear --share 0.3 -o ki67.ome.tif

    chromogen stain slide.svs --style my_ihc.png --style-mpp 0.5 -o as_my_ihc.ome.tif

    chromogen stain slide.svs --where regions.geojson --level Tumor=0.9 --level Stroma=0 -o drawn.ome.tif

    chromogen stain slide.svs --stainer nuclear --where er_pairs.safetensors -o er.ome.tif

    chromogen stain slide.svs --style ihc_slide.svs --intensity 0.8 --counterstain 1.2 -o paler.ome.tif

    chromogen stain slide.svs --stainer my_stain.safetensors -o stained.ome.tif

    chromogen stain slides/ --stainer normalize -o normalized/

    chromogen stain slide.tif --mpp 0.25 --region 20000,15000,8192,8192 -o part.ome.tif

    chromogen stain slide.svs --stainer cut.onnx --model-mpp 0.5 --range -1..1 --blend 128 -o stained.ome.tif

    STAINERS: epithelial and nuclear (measured looks; `chromogen info NAME` is their card), color-transfer
    (colours of an IHC), normalize (H&E as a reference), identity (the image as it is), a look that `chromogen
    train --style` wrote, a model by `train --paired` (the look of its pairs, where it expects the marker), or a
    generator trained elsewhere, as ONNX: `chromogen info FILE.onnx` says what it takes.

    WHERE: tissue (a guess by the slide's nuclei), FILE.geojson (regions of QuPath), an image of the whole slide (a
    grey heat map; with --level, labels), FILE.onnx (a model that gives a map), FILE.safetensors (by
    `train --paired`: it alone may claim a place), style (style transfer, for tiles alone). Every output says which
    one it was.

    Ask `chromogen info slide.svs` first: how large, how long. You may stop it at any moment. The same command
    continues: finished blocks lie in OUT.chromogen until the output is there.
    """
    from chromogen.app import staining
    from chromogen.staining.stainer import Stainer, is_look, stainer_of_look

    give_back_freed_memory(LARGE_BYTES)
    began = time.perf_counter()
    of_look = bool(style) or is_look(stainer)
    if Path(stainer).suffix.lower() != ONNX_SUFFIX:
        check_left_out({"range": value_range, "blend": blend, "model-mpp": model_mpp}, "with a generator (.onnx)")
    if of_look:
        own = stainer if not style and Path(stainer).suffix.lower() == MODEL_SUFFIX else "tissue"
        option = staining.WhereOption(where or own, staining.levels_by_class(level or []))
        look, references = staining.asked_look(style, stainer, site, style_mpp, style_region)
        make = partial(
            stainer_of_look, look, share, seed, intensity=intensity, counterstain=counterstain, fill=fill
        )
        tasks = staining.plan_stains(paths, out)
        stainer_of = staining.LookStainer(look, references, share, make, option).stainers(tasks, mpp, icc=icc)
    else:
        dials = {"intensity": intensity, "counterstain": counterstain}
        turned = {name: strength for name, strength in dials.items() if strength != 1}
        of_files = {"style-mpp": style_mpp, "style-region": style_region, "confidence": confidence}
        of_looks = {"share": share, "level": level, "fill": fill or None, "where": where}
        check_left_out({**of_looks, **of_files, **turned}, "with a look")
        made = Stainer.from_pretrained(stainer, model_mpp, value_range=value_range, blend_px=blend)
        stainer_of = staining.always(made)
        tasks = staining.plan_stains(paths, out)
    model_load_s = time.perf_counter() - began
    part = region_of("region", region)
    work_on = staining.Staining(
        mpp,
        icc,
        part,
        tissue_mask,
        confidence,
        trace,
        compression,
        anonymous=anonymous,
        strict=strict,
        restart=restart,
        needs_mpp=not of_look,
    )
    work_on.begin(tasks)
    inputs = [task.file for task in tasks]
    with staining.runner(workers, scheduler) as run, terminal.progress_bars() as progress:

        def work(index: int, _file: Path) -> dict[str, Any]:
            with terminal.block_bar(progress, terminal.numbered(index, inputs)) as follow:
                facts = work_on.stain(tasks[index], stainer_of(tasks[index]), run, follow)
            return {**facts, "model_load_s": model_load_s}

        results, errors = terminal.one_by_one(inputs, work)
    terminal.note_assumed([result.get("mpp_assumed") for result in results], "--mpp")
    print("".join(_unreadable(result) for result in results if result.get("unreadable")), end="", file=sys.stderr)
    unlike = [_unlike(result, fill=fill) for result in results if (result.get("unlike_fraction") or 0) >= MIN_TOLD]
    facts = terminal.facts_of_all(results, errors, time.perf_counter() - began)
    lines = [*map(_line, results), *unlike, terminal.USE, terminal.look_closely(*paths, out)]
    terminal.tell(facts, lines, as_json=as_json, errors=errors)


def _unreadable(result: dict[str, Any]) -> str:
    places = "; ".join("x {}, y {}, {} x {} px".format(*place) for place in result["unreadable"][:SHOWN_DAMAGE])
    more = len(result["unreadable"]) - SHOWN_DAMAGE
    others = f"; and {more} more" if more > 0 else ""
    return f"Warning: {result['output']}: left white, since the slide cannot be read there: {places}{others}\n"


def _unlike(result: dict[str, Any], *, fill: bool) -> str:
    """How much of the tissue the exemplar knows nothing of, and what became of it."""
    became = "--fill stained it" if fill else "it is only counterstained; --fill stains it"
    share = result["unlike_fraction"]
    return f"{result['output']}: {share:.1%} of the tissue is unlike any in the reference IHC: {became}"


def _line(result: dict[str, Any]) -> str:
    """What became of one file."""
    if result.get("already_done"):
        return f"{result['output']}: is there already, by the same stainer and settings; --restart makes it again"
    width, height = result["size"]
    took = f"{terminal.duration(result['seconds'])}, {result['mpx_per_s']:.1f} Mpx/s"
    words = f"{result['output']}: {width} x {height} px at {result['mpp']:.3g} um/px"
    seams = "none to see" if result["seam_score"] is None else f"{result['seam_score']:.2f} (none: 1)"
    if result["tissue_fraction"] is None:
        return f"{words}; {took}" + ("" if result["seam_score"] is None else f"; seams {seams}")
    skipped = result["tiles"] - result["tiles_stained"]
    glass = f"{result['tissue_fraction']:.0%} tissue, {skipped} of {result['tiles']} blocks skipped as glass"
    return f"{words}, {glass}; {took}; seams {seams}"
