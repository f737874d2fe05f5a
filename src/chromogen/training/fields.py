"""Tissue to train on: fields of H&E with masks, and tiles of them, changed as labs and scanners do."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.stains.deconvolution import H_E
from chromogen.stains.glass import white_level
from chromogen.stains.light import picture_from
from chromogen.style.guides import found_masks
from chromogen.style.objective import PAIRED, Masks
from chromogen.style.slide_densities import density_from, mixed
from chromogen.style.stainer_network import HALO_PX, SlideLook, slide_look
from chromogen.style.statistics import PYRAMID_PX

T = TypeVar("T")

SCALES = (0.87, 1.15)  # of a tile, so that another scanner's pixels are nothing new
STAIN_JITTER = 0.12  # standard deviation of the logarithm of a stain's strength
TRIES = 8  # places looked at for a tile with tissue
LEAST_TISSUE = 0.02  # of a field's pixels


@dataclass(frozen=True)
class PairedIhc:
    """The real IHC of a field, uint8 of its size: the field's tissue lies `shift_px` (x, y) further in it.

    `trust`, 0 to 1, is how far each level of the `dab_pyramid` counts.
    """

    image: Image
    shift_px: tuple[float, float]
    trust: tuple[float, ...]


@dataclass(frozen=True)
class Content:
    """An image, or fields of a slide, uint8 (H, W, 3), at the model's mpp. `name` is told to nobody.

    Contents of one `slide` are never on both sides of a split. Where there is a `paired` IHC, there is one field.
    """

    name: str
    fields: tuple[Image, ...]
    slide: str = ""
    paired: PairedIhc | None = None


@dataclass(frozen=True)
class Field:
    """Densities over white (1, 3, H, W) with a mirrored rim of `HALO_PX`, their masks, the slide's look.

    `ihc`: densities of the real IHC of the same place, where there is one.
    """

    density: Tensor
    masks: Masks
    look: SlideLook
    tissue: float
    ihc: Tensor | None = None


@dataclass(frozen=True)
class Tile:
    """Densities with the halo around (1, 3, T + 128, T + 128), masks of the core, and the slide's look.

    `ihc`: densities of the real IHC of the core (1, 3, T, T); none is bare glass that no mask trusts.
    """

    density: Tensor
    masks: Masks
    look: SlideLook
    ihc: Tensor


def fields_of(contents: Sequence[Content], masks: Collection[str], mpp: float, least_px: int) -> list[Field]:
    """The fields that show tissue. Raises: ValueError where none does, or none is large enough."""
    found = [field for content in contents for field in _fields(content, masks, mpp, least_px)]
    if not found:
        wanted = f"images with tissue, at least {least_px} px on each side at {mpp:g} um/px"
        raise expected("content", wanted, "none", "give more, or smaller tiles")
    return found


def _fields(content: Content, masks: Collection[str], mpp: float, least_px: int) -> list[Field]:
    """Masks are those of all fields side by side: stroma is stroma, also where a field shows nothing else."""
    large = [image for image in content.fields if min(image.shape[:2]) >= least_px]
    if not large:
        return []
    height = min(len(image) for image in large)
    large = [image[:height] for image in large]
    together = np.concatenate(large, 1)
    look = slide_look(together)
    picture = picture_from(density_from(together, look.white))
    found = found_masks({*masks, "tissue"} - {PAIRED}, picture, mpp)
    widths = [image.shape[1] for image in large]
    parts = {name: mask.split(widths, 3) for name, mask in found.items()}
    each = [{name: part[i] for name, part in parts.items()} for i in range(len(large))]
    if PAIRED in masks:
        each = [
            {**masks_here, PAIRED: _trust(content.paired, image)}
            for masks_here, image in zip(each, large, strict=True)
        ]
    made = [_field(image, look, here, content.paired) for image, here in zip(large, each, strict=True)]
    return [field for field in made if field.tissue > LEAST_TISSUE]


def _field(image: Image, look: SlideLook, masks: Masks, paired: PairedIhc | None) -> Field:
    rim = ((HALO_PX, HALO_PX), (HALO_PX, HALO_PX), (0, 0))
    density = density_from(np.pad(image, rim, "reflect"), look.white)
    framed = {name: _framed(mask) for name, mask in masks.items()}
    ihc = None if paired is None else _framed(_brought(paired))
    return Field(density, framed, look, float(masks["tissue"].mean()), ihc)


def _framed(x: Tensor) -> Tensor:
    return F.pad(x.float(), (HALO_PX,) * 4).to(x.dtype)


def _brought(paired: PairedIhc) -> Tensor:
    """Densities (1, 3, H, W) of the IHC, moved onto its H&E; what lies outside goes on as the border."""
    x, y = paired.shift_px
    moved = ndimage.shift(paired.image, (-y, -x, 0), order=1, mode="nearest")
    return density_from(moved, white_level(paired.image))


def _trust(paired: PairedIhc | None, image: Image) -> Tensor:
    """How far each level of the pyramid counts (1, L, H, W): nothing without a pair, or where its IHC ends."""
    height, width = image.shape[:2]
    if paired is None:
        return torch.zeros(1, len(PYRAMID_PX), height, width)
    (x, y), rows, columns = paired.shift_px, np.arange(height), np.arange(width)
    inside = np.outer((rows + y >= 0) & (rows + y < height), (columns + x >= 0) & (columns + x < width))
    return torch.tensor(paired.trust).view(1, -1, 1, 1) * torch.from_numpy(inside).float()


def least_side_px(tile_px: int) -> int:
    """The smallest field that a tile fits into, however it is scaled."""
    return math.ceil((tile_px + 2 * HALO_PX) * SCALES[1]) + 1 - 2 * HALO_PX


def drawn_tile(fields: Sequence[Field], tile_px: int, rng: np.random.Generator, *, plain: bool = False) -> Tile:
    """A tile with tissue from any field, by how much it has; unless `plain`: turned, scaled, stained anew."""
    shares = np.array([field.tissue * field.density.shape[2] * field.density.shape[3] for field in fields])
    field = fields[rng.choice(len(fields), p=shares / shares.sum())]
    scale = 1.0 if plain else float(rng.uniform(*SCALES))
    side = round((tile_px + 2 * HALO_PX) * scale)
    top, left = _place(field, side, rng)
    cut = (slice(top, top + side), slice(left, left + side))
    turns, flipped = (0, False) if plain else (int(rng.integers(4)), bool(rng.integers(2)))

    def laid(x: Tensor) -> Tensor:
        part = _scaled(x[..., *cut], tile_px + 2 * HALO_PX).rot90(turns, (2, 3))
        return (part.flip(3) if flipped else part).contiguous()

    density = laid(field.density)
    core = slice(HALO_PX, HALO_PX + tile_px)
    masks = {name: laid(mask)[..., core, core] for name, mask in field.masks.items()}
    ihc = torch.zeros(1, 3, tile_px, tile_px) if field.ihc is None else laid(field.ihc)[..., core, core]
    return Tile(density if plain else _restained(density, rng), masks, field.look, ihc)


def _place(field: Field, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Top and left of the square with the most tissue in its core, of a few."""
    height, width = field.density.shape[2:]
    best, most = (0, 0), -1.0
    for _ in range(TRIES):
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        core = slice(top + HALO_PX, top + side - HALO_PX), slice(left + HALO_PX, left + side - HALO_PX)
        share = float(field.masks["tissue"][..., *core].mean())
        if share > 0.5:
            return top, left
        if share > most:
            best, most = (top, left), share
    return best


