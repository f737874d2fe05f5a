"""`chromogen evaluate`: how good is it?"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.arguments import Debug, Device, Json, Mpp
from chromogen.app.terminal import one_bar, tell, tell_report
from chromogen.errors import expected

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
        from chromogen.app.pair_transform import registered_reals
        from chromogen.app.paths import ready_folder
        from chromogen.evaluation.evaluate import evaluate_files
        from chromogen.evaluation.report import mean_lines, write_report
        from chromogen.provenance import facts_since
        from chromogen.style.encoder import Encoder

        ready_folder(out)
        if real and (transform or register):
            real = registered_reals(prediction, content, real, transform, out, mpp)
        began, encoder = time.perf_counter(), Encoder(precision="fp32", device=device)
        with one_bar("images") as follow:
            found = evaluate_files(
                prediction, content, real, encoder=encoder, mpp=mpp, group=group, shift_um=shift_um, on_case=follow
            )
        files = write_report(found, out, facts_since(began))
        tell_report(files, found.warnings, mean_lines(found), as_json=as_json)


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
    from chromogen.app.pair_transform import check_one_way

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
    from chromogen.app.paths import ready_empty_folder
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
    tell(facts, lines, notes=test.warnings, as_json=as_json)


def _score(answers: Path, key: Path, *, as_json: bool) -> None:
    """Score the answers to a blind test."""
    from chromogen.evaluation.blind import score_answers, score_as_json, score_line

    score = score_answers(answers, key)
    tell(score_as_json(score), [score_line(score)], as_json=as_json)
