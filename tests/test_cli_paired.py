"""`chromogen train --paired`: from folders of pairs to a model that says what it knows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.image import Image, read_image, write_image
from chromogen.staining.stainer import Stainer
from chromogen.staining.where_network import read_model, write_model
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.training.pairs import read_pairs
from drawn_pairs import drawn_pair
from test_where_file import model

TINY = ["--steps", "2", "--batch", "1", "--validate-every", "1", "--site", "cytoplasm"]
SIDE = 192


def write_pair(folder: Path, name: str, he: Image, ihc: Image) -> None:
    write_image(folder / f"{name}_he.png", he, {})
    write_image(folder / f"{name}_ihc.png", ihc, {})


@pytest.fixture(scope="module")
def drawn_ones() -> list[tuple[Image, Image]]:
    made = [drawn_pair(seed, "pink", SIDE, (12.0, -9.0)) for seed in (0, 1, 2)]
    return [(pair.he, pair.ihc) for pair in made]


@pytest.fixture
def folder(tmp_path: Path, drawn_ones: list[tuple[Image, Image]]) -> Path:
    """Two slides, and a pair of two tissues."""
    (tmp_path / "pairs").mkdir()
    for name, (he, ihc) in zip(("liver", "lung"), drawn_ones, strict=False):
        write_pair(tmp_path / "pairs", name, he, ihc)
    write_pair(tmp_path / "pairs", "mixed", drawn_ones[2][0], np.ascontiguousarray(np.rot90(drawn_ones[2][1])))
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    return ["train", "--paired", str(folder / "pairs"), "-o", str(folder / "m.safetensors"), *TINY, *more]


def refused(folder: Path, said: str, *more: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error, match=said):
        CliRunner().invoke(app, command(folder, *more), catch_exceptions=False)


def test_from_pairs_to_a_model_that_may_say_where(folder: Path) -> None:
    done = CliRunner().invoke(app, command(folder, "--json"))
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert {row["pair"]: row["left_out"] is None for row in facts["pairs"]} == {
        "liver": True,
        "lung": True,
        "mixed": False,
    }
    assert facts["validated_on"] == "1 of 2 pairs, not trained on"
    made = read_model(folder / "m.safetensors")
    claim = made.claim
    assert claim.startswith("where the marker lies")
    assert "2 of 3 pairs of 2 slides" in claim
    assert "not trained on" in claim
    text = json.dumps(made.facts)
    assert "liver" not in text
    assert [row["slide"] for row in made.training["pairs"]] == [1, 2, 3]
    assert len(made.data["paired_he_sha256"]) == 3
    assert made.look.source == "the IHC of the pairs"
    assert facts["target_stain"] == made.look.target_stain == "DAB in cytoplasm"
    lines = [json.loads(line) for line in (folder / "m.train.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [1, 2]
    assert read_image(folder / "m.preview.png").shape == (3 * SIDE // 2, SIDE // 2, 3)  # of the one held out
    assert (folder / "m.loss.png").exists()
    assert not (folder / "m.checkpoint").exists()
    he = drawn_pair(7, "pink", SIDE).he
    assert (Stainer.from_pretrained(folder / "m.safetensors")(he) != he).any()


def test_a_table_for_people(folder: Path) -> None:
    done = CliRunner().invoke(app, command(folder))
    lines = done.output.splitlines()
    assert lines[0].split() == ["pair", "displacement", "left", "after", "confidence"]
    assert any(line.startswith("mixed") and "left out: fits no better" in line for line in lines)
    assert any(line.startswith("liver") and " um, " in line and line.endswith("used") for line in lines)
    assert "It claims where the marker lies" in done.output


def test_few_pairs_from_a_model(folder: Path) -> None:
    write_model(folder / "start.safetensors", model())
    done = CliRunner().invoke(app, command(folder, "--from", str(folder / "start.safetensors")))
    assert done.exit_code == 0, done.output
    made, start = read_model(folder / "m.safetensors"), model()
    assert made.architecture == start.architecture
    assert made.data["from_model_sha256"] == start.sha256
    np.testing.assert_array_equal(made.weights["mean"], start.weights["mean"])
    (folder / "start.safetensors").write_bytes(b"weights")
    refused(folder, "which is none, or truncated", "--from", str(folder / "start.safetensors"))


def test_one_pair_is_told_of(folder: Path) -> None:
    for name in ("lung", "mixed"):
        for end in ("he", "ihc"):
            (folder / "pairs" / f"{name}_{end}.png").unlink()
    done = CliRunner().invoke(app, command(folder))
    assert "what is used is of one slide" in done.output
    assert "the only pair, which was trained on" in read_model(folder / "m.safetensors").claim


def test_tiles_of_one_slide_are_kept_on_one_side(folder: Path, drawn_ones: list[tuple[Image, Image]]) -> None:
    other = folder / "others"
    other.mkdir()
    for name, (he, ihc) in zip(("S1_1", "S1_2", "S2_1"), drawn_ones, strict=True):
        write_pair(other, name, he, ihc)
    found = read_pairs(other)
    assert found.warnings == ("S1_1 and S1_2 may be of one slide: if so, say so with --group",)
    named = read_pairs(other, group="^S[0-9]+")
    assert [one.pair.slide for one in named.kept] == ["S1", "S1", "S2"]
    assert not named.warnings
    write_pair(other, "S3_1", *drawn_ones[0])
    again = read_pairs(other, group="^S[0-9]+")
    assert [row["slide"] for row in again.rows] == ["S1", "S1", "S2", "S1"]
    assert "S1_1 and S3_1 are nearly the same picture" in again.warnings[0]


def test_several_ihc_of_one_he_are_told_of(tmp_path: Path, drawn_ones: list[tuple[Image, Image]]) -> None:
    he, ihc = drawn_ones[0]
    for name, image in (("he", he), ("ER_aligned", ihc), ("PR_aligned", ihc)):
        write_image(tmp_path / f"{name}.png", image, {})
    assert "some H&E have several IHC: all are taken for the same marker" in read_pairs(tmp_path).warnings


def test_large_pairs_are_brought_together_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromogen.training.pairs.PIECE_PX", 200)
    pair = drawn_pair(5, "pink", 384, (8.0, 6.0))
    write_pair(tmp_path, "large", pair.he, pair.ihc)
    found = read_pairs(tmp_path)
    assert [row["pair"] for row in found.rows] == [f"large, part {i}" for i in (1, 2, 3, 4)]
    assert {row["slide"] for row in found.rows} == {"large"}
    for one in found.kept:
        np.testing.assert_allclose(one.found.shift_px, (8, 6), atol=6)


def test_two_sizes(folder: Path, drawn_ones: list[tuple[Image, Image]]) -> None:
    he, ihc = drawn_ones[0]
    write_pair(folder / "pairs", "liver", he, ihc[:, :180])
    refused(folder, "of one size, got liver, 192 x 192 px and 180 x 192 px")


def test_two_pixel_sizes(tmp_path: Path, drawn_ones: list[tuple[Image, Image]]) -> None:
    he, ihc = drawn_ones[0]
    for name, image, mpp in (("a_he", he, 0.5), ("a_ihc", ihc, 0.25)):
        per_cm = 10_000 / mpp
        tifffile.imwrite(tmp_path / f"{name}.tif", image, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")
    with pytest.raises(ValueError, match=r"of one pixel size, got a, 0.5 um/px and 0.25 um/px"):
        read_pairs(tmp_path)


def test_no_partner_no_pairs_no_folder(folder: Path) -> None:
    (folder / "pairs" / "lung_ihc.png").unlink()
    refused(folder, "lung_he.png has a lung_ihc")
    (folder / "none").mkdir()
    refused(folder, "a folder with pairs", "--paired", str(folder / "none"))
    refused(folder, "existing folder", "--paired", str(folder / "nowhere"), error=FileNotFoundError)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--group", "^S[0-9]"), "found in every name"),
        (("--name", "x"), "Expected `name` to be given with IHC alone"),
        (("--style-mpp", "0.5"), "Expected `style-mpp` to be given with IHC alone"),
        (("--style", "ihc.png"), "given, or pairs, got both"),
        (("--site", "membrane"), "Expected `site`"),
        (("--steps", "0"), "at least 1"),
        (("--export", "coreml"), "Expected `export`"),
        (("-o", "m.pt"), "name ending in .safetensors"),
        (("--site", "nuclear"), None),
    ],
    ids=str,
)
def test_wrong_requests(folder: Path, more: tuple[str, ...], said: str | None) -> None:
    if said is None:
        assert CliRunner().invoke(app, command(folder, *more)).exit_code in (0, 2)
        return
    refused(folder, said, *more)


def test_neither_ihc_nor_pairs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected `style` to be given, or pairs, got neither"):
        CliRunner().invoke(app, ["train", "-o", str(tmp_path / "m.json")], catch_exceptions=False)


def test_ihc_without_any_stain_makes_no_model(folder: Path) -> None:
    """One line says what is missing, and nothing is left."""
    for file in (folder / "pairs").glob("*_ihc.png"):
        he = read_image(file.with_name(file.name.replace("_ihc", "_he")))
        pale = combine_stains(separate_stains(he, H_E).clip(0) * (0.7, 0, 0), H_DAB)
        write_image(file, pale, {})
    refused(folder, "Expected `pairs` to be at least one IHC, of those trained on, with stained and unstained")
    assert not (folder / "m.safetensors").exists()


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_weights(folder: Path) -> None:
    settings = ["--steps", "400", "--validate-every", "50"]
    code = (
        "import sys; from chromogen.style.checkpoint import Checkpoint as c;"
        "c.__init__.__kwdefaults__['every_s'] = 0;"
        "from chromogen.app.cli import main; main(sys.argv[1:])"
    )
    run = [sys.executable, "-c", code, *command(folder, *settings)]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = folder / "m.train.jsonl"
    while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "m.safetensors").exists()
    subprocess.run(run, check=True, capture_output=True)
    resumed = read_model(folder / "m.safetensors")
    indices = [json.loads(line)["index"] for line in log.read_text().splitlines()]
    assert indices == list(range(1, resumed.training["steps"] + 1))
    (folder / "m.safetensors").unlink()
    log.unlink()
    subprocess.run(run, check=True, capture_output=True)
    straight = read_model(folder / "m.safetensors")
    for name, weight in straight.weights.items():
        np.testing.assert_allclose(weight, resumed.weights[name], rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_exported_too(folder: Path) -> None:
    """Beside the model lies the same as ONNX."""
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    found = CliRunner().invoke(app, command(folder, "--export", "onnx", "--json"))
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["onnx"] == str(folder / "m.onnx")
    told = {prop.key: prop.value for prop in onnx.load(folder / "m.onnx").metadata_props}
    assert told["sha256"] == read_model(folder / "m.safetensors").sha256
