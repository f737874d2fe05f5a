"""What a training begins with, and which it cannot begin with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from chromogen.style.encoder import Encoder
from chromogen.style.kinds import PlainArchitecture
from chromogen.style.marker_network import AnyArchitecture, MarkerArchitecture, built
from chromogen.style.recipes import with_pairs
from chromogen.style.rgb_network import RgbArchitecture
from chromogen.style.stainer_network import Architecture
from chromogen.training.beginning import check_start, going_on
from chromogen.training.train import train_stainer
from chromogen.training.wanted import Wanted
from test_stainer_network import TARGET
from test_train import CONTENTS, IHC, QUICK, SMALL

PLAIN = Architecture(width=8, depth=1, site="nuclear")
NEW = replace(TARGET, dab=2.5)


@pytest.mark.parametrize("architecture", [PLAIN, RgbArchitecture(width=4, blocks=1)])
def test_a_copy_with_new_stains(architecture: PlainArchitecture) -> None:
    torch.manual_seed(3)
    start = built(architecture, TARGET).requires_grad_(False)
    check_start(architecture, architecture.kind, [""])
    network = going_on(start, [Wanted("", {}, NEW, 0.5)])
    assert network.architecture == architecture
    assert network.target == NEW
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, start.state_dict()[name])
    assert all(weight.requires_grad for weight in network.parameters())
    for weight in network.parameters():
        with torch.no_grad():
            weight.add_(1)
    one = next(iter(start.parameters()))
    assert not torch.equal(one, next(iter(network.parameters())))


@pytest.mark.parametrize(
    ("architecture", "kind", "markers", "said"),
    [
        (MarkerArchitecture(PLAIN, ("ER", "Ki67")), "stain-pyramid", [""], "`from` to be a model of one marker"),
        (PLAIN, "stain-pyramid", ["ER"], "without markers' names"),
        (PLAIN, "rgb", [""], "`network` to be that of the model, stain-pyramid, got rgb"),
    ],
)
def test_what_cannot_be_gone_on_from(
    architecture: AnyArchitecture, kind: str, markers: list[str], said: str, encoder: Encoder
) -> None:
    with pytest.raises(ValueError, match=said):
        check_start(architecture, kind, markers)
    styles = dict.fromkeys(markers, IHC)
    training = replace(QUICK, network=kind)
    with pytest.raises(ValueError, match=said):
        train_stainer(CONTENTS, styles, training, encoder=encoder, start=built(architecture, TARGET))


def test_pairs_are_of_one_marker(encoder: Encoder) -> None:
    training = replace(QUICK, objective=with_pairs(SMALL))
    with pytest.raises(ValueError, match="pairs are of one"):
        train_stainer(CONTENTS, {"ER": IHC, "Ki67": IHC}, training, encoder=encoder)
