"""`chromogen study`: the report's experiments and findings, or a sweep of recipes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.arguments import Debug, Device, Json, Precision
from chromogen.app.terminal import add_bar, add_step_bar, note_assumed, progress_bars, tell_report
from chromogen.errors import expected
from chromogen.style.recipes import INITS, PRESETS, grid_recipes, preset, with_total_steps

if TYPE_CHECKING:
    from chromogen.evaluation.fields import Crop
    from chromogen.image import Image
    from chromogen.study.cells import StudyCell
    from chromogen.study.experiments import Experiment
    from chromogen.study.report import Study
    from chromogen.style.encoder import Encoder

PHOTO_PX = 512


def study_command(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for index.html, pictures and tables.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Folder with pairs of H&E and real IHC. Default: the demo's H&E, an IHC of other tissue."
        ),
    ] = None,
    painting: Annotated[
        Path | None, typer.Option(help="A painting, for figures 1 to 3. Default: they are left out.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="The photo for figures 1 to 3. Default: scikit-image's astronaut.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a crop in px.", min=64)] = 256,
    crops: Annotated[int, typer.Option(help="Maximum of crops from a pair.", min=1)] = 2,
    steps: Annotated[
        int | None, typer.Option(help="Steps of every experiment. Default: 200; with --grid, the preset's.", min=1)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help=f"First picture: {', '.join(INITS)}. Default: noise; with --grid, the preset's."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Number of noise images from which every experiment starts.", min=1)
    ] = 1,
    mpp: Annotated[
        float | None,
        typer.Option(help="Size of a pixel in um, of pairs. Default: the file's, else 0.5."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=V,V...",
            help="Instead of the report's experiments, try these values of a recipe's field (init, steps, "
            "loss_scale, ...) or a term's (content.weight, style.layers, ...); several options multiply.",
        ),
    ] = None,
    preset_name: Annotated[
        str, typer.Option("--preset", help=f"What --grid changes fields of: {', '.join(PRESETS)}.")
    ] = "balanced",
    precision: Precision = "auto",
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The report's experiments on crops of H&E and IHC: figures, metrics, and which of its findings hold.

    chromogen study -o study/

    chromogen study --pairs pairs/ --painting starry_night.jpg -o study/

    chromogen study --pairs pairs/ --grid content.weight=1e-4,1e-3,1e-2 --grid content.layers=relu2_2,relu4_2 -o
    sweep/

    PAIRS are found anywhere below the folder: NAME_he.png with NAME_ihc.png, he/NAME.png with ihc/NAME.png, or
    he.png with MARKER_aligned.png beside it. You may stop it at any moment; the same command continues. Open
    study/index.html.
    """
    from chromogen.app.paths import ready_folder
    from chromogen.evaluation.fields import with_seeds
    from chromogen.evaluation.scores import Measures
    from chromogen.pixel_size import ASSUMED_MPP
    from chromogen.provenance import facts_since
    from chromogen.study.cells import cautions, judged_claims
    from chromogen.study.experiments import CLAIMS, report_experiments
    from chromogen.study.report import Study, write_study
    from chromogen.style.encoder import Encoder

    experiments = _sweep(preset_name, grid, steps, init) if grid else report_experiments(**_given(steps, init))
    pictures = _photo_and_painting(photo, painting)
    if seeds > 1 and all(experiment.recipe.init != "noise" for experiment in experiments):
        raise expected("seeds", "1 where nothing starts from noise", seeds, "leave it out")
    began = time.perf_counter()
    chosen = with_seeds(_crops(pairs, size, crops, mpp), seeds)
    note_assumed([None if crop.mpp else ASSUMED_MPP for crop in chosen], "--mpp", "crop")
    ready_folder(out)
    encoder = Encoder(precision=precision, device=device)
    cells, result = _run(chosen, experiments, pictures, out, encoder)
    values = Measures(encoder).values
    found = Study(
        crops=chosen,
        experiments=experiments,
        cells=cells,
        findings=() if grid else judged_claims(cells, CLAIMS, values),
        values=values,
        photo=(*pictures, result) if pictures and result is not None else None,
        warnings=list(cautions(chosen, experiments, cells)),
    )
    files = write_study(found, out, facts_since(began))
    tell_report(files, found.warnings, _front(found) if grid else _verdicts(found), as_json=as_json)


def _run(
    crops: list[Crop],
    experiments: tuple[Experiment, ...],
    pictures: tuple[Image, Image] | None,
    out: Path,
    encoder: Encoder,
) -> tuple[list[StudyCell], Image | None]:
    """All cells, and the photo in the style of the painting if there are any."""
    from chromogen.image import read_image
    from chromogen.study.cells import run_photo, run_study
    from chromogen.study.experiments import painting_recipe

    with progress_bars() as bars, add_step_bar(bars, "steps") as move:
        cells = run_study(crops, experiments, out, encoder, add_bar(bars, "cells"), move)
        if pictures is None:
            return cells, None
        return cells, read_image(run_photo(*pictures, painting_recipe(), out, encoder, move))


def _verdicts(found: Study) -> list[str]:
    return [f"{finding.verdict:15} {finding.claim.text}" for finding in found.findings]


def _front(found: Study) -> list[str]:
    from chromogen.study.report import front_points

    points = front_points(found).items()
    return [f"{name}: style error {style_error:.3g}, edges {edges:.3g}" for name, (style_error, edges) in points]


def _given(steps: int | None, init: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("steps", steps), ("init", init)) if value is not None}


def _sweep(preset_name: str, grid: Sequence[str], steps: int | None, init: str | None) -> tuple[Experiment, ...]:
    from chromogen.study.experiments import Experiment

    base = preset(preset_name)
    base = with_total_steps(base, steps) if steps else base
    recipes = grid_recipes(replace(base, init=init) if init else base, grid)
    return tuple(Experiment(name, name, f"{preset_name} with {name}", recipe) for name, recipe in recipes.items())


def _crops(pairs: Path | None, size: int, count: int, mpp: float | None) -> list[Crop]:
    from chromogen.app.demo import demo_crops
    from chromogen.evaluation.fields import crops_of_pairs, find_pairs

    if pairs is not None:
        return crops_of_pairs(find_pairs(pairs), size, count, mpp)
    if mpp is not None:
        raise expected("mpp", "left out without pairs", mpp, "the demo slide's is known")
    return demo_crops(size, count)


def _photo_and_painting(photo: Path | None, painting: Path | None) -> tuple[Image, Image] | None:
    """Content and style of figure 3, where a painting is named; ValueError for a photo without one."""
    from chromogen.app.demo import builtin_photo
    from chromogen.app.jobs import read_sized

    if painting is None:
        if photo is not None:
            raise expected("painting", "given with photo", "none", "name one, or leave out photo")
        return None
    content = builtin_photo() if photo is None else read_sized(photo, PHOTO_PX).pixels
    return content, read_sized(painting, PHOTO_PX).pixels
