"""Masks that a recipe's terms look through."""

from dataclasses import replace

import numpy as np
import torch

from chromogen.image import to_tensor
from chromogen.stains.deconvolution import tissue_share
from chromogen.style.recipes import Recipe, guided_recipe, style_term
from chromogen.style.start import masks_of
from synthetic import drawn_pair

HE = to_tensor(drawn_pair()[0])
PLAIN = Recipe((style_term(layers=("relu1_1",)),))


def test_only_masks_that_are_asked_for_are_made() -> None:
    assert masks_of(HE, PLAIN, 0.5, {}) == {}
    over_tissue = replace(
        PLAIN, objective=(style_term(layers=("relu1_1",)), replace(style_term(), name="t", mask="tissue"))
    )
    found = masks_of(HE, over_tissue, 0.5, {})
    assert found.keys() == {"tissue"}
    assert torch.equal(found["tissue"], tissue_share(HE, 0.5))


def test_a_region_of_a_larger_copy_is_brought_to_the_picture() -> None:
    height, width = 2 * HE.shape[2], 2 * HE.shape[3]
    left = np.zeros((height, width), np.float32)
    left[:, : width // 2 + 1] = 1
    found = masks_of(HE, guided_recipe(PLAIN, ["left"]), 0.5, {"left": left})["guide:left"]
    assert found.shape == (1, 1, *HE.shape[2:])
    assert found[..., : width // 4].min() == 1
    assert found[..., width // 4].max() == 0.5
    assert found[..., width // 4 + 1 :].max() == 0
