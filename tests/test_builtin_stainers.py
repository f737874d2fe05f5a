"""The networks that come with Chromogen: what they say of themselves, and what they paint."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from chromogen.models import LEARNED
from chromogen.stainer import STAINERS, load_stainer
from chromogen.stainer_file import BUILTIN, located, read_model
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from chromogen.stains.tissue import tissue_mask
from test_train import drawn

HE = drawn(256, 4)


@pytest.mark.parametrize("name", LEARNED)
def test_a_small_file_with_a_card(name: str) -> None:
    file = located(name)
    card = read_model(file).card()
    assert file.stat().st_size < 200_000
    assert card["name"] == name
    assert "means nothing" in card["claim"]
    assert card["training"]["collapse"] is None
    assert "Oxford VGG" in card["attribution"]
    assert "not for diagnosis" in card["notice"]


def test_no_file_is_without_its_name() -> None:
    assert {file.stem for file in BUILTIN.glob("*.safetensors")} == set(LEARNED)
    assert set(LEARNED) <= set(STAINERS)


def test_they_were_trained_on_what_pip_carries() -> None:
    """The hash of scikit-image's IHC stands in the card of the stainer that has its look."""
    from chromogen.stainer import builtin_ihc

    styles = read_model(located("dab-cytoplasm")).data["style_sha256"]
    assert styles == [hashlib.sha256(builtin_ihc().tobytes()).hexdigest()]


@pytest.mark.parametrize("name", LEARNED)
def test_brown_lies_where_the_card_says(name: str) -> None:
    """Of drawn nuclei in pink tissue."""
    made = load_stainer(name)(HE)
    dab = separate_stains_od10(made, H_DAB)[..., 1]
    tissue = tissue_mask(HE)
    nuclei = tissue & (HE[..., 0] < 130)
    between = tissue & (HE[..., 0] > 170)
    if name == "dab-nuclear":
        assert dab[nuclei].mean() > dab[between].mean() + 0.1
    else:
        assert dab[between].mean() > 0.02
        assert dab[nuclei].mean() < dab[tissue].mean() + 0.1
    assert np.abs(made[:20].astype(int) - HE[:20]).max() < 3
