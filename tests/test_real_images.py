"""What a picture must be like on real tissue; minutes each, so `make test-slow` alone runs them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chromogen.image import Image, read_image
from chromogen.style.encoder import Encoder, Weights
from chromogen.style.recipes import PRESETS
from chromogen.style.stylize import stylized

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(data: Path) -> tuple[Image, Image]:
    """A well registered H&E / ER pair of breast tissue, 256 px."""
    he, ihc = (read_image(data / f"pairs/mist/ER_{stain}.png")[:256, :256] for stain in ("he", "ihc"))
    return he, ihc


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_a_preset_comes_as_near_the_style_as_real_tiles_are_to_each_other(
    pair: tuple[Image, Image], weights: Weights, preset: str
) -> None:
    """Two real IHC tiles of one marker differ by about 0.3 in relative Gram error (median)."""
    result = stylized(*pair, PRESETS[preset], encoder=Encoder(weights))
    assert result.final.terms["style"] < 0.3
    assert result.final.terms["content"] < 0.6


def test_bf16_reaches_the_fp32_loss_on_tissue(pair: tuple[Image, Image], weights: Weights, bf16: str) -> None:
    recipe = replace(PRESETS["balanced"], steps=(30, 15))
    totals = {
        p: stylized(*pair, recipe, encoder=Encoder(weights, precision=p)).final.total for p in ("fp32", bf16)
    }
    assert totals[bf16] < 1.05 * totals["fp32"]


def test_dark_nuclei_stay_dark_where_they_are(pair: tuple[Image, Image], weights: Weights) -> None:
    """From content init the luminance of the tissue is kept: not its colours, but its form."""
    he, ihc = pair
    result = stylized(he, ihc, PRESETS["balanced"], encoder=Encoder(weights))
    before, after = (image.mean(axis=2).ravel() for image in (he, result.image))
    assert np.corrcoef(before, after)[0, 1] > 0.6
