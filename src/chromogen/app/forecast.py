"""What a picture would take, before it is made: tiles, memory, room on the disk, time."""

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
from chromogen.style.memory import has_room_for_tapes, tape_bytes
from chromogen.style.recipes import Recipe
from chromogen.style.stylize import stylize
from chromogen.style.tiled import halo_px

SAMPLE_PX = 384
SAMPLE_STEPS = 3
# Of a tile's pixel, halo and all, against one of the sample: there and back, or twice there and back.
WORK_WITH_TAPES = 1.25
WORK_WITHOUT = 1.45
OTHER_STEPS = 1.5  # what is done once takes about as long as so many steps


def forecast(stylist: Stylist, content: Path) -> dict[str, Any]:
    """Of a content file: size, tiles, about how much memory and time, by a few steps on a small copy.

    And what the tapes of all tiles take for temporary files, and whether there is room for them.
    """
    image, mpp = stylist.read(content)
    size = image.shape[1], image.shape[0]
    style, need = stylist.measured(image, mpp)
    taken = psutil.Process().memory_info().rss  # before the sample, whose memory may be kept
    pace = _seconds_per_pixel(stylist, image, style)
    precision, grid = stylist.encoder.precision, _grid(size, stylist.recipe, need.tile_px)
    work = _pixels_seen(size, stylist.recipe, precision, need.tile_px)
    return {
        "content": str(content),
        "size": list(size),
        "tile_px": need.tile_px,
        "tiles": len(grid) if grid else 1,
        "tapes_mb": round(tape_bytes(grid, stylist.recipe.objective, precision) / 1e6) if grid else 0,
        "tapes_fit": grid is None or has_room_for_tapes(grid, stylist.recipe.objective, precision),
        "peak_mb": round((taken + need.bytes) / 1e6),
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


def _pixels_seen(size: tuple[int, int], recipe: Recipe, precision: str, tile_px: int | None) -> float:
    """Pixels of all steps together, at the cost that they have in one piece."""
    return sum(
        _pixels_at((round(size[0] * scale), round(size[1] * scale)), recipe, precision, tile_px)
        * (steps + (OTHER_STEPS if scale == 1 else 0))
        for scale, steps in zip(recipe.scales, recipe.steps, strict=True)
    )


def _pixels_at(size: tuple[int, int], recipe: Recipe, precision: str, tile_px: int | None) -> float:
    grid = _grid(size, recipe, tile_px)
    if grid is None:
        return size[0] * size[1]
    work = WORK_WITH_TAPES if has_room_for_tapes(grid, recipe.objective, precision) else WORK_WITHOUT
    return work * sum(tile.outer.size[0] * tile.outer.size[1] for tile in grid)


def _grid(size: tuple[int, int], recipe: Recipe, tile_px: int | None) -> TileGrid | None:
    """None where one piece, or one tile, is enough."""
    grid = None if tile_px is None else TileGrid(size, tile_px, halo_px(recipe.objective))
    return None if grid is None or len(grid) == 1 else grid
