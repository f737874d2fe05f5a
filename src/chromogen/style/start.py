"""The picture that optimization starts from, and guides of tissue.

Images are uint8 (H, W, 3), masks bool (H, W).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chromogen.compute.tiles import SlidingWindow, TileGrid, Window, mirrored, whole
from chromogen.errors import expected
from chromogen.image import Image, resize
from chromogen.nuclei.find import CORE_PX, HALO_PX, built_in, check_visible, nuclei_seen
from chromogen.staining.exemplar import Exemplar, joined_exemplars, measure_exemplar
from chromogen.staining.how import SlideLook
from chromogen.staining.looks import sha256_of_exemplar
from chromogen.staining.maps import Array, ramp, smooth
from chromogen.staining.tissue import MPP, Tissue, tissue_of
from chromogen.staining.window import Dials, look_of, painted_window
from chromogen.stains.deconvolution import tissue_share
from chromogen.stains.glass import white_level
from chromogen.style.objective import COMPARTMENTS, GUIDE, Masks, masks_asked
from chromogen.style.recipes import Recipe

# What stain space starts from: *where* times *how*, by the very exemplars whose style is wanted.

BROWN_NUCLEI, BLUE_NUCLEI, BROWN, PALE = COMPARTMENTS
WINDOW_PX, BLEND_PX = 1280, 256  # of what is painted at once, as whole slides are
MAX_SAMPLED_PX = 2048  # of a side: of a larger picture, the part with the most tissue tells its statistics
SAME = 0.05  # pixel sizes that differ by less count as one
SOFT_PX = 0.6  # the border of a compartment
WIDE_UM = 3.0  # DAB smoothed so far says which cytoplasm is stained
FAINT = 0.6  # of the border between both: surely unstained
MIN_SHARE = 0.01  # of a picture: a smaller compartment says nothing of how it looks
MIN_OD10 = 0.03  # added to densities, so that their ratio stays calm where there is hardly any
MAX_DETAIL = 2.0  # how much denser, or less dense, than at MPP a finer picture may show a pixel

Compartments: TypeAlias = Mapping[str, Array]  # by name, (H, W), 0 to 1; of one that is hardly there, all are 0


@dataclass(frozen=True)
class Start:
    """An H&E as `window.painted` stains it, uint8 (H, W, 3), and the compartments of that picture."""

    picture: Image
    compartments: Compartments


def measured_exemplars(images: Sequence[Image], mpp: float, site: str) -> list[Exemplar]:
    """The look of each reference IHC, uint8 (H, W, 3) with pixels of `mpp` um.

    Raises: ValueError for pixels too large to show nuclei, for a picture that is all stained or not at all, and
    for markers of different sites.
    """
    check_visible(mpp)
    exemplars = [measure_exemplar(image_at_tissue_mpp(image, mpp), site) for image in images]
    joined_exemplars(exemplars)
    return exemplars


def compartments_of(ihc: Image, mpp: float, exemplar: Exemplar, he: Image | None = None) -> Compartments:
    """Where an IHC, real or virtual, is brown or not, in nuclei and elsewhere, on its pixels.

    Nuclei are found in the IHC, or in the H&E that it was painted on. A nucleus is brown by its mean DAB where the
    exemplar's marker sits in nuclei, else by the DAB of the tissue round it. Glass belongs to none.
    """
    picture, seen = (image_at_tissue_mpp(image, mpp) for image in (ihc, ihc if he is None else he))
    height, width = picture.shape[:2]
    glass = white_level(seen, MPP)
    found = {name: np.zeros((height, width), np.float32) for name in COMPARTMENTS}
    for tile in TileGrid((width, height), CORE_PX, HALO_PX):
        nuclei = nuclei_seen(np.ascontiguousarray(seen[tile.outer.at]), glass, built_in(views=1))
        stained = np.ascontiguousarray(picture[tile.outer.at])
        tissue = tissue_of(stained, nuclei, np.array(exemplar.white), np.array(exemplar.matrix))
        for name, part in _parts(tissue, exemplar).items():
            found[name][tile.core.at] = part[tile.core.seen_from(tile.outer).at]
    there = {name: part if part.mean() >= MIN_SHARE else np.zeros_like(part) for name, part in found.items()}
    return {name: _resized(part, ihc.shape) for name, part in there.items()}


def _parts(tissue: Tissue, exemplar: Exemplar) -> dict[str, Array]:
    in_nuclei = exemplar.site == "nuclear"
    stained, unstained = _middle(exemplar.stained_od10), _middle(exemplar.unstained_od10)
    border_od10 = (stained + (unstained if in_nuclei else exemplar.background_od10)) / 2
    nuclear = smooth(tissue.labels > 0, SOFT_PX) * tissue.there
    if in_nuclei:
        brown_one = tissue.of_nuclei(tissue.second) > border_od10
        brown_one[0] = False
        brown = smooth(brown_one[tissue.labels], SOFT_PX) * tissue.there
        elsewhere = np.zeros_like(brown)
    else:
        elsewhere = ramp(smooth(tissue.second, WIDE_UM / MPP / 2), FAINT * border_od10, border_od10)
        brown = elsewhere * nuclear
    rest = (tissue.there - nuclear).clip(0)
    blue = (nuclear - brown).clip(0)
    return {BROWN_NUCLEI: brown, BLUE_NUCLEI: blue, BROWN: elsewhere * rest, PALE: (1 - elsewhere) * rest}


def _middle(quantiles: Sequence[float]) -> float:
    return quantiles[len(quantiles) // 2]


def start_of(he: Image, mpp: float, exemplar: Exemplar, seed: int, share: float | None = None) -> Start:
    """An H&E, uint8 (H, W, 3) with pixels of `mpp` um, as the exemplar's marker would stain it.

    *Where* is the tissue's own, as in `chromogen stain`; `share` of the nuclei are positive, by default as many as
    in the exemplar. Raises: ValueError for pixels too large to show nuclei, and for a share of another marker.
    """
    check_visible(mpp)
    coarse, dials = image_at_tissue_mpp(he, mpp), Dials(_share(exemplar, share), seed)
    paint = partial(_painted, exemplar, dials, look_of(dials, _sample(coarse)), coarse)
    everything = whole((coarse.shape[1], coarse.shape[0]))
    painted_whole = SlidingWindow(WINDOW_PX, BLEND_PX, fixed=False).blended(paint, coarse.shape, everything)
    made = np.ascontiguousarray(painted_whole[..., :3])  # without how sure it is
    picture = (
        made if coarse is he else _with_detail(resize(made, (he.shape[1], he.shape[0])), he, coarse, exemplar)
    )
    return Start(picture, compartments_of(picture, mpp, exemplar, he))


def _share(exemplar: Exemplar, share: float | None) -> float:
    if share is None:
        return exemplar.share
    if exemplar.site != "nuclear":
        raise expected("share", "left out for a marker of cytoplasm", share, "it is that of positive nuclei")
    return share


def start_record(exemplar: Exemplar, seed: int, share: float | None = None) -> dict[str, Any]:
    """What provenance says of a start."""
    where = (
        {"where": "share", "share": _share(exemplar, share)} if exemplar.site == "nuclear" else {"where": "tissue"}
    )
    how = {"site": exemplar.site, "exemplar_sha256": sha256_of_exemplar(exemplar)}
    return {"start": {"from": "where times how", **where, **how, "seed": seed}}


def _painted(exemplar: Exemplar, dials: Dials, look: SlideLook, image: Image, window: Window) -> Image:
    return painted_window(exemplar, dials, mirrored(image, window), look, window.location)


def _sample(image: Image) -> Image:
    """The part of a large image that takes the most light."""
    tiles = TileGrid((image.shape[1], image.shape[0]), MAX_SAMPLED_PX, 0)
    darkest = min(tiles, key=lambda tile: float(image[tile.core.at].mean()))
    return np.ascontiguousarray(image[darkest.core.at])


def image_at_tissue_mpp(image: Image, mpp: float) -> Image:
    """An image with pixels of `mpp` um brought to MPP, where it has others: to resample it blurs it."""
    if abs(mpp / MPP - 1) < SAME:
        return image
    height, width = image.shape[:2]
    return resize(image, (max(1, round(width * mpp / MPP)), max(1, round(height * mpp / MPP))))


def _resized(part: Array, shape: Sequence[int]) -> Array:
    if part.shape == tuple(shape[:2]):
        return part
    from skimage.transform import resize as resized

    return np.asarray(resized(part, shape[:2], order=1, anti_aliasing=True), np.float32)


def _with_detail(picture: Image, he: Image, coarse: Image, exemplar: Exemplar) -> Image:
    """A picture painted on coarser pixels, as much denser as the H&E is there than its coarse copy."""
    white = np.array(exemplar.white)
    fine, blurred = (_density(image) for image in (he, resize(coarse, (he.shape[1], he.shape[0]))))
    ratio = ((fine + MIN_OD10) / (blurred + MIN_OD10)).clip(1 / MAX_DETAIL, MAX_DETAIL)
    light = (picture.astype(np.float32) + 1) / (white + 1)
    return np.asarray(np.rint((white + 1) * light ** ratio[..., None] - 1).clip(0, 255), np.uint8)


def _density(image: Image) -> NDArray[Any]:
    """Mean density of the three colours, (H, W), of base 10 over full light."""
    return np.asarray(-np.log10((image.astype(np.float32) + 1) / 256).mean(axis=2), np.float32)


# Masks for the losses: the tissue, regions that users draw, and compartments of an IHC.

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
