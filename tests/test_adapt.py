"""A trained network adapted to one image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.grid import Window
from chromogen.image import Image, to_uint8, write_image
from chromogen.stainer_file import write_model
from chromogen.stains.deconvolution import H_DAB
from chromogen.style.adapt import TrainedNetwork, adapted, at_full_scale, check_adaptable
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.kinds import PlainNetwork, kind_of
from chromogen.style.objective import Term
from chromogen.style.recipes import Recipe, profile_term
from chromogen.style.run import Step
from chromogen.style.stylize import Stylized, stylize
from test_kinds import model, network
from test_train import drawn

HE, IHC = drawn(96, 1), drawn(96, 2, 0.9, H_DAB)
CPU = torch.device("cpu")
GRAM = Term("style", 1.0, {"relu1_1": 1.0}, "gram", "gram_mse", "style", "tissue")
RECIPE = Recipe((GRAM, profile_term(0.1)), space="stain", optimizer="adam", steps=(12,))


def adapt(made: PlainNetwork, he: Image, style: Image, recipe: Recipe, **given: Any) -> Stylized:
    return stylize(he, style, recipe, canvas_of=adapted(made), **given)


every_kind = pytest.mark.parametrize("name", ["stain", "rgb"])


@every_kind
def test_the_first_picture_is_what_the_stainer_paints(name: str) -> None:
    made = network(name)
    kind = kind_of(made.architecture)
    stained = kind.stain(made, HE, kind.look(made, HE))
    with torch.no_grad():
        picture = to_uint8(TrainedNetwork(made, HE, CPU).picture())
    assert np.abs(picture.astype(int) - stained).max() <= 1


def test_a_window_is_a_part_of_the_picture() -> None:
    he = drawn(260, 3)
    canvas = TrainedNetwork(network("stain"), he, CPU)
    with torch.no_grad():
        part = canvas.picture(Window(70, 130, 171, 200))
        torch.testing.assert_close(part, canvas.picture()[..., 130:200, 70:171], rtol=0, atol=1e-6)


@every_kind
def test_steps_lower_the_loss_and_leave_the_model_as_it_is(name: str, encoder: Encoder) -> None:
    made = network(name)
    before = {key: weight.clone() for key, weight in made.state_dict().items()}
    steps: list[Step] = []
    found = adapt(made, HE, IHC, RECIPE, encoder=encoder, on_step=lambda step, _: steps.append(step))
    assert found.final.total < 0.9 * found.initial.total
    assert [step.index for step in steps] == list(range(1, 13))
    assert all(torch.equal(weight, before[key]) for key, weight in made.state_dict().items())


def test_tiles_give_the_same_picture(encoder: Encoder) -> None:
    he, recipe = drawn(160, 3), replace(RECIPE, steps=(3,))
    one, tiled = (
        adapt(network("stain"), he, IHC, recipe, encoder=encoder.exact, tile_px=tile_px) for tile_px in (None, 96)
    )
    assert tiled.final.total == pytest.approx(one.final.total, rel=1e-3)
    assert np.abs(one.image.astype(int) - tiled.image).mean() < 0.1


def test_a_resumed_adaptation_is_the_same(encoder: Encoder, tmp_path: Path) -> None:
    straight = adapt(network("stain"), HE, IHC, RECIPE, encoder=encoder)

    def stop(step: Step, _picture: object) -> None:
        if step.index == 5:
            raise KeyboardInterrupt

    def checkpoint() -> Checkpoint:
        return Checkpoint(tmp_path / "c", {}, resume=True, every_s=0)

    with pytest.raises(KeyboardInterrupt):
        adapt(network("stain"), HE, IHC, RECIPE, encoder=encoder, checkpoint=checkpoint(), on_step=stop)
    resumed = adapt(network("stain"), HE, IHC, RECIPE, encoder=encoder, checkpoint=checkpoint())
    assert resumed.final.total == pytest.approx(straight.final.total, rel=1e-3)


def test_only_the_last_scale_counts(encoder: Encoder) -> None:
    recipe = replace(RECIPE, scales=(0.5, 1.0), steps=(50, 2))
    found = adapt(network("stain"), HE, IHC, at_full_scale(recipe), encoder=encoder)
    assert len(found.trace) == 2
    with pytest.raises(ValueError, match="`scales`"):
        adapt(network("stain"), HE, IHC, recipe, encoder=encoder)


@pytest.mark.parametrize(
    ("name", "changes", "tile_px", "said"),
    [
        ("stain", {"space": "rgb"}, None, "`space`"),
        ("rgb", {"dab_amount": 2.0}, None, "`dab_amount`"),
        ("rgb", {}, 64, "`tile`"),
    ],
)
def test_what_a_network_cannot_do(
    name: str, changes: dict[str, object], tile_px: int | None, said: str, encoder: Encoder
) -> None:
    with pytest.raises(ValueError, match=said):
        adapt(network(name), HE, IHC, replace(RECIPE, **changes), encoder=encoder, tile_px=tile_px)


def test_a_network_has_a_site_of_its_own() -> None:
    check_adaptable(network("stain"), replace(RECIPE, site="cytoplasm"))
    with pytest.raises(ValueError, match="the model's, cytoplasm"):
        check_adaptable(network("stain"), replace(RECIPE, site="nuclear"))


@pytest.mark.parametrize("steps", ["1,2", "2"])
def test_the_command_starts_from_a_model_and_says_so(steps: str, tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", HE, {})
    write_image(tmp_path / "ihc.png", IHC, {})
    write_model(tmp_path / "m.safetensors", model("stain, markers"))
    command = ["stylize", str(tmp_path / "he.png"), str(tmp_path / "ihc.png"), "-o", str(tmp_path / "out.png")]
    given = [
        "--from",
        str(tmp_path / "m.safetensors"),
        "--marker",
        "Ki67",
        "--steps",
        steps,
        "--precision",
        "fp32",
    ]
    found = CliRunner().invoke(app, [*command, *given, "--json"])
    assert found.exit_code == 0, found.output
    facts = json.loads(found.stdout)
    assert facts["from"] == f"{model('stain, markers').sha256} (0.0, 1.0, 0.0)"
    assert (facts["steps"], facts["recipe"]["steps"], facts["recipe"]["scales"]) == (2, [2], [1.0])
    with pytest.raises(ValueError, match="one of ER, Ki67, HER2"):
        CliRunner().invoke(app, [*command, *given[:2], "--dry-run"], catch_exceptions=False)
    with pytest.warns(UserWarning, match="expect a poor start"):
        CliRunner().invoke(app, [*command, *given, "--mpp", "2", "--dry-run"])
