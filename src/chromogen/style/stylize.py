"""Neural style transfer by optimizing the image (Gatys, Ecker & Bethge 2016), coarse to fine.

We differ from the paper in what a recipe may ask for: a colour-matched start (Monge-Kantorovich), scales that
hand on only what the coarser one changed, losses relative to their reference, and bf16 arithmetic. References
are measured and results are judged in fp32.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import count, permutations
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chromogen.errors import expected
from chromogen.grid import TileGrid, Window
from chromogen.image import Image, resize, to_tensor, to_uint8
from chromogen.stains.color_transfer import color_moments, match_colors
from chromogen.stains.deconvolution import H_E
from chromogen.stains.light import cellular_share, stroma_share, texture_octiles, tissue_share
from chromogen.style.canvas import (
    Canvas,
    Features,
    Pixels,
    StainMaps,
    StainNetwork,
    Stains,
    developed,
    hematoxylin_alone,
    stain_plan,
    stains_of,
)
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.descent import Aim, Losses, State, descend, judge
from chromogen.style.encoder import Encoder
from chromogen.style.layers import smallest_side_px
from chromogen.style.memory import MEASURING_BYTES, need_of
from chromogen.style.networks import SUPPOSED_MPP, TiledFeatures, tissue_features
from chromogen.style.objective import (
    GUIDE,
    Masks,
    Objective,
    References,
    average,
    for_scale,
    layers_of,
    masks_asked,
    measure,
    refers_to,
    term_values,
    total,
)
from chromogen.style.recipes import Recipe, style_terms
from chromogen.style.tiled import TiledAim, check_can_be_tiled, halo_px, measure_tiled, picture_of

NOISE = 0.05  # around the style's mean colour: noise all over the colours ends 15 to 20 % higher, and grey-green
LEAST_REGION_PX = 64
MOST_COMPARED = 8  # of several style images, to find their floor


@dataclass(frozen=True)
class Step:
    """One evaluation of loss and gradient: the losses of the picture as it was before the step changed it.

    Number `index` of at most `of`; the picture at this `scale` has `size` (w, h).
    """

    index: int
    of: int
    scale: float
    size: tuple[int, int]
    seconds: float
    losses: Losses


OnStep: TypeAlias = Callable[[Step, Callable[[], Image]], None]
Guides: TypeAlias = Mapping[str, NDArray[np.float32]]  # by name, (H, W) of the image, 0 to 1
NO_GUIDES: Guides = MappingProxyType({})
OnMeasured: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Style:
    """Style images, the weight of each, and what the objective measures of them per scale; reusable.

    `mpp` is the size of their pixels in um, and of those of the contents that they are for. `floors` are the style
    errors, by scale, that real images of this style have among themselves.
    """

    images: tuple[Image, ...]
    mix: tuple[float, ...]
    references: dict[float, References]
    mpp: float = SUPPOSED_MPP
    floors: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stylized:
    """The picture, uint8 (H, W, 3), and how it came about; `initial` and `final` are judged in fp32."""

    image: Image
    initial: Losses
    final: Losses
    trace: tuple[Step, ...]
    precision: str


def measure_style(
    images: Sequence[Image],
    recipe: Recipe,
    encoder: Encoder,
    mix: Sequence[float] | None = None,
    on_measured: OnMeasured | None = None,
    mpp: float = SUPPOSED_MPP,
    guides: Guides = NO_GUIDES,
    tile_px: int | None = None,
) -> Style:
    """Measure style images once, at every scale of the recipe; `mix` weights them (default: equally).

    Lengths are taken at `mpp` um per pixel, in styles and contents. `on_measured(done, of)` is called after every
    measurement. `guides` are the regions of a single image that a guided recipe asks for. Raises ValueError for a
    mix that is not one weight of at least 0 per image, images too small, and guides that do not fit.
    """
    mixed = shares(len(images), mix)
    if guides and len(images) > 1:
        raise expected("style", "one image where regions are drawn on it", f"{len(images)} images")
    for image in images:
        _check_size(image, recipe, "style")
        check_guides(image, recipe, guides, "style")
        if tile_px is None:
            _check_memory(image, MEASURING_BYTES * image.shape[0] * image.shape[1], encoder, "style")
    done = count(1)

    def at(image: Image, scale: float) -> References:
        small = resize(image, _scaled(image, scale))
        masks = _masks(to_tensor(small).to(encoder.device), recipe, mpp / scale, guides)
        measured = _measured(small, recipe.objective, recipe.loss_scale, encoder.exact, masks, tile_px)
        if on_measured:
            on_measured(next(done), len(images) * len(recipe.scales))
        return measured

    references = {
        scale: average(recipe.objective, (at(image, scale) for image in images), mixed) for scale in recipe.scales
    }
    asked = recipe.scales if recipe.stop_at_floor else ()
    floors = {scale: _floor(images, recipe, scale, mpp / scale, encoder.exact, guides, tile_px) for scale in asked}
    return Style(tuple(images), mixed, references, mpp, floors)


SQUARE_UM = 24.0  # of the chessboard that halves an image: about three cells


def _measured(
    image: Image, objective: Objective, loss_scale: str, encoder: Encoder, masks: Masks, tile_px: int | None
) -> References:
    """What the terms that refer to the style measure of its image, uint8 (H, W, 3): in one piece, or in tiles."""
    grid = _grid(image, objective, tile_px)
    if grid is None:
        return measure(objective, "style", encoder, to_tensor(image).to(encoder.device), loss_scale, masks)
    aim = TiledAim(grid, {}, masks)
    return measure_tiled(
        objective, "style", encoder, picture_of(image, encoder.device), loss_scale, aim
    ).references


def _grid(image: Image, objective: Objective, tile_px: int | None) -> TileGrid | None:
    """The tiles of an image; None where one is enough."""
    if tile_px is None:
        return None
    grid = TileGrid((image.shape[1], image.shape[0]), tile_px, halo_px(objective))
    return grid if len(grid) > 1 else None


def _floor(
    images: Sequence[Image],
    recipe: Recipe,
    scale: float,
    mpp: float,
    encoder: Encoder,
    guides: Guides,
    tile_px: int | None,
) -> float:
    """The style error that the images have among themselves on average; of one, its halves by a chessboard."""
    terms = tuple(replace(term, mask=term.mask or "tissue") for term in style_terms(recipe))
    found = []
    for image in images[:MOST_COMPARED]:
        small = resize(image, _scaled(image, scale))
        picture = to_tensor(small).to(encoder.device)
        masks = _masks(picture, replace(recipe, objective=terms), mpp, guides)
        dark = _chessboard(picture, min(SQUARE_UM / mpp, min(picture.shape[2:]) / 4))
        halves = (dark, 1 - dark) if len(images) == 1 else (torch.ones_like(dark),)
        for half in halves:
            seen = {name: mask * half for name, mask in masks.items()}
            found.append(_measured(small, terms, recipe.loss_scale, encoder, seen, tile_px))
    errors = [_style_error(terms, *pair) for pair in permutations(found, 2)]
    return math.fsum(errors) / len(errors)


def _style_error(terms: Objective, ours: References, theirs: References) -> float:
    measured = {
        (term.statistic, layer, term.mask): ours[term.name, layer].measured
        for term in terms
        for layer in term.layers
    }
    values = term_values(terms, measured, theirs, "relative")
    return float(total(terms, values)) / math.fsum(term.weight for term in terms)


def _chessboard(picture: Tensor, square_px: float) -> Tensor:
    """(1, 1, H, W) of squares, 0 and 1."""
    rows, columns = ((torch.arange(side, device=picture.device) / square_px).floor() for side in picture.shape[2:])
    return ((rows[:, None] + columns) % 2)[None, None].to(picture.dtype)


def stylize(
    content: Image,
    style: Image | Style,
    recipe: Recipe,
    *,
    encoder: Encoder | None = None,
    on_step: OnStep | None = None,
    guides: Guides = NO_GUIDES,
    tile_px: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Stylized:
    """The content image in the look of the style: uint8 (H, W, 3) in, uint8 of the same size out.

    `style` is one image, or `measure_style` of several. `on_step` is called after every step with the `Step`
    and a function that gives the present picture. `guides` are the content's regions, for a guided recipe and a
    style measured with its own of the same names. With `tile_px`, loss and gradient of the whole picture are
    computed in tiles of at most so many pixels on a side: the same picture in less memory. A `checkpoint` keeps
    on disk where the descent is, and may go on from there; the caller forgets it. Raises ValueError for what
    cannot be done as asked, and ArithmeticError when the loss is not finite even in fp32.
    """
    encoder = encoder or Encoder()
    _check_size(content, recipe, "content")
    check_guides(content, recipe, guides, "content")
    size = content.shape[1], content.shape[0]
    _check_memory(content, need_of(size, recipe, encoder.precision, tile_px).bytes, encoder, "content")
    if not isinstance(style, Style):
        style = measure_style([style], recipe, encoder, tile_px=tile_px)
    if tile_px is not None:
        check_can_be_tiled(recipe.objective)
    run = _Run(recipe, on_step, checkpoint)
    stained = recipe.space == "stain" or refers_to(recipe.objective, "hematoxylin")
    stains = stains_of(content, style.images, style.mix) if stained else None
    before: Before | None = None
    for number, (scale, steps) in enumerate(zip(recipe.scales, recipe.steps, strict=True)):
        if number < run.number:
            continue
        small = resize(content, _scaled(content, scale))
        grid = _grid(small, recipe.objective, tile_px)
        aim = _aim(small, style, scale, stains, recipe, encoder, guides, grid)
        start = first_picture(content, style, recipe, scale).to(encoder.device)
        canvas = _canvas(small, stains, style.mpp / scale, recipe, start, before, encoder, grid)
        if scale == 1 and run.initial is None:
            first = to_uint8(start) if recipe.space == "rgb" else _seen(canvas, grid)
            run.initial = judge(first, aim, recipe, encoder)
        here = replace(recipe, objective=for_scale(recipe.objective, scale, recipe.loss_scale))
        follow = partial(run.record, scale, _scaled(content, scale), partial(_seen, canvas, grid))
        encoder = descend(canvas, aim, here, steps, encoder, follow, run.keep, run.begin(number))
        before = start, canvas
    if isinstance(canvas, StainMaps | StainNetwork):
        canvas.plan = developed(canvas.plan, recipe.dab_amount)
    image = _seen(canvas, grid)
    final = judge(image, aim, recipe, encoder)
    return Stylized(image, run.initial or final, final, tuple(run.trace), encoder.precision)


class _Run:
    """The steps so far, told to a listener, and kept on disk with all that going on takes."""

    def __init__(self, recipe: Recipe, on_step: OnStep | None, checkpoint: Checkpoint | None) -> None:
        self.of, self.on_step, self.checkpoint = sum(recipe.steps), on_step, checkpoint
        saved = (checkpoint.load() if checkpoint else None) or {"number": 0, "trace": [], "initial": None}
        self.number: int = saved["number"]
        self.trace = [_step_from(step) for step in saved["trace"]]
        self.initial = Losses(**saved["initial"]) if saved["initial"] else None
        self._descent: State | None = saved.get("descent")
        self._began = time.perf_counter() - (self.trace[-1].seconds if self.trace else 0.0)

    def begin(self, number: int) -> State | None:
        """Take up a scale; the state to go on from if there is one."""
        state, self._descent = self._descent, None
        self.number = number
        return state

    def record(self, scale: float, size: tuple[int, int], picture: Callable[[], Image], losses: Losses) -> None:
        """After every step."""
        step = Step(len(self.trace) + 1, self.of, scale, size, time.perf_counter() - self._began, losses)
        self.trace.append(step)
        if self.on_step:
            self.on_step(step, picture)

    def keep(self, state: Callable[[], State]) -> None:
        """Write it all down, if it is time; where that fails, go on without."""
        if self.checkpoint is None or not self.checkpoint.is_due:
            return
        trace, initial = [asdict(step) for step in self.trace], self.initial and asdict(self.initial)
        try:
            self.checkpoint.save({"number": self.number, "trace": trace, "initial": initial, "descent": state()})
        except OSError as error:
            warnings.warn(f"No checkpoint: {error.strerror or error}; going on without.", stacklevel=2)
            self.checkpoint = None


def _step_from(record: Mapping[str, Any]) -> Step:
    """A step as a checkpoint has it."""
    return Step(**{**record, "size": tuple(record["size"]), "losses": Losses(**record["losses"])})


Before: TypeAlias = tuple[Tensor, Canvas]  # of the coarser scale: where it started, and what became of it


def _seen(canvas: Canvas, grid: TileGrid | None) -> Image:
    with torch.no_grad():
        if grid is None:
            return to_uint8(canvas.picture())
        width, height = grid.size
        image = np.empty((height, width, 3), np.uint8)
        for tile in grid:
            image[tile.core.at] = to_uint8(canvas.picture(tile.core))
        return image


def _canvas(
    he: Image,
    stains: Stains | None,
    mpp: float,
    recipe: Recipe,
    start: Tensor,
    before: Before | None,
    encoder: Encoder,
    grid: TileGrid | None,
) -> Canvas:
    """What the recipe changes, from what the coarser scale made of it on: pixels, or stain."""
    if recipe.space == "rgb" or stains is None:
        return Pixels(start if before is None else _carry_over(*before, start, recipe.init))
    plan = stain_plan(to_tensor(he).to(encoder.device), stains, mpp, recipe.site)
    coarse = before[1] if before else None
    if recipe.variable == "pixels":
        return StainMaps(plan, coarse if isinstance(coarse, StainMaps) else None)
    features = _features(he, mpp, encoder, grid)
    return StainNetwork(plan, features, recipe.seed, coarse if isinstance(coarse, StainNetwork) else None)


def _features(he: Image, mpp: float, encoder: Encoder, grid: TileGrid | None) -> Features:
    """What a network knows of an H&E: held in memory, or of each tile on disk."""
    if grid is not None:
        return TiledFeatures(he, H_E, mpp, grid, torch.empty(0, dtype=encoder.dtype, device=encoder.device))
    features = tissue_features(to_tensor(he).to(encoder.device), H_E, mpp).to(encoder.dtype)
    features = features.contiguous(memory_format=torch.channels_last)
    return lambda window: features if window is None else features[..., *window.at]


def _aim(
    content: Image,
    style: Style,
    scale: float,
    stains: Stains | None,
    recipe: Recipe,
    encoder: Encoder,
    guides: Guides,
    grid: TileGrid | None,
) -> Aim | TiledAim:
    picture = to_tensor(content).to(encoder.device)
    masks = _masks(picture, recipe, style.mpp / scale, guides)
    wanted, floor = dict(style.references[scale]), style.floors.get(scale, 0.0)
    seen = {"content": picture}
    if refers_to(recipe.objective, "hematoxylin") and stains is not None:
        seen["hematoxylin"] = hematoxylin_alone(picture, stains)
    if grid is None:
        for reference, whole in seen.items():
            wanted |= measure(recipe.objective, reference, encoder.exact, whole, recipe.loss_scale, masks)
        return Aim(wanted, masks, floor)
    aim = TiledAim(grid, wanted, masks, floor)
    for reference, whole in seen.items():
        parts = partial(_part, whole)
        aim = measure_tiled(recipe.objective, reference, encoder.exact, parts, recipe.loss_scale, aim)
    return aim


def _part(whole: Tensor, window: Window) -> Tensor:
    return whole[..., *window.at]


def _masks(picture: Tensor, recipe: Recipe, mpp: float, guides: Guides) -> Masks:
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
    """ValueError where an image's regions are not those that the recipe asks for, of its size, and not empty."""
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


