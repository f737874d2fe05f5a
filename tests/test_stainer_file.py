"""Stainers in files: what comes back, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.image import read_image, write_image
from chromogen.stainer import load_stainer, stain_image
from chromogen.stainer_file import FORMAT, HEADER, Model, paint, read_model, trained_weights, write_model
from chromogen.style.stainer_network import Architecture, slide_look, stain
from synthetic import tissue_like
from test_stainer_network import TARGET, network

HE = tissue_like(200, 180, seed=8)


def model(name: str = "test", seed: int = 0) -> Model:
    made = network("cytoplasm", seed)
    return Model(
        name,
        "DAB",
        0.5,
        made.architecture,
        TARGET,
        trained_weights(made),
        {"kind": "style", "steps": 3},
        {"style": "x"},
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.safetensors", model())
    return tmp_path / "model.safetensors"


def test_comes_back_whole(file: Path) -> None:
    found = read_model(file)
    assert found.facts == model().facts
    assert found.sha256 == model().sha256
    assert found.network().state_dict().keys() == found.weights.keys()
    assert file.stat().st_size < 20_000


def test_paints_as_the_network_it_was_made_of(file: Path) -> None:
    stainer = load_stainer(file)
    np.testing.assert_array_equal(stainer(HE), stain(network("cytoplasm"), HE, slide_look(HE)))
    assert (stainer.name, stainer.target_stain, stainer.mpp) == ("test", "DAB", 0.5)
    fitted = deepcopy(stainer.fit(HE))  # of the same parts as what workers are sent
    np.testing.assert_array_equal(stain_image(fitted, HE, 64), stainer(HE))
    assert len(pickle.dumps(fitted)) < 2000


def test_what_it_is_called_by_is_all_it_says(tmp_path: Path) -> None:
    """Weights and facts decide the hash."""
    hashes = {model().sha256, model("other").sha256, model(seed=1).sha256, replace(model(), mpp=0.25).sha256}
    assert len(hashes) == 4


def _with_header(file: Path, change: Callable[[dict[str, object]], None]) -> None:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        said = json.loads(opened.metadata()[HEADER])
    weights = load_file(file)
    change(said)
    save_file(weights, file, {HEADER: json.dumps(said)})


def test_newer_is_refused(file: Path) -> None:
    _with_header(file, lambda said: said.update(format=FORMAT + 1))
    with pytest.raises(ValueError, match="of format 1 to 2.*newer chromogen"):
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
        load_stainer(file)


@pytest.mark.parametrize("part", [0, 5, 200, -10])
def test_truncated_is_refused(file: Path, part: int) -> None:
    file.write_bytes(file.read_bytes()[:part])
    with pytest.raises(ValueError, match="truncated"):
        load_stainer(file)


@pytest.mark.parametrize("lost", ["facts", "sha256"])
def test_a_header_without_its_facts_is_refused(file: Path, lost: str) -> None:
    _with_header(file, lambda said: said.pop(lost))
    with pytest.raises(ValueError, match="Expected `model`"):
        read_model(file)


@pytest.mark.parametrize("lost", ["mpp", "architecture", "target", "training"])
def test_missing_facts_are_refused(file: Path, lost: str) -> None:
    _with_header(file, lambda said: said["facts"].pop(lost))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"lacks '{lost}'"):
        read_model(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, other)
    with pytest.raises(ValueError, match="holds something else|holds other"):
        read_model(other)
    torch.save({"a": torch.ones(2)}, other)
    with pytest.raises(ValueError, match="truncated"):
        load_stainer(other)
    with pytest.raises(FileNotFoundError, match="existing file"):
        load_stainer(tmp_path / "missing.safetensors")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="Expected"):
        load_stainer(tmp_path / "model.pt")


def test_models_that_are_none_are_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mpp"):
        replace(model(), mpp=float("nan"))
    with pytest.raises(ValueError, match="kind of training"):
        replace(model(), training={"kind": "paired at heart"})
    bad = {name: torch.full_like(weight, torch.nan) for name, weight in model().weights.items()}
    with pytest.raises(ValueError, match="finite"):
        replace(model(), weights=bad)
    with pytest.raises(ValueError, match="those of Architecture"):
        replace(model(), architecture=Architecture(width=8)).network()
    with pytest.raises(ValueError, match="name ending in"):
        write_model(tmp_path / "model.pt", model())


def test_a_file_that_changes_under_way_is_noticed(file: Path) -> None:
    stainer = load_stainer(file).fit(HE)
    write_model(file, model(seed=1))
    with pytest.raises(ValueError, match="the one with hash"):
        paint(str(file), stainer.identity[:-1] + "x", (), HE, stainer.statistics, (0, 0))


def test_stain_and_info_take_a_file(file: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", HE, {})
    out = tmp_path / "out.png"
    command = ["stain", str(tmp_path / "he.png"), "--stainer", str(file), "-o", str(out), "--json"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    np.testing.assert_array_equal(read_image(out), load_stainer(file)(HE))
    said = CliRunner().invoke(app, ["info", str(file)])
    assert "appearance only" in said.output
    assert "not for diagnosis" in said.output
    card = json.loads(CliRunner().invoke(app, ["info", str(file), "--json"]).stdout)["results"][0]
    assert (card["sha256"], card["name"]) == (read_model(file).sha256, "test")
