"""`chromogen evaluate` and `study`: how good is it, and which of the findings of the report hold?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app import terminal
from chromogen.app.arguments import Debug, Device, Json, Mpp, Precision
from chromogen.errors import expected
from chromogen.files import ready_empty_folder, ready_folder
from chromogen.image import read_image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import facts_since
from chromogen.style.recipes import INITS, PRESETS, grid_recipes, preset, with_total_steps

if TYPE_CHECKING:
    from chromogen.evaluation.fields import Crop
    from chromogen.image import Image
    from chromogen.study.cells import StudyCell
    from chromogen.study.experiments import Experiment
    from chromogen.study.report import Study
    from chromogen.style.encoder import Encoder

Blind = partial(typer.Option, rich_help_panel="Blind test")


def evaluate_command(
    prediction: Annotated[
        Path | None, typer.Argument(help="Virtual stain: an image or slide, or a folder of them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for index.html, evaluation.json and .csv.")
    ] = None,
    content: Annotated[
        Path | None,
        typer.Option(help="The H&E they came from: an image or slide, or a folder with the same names."),
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Real IHC: an image or slide, or a folder with the same names.")
    ] = None,
    transform: Annotated[
        Path | None,
        typer.Option(
            help="Transform by `chromogen register HE IHC` that brings the real IHC to the prediction, or a "
            "folder of NAME.json."
        ),
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Register each H&E of --content and its real IHC first.")
    ] = False,
    mpp: Mpp = None,
    group: Annotated[
        str | None,
        typer.Option(help="Regular expression: finds in a name which slide it is from, by its first parenthesis."),
    ] = None,
    shift_um: Annotated[float, typer.Option(help="How far the real IHC may be moved to fit, in um.")] = 25.0,
    blind: Annotated[
        Path | None,
        Blind(help="New folder for shuffled crops of virtual and real IHC; its key is put beside it."),
    ] = None,
    crops: Annotated[int, Blind(help="Crops of each kind.")] = 24,
    seed: Annotated[int, Blind(min=0, help="Seed of which crops are drawn, and of their order.")] = 0,
    answers: Annotated[Path | None, Blind(help="The sheet somebody filled in, to be scored.")] = None,
    key: Annotated[Path | None, Blind(help="The key of that blind test.")] = None,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure virtual stains against the H&E they came from and a real IHC: JSON, CSV and one page.

    Or lay out a blind test of virtual and real IHC, and score its answers.

    chromogen evaluate virtual/ --content he/ --real ihc/ --mpp 0.5 -o report/

    chromogen evaluate virtual.png --content he.png -o report/

    chromogen evaluate virtual.png --content he.svs --real ihc.svs --register -o report/

    chromogen evaluate virtual/ --real ihc/ --transform transforms/ -o report/

    chromogen evaluate virtual/ --real ihc/ --group "^(slide[0-9]+)_" -o report/ --json

    Open report/index.html. Two baselines stand beside the prediction, the H&E itself and the H&E in the colours of
    the real IHC, and a floor: one real IHC against another.

    Can people tell it from real IHC? Lay out crops of both, let somebody answer, and score the answers:

    chromogen evaluate virtual/ --real ihc/ --blind test/

    chromogen evaluate --answers test/answers.csv --key test-key.csv
    """
    _check_asked(prediction, out, blind, answers, key)
    _check_registration(real, transform, out, register=register)
    if answers and key:
        _score(answers, key, as_json=as_json)
    elif prediction and blind:
        _lay_out(prediction, real, blind, crops=crops, mpp=mpp, group=group, seed=seed, as_json=as_json)
    elif prediction and out:
        from chromogen.evaluation.evaluate import evaluate_files
        from chromogen.evaluation.registered_reals import registered_reals
        from chromogen.evaluation.report import mean_lines, write_report
        from chromogen.style.encoder import Encoder

        ready_folder(out)
        if real and (transform or register):
            real = registered_reals(prediction, content, real, transform, out, mpp)
        began, encoder = time.perf_counter(), Encoder(precision="fp32", device=device)
        with terminal.one_bar("images") as follow:
            found = evaluate_files(
                prediction, content, real, encoder=encoder, mpp=mpp, group=group, shift_um=shift_um, on_case=follow
            )
        files = write_report(found, out, facts_since(began))
        terminal.tell_report(files, found.warnings, mean_lines(found), as_json=as_json)


