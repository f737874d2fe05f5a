"""DAB as strong as a lab's own: what is fitted, and what it does to a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from chromogen.app.calibration import calibrate_on_files
from chromogen.app.cli import app
from chromogen.image import Image, write_image
from chromogen.stainer import load_stainer
from chromogen.stainer_file import read_model, write_model
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.style.slide_densities import Target
from chromogen.training.calibration import Calibration, calibrated, dab_quantiles, fitted
from test_kinds import model as of_kind
from test_stainer_file import model
from test_stainer_network import TARGET
from test_train import drawn


def brown(gain: float, offset: float, seed: int = 0) -> Image:
    """Tissue, and glass above, whose DAB is a gain times the seed's, plus an offset."""
    rng = np.random.default_rng(seed)
    amounts = np.zeros((160, 120, 3))
    amounts[60:, :, 0] = 0.4
    amounts[60:, :, 1] = gain * np.repeat(rng.uniform(0.2, 1.0, (100, 1)), 120, 1) + offset
    return combine_stains(amounts, H_DAB)


def test_a_known_gain_and_offset_are_found() -> None:
    found = fitted(dab_quantiles([brown(1, 0)]), dab_quantiles([brown(1.6, 0.1)]))
    assert found.gain == pytest.approx(1.6, abs=0.05)
    assert found.offset == pytest.approx(0.1, abs=0.03)


def test_one_after_the_other() -> None:
    first, second = Calibration(2.0, 0.1), Calibration(0.5, -0.2)
    x = np.linspace(0, 1, 5)
    both = first.then(second)
    np.testing.assert_allclose(both.gain * x + both.offset, 0.5 * (2 * x + 0.1) - 0.2)
    assert both.of(TARGET) == second.of(first.of(TARGET))


def test_it_is_fitted_until_it_fits() -> None:
    """Where nothing goes below 0, one line is not enough."""

    def stained(target: Target) -> list[Image]:
        return [brown(target.dab / TARGET.dab, target.dab_offset)]

    found, before, after = calibrated(TARGET, stained, [brown(0.7, -0.3)])
    assert after < before / 5
    assert found.gain == pytest.approx(0.7, abs=0.2)


def test_what_cannot_be_fitted() -> None:
    flat, real = np.zeros(95), np.linspace(0, 1, 95)
    with pytest.raises(ValueError, match="one that stains"):
        fitted(flat, real)
    with pytest.raises(ValueError, match=r"between 0.1 and 10, got 0.01"):
        fitted(real, real / 100)
    with pytest.raises(ValueError, match="at least one with tissue"):
        dab_quantiles([np.full((50, 50, 3), 250, np.uint8)])


def test_a_network_paints_its_calibration() -> None:
    plain = model()
    color = torch.tensor(0.6 * H_E[0] + 0.7 * H_E[1], dtype=torch.float32)
    density = color.view(1, 3, 1, 1).expand(1, 3, 32, 32)
    given = density, torch.tensor([1.5, 1.0]), torch.zeros(1)

    def dab(target: Target) -> float:
        out = replace(plain, target=target).network()(*given)
        return float((out[0, :, 16, 16].double().numpy() @ np.linalg.inv(np.array(TARGET.matrix)))[1])

    usual = dab(TARGET)
    assert dab(Calibration(2.0).of(TARGET)) == pytest.approx(2 * usual, rel=1e-3)
    more = dab(Calibration(1.0, 0.3).of(TARGET)) - usual
    assert 0.1 < more <= 0.3
    assert dab(Calibration(1.0, -5.0).of(TARGET)) == pytest.approx(0, abs=1e-3)


def test_a_file_keeps_it_and_old_files_have_none(tmp_path: Path) -> None:
    write_model(tmp_path / "m.safetensors", model())
    assert "dab_offset" not in read_model(tmp_path / "m.safetensors").facts["target"]
    offset = replace(model(), target=Calibration(1.1, 0.05).of(TARGET))
    write_model(tmp_path / "n.safetensors", offset)
    found = read_model(tmp_path / "n.safetensors")
    assert found.target == offset.target
    assert found.sha256 != model().sha256
    assert (model().format, found.format) == (1, 2)  # what would overlook it must not read it
    with pytest.raises(ValueError, match="Expected `target`"):
        replace(model(), target=replace(TARGET, dab_offset=float("nan")))


def test_from_files_to_a_file(tmp_path: Path) -> None:
    he = drawn(120, 1)
    write_model(tmp_path / "m.safetensors", replace(model(), target=replace(TARGET, dab=12.0)))
    write_image(tmp_path / "he.png", he, {})
    painted = load_stainer(tmp_path / "m.safetensors")(he)
    amounts = separate_stains(painted, H_DAB)
    amounts[..., 1] = 0.6 * amounts[..., 1].clip(0)
    write_image(tmp_path / "ihc.png", combine_stains(amounts, H_DAB), {})
    out = tmp_path / "lab.safetensors"
    command = ["calibrate", str(tmp_path / "m.safetensors"), str(tmp_path / "he.png"), "-o", str(out)]
    done = CliRunner().invoke(app, [*command, "--style", str(tmp_path / "ihc.png"), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["gain"] == pytest.approx(0.6, abs=0.1)
    assert facts["error_after"] < facts["error_before"] / 3
    made = read_model(out)
    assert made.training["calibration"]["gain"] == facts["gain"]
    assert made.training["kind"] == "style"
    after = dab_quantiles([load_stainer(out)(he)])
    np.testing.assert_allclose(after, dab_quantiles([combine_stains(amounts, H_DAB)]), atol=0.05)


def test_wrong_requests(tmp_path: Path) -> None:
    write_model(tmp_path / "m.safetensors", model())
    name, out = str(tmp_path / "m.safetensors"), str(tmp_path / "n.safetensors")
    with pytest.raises(ValueError, match="content and style"):
        CliRunner().invoke(app, ["calibrate", name, "-o", out], catch_exceptions=False)
    write_image(tmp_path / "he.png", drawn(80, 1), {})
    both = [str(tmp_path / "he.png"), "--style", str(tmp_path / "he.png")]
    with pytest.raises(ValueError, match="another file than the inputs"):
        CliRunner().invoke(app, ["calibrate", name, *both, "-o", name], catch_exceptions=False)


@pytest.mark.parametrize("kind", ["rgb", "stain, markers"])
def test_a_network_without_one_dab(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path / "m.safetensors", of_kind(kind))
    write_image(tmp_path / "he.png", drawn(80, 1), {})
    with pytest.raises(ValueError, match="of one marker"):
        calibrate_on_files(
            tmp_path / "m.safetensors",
            [tmp_path / "he.png"],
            [tmp_path / "he.png"],
            tmp_path / "n.safetensors",
        )
