"""Models of pairs in files: what comes back, what they stain, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.image import read_image, write_image
from chromogen.staining.stainer import Stainer, load_look, look_where, stain_image, stainer_of_look
from chromogen.staining.where_network import (
    FORMAT,
    HEADER,
    OLD_HEADER,
    Architecture,
    Model,
    read_model,
    trained_weights,
    write_model,
)
from synthetic import tissue_like
from test_where_network import network

HE = tissue_like(200, 180, seed=8)


def model(name: str = "test", seed: int = 0, look: str = "epithelial") -> Model:
    """With weights by chance, and a built-in look."""
    made = network(seed)
    record = {"steps": 3, "validated_on": "1 of 2 pairs, not trained on", "validation": {"dab_r_4um": 0.4}}
    shown = replace(load_look(look), name=name)
    return Model(name, made.architecture, trained_weights(made), shown, record, {"paired_he_sha256": ["x"]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.safetensors", model())
    return tmp_path / "model.safetensors"


def test_comes_back_whole(file: Path) -> None:
    found = read_model(file)
    assert found.facts == model().facts
    assert found.look == model().look
    assert found.sha256 == model().sha256
    assert found.network().state_dict().keys() == found.weights.keys()
    assert file.stat().st_size < 30_000


@pytest.mark.parametrize("look", ["epithelial", "nuclear"])
def test_one_file_says_where_and_how(tmp_path: Path, look: str) -> None:
    """The stainer of a file is the look of its pairs, where its network says; in tiles, too."""
    file = tmp_path / "m.safetensors"
    write_model(file, model(look=look))
    stainer = Stainer.from_pretrained(file)
    other = stainer_of_look(load_look(file), where=look_where(file))
    np.testing.assert_array_equal(stainer(HE), other(HE))
    assert (stainer.name, stainer.identity) == ("test", other.identity)
    assert stainer.where is not None
    assert stainer.where["source"] == "paired"
    assert (stainer_of_look(load_look(look))(HE) != stainer(HE)).any()
    fitted = pickle.loads(pickle.dumps(stainer.fit(HE)))  # noqa: S301 - our own, as workers are sent
    np.testing.assert_array_equal(stain_image(fitted, HE, 64), stainer(HE))


def test_what_it_is_called_by_is_all_it_says() -> None:
    """Weights, facts and look decide the hash."""
    hashes = {made.sha256 for made in (model(), model("other"), model(seed=1), model(look="nuclear"))}
    assert len(hashes) == 4


def _with_header(file: Path, change: Callable[[dict[str, object]], None]) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        said = json.loads(opened.metadata()[HEADER])
    weights = load_file(file)
    change(said)
    save_file(weights, file, {HEADER: json.dumps(said)})


def test_a_model_of_an_older_chromogen_is_told_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "old.safetensors"
    save_file({"a": torch.ones(2)}, old, {OLD_HEADER: json.dumps({"format": 1})})
    with pytest.raises(ValueError, match="got '.*old.safetensors' of an older kind; train it anew on pairs"):
        Stainer.from_pretrained(old)


def test_newer_is_refused(file: Path) -> None:
    _with_header(file, lambda said: said.update(format=FORMAT + 1))
    with pytest.raises(ValueError, match="of format 1, .*newer chromogen"):
        read_model(file)


def test_changed_facts_are_refused(file: Path) -> None:
    _with_header(file, lambda said: said["facts"].update(notice="for diagnosis"))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="changed or damaged"):
        read_model(file)


def test_changed_weights_are_refused(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="changed or damaged"):
        Stainer.from_pretrained(file)


@pytest.mark.parametrize("part", [0, 5, 200, -10])
def test_truncated_is_refused(file: Path, part: int) -> None:
    file.write_bytes(file.read_bytes()[:part])
    with pytest.raises(ValueError, match="truncated"):
        Stainer.from_pretrained(file)


@pytest.mark.parametrize("lost", ["facts", "sha256"])
def test_a_header_without_its_facts_is_refused(file: Path, lost: str) -> None:
    _with_header(file, lambda said: said.pop(lost))
    with pytest.raises(ValueError, match="Expected `model`"):
        read_model(file)


@pytest.mark.parametrize("lost", ["name", "architecture", "look", "training"])
def test_missing_facts_are_refused(file: Path, lost: str) -> None:
    _with_header(file, lambda said: said["facts"].pop(lost))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"Expected `model` .*{lost}"):
        read_model(file)


@pytest.mark.parametrize(
    ("at", "value"),
    [("look", {}), ("look", 3), ("look", None), ("architecture", {"width": -1}), ("architecture", [1])],
    ids=str,
)
def test_facts_that_cannot_be_are_refused(file: Path, at: str, value: object) -> None:
    _with_header(file, lambda said: said["facts"].update({at: value}))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="Expected `model`"):
        read_model(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, other)
    with pytest.raises(ValueError, match="holds something else|holds other"):
        read_model(other)
    torch.save({"a": torch.ones(2)}, other)
    with pytest.raises(ValueError, match="truncated"):
        Stainer.from_pretrained(other)
    with pytest.raises(FileNotFoundError, match="existing file"):
        Stainer.from_pretrained(tmp_path / "missing.safetensors")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="Expected"):
        Stainer.from_pretrained(tmp_path / "model.pt")


def test_models_that_are_none_are_not_made(tmp_path: Path) -> None:
    bad = {name: torch.full_like(weight, torch.nan) for name, weight in model().weights.items()}
    with pytest.raises(ValueError, match="finite"):
        replace(model(), weights=bad)
    with pytest.raises(ValueError, match="those of Architecture"):
        replace(model(), architecture=Architecture(width=9)).network()
    with pytest.raises(ValueError, match="name ending in"):
        write_model(tmp_path / "model.pt", model())


def test_a_file_that_changes_under_way_is_noticed(file: Path) -> None:
    was = Stainer.from_pretrained(file)
    write_model(file, model(seed=1))
    with pytest.raises(ValueError, match="the file with hash"):
        was(HE[::-1].copy())  # which no test has stained


def test_stain_and_info_take_a_file(file: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", HE, {})
    out = tmp_path / "out.png"
    command = ["stain", str(tmp_path / "he.png"), "-o", str(out), "--json"]
    found = CliRunner().invoke(app, [*command, "--stainer", str(file)])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["where"]["sha256"] == read_model(file).sha256
    by_look = read_image(out)
    np.testing.assert_array_equal(by_look, Stainer.from_pretrained(file)(HE))
    found = CliRunner().invoke(app, [*command, "--stainer", "epithelial", "--where", str(file)])
    assert found.exit_code == 0, found.output
    np.testing.assert_array_equal(read_image(out), by_look)  # whose look that is
    found = CliRunner().invoke(app, [*command, "--stainer", str(file), "--where", "tissue"])
    assert json.loads(found.stdout)["where"]["source"] == "tissue"
    said = CliRunner().invoke(app, ["info", str(file)])
    assert "where the marker lies" in said.output
    assert "not for diagnosis" in said.output
    card = json.loads(CliRunner().invoke(app, ["info", str(file), "--json"]).stdout)["results"][0]
    assert (card["sha256"], card["name"]) == (read_model(file).sha256, "test")
