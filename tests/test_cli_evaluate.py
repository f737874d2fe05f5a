"""`chromogen evaluate` from the command line."""

import inspect
import json
from pathlib import Path

import pytest

from chromogen.app import evaluate_commands
from chromogen.evaluation.evaluate import SHIFT_UM
from chromogen.image import Image, write_image
from synthetic import tissue_like
from synthetic_slides import write_pyramid
from test_cli import refused, run


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Path]:
    """Folders of predictions, H&E and real IHC, two of each, in several formats."""
    folders = {name: tmp_path / name for name in ("virtual", "he", "ihc")}
    for seed, (folder, suffix) in enumerate(zip(folders.values(), (".png", ".tif", ".jpg"), strict=True)):
        folder.mkdir()
        for name in ("a", "b"):
            image: Image = tissue_like(64, 80, seed=seed)
            write_image(folder / f"{name}{suffix}", image)
    return folders


def asked(study: dict[str, Path], out: Path) -> list[object]:
    return ["evaluate", study["virtual"], "--content", study["he"], "--real", study["ihc"], "-o", out]


def test_evaluate_prints_means_and_writes_a_page(
    capsys: pytest.CaptureFixture[str], study: dict[str, Path], tmp_path: Path
) -> None:
    status, out, err = run(capsys, *asked(study, tmp_path / "report"))
    assert status == 0, err
    (color,) = (line for line in out.splitlines() if line.startswith("swd_od10 "))
    assert color.endswith(" OD, lower is better")
    assert "not for diagnosis" in out
    assert "Warning: pixel size: 2 images without" in err
    assert {file.name for file in (tmp_path / "report").iterdir()} == {
        "index.html",
        "evaluation.json",
        "evaluation.csv",
    }


def test_json_has_means_intervals_rows_and_what_it_took(
    capsys: pytest.CaptureFixture[str], study: dict[str, Path], tmp_path: Path
) -> None:
    status, out, _ = run(capsys, *asked(study, tmp_path / "report"), "--mpp", 0.5, "--json")
    assert status == 0
    found = json.loads(out)
    assert set(found["metrics"]["psnr"]) == {"mean", "ci95", "n"}
    assert set(found["baselines"]) == {"he", "color_transfer", "real"}
    assert len(found["rows"]) == 2
    assert found["seconds"] > 0
    assert found["peak_rss_mb"] > 0
    assert found["output"]["page"].endswith("index.html")
    written = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert written["metrics"] == found["metrics"]


@pytest.mark.parametrize(
    ("given", "more"), [(["--content"], "--real"), (["--real"], "--content"), ([], "--content and --real")]
)
def test_metrics_that_no_picture_was_given_for_are_counted_in_a_line(
    capsys: pytest.CaptureFixture[str], study: dict[str, Path], tmp_path: Path, given: list[str], more: str
) -> None:
    options = [text for name in given for text in (name, study[{"--content": "he", "--real": "ihc"}[name]])]
    status, out, err = run(capsys, "evaluate", study["virtual"], *options, "-o", tmp_path / "report")
    assert status == 0, err
    found = json.loads((tmp_path / "report" / "evaluation.json").read_text())["metrics"]
    lacking = [name for name, mean in found.items() if mean.get("why", "").startswith(("no H&E", "no real IHC"))]
    assert f"\n{len(lacking)} more with {more}.\n" in out
    assert lacking
    assert {line.split()[0] for line in out.splitlines()} & set(found) == set(found) - set(lacking)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mpp", 1000], "`mpp` to be from 0.05 to 20"),
        (["--group", "("], "a regular expression"),
        (["--group", "slide"], "found in every name"),
        (["--shift-um", -1], "`shift_um` to be from 0 to 500"),
        (["--content", "nowhere"], "existing image or folder, got 'nowhere'"),
    ],
)
def test_requests_that_are_wrong(
    capsys: pytest.CaptureFixture[str], study: dict[str, Path], tmp_path: Path, more: list[object], message: str
) -> None:
    assert message in refused(capsys, *asked(study, tmp_path / "report"), *more)