MASKED_BY: dict[str, Callable[[Tensor, float], Tensor]] = {
    "tissue": tissue_share,
    "cells": cellular_share,
    "stroma": stroma_share,
    "octiles": texture_octiles,
}


KEEPS_DETAIL = ("content", "color")


def first_picture(content: Image, style: Style, recipe: Recipe, scale: float) -> Tensor:
    """What a scale starts from by the recipe's `init`, (1, 3, H, W), on the CPU."""
    size = _scaled(content, scale)
    if recipe.init == "noise":
        noise = torch.randn(1, 3, size[1], size[0], generator=torch.Generator().manual_seed(recipe.seed))
        mean = torch.from_numpy(_mean_moments(style)[0]).float()[None, :, None, None]
        return (mean + NOISE * noise).clamp(0, 1)
    if recipe.init == "style":
        return to_tensor(resize(style.images[0], size))
    if recipe.init == "color":
        return to_tensor(resize(match_colors(content, _mean_moments(style)), size))
    return to_tensor(resize(content, size))


def _mean_moments(style: Style) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colour mean and covariance of all style pixels together, each image counting by its share."""
    moments = [color_moments(image) for image in style.images]
    mean = sum(share * m for share, (m, _) in zip(style.mix, moments, strict=True))
    second = sum(share * (c + np.outer(m, m)) for share, (m, c) in zip(style.mix, moments, strict=True))
    return np.asarray(mean), np.asarray(second - np.outer(mean, mean))


def _carry_over(began: Tensor, coarse: Canvas, start: Tensor, init: str) -> Tensor:
    """The next scale's first picture: where the start keeps the tissue's detail, only the change is enlarged."""
    became = coarse.picture().detach()
    change = became - began if init in KEEPS_DETAIL else became
    enlarged = F.interpolate(change, start.shape[2:], mode="bicubic", align_corners=False)
    return (start + enlarged if init in KEEPS_DETAIL else enlarged).clamp(0, 1)


def shares(count: int, mix: Sequence[float] | None) -> tuple[float, ...]:
    """The weight of each of `count` style images, together 1; ValueError for a mix that does not fit."""
    weights = (1.0,) * count if mix is None else tuple(mix)
    if len(weights) != count or count == 0:
        raise expected("mix", f"one weight for each of {count} styles", f"{len(weights)} weights")
    whole = math.fsum(weights)
    if min(weights) < 0 or not 0 < whole < math.inf:
        raise expected("mix", "weights of at least 0 that are not all 0", weights)
    return tuple(weight / whole for weight in weights)


def _scaled(image: Image, scale: float) -> tuple[int, int]:
    """Width and height of an image at a scale."""
    height, width = image.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_size(image: Image, recipe: Recipe, name: str) -> None:
    least = math.ceil(smallest_side_px(layers_of(recipe.objective)) / recipe.scales[0])
    height, width = image.shape[:2]
    if min(height, width) < least:
        raise expected(name, f"at least {least} px on each side for these layers", f"{width} x {height} px")


def _check_memory(image: Image, needed: int, encoder: Encoder, name: str) -> None:
    if encoder.device.type != "cpu":
        return
    height, width = image.shape[:2]
    free = psutil.virtual_memory().available
    if needed > free:
        side = int(max(width, height) * math.sqrt(free / needed))
        got = f"{width} x {height} px, which needs about {needed / 1e9:.0f} GB"
        advice = f"make its longer side {side} px ({'--size' if name == 'content' else '--style-size'})"
        raise expected(name, f"small enough for the {free / 1e9:.1f} GB free", got, advice)
