"""Masks for the losses: the tissue, regions that users draw, and compartments of an IHC."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.stains.light import tissue_share
from chromogen.style.objective import COMPARTMENTS, GUIDE, Masks, masks_asked
from chromogen.style.recipes import Recipe
from chromogen.style.start import Compartments

TISSUE = "tissue"
MIN_REGION_PX = 64

Guides: TypeAlias = Mapping[str, NDArray[np.float32]]  # by name, (H, W) of the image, 0 to 1
NO_GUIDES: Guides = MappingProxyType({})


def masks_of(
    picture: Tensor, recipe: Recipe, mpp: float, guides: Guides, compartments: Compartments = NO_GUIDES
) -> Masks:
    """Those that the recipe's terms look through, of a picture (1, 3, H, W).

    Guides and compartments may be of a larger copy of it.
    """
    asked = masks_asked(recipe.objective)
    stained = {name: _drawn(compartments[name], picture) for name in asked & set(COMPARTMENTS)}
    drawn = {m: _drawn(guides[m.removeprefix(GUIDE)], picture) for m in asked if m.startswith(GUIDE)}
    if drawn and recipe.space == "stain":
        tissue = tissue_share(picture, mpp)
        drawn = {name: mask * tissue for name, mask in drawn.items()}
    found = {TISSUE: tissue_share(picture, mpp)} if TISSUE in asked else {}
    return {**found, **stained, **drawn}


def _drawn(region: NDArray[np.float32], picture: Tensor) -> Tensor:
    """A region (H, W) on the pixels of a picture, which may be coarser."""
    mask = torch.from_numpy(np.array(region, np.float32)).to(picture.device)[None, None]
    return (
        mask
        if mask.shape[2:] == picture.shape[2:]
        else F.adaptive_avg_pool2d(mask, (picture.shape[2], picture.shape[3]))
    )


def check_guides(image: Image, recipe: Recipe, guides: Guides, name: str) -> None:
    """ValueError where the regions (H, W) of an image (H, W, 3) are not those the recipe asks for, or empty."""
    asked = {m.removeprefix(GUIDE) for m in masks_asked(recipe.objective) if m.startswith(GUIDE)}
    if asked != guides.keys():
        wanted, got = (", ".join(sorted(names)) or "none" for names in (asked, guides.keys()))
        raise expected(f"{name}_mask", f"the regions {wanted}", got, "draw the same regions on both images")
    for region, mask in guides.items():
        if mask.shape != image.shape[:2]:
            sizes = [f"{shape[1]} x {shape[0]} px" for shape in (image.shape, mask.shape)]
            raise expected(f"{name}_mask", f"as large as the image, {sizes[0]}", sizes[1], "resample it")
        if mask.sum() < MIN_REGION_PX:
            raise expected(
                f"{name}_mask", "regions that cover something", f"nothing under {region}", "draw it on the image"
            )
