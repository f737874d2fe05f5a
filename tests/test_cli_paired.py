"""`chromogen train --paired`: from folders of pairs to a model that says what it knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.app.pairs import read_pairs
from chromogen.image import Image, write_image
from chromogen.stainer_file import claim_of, read_model, write_model
from drawn_pairs import drawn_pair
from test_stainer_file import model

# A few steps leave the stain as pale as it began.
pytestmark = pytest.mark.filterwarnings("ignore:The stainer has collapsed")
TINY = ["--steps", "1", "--batch", "1", "--tile", "32", "--validate-every", "1", "--precision", "fp32"]
SIDE = 192


def write_pair(folder: Path, name: str, he: Image, ihc: Image) -> None:
    write_image(folder / f"{name}_he.png", he, {})
    write_image(folder / f"{name}_ihc.png", ihc, {})


@pytest.fixture(scope="module")
def drawn_ones() -> list[tuple[Image, Image]]:
    made = [drawn_pair(seed, "pink", SIDE, (12.0, -9.0)) for seed in range(3)]
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
    assert made.training["kind"] == "paired"
    claim = made.card()["claim"]
    assert claim.startswith("where the marker lies")
    assert "2 of 3 pairs of 2 slides" in claim
    assert "not trained on" in claim
    text = json.dumps(made.facts)
    assert "liver" not in text
    assert [row["slide"] for row in made.training["pairs"]] == [1, 2, 3]
    assert len(made.data["paired_he_sha256"]) == 3
    assert made.data["style_sha256"] == []


def test_a_table_for_people(folder: Path) -> None:
    done = CliRunner().invoke(app, command(folder))
    lines = done.output.splitlines()
    assert lines[0].split() == ["pair", "displacement", "left", "after", "confidence"]
    assert any(line.startswith("mixed") and "left out: fits no better" in line for line in lines)
    assert any(line.startswith("liver") and " um, " in line and line.endswith("used") for line in lines)
    assert "It claims where the marker lies" in done.output


def test_only_pairs_may_claim_where() -> None:
    assert claim_of({"kind": "style", "evidence": "x"}).startswith("appearance only")
    assert claim_of({"kind": "paired", "evidence": "2 pairs"}).endswith(": 2 pairs")


def test_few_pairs_from_a_model(folder: Path) -> None:
    start = replace(model(), mpp=0.5)
    write_model(folder / "start.safetensors", start)
    done = CliRunner().invoke(app, command(folder, "--from", str(folder / "start.safetensors")))
    assert done.exit_code == 0, done.output
    made = read_model(folder / "m.safetensors")
    assert made.architecture == start.architecture
    assert made.data["from_model_sha256"] == start.sha256
    np.testing.assert_array_equal(made.weights["mean"], start.weights["mean"])
    refused(folder, "that of the model, 0.5", "--from", str(folder / "start.safetensors"), "--mpp", "1")
    refused(
        folder, "that of the model, cytoplasm", "--from", str(folder / "start.safetensors"), "--site", "nuclear"
    )
    refused(
        folder, "that of the model, stain-pyramid", "--from", str(folder / "start.safetensors"), "--network", "rgb"
    )


def test_pairs_teach_another_kind_of_network(folder: Path) -> None:
    done = CliRunner().invoke(app, command(folder, "--network", "rgb"))
    assert done.exit_code == 0, done.output
    made = read_model(folder / "m.safetensors")
    assert made.architecture.kind == "rgb"
    assert -1 <= made.training["validation"]["dab_r"] <= 1


def test_one_pair_is_told_of(folder: Path) -> None:
    for name in ("lung", "mixed"):
        for end in ("he", "ihc"):
            (folder / "pairs" / f"{name}_{end}.png").unlink()
    done = CliRunner().invoke(app, command(folder))
    assert "what is used is of one slide" in done.output
    assert "the only pair, which was trained on" in read_model(folder / "m.safetensors").card()["claim"]


def test_tiles_of_one_slide_are_kept_on_one_side(folder: Path, drawn_ones: list[tuple[Image, Image]]) -> None:
    other = folder / "others"
    other.mkdir()
    for name, (he, ihc) in zip(("S1_1", "S1_2", "S2_1"), drawn_ones, strict=True):
        write_pair(other, name, he, ihc)
    found = read_pairs(other, 0.5)
    assert found.warnings == ("S1_1 and S1_2 may be of one slide: if so, say so with --group",)
    named = read_pairs(other, 0.5, group="^S[0-9]+")
    assert [content.slide for content in named.contents] == ["S1", "S1", "S2"]
    assert not named.warnings
    write_pair(other, "S3_1", *drawn_ones[0])
    again = read_pairs(other, 0.5, group="^S[0-9]+")
    assert [row["slide"] for row in again.rows] == ["S1", "S1", "S2", "S1"]
    assert "S1_1 and S3_1 are nearly the same picture" in again.warnings[0]


def test_several_ihc_of_one_he_are_told_of(tmp_path: Path, drawn_ones: list[tuple[Image, Image]]) -> None:
    he, ihc = drawn_ones[0]
    for name, image in (("he", he), ("ER_aligned", ihc), ("PR_aligned", ihc)):
        write_image(tmp_path / f"{name}.png", image, {})
    assert "some H&E have several IHC: all are taken for the same marker" in read_pairs(tmp_path, 0.5).warnings


def test_large_pairs_are_brought_together_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromogen.app.pairs.PIECE_PX", 200)
    pair = drawn_pair(5, "pink", 384, (8.0, 6.0))
    write_pair(tmp_path, "large", pair.he, pair.ihc)
    found = read_pairs(tmp_path, 0.5)
    assert [row["pair"] for row in found.rows] == [f"large, part {i}" for i in (1, 2, 3, 4)]
    assert {row["slide"] for row in found.rows} == {"large"}
    for content in found.contents:
        assert content.paired is not None
        np.testing.assert_allclose(content.paired.shift_px, (8, 6), atol=6)


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
        read_pairs(tmp_path, 0.5)


def test_no_partner_no_pairs_no_folder(folder: Path) -> None:
    (folder / "pairs" / "lung_ihc.png").unlink()
    refused(folder, "lung_he.png has a lung_ihc")
    (folder / "none").mkdir()
    refused(folder, "a folder with pairs", "--paired", str(folder / "none"))
    refused(folder, "existing folder", "--paired", str(folder / "nowhere"), error=FileNotFoundError)


def test_what_does_not_go_together(folder: Path) -> None:
    out = ["-o", str(folder / "m.safetensors")]
    with pytest.raises(ValueError, match="Expected `style` to be given, or pairs"):
        CliRunner().invoke(app, ["train", *out], catch_exceptions=False)
    he = str(folder / "pairs" / "liver_he.png")
    with pytest.raises(ValueError, match="got H&E without IHC"):
        CliRunner().invoke(app, ["train", he, *out], catch_exceptions=False)
    with pytest.raises(ValueError, match="given with pairs"):
        CliRunner().invoke(app, ["train", he, "--style", he, "--group", "x", *out], catch_exceptions=False)
    refused(folder, "found in every name", "--group", "^S[0-9]")
    refused(folder, "without markers' names", "--style", f"ER={he}")
