"""Masks for the losses: regions that users draw, compartments of an IHC, and those found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chromogen.errors import expected
from chromogen.image import Image, to_uint8
from chromogen.nuclei.find import check_visible, find_nuclei
from chromogen.staining.epithelium import epithelium, rule_of
from chromogen.staining.tissue import MPP, tissue_of
from chromogen.stains.deconvolution import H_E
from chromogen.stains.estimation import estimate_stains
from chromogen.stains.glass import white_level
from chromogen.stains.light import texture_octiles, tissue_share
from chromogen.style.objective import COMPARTMENTS, GUIDE, Masks, masks_asked
from chromogen.style.recipes import Recipe
from chromogen.style.start import Compartments, at_mpp

LEAST_REGION_PX = 64

Guides: TypeAlias = Mapping[str, NDArray[np.float32]]  # by name, (H, W) of the image, 0 to 1
NO_GUIDES: Guides = MappingProxyType({})


MASKED_BY: dict[str, Callable[[Tensor, float], Tensor]] = {"tissue": tissue_share, "octiles": texture_octiles}
CELLS, STROMA = "cells", "stroma"


def found_masks(names: Collection[str], picture: Tensor, mpp: float) -> Masks:
    """Masks by name that any picture (1, 3, H, W) in [0, 1] with pixels of `mpp` um shows by itself.

    "cells" is epithelium and tumour, told by nuclei; "stroma" the rest of the tissue.
    """
    masks = {name: MASKED_BY[name](picture, mpp) for name in names if name in MASKED_BY}
    if CELLS in names or STROMA in names:
        tissue = tissue_share(picture, mpp)
        cells = tissue * epithelium_share(picture, mpp)
        masks |= {name: mask for name, mask in ((CELLS, cells), (STROMA, tissue - cells)) if name in names}
    return masks


def epithelium_share(picture: Tensor, mpp: float) -> Tensor:
    """How far pixels of a picture (1, 3, H, W) in [0, 1] lie in epithelium: (1, 1, H, W), 0 to 1.

    By the shape and company of its nuclei, and the look of the tissue round them. Raises: ValueError for pixels
    too large to show nuclei.
    """
    check_visible(mpp)
    image = at_mpp(to_uint8(picture), mpp)
    white = white_level(image, MPP)
    nuclei, matrix = find_nuclei(image, MPP, white=white), estimate_stains(image, H_E, white).matrix
    tissue = tissue_of(image, nuclei, white, matrix)
    share = torch.from_numpy(epithelium(tissue, rule_of(tissue)))[None, None]
    return F.interpolate(share.to(picture), picture.shape[2:], mode="bilinear", align_corners=False)


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
    return {**found_masks(asked, picture, mpp), **stained, **drawn}


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
