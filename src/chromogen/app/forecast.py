"""What a picture would take, before it is made: tiles, memory, time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from chromogen.app.jobs import Stylist
from chromogen.app.regions import resized
from chromogen.image import Image, shrunk
from chromogen.style.loss import tiles_of
from chromogen.style.measured_style import Style
from chromogen.style.recipes import Recipe, as_record
from chromogen.style.stylize import stylize

SAMPLE_PX = 384
SAMPLE_STEPS = 3
WORK_IN_TILES = 1.45  # of a tile's pixel, halo and all, against one of the sample: the forward pass runs twice
OTHER_STEPS = 1.5  # what is done once takes about as long as so many steps


def forecast(stylist: Stylist, content: Path) -> dict[str, Any]:
    """Of a content file: size, tiles, recipe, about how much memory and time, by a few steps on a small copy."""
    image, mpp = stylist.read(content)
    size = image.shape[1], image.shape[0]
    style, need = stylist.measured(image, mpp)
    taken = psutil.Process().memory_info().rss  # before the sample, whose memory may be kept
    pace = _seconds_per_pixel(stylist, image, style)
    work = _pixels_seen(size, stylist.recipe, need.tile_px)
    return {
        "content": str(content),
        "size": list(size),
        "tile_px": need.tile_px,
        "tiles": len(tiles_of(size, stylist.recipe.objective, need.tile_px)),
        "peak_mb": round((taken + need.bytes) / 1e6),
        "seconds": round(pace * work, 1),
        "recipe": as_record(stylist.recipe),
    }


def _seconds_per_pixel(stylist: Stylist, image: Image, style: Style) -> float:
    """Of one step in one piece."""
    small = shrunk(image, SAMPLE_PX)
    recipe = replace(stylist.recipe, scales=(1.0,), steps=(SAMPLE_STEPS,), plateau=0.0, stop_at_floor=False)
    guides = resized(stylist.content_regions, small)
    trace = stylize(small, style, recipe, encoder=stylist.encoder, guides=guides).trace
    seconds = (trace[-1].seconds - trace[0].seconds) / (len(trace) - 1)
    return seconds / float(small.shape[0] * small.shape[1])


def _pixels_seen(size: tuple[int, int], recipe: Recipe, tile_px: int | None) -> float:
    """Pixels of all steps together, at the cost that they have in one piece."""
    return sum(
        _pixels_at((round(size[0] * scale), round(size[1] * scale)), recipe, tile_px)
        * (steps + (OTHER_STEPS if scale == 1 else 0))
        for scale, steps in zip(recipe.scales, recipe.steps, strict=True)
    )


def _pixels_at(size: tuple[int, int], recipe: Recipe, tile_px: int | None) -> float:
    grid = tiles_of(size, recipe.objective, tile_px)
    work = 1 if len(grid) == 1 else WORK_IN_TILES
    return work * sum(tile.outer.size[0] * tile.outer.size[1] for tile in grid)
