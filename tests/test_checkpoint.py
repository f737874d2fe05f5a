"""A run stopped anywhere goes on to the same picture, byte for byte; files of other pictures are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from chromogen.style.checkpoint import Checkpoint, pack, unpack
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import Recipe, content_term, style_term
from chromogen.style.stylize import Step, Stylized, stylized
from synthetic import drawn_pair

HE, IHC = (image[:48, :40].copy() for image in drawn_pair(48))
RGB = Recipe(
    (content_term("relu2_2", 0.5), style_term(layers=("relu1_1", "relu2_1"))), scales=(0.5, 1.0), steps=(4, 5)
)
NETWORK = replace(
    RGB,
    objective=(style_term(layers=("relu1_1", "relu2_1")),),
    space="stain",
    optimizer="adam",
)
RECIPES = {
    "lbfgs": RGB,
    "adam": replace(RGB, optimizer="adam"),
    "network": NETWORK,
    "preconditioned": replace(RGB, preconditioned_steps=3),
}


def full(*_given: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


class KilledError(Exception):
    """A run that ends in the middle of a step."""


def run(
    recipe: Recipe,
    encoder: Encoder,
    file: Path,
    *,
    until: int | None = None,
    resume: bool = False,
    tile_px: int | None = None,
) -> Stylized:
    """With a checkpoint after every step, killed in the step after `until`."""

    def killing(step: Step, _picture: object) -> None:
        if step.index == (until or 0) + 1 and until is not None:
            raise KilledError

    kept = Checkpoint(file, {"recipe": 1}, resume=resume, every_s=0.0)
    return stylized(HE, IHC, recipe, encoder=encoder, on_step=killing, tile_px=tile_px, checkpoint=kept)


@pytest.mark.parametrize("until", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_goes_on_to_the_same_bytes(name: str, until: int, encoder: Encoder, tmp_path: Path) -> None:
    recipe, file = RECIPES[name], tmp_path / "out.png.checkpoint"
    whole = stylized(HE, IHC, recipe, encoder=encoder)
    with pytest.raises(KilledError):
        run(recipe, encoder, file, until=until)
    resumed = run(recipe, encoder, file, resume=True)
    assert np.array_equal(resumed.image, whole.image)
    assert (resumed.initial, resumed.final) == (whole.initial, whole.final)
    assert [step.losses for step in resumed.trace] == [step.losses for step in whole.trace]
    assert [(step.index, step.size) for step in resumed.trace] == [(step.index, step.size) for step in whole.trace]


@pytest.mark.parametrize("until", [9, 12, 25])
def test_a_full_history_goes_on_too(until: int, encoder: Encoder, tmp_path: Path) -> None:
    recipe = replace(RGB, scales=(1.0,), steps=(40,))
    whole = stylized(HE, IHC, recipe, encoder=encoder)
    with pytest.raises(KilledError):
        run(recipe, encoder, tmp_path / "checkpoint", until=until)
    resumed = run(recipe, encoder, tmp_path / "checkpoint", resume=True)
    assert [step.losses for step in resumed.trace] == [step.losses for step in whole.trace]
    assert np.array_equal(resumed.image, whole.image)


def test_so_it_does_in_tiles(encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    whole = stylized(HE, IHC, RGB, encoder=encoder, tile_px=16)
    with pytest.raises(KilledError):
        run(RGB, encoder, file, until=6, tile_px=16)
    assert np.array_equal(run(RGB, encoder, file, resume=True, tile_px=16).image, whole.image)


def test_without_resume_it_starts_anew(encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    with pytest.raises(KilledError):
        run(RGB, encoder, file, until=6)
    assert run(RGB, encoder, file).trace[0].index == 1
    assert len(run(RGB, encoder, tmp_path / "none", resume=True).trace) == 9


def test_a_checkpoint_of_another_picture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    Checkpoint(file, {"recipe": 1, "content_sha256": "a"}).save({"x": torch.ones(1)})
    with pytest.raises(ValueError, match="of this very picture, got one with another content_sha256; give"):
        Checkpoint(file, {"recipe": 1, "content_sha256": "b"}, resume=True).load()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04K\x01."])
def test_what_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="`checkpoint` to be as chromogen wrote it"):
        Checkpoint(file, {}, resume=True).load()


def test_what_was_damaged_since_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    Checkpoint(file, {"a": 1}).save({"index": 3, "x": [torch.ones(9), torch.ones(2, dtype=torch.bfloat16)]})
    data = file.read_bytes()
    assert Checkpoint(file, {"a": 1}, resume=True).load() is not None
    for at in (len(data) - 1, data.index(b"index") + 2, data.index(b"state") + 1):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ValueError, match="`checkpoint` to be as chromogen wrote it"):
            Checkpoint(file, {"a": 1}, resume=True).load()


def test_a_failed_write_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoint(tmp_path / "checkpoint", {}, resume=True)
    kept.save({"x": 1})

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save({"x": 2})
    assert kept.load() == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_full_disk_does_not_stop_a_run(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.warns(
        UserWarning, match=r"No checkpoint: .*No space left on device.*; going on without"
    ) as caught:
        result = run(RGB, encoder, tmp_path / "checkpoint")
    assert len(caught) == 1
    assert len(result.trace) == 9
    assert not list(tmp_path.iterdir())


def test_it_is_due_after_a_while_and_gone_when_forgotten(tmp_path: Path) -> None:
    assert not Checkpoint(tmp_path / "c", {}).is_due
    often = Checkpoint(tmp_path / "c", {}, every_s=0.0)
    assert often.is_due
    often.save({})
    often.forget()
    often.forget()
    assert not list(tmp_path.iterdir())


def test_packing_keeps_numbers_exactly() -> None:
    value = {"a": [0.1, 1e-300, None, True], 3: {"b": torch.arange(3)}}
    tensors: dict[str, torch.Tensor] = {}
    back = unpack(pack(value, tensors), tensors)
    assert back["a"] == value["a"]
    assert torch.equal(back[3]["b"], torch.arange(3))
