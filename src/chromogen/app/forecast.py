"""What a picture would take, before it is made: tiles, memory, time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from chromogen.app.jobs import Stylist
from chromogen.app.regions import resized
from chromogen.grid import TileGrid
from chromogen.image import Image, shrunk
from chromogen.style.measured_style import Style
from chromogen.style.memory import need_within
from chromogen.style.recipes import Recipe
from chromogen.style.stylize import stylize
from chromogen.style.tiled import halo_px

SAMPLE_PX = 384
SAMPLE_STEPS = 3
TILED_PASSES = 1.5  # forward twice and backward once, against once and once
OTHER_STEPS = 3.0  # what is done once takes about as long as so many steps


def forecast(stylist: Stylist, content: Path) -> dict[str, Any]:
    """Of a content file: size, tiles, and about how much memory and time, by a few steps on a small copy."""
    image, mpp = stylist.read(content)
    size = image.shape[1], image.shape[0]
    need = need_within(stylist.limits, size, stylist.recipe, stylist.encoder)
    pace = _seconds_per_pixel(stylist, image, stylist.style(mpp))
    work = _pixels_seen(size, stylist.recipe, need.tile_px)
    tiles = 1 if need.tile_px is None else len(TileGrid(size, need.tile_px, 0))
    return {
        "content": str(content),
        "size": list(size),
        "tile_px": need.tile_px,
        "tiles": tiles,
        "peak_mb": round((psutil.Process().memory_info().rss + need.bytes) / 1e6),
        "seconds": round(pace * work, 1),
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
    grid = None if tile_px is None else TileGrid(size, tile_px, halo_px(recipe.objective))
    if grid is None or len(grid) == 1:
        return size[0] * size[1]
    return TILED_PASSES * sum(tile.outer.size[0] * tile.outer.size[1] for tile in grid)
