"""`chromogen study` from the command line."""

import json
from pathlib import Path

import pytest

from chromogen.image import write_image
from synthetic import tissue_like
from test_cli import refused, run


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("a", "b"):
        write_image(folder / f"{name}_he.png", tissue_like(64, 64, seed=1))
        write_image(folder / f"{name}_ihc.png", tissue_like(64, 64, seed=ord(name))[..., ::-1].copy())
    return folder


@pytest.mark.slow
def test_the_reports_experiments_and_findings(
    capsys: pytest.CaptureFixture[str], pairs: Path, tmp_path: Path
) -> None:
    command = ["study", "--pairs", pairs, "-o", tmp_path / "study", "--steps", 1, "--crops", 1, "--json"]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    found = json.loads(out)
    assert len(found["findings"]) == 10
    assert len(found["cells"]) == 2 * 11
    assert found["output"]["page"].endswith("index.html")
    again, _, _ = run(capsys, *command)
    assert again == 0


def test_a_sweep(capsys: pytest.CaptureFixture[str], pairs: Path, tmp_path: Path) -> None:
    grid = ["--grid", "content.weight=1e-3,1", "--grid", "style.layers=relu1_1+relu2_1", "--grid", "steps=1"]
    out_folder = tmp_path / "sweep"
    status, out, err = run(
        capsys, "study", "--pairs", pairs, "--crops", 1, "-o", out_folder, *grid, "--preset", "paper"
    )
    assert status == 0, err
    assert "index.html" in out
    assert "Warning: slides: 2" in err
    record = json.loads((out_folder / "study.json").read_text())
    assert record["findings"] == []
    name = "content.weight=1e-3,style.layers=relu1_1+relu2_1,steps=1"
    assert (out_folder / "a-1" / f"{name}.png").is_file()
    assert record["experiments"][name]["recipe"]["steps"] == [1]
    assert f"{name}: style error" in out


def test_a_sweep_takes_steps_and_init(capsys: pytest.CaptureFixture[str], pairs: Path, tmp_path: Path) -> None:
    grid = ["--grid", "style.layers=relu1_1", "--steps", 2, "--init", "noise", "--preset", "paper", "--json"]
    status, out, err = run(capsys, "study", "--pairs", pairs, "--crops", 1, "-o", tmp_path / "sweep", *grid)
    assert status == 0, err
    (experiment,) = json.loads(out)["experiments"].values()
    assert (experiment["recipe"]["steps"], experiment["recipe"]["init"]) == ([2], "noise")


def test_wrong_requests(capsys: pytest.CaptureFixture[str], pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "existing folder" in refused(capsys, "study", "--pairs", tmp_path / "none", "-o", out)
    assert not out.exists()
    assert "did you mean init" in refused(capsys, "study", "--grid", "inti=noise", "-o", out)
    assert "`painting` to be given" in refused(capsys, "study", "--photo", pairs / "a_he.png", "-o", out)
    grid = ["--grid", "init=content", "--seeds", 2]
    assert "`seeds` to be 1" in refused(capsys, "study", *grid, "-o", out)
    assert "`mpp` to be left out" in refused(capsys, "study", "--mpp", 0.5, "-o", tmp_path / "there")
    assert "one of content, color, style, noise" in refused(capsys, "study", "--init", "x", "-o", out)
