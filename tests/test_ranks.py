"""Several processes that train together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.image import write_image
from chromogen.stainer_file import read_model
from chromogen.stains.deconvolution import H_DAB
from chromogen.style.encoder import Encoder
from chromogen.style.objective import Objective
from chromogen.style.recipes import with_pairs
from chromogen.training.batch import statistics_of
from chromogen.training.ranks import ALONE, Ranks, launched
from test_train import CONTENTS, IHC, QUICK, SMALL, drawn, train_stainer

pytestmark = pytest.mark.filterwarnings("ignore:The stainer has collapsed")
BOTH = [Ranks(rank, 2) for rank in (0, 1)]


def test_every_tile_is_of_one_process() -> None:
    assert [ranks.own("abcde") for ranks in BOTH] == ["ace", "bd"]
    assert ALONE.own("abcde") == "abcde"


@pytest.mark.parametrize("of", [2, 5])
def test_rows_are_gathered_in_order_and_their_gradients_add_up(of: int) -> None:
    """Each process knows the other's rows as numbers: here, by what the other would have sent."""
    torch.manual_seed(0)
    rows = torch.randn(of, 3)

    def placed(rank: int) -> torch.Tensor:
        zeros = torch.zeros(of, 3)
        zeros[rank::2] = rows[rank::2]
        return zeros

    gradients = torch.zeros(of, 3)
    for rank in (0, 1):
        ranks = Ranks(rank, 2, summed=lambda mine, other=1 - rank: mine + placed(other))
        own = rows[rank::2].clone().requires_grad_()
        together = ranks.gathered(own, of)
        torch.testing.assert_close(together, rows, rtol=0, atol=0)
        together.square().sum().square().backward()
        gradients[rank::2] = own.grad
    whole = rows.clone().requires_grad_()
    whole.square().sum().square().backward()
    torch.testing.assert_close(gradients, whole.grad)


def test_gradients_are_summed_in_place() -> None:
    weights = [torch.ones(2, 2, requires_grad=True), torch.ones(3, requires_grad=True)]
    (weights[0].sum() + 2 * weights[1].sum()).backward()
    Ranks(0, 2, summed=lambda mine: 10 * mine).sum_gradients(weights)
    assert torch.equal(weights[0].grad, torch.full((2, 2), 10.0))
    assert torch.equal(weights[1].grad, torch.full((3,), 20.0))


@pytest.mark.parametrize("objective", [SMALL, with_pairs(SMALL)], ids=["style", "pairs"])
def test_a_process_alone_looks_at_everything(objective: Objective, encoder: Encoder) -> None:
    """Two that each know all: nothing is left out or counted twice."""
    torch.manual_seed(1)
    pictures = [torch.rand(1, 3, 32, 32) for _ in range(3)]
    channels = {"tissue": 1, "octiles": 8, "paired": 3}
    masks = [{name: torch.rand(1, count, 32, 32) for name, count in channels.items()} for _ in pictures]
    alone = statistics_of(pictures, masks, objective, encoder)
    sent: list[torch.Tensor] = []

    def listen(mine: torch.Tensor) -> torch.Tensor:
        sent.append(mine)
        return mine

    statistics_of(pictures, masks, objective, encoder, Ranks(1, 2, summed=listen))
    others = iter(list(sent))
    found = statistics_of(
        pictures, masks, objective, encoder, Ranks(0, 2, summed=lambda mine: mine + next(others))
    )
    for seen, wanted in alone.items():
        torch.testing.assert_close(found[seen], wanted)


def test_more_processes_than_tiles_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="at least one tile for each of 3 processes"):
        train_stainer(CONTENTS, IHC, QUICK, encoder=encoder, ranks=Ranks(0, 3))


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
        "import sys; from chromogen.training.ranks import launched, ALONE;"
        "assert launched(1, 1, 'ddp', 'cpu') == (ALONE, 'cpu'); sys.exit('lightning_fabric' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("given", [["he", "--style", "ihc.png"], ["--paired", "."]], ids=["style", "pairs"])
def test_two_processes_train_to_the_losses_of_one(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gloo, on the processor; three tiles, which do not share out evenly."""
    monkeypatch.chdir(tmp_path)
    for folder in ("he", "ihc"):
        (tmp_path / folder).mkdir()
    for seed in (1, 2):
        write_image(tmp_path / "he" / f"{seed}.png", drawn(140, seed), {})
        write_image(tmp_path / "ihc" / f"{seed}.png", drawn(140, seed, 0.9, H_DAB), {})
    write_image(tmp_path / "ihc.png", drawn(128, 3, 0.9, H_DAB), {})

    def lines(devices: int) -> list[dict[str, object]]:
        out = tmp_path / f"{devices}.safetensors"
        settings = ["--steps", "4", "--batch", "3", "--tile", "64", "--validate-every", "2", "--precision", "fp32"]
        command = [sys.executable, "-m", "chromogen", "train", *given]
        command += ["-o", str(out), *settings, "--devices", str(devices)]
        found = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True, timeout=600)
        assert json.loads(found.stdout)["sha256"] == read_model(out).sha256
        return [json.loads(line) for line in (tmp_path / f"{devices}.train.jsonl").read_text().splitlines()]

    one, two = lines(1), lines(2)
    assert [line["index"] for line in two] == [1, 2, 3, 4]
    looks = [line for line in one if line["validation"]]
    assert len(looks) == 2
    for alone, together in zip(one, two, strict=True):
        for name in ("loss", "terms", "validation"):
            assert together[name] == (alone[name] and pytest.approx(alone[name], rel=1e-4))
    weights = [read_model(tmp_path / f"{devices}.safetensors").weights for devices in (1, 2)]
    assert all(np.allclose(weights[0][name], weights[1][name], atol=1e-3) for name in weights[0])
    assert sorted(file.name for file in tmp_path.glob("2.*")) == [
        "2.loss.png",
        "2.preview.png",
        "2.safetensors",
        "2.train.jsonl",
    ]