def answered(out: Path, right: bool) -> Path:
    """The sheet of a blind test, filled in by somebody who is always right or always wrong."""
    kinds = {line.split(",")[0]: line.split(",")[1] for line in (out.parent / "test-key.csv").read_text().split()}
    other = {"real": "virtual", "virtual": "real"}
    lines = [f"{name},{kind if right else other[kind]}" for name, kind in kinds.items() if name != "crop"]
    (out / "answers.csv").write_text("\n".join(["crop,answer", *lines]))
    return out / "answers.csv"


def test_a_blind_test_is_laid_out_and_scored(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for seed, name in enumerate(("virtual.png", "real.png")):
        write_image(tmp_path / name, tissue_like(512, 512, seed=seed), mpp=0.5)
    asked = ["evaluate", tmp_path / "virtual.png", "--real", tmp_path / "real.png", "--blind", tmp_path / "test"]
    status, out, err = run(capsys, *asked, "--crops", 3)
    assert (status, err) == (0, "")
    assert out.startswith("6 crops at 0.5 um per pixel, half of them real.")
    assert {file.name for file in tmp_path.iterdir()} == {"virtual.png", "real.png", "test", "test-key.csv"}
    assert "holds files" in refused(capsys, *asked)
    for right, percent in ((True, 100.0), (False, 0.0)):
        sheet = answered(tmp_path / "test", right)
        scoring = ["evaluate", "--answers", sheet, "--key", tmp_path / "test-key.csv"]
        assert run(capsys, *scoring)[1].startswith(f"Told right: {6 * right} of 6 crops, {percent:.0f} %")
        assert json.loads(run(capsys, *scoring, "--json")[1])["told_right"]["percent"] == percent


def test_a_blind_test_says_in_json_where_its_files_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_image(tmp_path / "virtual.png", tissue_like(256, 256, seed=1))
    write_image(tmp_path / "real.png", tissue_like(256, 256, seed=2))
    asked = ["evaluate", tmp_path / "virtual.png", "--real", tmp_path / "real.png", "--blind", tmp_path / "test"]
    status, out, err = run(capsys, *asked, "--json")
    assert status == 0
    assert "there is tissue for 1 of each kind, not for 24" in err
    found = json.loads(out)
    assert (found["crops"], found["mpp"], found["seed"]) == (2, 0.5, 0)
    assert all(Path(file).is_file() for file in found["output"].values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["virtual"], "`out` to be one of -o DIR, --blind DIR and --answers CSV, got none"),
        (["virtual", "-o", "report", "--blind", "test"], "got -o and --blind"),
        (["-o", "report"], "`prediction` to be a virtual stain, got none"),
        (["virtual", "--blind", "test"], "`real` to be given with --blind"),
        (["--answers", "answers.csv"], "`key` to be given with --answers"),
        (["virtual", "-o", "report", "--key", "key.csv"], "`answers` to be given with --key"),
        (["virtual", "--answers", "answers.csv", "--key", "key.csv"], "`prediction` to be left out"),
    ],
)
def test_requests_that_ask_for_two_things_or_lack_one(
    capsys: pytest.CaptureFixture[str],
    study: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "evaluate", *given)
    assert {file.name for file in tmp_path.iterdir()} == set(study)


def test_the_default_shift_is_the_one_of_the_function() -> None:
    """Written twice, because the help must not load what evaluates."""
    assert inspect.signature(evaluate_commands.evaluate_command).parameters["shift_um"].default == SHIFT_UM


def test_no_metrics_without_predictions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "a slide, or a folder of them" in refused(
        capsys, "evaluate", tmp_path / "empty", "-o", tmp_path / "report"
    )


def test_what_stain_wrote_is_matched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    slides, stained = tmp_path / "slides", tmp_path / "stained"
    slides.mkdir()
    for name in ("s.1.tif", "S2.TIF"):
        write_pyramid(slides / name, tissue_like(128, 160, seed=1), (2,))
    status, _, err = run(capsys, "stain", slides, "-o", stained, "--stainer", "normalize")
    assert status == 0, err
    status, out, err = run(capsys, "evaluate", stained, "--content", slides, "-o", tmp_path / "report", "--json")
    assert status == 0, err
    assert [row["name"] for row in json.loads(out)["rows"]] == ["S2", "s.1"]
