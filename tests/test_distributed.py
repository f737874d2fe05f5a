"""Several processes that train together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.image import write_image
from chromogen.staining.where_network import read_model
from chromogen.training.distributed import ALONE, Ranks, launched
from chromogen.training.train import train_where
from drawn_pairs import drawn_pair
from test_train import PAIRS, QUICK, _ihc_is_seen_once  # noqa: F401 - a fixture

BOTH = [Ranks(rank, 2) for rank in (0, 1)]


def test_every_tile_is_of_one_process() -> None:
    assert [ranks.own("abcde") for ranks in BOTH] == ["ace", "bd"]
    assert ALONE.own("abcde") == "abcde"


def test_gradients_are_summed_in_place() -> None:
    weights = [torch.ones(2, 2, requires_grad=True), torch.ones(3, requires_grad=True)]
    (weights[0].sum() + 2 * weights[1].sum()).backward()
    Ranks(0, 2, summed=lambda mine: 10 * mine).sum_gradients(weights)
    assert torch.equal(weights[0].grad, torch.full((2, 2), 10.0))
    assert torch.equal(weights[1].grad, torch.full((3,), 20.0))


@pytest.mark.parametrize("count", [2, 3])
def test_shares_of_a_batch_add_up_to_the_whole(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of every process's share, also of an empty one, against those of one process."""
    found: dict[int, torch.Tensor] = {}

    monkeypatch.setattr(Ranks, "sum_gradients", lambda ranks, parameters: kept_of(ranks, list(parameters)))

    def kept_of(ranks: Ranks, parameters: list[torch.Tensor]) -> None:
        found[ranks.rank if ranks.count > 1 else -1] = torch.cat([p.grad.flatten() for p in parameters])  # type: ignore[union-attr]

    batch = dataclasses.replace(QUICK, steps=1, batch=count)
    train_where(PAIRS, batch)
    for rank in range(count):
        train_where(PAIRS, batch, ranks=Ranks(rank, count))
    torch.testing.assert_close(sum(found[rank] for rank in range(count)), found[-1], atol=1e-6, rtol=1e-4)


def test_more_processes_than_pairs_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one pair for each of 3 processes"):
        train_where(PAIRS, QUICK, ranks=Ranks(0, 3))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((0, 1, "ddp", "cpu"), "`devices`"),
        ((1, 0, "ddp", "cpu"), "`nodes`"),
        ((2, 1, "dpp", "cpu"), "did you mean"),
    ],
)
def test_wrong_requests(asked: tuple[int, int, str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        launched(*asked)


def test_one_process_loads_no_fabric() -> None:
    code = (
        "import sys; from chromogen.training.distributed import launched, ALONE;"
        "assert launched(1, 1, 'ddp', 'cpu') == (ALONE, 'cpu'); sys.exit('lightning_fabric' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_two_processes_train_to_the_losses_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gloo, on the processor; three pairs a step, which do not share out evenly."""
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        pair = drawn_pair(seed, "pink", 192, (12.0, -9.0), 0.01)
        write_image(tmp_path / f"{seed}_he.png", pair.he, {})
        write_image(tmp_path / f"{seed}_ihc.png", pair.ihc, {})

    def lines(devices: int) -> list[dict[str, object]]:
        out = tmp_path / f"{devices}.safetensors"
        settings = ["--steps", "4", "--batch", "3", "--validate-every", "2", "--device", "cpu"]
        command = [sys.executable, "-m", "chromogen", "train", "--paired", ".", "--site", "cytoplasm"]
        command += ["-o", str(out), *settings, "--devices", str(devices)]
        found = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True, timeout=600)
        assert json.loads(found.stdout)["sha256"] == read_model(out).sha256
        return [json.loads(line) for line in (tmp_path / f"{devices}.train.jsonl").read_text().splitlines()]

    one, two = lines(1), lines(2)
    assert [line["index"] for line in two] == [1, 2, 3, 4]
    assert len([line for line in one if line["validation"]]) == 2
    for alone, together in zip(one, two, strict=True):
        for name in ("loss", "validation"):
            assert together[name] == (alone[name] and pytest.approx(alone[name], rel=1e-3))
    weights = [read_model(tmp_path / f"{devices}.safetensors").weights for devices in (1, 2)]
    assert all(np.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[0])
    assert sorted(file.name for file in tmp_path.glob("2.*")) == [
        "2.loss.png",
        "2.preview.png",
        "2.safetensors",
        "2.train.jsonl",
    ]
