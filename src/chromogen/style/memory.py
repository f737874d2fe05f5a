"""How much memory a picture takes in one piece and in tiles, and so which tiles."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import psutil

from chromogen.compute.tiles import ALIGNED_PX, outer_px
from chromogen.errors import expected
from chromogen.image import Image
from chromogen.style.encoder import Encoder
from chromogen.style.loss import halo_px
from chromogen.style.objective import stride_px
from chromogen.style.recipes import Recipe
from chromogen.style.winograd import MIN_PX

# Peak bytes per pixel down to relu5_1, measured at 512 to 1024 px: in one piece, where freed memory is kept
# for the next step; of a tile, where it is given back; of measuring alone.
ONE_PIECE_BYTES = {"bf16": 2200, "fp32": 2900}
TILE_BYTES = {"bf16": 1850, "fp32": 2400}
MEASURING_BYTES = 1000
# Wide kernels as Winograd's convolutions have them, there and back: 36 values for each pair of channels.
KERNEL_BYTES = {"bf16": 0, "fp32": 2 * 36 * 4 * 1_409_024}
# What tiles do not shrink: the picture, its gradient and Adam's moments, masks, what is kept to go back to.
WHOLE_BYTES = 100
START_BYTES = 60  # of what stain space starts from: while it is painted, its amounts, its compartments
BLOCK_BYTES = 24  # for every pixel of a tile, halo and all: most blocks of its layers are larger
HISTORY_BYTES = 24  # for every step that L-BFGS remembers
MIN_CORE_PX = 128
MAX_OF_FREE = 0.8
MAX_OF_LIMIT = 0.9  # of one that is to be kept to: what will be needed is known to a tenth


@dataclass(frozen=True)
class Limits:
    """Cores of at most `tile_px`; None: all that `max_memory_bytes` and what is free allow."""

    tile_px: int | None = None
    max_memory_bytes: int | None = None


@dataclass(frozen=True)
class Need:
    """Peak memory in bytes, beside what the program takes by itself, with cores of `tile_px` (None: one piece)."""

    tile_px: int | None
    bytes: int


def need_of(size: tuple[int, int], recipe: Recipe, precision: str, tile_px: int | None = None) -> Need:
    """What a picture of `size` (w, h) will need, within about 30 %."""
    pixels = math.prod(size)
    if tile_px is None:
        return Need(None, pixels * ONE_PIECE_BYTES[precision] + _kernel_bytes(pixels, precision))
    outer = [min(side, outer_px(tile_px, halo_px(recipe.objective))) for side in size]
    tile = math.prod(outer) * TILE_BYTES[precision]
    return Need(tile_px, pixels * _whole_bytes(recipe) + tile + _kernel_bytes(pixels, precision))


def _kernel_bytes(pixels: int, precision: str) -> int:
    """None for pictures so small that no wide layer is Winograd's."""
    return KERNEL_BYTES[precision] if pixels >= MIN_PX * stride_px("relu3_1") ** 2 else 0


def need_within(limits: Limits, size: tuple[int, int], recipe: Recipe, encoder: Encoder) -> Need:
    """The tiles that a picture of `size` (w, h) takes within limits; ValueError where there are none."""
    if limits.tile_px is not None:
        _warn_of_small_tiles(limits.tile_px, size, recipe)
    if limits.tile_px is not None or encoder.device.type != "cpu":
        return need_of(size, recipe, encoder.precision, limits.tile_px)
    made = sum(convolution.transformed_bytes for convolution in encoder.convolutions.values())
    taken = psutil.Process().memory_info().rss - made  # needs count all kernels
    allowed = taken + int(MAX_OF_FREE * psutil.virtual_memory().available)
    if limits.max_memory_bytes is not None:
        allowed = min(allowed, int(MAX_OF_LIMIT * limits.max_memory_bytes))
    need = fitting(size, recipe, encoder.precision, allowed - taken)
    if need is None:
        least = (taken + need_of(size, recipe, encoder.precision, MIN_CORE_PX).bytes) / MAX_OF_LIMIT
        what = f"at least {least / 1e9:.1f} GB for {size[0]} x {size[1]} px in small tiles"
        advice = "free some, or use a smaller --size" + _lighter(recipe)
        raise expected("max_memory", what, f"{allowed / MAX_OF_LIMIT / 1e9:.1f} GB", advice)
    return need


def fitting(size: tuple[int, int], recipe: Recipe, precision: str, budget_bytes: int) -> Need | None:
    """One piece, else one tile as large, else the largest that fit, of at least 128 px; None where none do.

    One tile is one piece that gives freed memory back: slower by a tenth, where several are by two thirds.
    """
    whole_px = -(-max(size) // ALIGNED_PX) * ALIGNED_PX
    for tile_px in (None, whole_px):
        need = need_of(size, recipe, precision, tile_px)
        if need.bytes <= budget_bytes:
            return need
    left = budget_bytes - math.prod(size) * _whole_bytes(recipe) - _kernel_bytes(math.prod(size), precision)
    core_px = int(math.sqrt(max(left, 0) / TILE_BYTES[precision])) - outer_px(0, halo_px(recipe.objective))
    if core_px < MIN_CORE_PX:
        return None
    return need_of(size, recipe, precision, core_px // ALIGNED_PX * ALIGNED_PX)


def check_memory(image: Image, needed: int, encoder: Encoder, name: str) -> None:
    """ValueError for an image (H, W, 3) that needs more bytes than are free."""
    if encoder.device.type != "cpu":
        return
    height, width = image.shape[:2]
    free = psutil.virtual_memory().available
    if needed > free:
        side = int(max(width, height) * math.sqrt(free / needed))
        got = f"{width} x {height} px, which needs about {needed / 1e9:.0f} GB"
        advice = f"make its longer side {side} px ({'--size' if name == 'content' else '--style-size'})"
        raise expected(name, f"small enough for the {free / 1e9:.1f} GB free", got, advice)


def _warn_of_small_tiles(tile_px: int, size: tuple[int, int], recipe: Recipe) -> None:
    halo = halo_px(recipe.objective)
    if tile_px < min(halo, *size):
        work = (outer_px(tile_px, halo) / tile_px) ** 2
        said = f"Tiles of {tile_px} px with {halo} px around them take {work:.0f} times the work of one piece"
        warnings.warn(f"{said}; larger ones give the same picture sooner.", stacklevel=3)


def _lighter(recipe: Recipe) -> str:
    return " or --set optimizer=adam" if recipe.optimizer == "lbfgs" else ""


def _whole_bytes(recipe: Recipe) -> int:
    start = START_BYTES if recipe.space == "stain" else 0
    return WHOLE_BYTES + start + (HISTORY_BYTES * recipe.history if recipe.optimizer == "lbfgs" else 0)
