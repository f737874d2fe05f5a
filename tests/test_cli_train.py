"""`chromogen train` from files to a model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.app.training import files_of
from chromogen.image import read_image, write_image
from chromogen.stainer import load_stainer
from chromogen.stainer_file import read_model
from chromogen.stains.deconvolution import H_DAB
from test_dicom_series import OTHER, OURS, dicom
from test_train import drawn

# A few steps leave the stain as pale as it began.
pytestmark = pytest.mark.filterwarnings("ignore:The stainer has collapsed")
TINY = ["--steps", "2", "--batch", "1", "--tile", "32", "--validate-every", "1", "--precision", "fp32"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "he").mkdir()
    for seed in (1, 2):
        write_image(tmp_path / "he" / f"{seed}.png", drawn(120, seed), {})
    write_image(tmp_path / "ihc.png", drawn(96, 3, 0.9, H_DAB), {})
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return [
        "train",
        str(folder / "he"),
        "--style",
        str(folder / "ihc.png"),
        "-o",
        str(folder / "m.safetensors"),
        *more,
    ]


def test_from_files_to_a_stained_image(folder: Path) -> None:
    found = CliRunner().invoke(app, command(folder, *TINY, "--json"))
    assert found.exit_code == 0, found.output
    facts = json.loads(found.stdout)
    assert facts["steps"] == 2
    assert facts["validated_on"] == "1 of 2 images or slides, not trained on"
    model = read_model(folder / "m.safetensors")
    assert facts["sha256"] == model.sha256
    assert model.training["kind"] == "style"
    assert len(model.data["content_sha256"]) == 2
    lines = [json.loads(line) for line in (folder / "m.train.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [1, 2]
    assert read_image(folder / "m.preview.png").shape == (2 * 32, 6 * 32, 3)  # of the eight looked at
    assert (folder / "m.loss.png").exists()
    assert not (folder / "m.checkpoint").exists()
    he = drawn(100, 5)
    assert (load_stainer(folder / "m.safetensors")(he) != he).any()


def test_one_network_for_several_markers(folder: Path) -> None:
    (folder / "ki67").mkdir()
    write_image(folder / "ki67" / "a.png", drawn(96, 4, 0.5, H_DAB), {})
    asked = ["--style", f"ER={folder / 'ihc.png'}", "--style", f"Ki67={folder / 'ki67'}"]
    given = ["train", str(folder / "he"), *asked, "-o", str(folder / "m.safetensors"), *TINY]
    found = CliRunner().invoke(app, [*given, "--json"])
    assert found.exit_code == 0, found.output
    model = read_model(folder / "m.safetensors")
    assert model.markers == ("ER", "Ki67")
    assert {role: len(hashes) for role, hashes in model.data.items()} == {
        "content_sha256": 2,
        "style_sha256 ER": 1,
        "style_sha256 Ki67": 1,
    }
    said = CliRunner().invoke(app, ["info", str(folder / "m.safetensors")])
    assert "ER, Ki67" in said.output
    with pytest.raises(ValueError, match="`chromogen export` takes one of them"):
        CliRunner().invoke(app, [*given, "--export", "onnx"], catch_exceptions=False)
    stain = ["stain", str(folder / "he" / "1.png"), "--stainer", str(folder / "m.safetensors")]
    out = folder / "out.png"
    made = CliRunner().invoke(app, [*stain, "--marker", "ER:0.7,Ki67:0.3", "-o", str(out), "--json"])
    assert json.loads(made.stdout)["stainer"] == "m (ER 0.7, Ki67 0.3)"
    with pytest.raises(ValueError, match="did you mean Ki67"):
        CliRunner().invoke(app, [*stain, "--marker", "Ki76", "-o", str(out)], catch_exceptions=False)


def test_an_rgb_network_from_files(folder: Path) -> None:
    found = CliRunner().invoke(app, command(folder, *TINY, "--network", "rgb", "--json"))
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["bytes"] < 2_000_000
    he = drawn(100, 5)
    assert load_stainer(folder / "m.safetensors")(he).shape == he.shape


@pytest.mark.parametrize(
    ("styles", "said"),
    [(["ER=ihc.png", "ihc.png"], "for every one, or for none"), (["a:b=ihc.png"], "without comma, colon")],
)
def test_wrong_markers(folder: Path, styles: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    asked = [part for style in styles for part in ("--style", style)]
    with pytest.raises(ValueError, match=said):
        CliRunner().invoke(app, ["train", "he", *asked, "-o", "m.safetensors"], catch_exceptions=False)


def test_words_for_people(folder: Path) -> None:
    found = CliRunner().invoke(app, command(folder, *TINY))
    assert "m.safetensors: " in found.output
    assert "not for diagnosis" in found.output
    assert f"--stainer {folder / 'm.safetensors'}" in found.output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--site", "membrane"], "Expected `site`"),
        (["--network", "rgb", "--site", "nuclear"], "any for a network that knows colours alone"),
        (["--tile", "256"], "images with tissue"),
        (["--tile", "50"], "multiple of 16"),
        (["--steps", "0"], "at least 1"),
    ],
)
def test_wrong_requests(folder: Path, more: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CliRunner().invoke(app, command(folder, *TINY, *more), catch_exceptions=False)


def test_wrong_names(folder: Path) -> None:
    for missing in ([*command(folder)[:1], str(folder / "none"), *command(folder)[2:]],):
        with pytest.raises(FileNotFoundError, match="Expected `content` to be an existing image"):
            CliRunner().invoke(app, missing, catch_exceptions=False)
    with pytest.raises(ValueError, match="name ending in .safetensors"):
        CliRunner().invoke(app, [*command(folder)[:-1], str(folder / "m.pt")], catch_exceptions=False)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="without any"):
        files_of([folder / "empty"], "style")


def test_the_dicom_files_of_a_slide_are_one_content(folder: Path) -> None:
    for name, series in (("1.dcm", OURS), ("2.dcm", OURS), ("3.dcm", OTHER)):
        (folder / "he" / name).write_bytes(dicom(series))
    assert [file.name for file in files_of([folder / "he"], "content") if file.suffix == ".dcm"] == [
        "1.dcm",
        "3.dcm",
    ]


def test_an_he_as_style_is_warned_of(folder: Path) -> None:
    """A folder of them, and as one marker of two: every one is named."""
    pink = np.tile(np.array([225, 150, 190], np.uint8), (96, 96, 1))
    (folder / "pink").mkdir()
    for name in ("a.png", "b.png"):
        write_image(folder / "pink" / name, pink, {})
    asked = ["--style", f"ER={folder / 'ihc.png'}", "--style", f"Ki67={folder / 'pink'}"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CliRunner().invoke(app, ["train", str(folder / "he"), *asked, "-o", str(folder / "m.safetensors"), *TINY])
    said = [str(warning.message) for warning in caught]
    assert [name for name in ("a.png", "b.png", "ihc.png") if f"{name} looks like an H&E" in " ".join(said)] == [
        "a.png",
        "b.png",
    ]


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_weights(folder: Path) -> None:
    settings = [*TINY[2:], "--steps", "12"]
    code = (
        "import sys; from chromogen.style.checkpoint import Checkpoint as c;"
        "c.__init__.__kwdefaults__['every_s'] = 0;"
        "from chromogen.app.cli import main; main(sys.argv[1:])"
    )
    run = [sys.executable, "-c", code, *command(folder, *settings, "--resume")]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = folder / "m.train.jsonl"
    while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "m.safetensors").exists()
    subprocess.run(run, check=True, capture_output=True)
    resumed = read_model(folder / "m.safetensors")
    assert [json.loads(line)["index"] for line in log.read_text().splitlines()] == list(range(1, 13))
    (folder / "m.safetensors").unlink()
    log.unlink()
    subprocess.run(run, check=True, capture_output=True)
    straight = read_model(folder / "m.safetensors")
    for name, weight in straight.weights.items():
        np.testing.assert_allclose(weight, resumed.weights[name], rtol=1e-2, atol=1e-3)
    assert straight.training["validation"]["total"] == pytest.approx(
        resumed.training["validation"]["total"], rel=1e-4
    )


@pytest.mark.slow
def test_exported_too(folder: Path) -> None:
    """Beside the model lies the same as ONNX."""
    onnx_file = pytest.importorskip("chromogen.onnx_models.onnx_file")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    found = CliRunner().invoke(app, command(folder, *TINY, "--export", "onnx", "--json"))
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["onnx"] == str(folder / "m.onnx")
    said = onnx_file.read_onnx(folder / "m.onnx").metadata
    assert said["sha256"] == read_model(folder / "m.safetensors").sha256