def _check_asked(
    prediction: Path | None, out: Path | None, blind: Path | None, answers: Path | None, key: Path | None
) -> None:
    """Raises: ValueError unless one thing is asked for, with all that it needs."""
    asked = [name for name, path in (("-o", out), ("--blind", blind), ("--answers", answers)) if path]
    if len(asked) != 1:
        what = "one of -o DIR, --blind DIR and --answers CSV"
        raise expected("out", what, " and ".join(asked) or "none", "run the command once for each")
    if answers and not key:
        raise expected("key", "given with --answers", "none", "name DIR-key.csv, beside the test's folder")
    if key and not answers:
        raise expected("answers", "given with --key", "none", "name the sheet that was filled in")
    if answers and prediction:
        raise expected("prediction", "left out with --answers", prediction, "the key knows the crops")
    if not answers and not prediction:
        raise expected("prediction", "a virtual stain", "none", "name an image or slide, or a folder of them")


def _check_registration(real: Path | None, transform: Path | None, out: Path | None, *, register: bool) -> None:
    """Raises: ValueError for a registration without what it is for, or asked in two ways."""
    from chromogen.registration.pairs import check_one_way

    check_one_way(transform, register=register)
    if (register or transform) and not (real and out):
        asked = "register" if register else "transform"
        raise expected(asked, "given with --real and -o", "neither" if not real else "no -o")


def _lay_out(
    prediction: Path,
    real: Path | None,
    folder: Path,
    *,
    crops: int,
    mpp: float | None,
    group: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Write a blind test."""
    from chromogen.evaluation.blind import blind_test, write_blind_test

    if real is None:
        raise expected("real", "given with --blind", "none", "name real IHC to show beside the virtual one")
    ready_empty_folder("blind", folder)
    test = blind_test(prediction, real, count=crops, mpp=mpp, group=group, seed=seed)
    files = {kind: str(file) for kind, file in write_blind_test(test, folder).items()}
    lines = [
        f"{len(test.crops)} crops at {test.mpp:g} um per pixel, half of them real.",
        f"To answer, open {files['page']} in a browser, or fill in {files['answers']}.",
        f"Keep {files['key']} from whoever answers.",
        f"Then: chromogen evaluate --answers {files['answers']} --key {files['key']}",
    ]
    facts = {"crops": len(test.crops), "mpp": test.mpp, "seed": seed, "output": files, "warnings": test.warnings}
    terminal.tell(facts, lines, notes=test.warnings, as_json=as_json)


def _score(answers: Path, key: Path, *, as_json: bool) -> None:
    """Score the answers to a blind test."""
    from chromogen.evaluation.blind import score_answers, score_as_json, score_line

    score = score_answers(answers, key)
    terminal.tell(score_as_json(score), [score_line(score)], as_json=as_json)


# The experiments of the report.

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
    from chromogen.evaluation.fields import with_seeds
    from chromogen.evaluation.scores import Measures
    from chromogen.study.cells import cautions, judged_claims
    from chromogen.study.experiments import CLAIMS, report_experiments
    from chromogen.study.report import Study, write_study
    from chromogen.style.encoder import Encoder

    given: dict[str, Any] = {k: v for k, v in (("steps", steps), ("init", init)) if v is not None}
    experiments = _sweep(preset_name, grid, steps, init) if grid else report_experiments(**given)
    pictures = _photo_and_painting(photo, painting)
    if seeds > 1 and all(experiment.recipe.init != "noise" for experiment in experiments):
        raise expected("seeds", "1 where nothing starts from noise", seeds, "leave it out")
    began = time.perf_counter()
    chosen = with_seeds(_crops(pairs, size, crops, mpp), seeds)
    terminal.note_assumed([None if crop.mpp else ASSUMED_MPP for crop in chosen], "--mpp", "crop")
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
    lines = [f"{finding.verdict:15} {finding.claim.text}" for finding in found.findings]
    terminal.tell_report(files, found.warnings, _front(found) if grid else lines, as_json=as_json)


def _run(
    crops: list[Crop],
    experiments: tuple[Experiment, ...],
    pictures: tuple[Image, Image] | None,
    out: Path,
    encoder: Encoder,
) -> tuple[list[StudyCell], Image | None]:
    """All cells, and the photo in the style of the painting if there are any."""
    from chromogen.study.cells import run_photo, run_study
    from chromogen.study.experiments import painting_recipe

    with terminal.progress_bars() as bars, terminal.add_step_bar(bars, "steps") as move:
        cells = run_study(crops, experiments, out, encoder, terminal.add_bar(bars, "cells"), move)
        if pictures is None:
            return cells, None
        return cells, read_image(run_photo(*pictures, painting_recipe(), out, encoder, move))


def _front(found: Study) -> list[str]:
    from chromogen.study.report import front_points

    points = front_points(found).items()
    return [f"{name}: style error {style_error:.3g}, edges {edges:.3g}" for name, (style_error, edges) in points]


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
