"""What holds of every network that stains, whatever its kind."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.image import Image
from chromogen.stainer import Stainer, load_stainer, stain_image
from chromogen.stainer_file import Model, read_model, trained_weights, write_model
from chromogen.stains.deconvolution import H_DAB
from chromogen.style.kinds import KINDS
from chromogen.style.marker_network import (
    AnyArchitecture,
    MarkerArchitecture,
    MarkerNetwork,
    Network,
    architecture_from,
    built,
    chosen,
    looks_of,
    markers_of,
    stained_in,
)
from chromogen.style.rgb_network import RgbArchitecture
from chromogen.style.slide_densities import Target, density_from
from chromogen.style.stainer_network import Architecture
from chromogen.training import train as train_module
from chromogen.training.train import Training
from synthetic import tissue_like

TARGET = Target(tuple(tuple(map(float, row)) for row in H_DAB), 1.2, 1.4)
STAIN = Architecture(width=12, depth=2, site="cytoplasm")
RGB = RgbArchitecture(width=4, blocks=2)
ARCHITECTURES: dict[str, AnyArchitecture] = {
    "stain": STAIN,
    "rgb": RGB,
    "stain, markers": MarkerArchitecture(STAIN, ("ER", "Ki67", "HER2")),
    "rgb, markers": MarkerArchitecture(RGB, ("ER", "Ki67", "HER2")),
}
MARKER = {name: "ER:0.7,Ki67:0.3" if "markers" in name else None for name in ARCHITECTURES}
HE = tissue_like(260, 300, seed=4)
every_kind = pytest.mark.parametrize("name", ARCHITECTURES)


def network(name: str, seed: int = 0) -> Network:
    """With weights that say something, other than at first."""
    torch.manual_seed(seed)
    made = built(ARCHITECTURES[name], TARGET).eval()
    for part, weight in made.named_parameters():
        if part.endswith(("head.weight", "last.weight")) or "scales" in part or "shifts" in part:
            torch.nn.init.normal_(weight, std=0.3)
    if isinstance(made, MarkerNetwork):
        made.set_targets([replace(TARGET, dab=dab) for dab in (1.4, 0.9, 0.6)])
    return made


def model(name: str, seed: int = 0) -> Model:
    made = network(name, seed)
    return Model("test", "DAB", 0.5, made.architecture, TARGET, trained_weights(made))


@pytest.fixture(params=ARCHITECTURES)
def stainer(request: pytest.FixtureRequest, tmp_path: Path) -> Stainer:
    write_model(tmp_path / "m.safetensors", model(request.param))
    return load_stainer(tmp_path / "m.safetensors", MARKER[request.param])


def alike(one: Image, other: Image) -> None:
    """To the level, but for sums of convolutions that another size has rounded in another way: one in 10 000."""
    difference = np.abs(one.astype(int) - other)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize("core_px", [64, 100])
def test_tiled_equals_untiled(stainer: Stainer, core_px: int) -> None:
    fitted = stainer.fit(HE)
    alike(stain_image(fitted, HE, core_px), fitted(HE))


def test_nothing_further_than_the_halo_counts(stainer: Stainer) -> None:
    fitted, changed = stainer.fit(HE), HE.copy()
    changed[130, 140] = 0
    rows, columns = np.nonzero((fitted(changed) != fitted(HE)).any(axis=2))
    assert rows.size
    assert np.abs(rows - 130).max() <= fitted.halo_px
    assert np.abs(columns - 140).max() <= fitted.halo_px


def test_what_workers_are_sent_is_small_and_paints_the_same(stainer: Stainer) -> None:
    fitted = stainer.fit(HE)
    assert len(pickle.dumps(fitted)) < 10_000
    np.testing.assert_array_equal(deepcopy(fitted)(HE), fitted(HE))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 17)])
def test_any_size(stainer: Stainer, size: tuple[int, int]) -> None:
    assert stainer.fit(HE)(HE[: size[0], : size[1]]).shape == (*size, 3)


@every_kind
def test_comes_back_whole(name: str, tmp_path: Path) -> None:
    write_model(tmp_path / "m.safetensors", model(name))
    found = read_model(tmp_path / "m.safetensors")
    assert found.facts == model(name).facts
    assert found.sha256 == model(name).sha256
    assert found.architecture == ARCHITECTURES[name]
    assert found.format == (1 if name == "stain" else 2)
    assert {k: v.shape for k, v in found.network().state_dict().items()} == {
        k: v.shape for k, v in found.weights.items()
    }


@every_kind
def test_tampered_files_are_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    write_model(file, model(name))
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ValueError, match="changed or damaged"):
        read_model(file)
    file.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="truncated"):
        read_model(file)


@every_kind
def test_an_architecture_is_data(name: str) -> None:
    facts = json.loads(json.dumps(asdict(ARCHITECTURES[name])))
    assert architecture_from(facts) == ARCHITECTURES[name]
    with pytest.raises(ValueError, match="Expected"):
        architecture_from({**facts, "kind": "unet"})


@every_kind
def test_gradients_reach_every_weight(name: str) -> None:
    """Of a marker's turn: those of other markers, and nothing else, get none."""
    made = network(name).train()
    density = density_from(HE[:64, :64], (255.0, 255.0, 255.0))
    stained_in(made, looks_of(made)[0])(density, torch.tensor([1.5, 0.9]), torch.tensor([0.0])).sum().backward()
    for part, weight in made.named_parameters():
        assert weight.grad is not None, part
        if "scales" in part or "shifts" in part:
            assert weight.grad[0].abs().sum() > 0, part
            assert weight.grad[1:].abs().sum() == 0, part
        else:
            assert weight.grad.abs().sum() > 0, part


@every_kind
def test_at_first_all_looks_are_one(name: str) -> None:
    torch.manual_seed(1)
    made = built(ARCHITECTURES[name], TARGET)
    density = density_from(HE[:64, :64], (255.0, 255.0, 255.0))
    given = density, torch.tensor([1.5, 0.9]), torch.tensor([0.0])
    pictures = [stained_in(made, look)(*given) for look in looks_of(made)]
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)
    assert len(pictures) == max(1, len(markers_of(ARCHITECTURES[name])))


@every_kind
def test_a_chosen_network_is_what_was_trained(name: str) -> None:
    """Folded weights are those of the plain network that is stained with."""
    made = network(name)
    density = density_from(HE[:64, :64], (255.0, 255.0, 255.0))
    given = density, torch.tensor([1.5, 0.9]), torch.tensor([0.0])
    for look in looks_of(made):
        torch.testing.assert_close(chosen(made, look)(*given), stained_in(made, look)(*given))


def test_default_networks_are_small(tmp_path: Path) -> None:
    for name in KINDS:
        architecture = train_module.ARCHITECTURES[name](Training())
        made = built(MarkerArchitecture(architecture, ("ER", "Ki67")), TARGET)
        size = sum(4 * weight.numel() for weight in made.state_dict().values())
        assert size < 2_000_000, name