def _scaled(x: Tensor, side: int) -> Tensor:
    if x.shape[2] == side:
        return x
    if x.dtype == torch.bool:
        return F.interpolate(x.float(), (side, side), mode="nearest") > 0.5
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)


def _restained(density: Tensor, rng: np.random.Generator) -> Tensor:
    """With another strength of both stains, as another batch of them would give."""
    gains = [*np.exp(rng.normal(0, STAIN_JITTER, 2)), 1.0]
    amounts = [float(g) * x for g, x in zip(gains, mixed(density, np.linalg.inv(H_E)), strict=True)]
    return torch.cat(mixed(torch.cat(amounts, 1), H_E), 1)


def split(contents: Sequence[Content]) -> tuple[list[Content], list[Content], str]:
    """What is trained on, what is validated on, and how that is said; every fifth slide, at least one.

    Where there are pairs, it is pairs that are validated on. Of a single slide every fifth image or field; a
    single one is validated on itself.
    """
    slides = [content.slide or str(at) for at, content in enumerate(contents)]
    judged = {at for at, content in enumerate(contents) if content.paired} or set(range(len(contents)))
    names = list(dict.fromkeys(slides[at] for at in sorted(judged)))
    what = "pairs" if contents[min(judged)].paired else "images or slides"
    if len(names) > 1:
        apart = {at for at, slide in enumerate(slides) if slide in names[:0:-5]}
        train, _ = _parted(contents, apart)
        kept = [contents[at] for at in sorted(apart & judged)]
        return train, kept, f"{len(kept)} of {len(judged)} {what}, not trained on"
    if len(judged) > 1:
        held = set(sorted(judged)[:0:-5])
        train, kept = _parted(contents, held)
        return train, kept, f"{len(kept)} of {len(judged)} {what} of the only slide, not trained on"
    content = contents[min(judged)]
    if len(content.fields) > 1:
        train_fields, kept_fields = _parted(content.fields, set(range(len(content.fields) - 1, 0, -5)))
        of = f"{len(kept_fields)} of {len(content.fields)} fields of the only slide, not trained on"
        return [Content(content.name, tuple(train_fields))], [Content(content.name, tuple(kept_fields))], of
    return list(contents), [content], f"the only {'pair' if content.paired else 'image'}, which was trained on"


def _parted(items: Sequence[T], held: Collection[int]) -> tuple[list[T], list[T]]:
    return [x for i, x in enumerate(items) if i not in held], [x for i, x in enumerate(items) if i in held]
