"""Regions drawn on an H&E and an IHC, the same on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image as Pillow

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.regions.geojson import SUFFIXES
from chromogen.regions.masks import UNLABELLED, Mask, read_geojson, read_mask
from chromogen.slides.slide import open_slide

Guides: TypeAlias = Mapping[str, Mask]  # by name, (H, W) of the image, 0 to 1
Regions: TypeAlias = tuple[Guides, Guides]  # of the content and of the style

REST = "elsewhere"
MIN_REST_PX = 64


def read_region_masks(content: tuple[Path, Sequence[Path]], style: tuple[Path, Sequence[Path]]) -> Regions:
    """Regions of an H&E and of an IHC, each an image file with its mask files; what none covers is a region too.

    Mask images go in pairs, the first with the first, and their labels by number; the classes of GeoJSON go by
    name. Raises: ValueError where these do not match, a mask has another size than its image, or a file cannot be
    read.
    """
    if not (content[1] and style[1]):
        missing = "content_mask" if style[1] else "style_mask"
        raise expected(missing, "given with the other mask", "none", "draw the same regions on both images")
    sides = [_read(name, *side) for name, side in (("content", content), ("style", style))]
    if sides[0].keys() != sides[1].keys():
        named = [", ".join(sorted(side)) for side in sides]
        raise expected("style_mask", f"the regions {named[0]}", named[1], "give both images the same regions")
    rests = [1 - np.clip(sum(side.values(), np.float32(0)), 0, 1) for side in sides]
    if min(rest.sum() for rest in rests) >= MIN_REST_PX:
        sides = [side | {REST: rest + side.get(REST, 0)} for side, rest in zip(sides, rests, strict=True)]
    return _shared(sides[0]), _shared(sides[1])


def _shared(side: Mapping[str, Mask]) -> Guides:
    """Where regions overlap they share the pixels: together at most 1."""
    most = np.maximum(sum(side.values(), np.float32(0)), 1)
    return {name: np.asarray(mask / most, np.float32) for name, mask in side.items()}


def resized(guides: Guides, image: Image) -> Guides:
    """Regions, (H, W) and 0 to 1, at the size of an image."""
    size = image.shape[1], image.shape[0]
    return {name: _resized(mask, size) for name, mask in guides.items()}


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    if mask.shape == size[::-1]:
        return mask
    return np.asarray(Pillow.fromarray(mask).resize(size, Pillow.Resampling.BOX), np.float32)


def _read(side: str, image: Path, files: Sequence[Path]) -> dict[str, Mask]:
    with open_slide(image) as slide:
        width, height = slide.size
    found: dict[str, Mask] = {}
    for number, file in enumerate(files, 1):
        drawn = file.name.lower().endswith(SUFFIXES)
        regions = read_geojson(file, (width, height)) if drawn else _labelled(file, number, len(files))
        for name, mask in regions.items():
            if mask.shape != (height, width):
                got = f"{mask.shape[1]} x {mask.shape[0]} px in {file}"
                raise expected(f"{side}_mask", f"as large as its image, {width} x {height} px", got, "resample it")
            found[name] = np.maximum(found[name], mask) if name in found else mask
    return found


def _labelled(file: Path, number: int, of: int) -> dict[str, Mask]:
    """The regions of a mask image: by its number among the masks, by their labels, of several masks by both."""
    regions = read_mask(file)
    if UNLABELLED in regions:
        return {str(number): regions[UNLABELLED]}
    return {str(label) if of == 1 else f"{number}: {label}": mask for label, mask in regions.items()}
