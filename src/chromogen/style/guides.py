"""Through which masks pictures are looked at: regions that users draw, and those found in every picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.stains.light import cellular_share, stroma_share, texture_octiles, tissue_share
from chromogen.style.objective import GUIDE, Masks, masks_asked
from chromogen.style.recipes import Recipe

LEAST_REGION_PX = 64

Guides: TypeAlias = Mapping[str, NDArray[np.float32]]  # by name, (H, W) of the image, 0 to 1
NO_GUIDES: Guides = MappingProxyType({})


MASKED_BY: dict[str, Callable[[Tensor, float], Tensor]] = {
    "tissue": tissue_share,
    "cells": cellular_share,
    "stroma": stroma_share,
    "octiles": texture_octiles,
}


def masks_of(picture: Tensor, recipe: Recipe, mpp: float, guides: Guides) -> Masks:
    """Those that the recipe's terms look through, of a picture (1, 3, H, W)."""
    asked = masks_asked(recipe.objective)
    found = {name: MASKED_BY[name](picture, mpp) for name in asked if not name.startswith(GUIDE)}
    drawn = {name: _drawn(guides[name.removeprefix(GUIDE)], picture) for name in asked - found.keys()}
    if drawn and recipe.space == "stain":
        tissue = tissue_share(picture, mpp)
        drawn = {name: mask * tissue for name, mask in drawn.items()}
    return found | drawn


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
        if mask.sum() < LEAST_REGION_PX:
            raise expected(
                f"{name}_mask", "regions that cover something", f"nothing under {region}", "draw it on the image"
            )
