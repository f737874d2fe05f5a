"""Neural style transfer by optimizing the image (Gatys, Ecker & Bethge 2016), coarse to fine.

We differ from the paper in what a recipe may ask for: a start from *where* times *how*, or a colour-matched one
(Monge-Kantorovich), scales that hand on only what the coarser one changed, losses relative to their reference, and
bf16 arithmetic. References are measured and results are judged in fp32.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from chromogen.compute.tiles import TileGrid, whole
from chromogen.image import Image, encode_image, resize, to_tensor, to_uint8
from chromogen.staining.exemplar import Exemplar
from chromogen.stains.appearance import color_moments, match_colors
from chromogen.stains.deconvolution import H_E
from chromogen.style.canvas import (
    Canvas,
    NetworkCanvas,
    PixelCanvas,
    StainStrengths,
    TissueFeatures,
    hematoxylin_alone,
    stain_amounts,
    stain_strengths,
)
from chromogen.style.checkpoint import Checkpoint, Interrupts
from chromogen.style.descent import State
from chromogen.style.encoder import Encoder
from chromogen.style.loss import Targets, check_can_be_tiled, picture_windows, targets_of, tiles_of, with_reference
from chromogen.style.measured_style import Style, check_style_size, measure_style, size_at
from chromogen.style.memory import check_memory, need_of
from chromogen.style.objective import COMPARTMENTS, for_scale, refers_to
from chromogen.style.optimize import Losses, NotFiniteInBf16Error, Watch, judge, loss_function, optimize
from chromogen.style.recipes import Recipe
from chromogen.style.start import NO_GUIDES, Compartments, Guides, Start, check_guides, masks_of, start_of

# The steps of a run: told to a listener, kept on disk, taken up again.


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


class StyleRun:
    """The steps so far, told to a listener, and kept on disk with all that going on takes."""

    def __init__(self, recipe: Recipe, on_step: OnStep | None, checkpoint: Checkpoint | None) -> None:
        self.of, self.on_step, self.checkpoint = sum(recipe.steps), on_step, checkpoint
        self.interrupts = checkpoint.interrupts if checkpoint else Interrupts()
        saved = (checkpoint.load() if checkpoint else None) or {"number": 0, "trace": [], "initial": None}
        self.number: int = saved["number"]
        self.trace = [_step_from(step) for step in saved["trace"]]
        self.initial = Losses(**saved["initial"]) if saved["initial"] else None
        self._descent: State | None = saved.get("descent")
        self._began = time.perf_counter() - (self.trace[-1].seconds if self.trace else 0.0)

    def begin(self, number: int) -> State | None:
        """Begin a scale, and return the state that a resumed run continues from, if there is one."""
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
        """Save the state if it is time. Where that fails, the run continues without."""
        if self.checkpoint is None or not self.checkpoint.is_due:
            return
        trace, initial = [asdict(step) for step in self.trace], self.initial and asdict(self.initial)
        found = {"number": self.number, "trace": trace, "initial": initial, "descent": state()}
        if not self.checkpoint.save_if_it_can(found):
            self.checkpoint = None


def _step_from(record: Mapping[str, Any]) -> Step:
    """A step as a checkpoint has it."""
    return Step(**{**record, "size": tuple(record["size"]), "losses": Losses(**record["losses"])})


# The losses of a run, step by step, as curves to draw.


def total_curve(trace: Sequence[Step]) -> list[float]:
    """The total loss over the steps of a run."""
    return [step.losses.total for step in trace]


def weighted_curves(trace: Sequence[Step], recipe: Recipe) -> dict[str, list[float]]:
    """The total and each weighted term over the steps of a run, for a loss plot.

    Terms that the run left out, for want of tissue to compare, have no curve.
    """
    weighted = {
        f"{term.weight:g} x {term.name}": [term.weight * step.losses.terms[term.name] for step in trace]
        for term in recipe.objective
        if all(term.name in step.losses.terms for step in trace)
    }
    return {"total": total_curve(trace), **weighted}


# One picture, scale by scale.

NOISE = 0.05  # around the style's mean colour: noise all over the colours ends 15 to 20 % higher, and grey-green


@dataclass(frozen=True)
class Stylized:
    """The picture, uint8 (H, W, 3), and how it came about; `initial` and `final` are judged in fp32."""

    image: Image
    initial: Losses
    final: Losses
    trace: tuple[Step, ...]
    precision: str

    def _repr_png_(self) -> bytes:
        """The picture, for notebooks."""
        return encode_image(self.image, ".png")


@dataclass(frozen=True)
class Outset:
    """What a canvas begins from at one scale.

    `he` is the content, uint8 (H, W, 3), with pixels of `mpp` um, `first` the picture to begin from (1, 3, H, W),
    `coarser` that of the scale before and what became of it. `stains` and `exemplar` are the style's, in stain
    space. Loss and gradient are computed on `grid`'s tiles.
    """

    he: Image
    mpp: float
    stains: StainStrengths | None
    exemplar: Exemplar | None
    recipe: Recipe
    first: Tensor
    coarser: tuple[Tensor, Canvas] | None
    encoder: Encoder
    grid: TileGrid


CanvasOf: TypeAlias = Callable[[Outset], Canvas]


def canvas_of_recipe(outset: Outset) -> Canvas:
    """What the recipe changes, from what the coarser scale made of it on: pixels, or amounts of stain."""
    recipe, coarser = outset.recipe, outset.coarser
    if recipe.space == "rgb":
        return PixelCanvas(_carried_over(coarser, outset.first, recipe.init))
    exemplar = cast("Exemplar", outset.exemplar)  # in stain space there is
    background = exemplar.background_od10 * math.log(10)
    amounts = stain_amounts(outset.first, np.array(exemplar.matrix), exemplar.white, background)
    coarse = coarser[1] if coarser else None
    network = coarse if isinstance(coarse, NetworkCanvas) else None
    like = torch.empty(0, dtype=outset.encoder.dtype, device=outset.encoder.device)
    features = TissueFeatures(outset.he, H_E, amounts.of_stains[:, :2], outset.mpp, outset.grid, like)
    return NetworkCanvas(amounts, features, recipe.seed, network)


def stylized(  # noqa: PLR0913 - nine that have little to do with each other
    content: Image,
    style: Image | Style,
    recipe: Recipe,
    *,
    encoder: Encoder | None = None,
    on_step: OnStep | None = None,
    guides: Guides = NO_GUIDES,
    tile_px: int | None = None,
    checkpoint: Checkpoint | None = None,
    canvas_of: CanvasOf = canvas_of_recipe,
) -> Stylized:
    """The content image in the look of the style: uint8 (H, W, 3) in, uint8 of the same size out.

    Every scale ends with the best picture it saw. `style` is one image, or `measure_style` of several. `on_step`
    is called after every step with the `Step` and a function that gives the present picture. `guides` are the
    content's regions, for a guided recipe and a style measured with its own of the same names. With `tile_px`,
    loss and gradient of the whole picture are computed in tiles of at most so many pixels on a side: the same
    picture in less memory. A `checkpoint` keeps on disk where the descent is, and may go on from there; the caller
    forgets it. `canvas_of` says what is changed at a scale. Raises:
    ValueError for what cannot be done as asked, and ArithmeticError when the loss is not finite even in fp32.
    """
    encoder = encoder or Encoder()
    check_style_size(content, recipe, "content")
    check_guides(content, recipe, guides, "content")
    size = content.shape[1], content.shape[0]
    check_memory(content, need_of(size, recipe, encoder.precision, tile_px).bytes, encoder, "content")
    if not isinstance(style, Style):
        style = measure_style([style], recipe, encoder, tile_px=tile_px)
    if tile_px is not None:
        check_can_be_tiled(recipe.objective)
    run = StyleRun(recipe, on_step, checkpoint)
    stained = recipe.space == "stain" or refers_to(recipe.objective, "hematoxylin")
    stains = stain_strengths(content, style.images, style.mix) if stained else None
    start = start_of(content, style.mpp, style.exemplar, recipe.seed, recipe.share) if style.exemplar else None
    recipe = _comparable(recipe, style, start)
    coarser: tuple[Tensor, Canvas] | None = None
    for number, scale in enumerate(recipe.scales):
        if number < run.number:
            continue
        small = resize(content, size_at(content, scale))
        grid = tiles_of(size_at(content, scale), recipe.objective, tile_px)
        first = first_picture(content, style, recipe, scale, start).to(encoder.device)
        outset = Outset(small, style.mpp / scale, stains, style.exemplar, recipe, first, coarser, encoder, grid)
        compartments = start.compartments if start else {}
        canvas, targets, encoder = _optimized(outset, number, style, guides, compartments, canvas_of, run)
        coarser = first, canvas
    canvas.scale_dab(recipe.dab_amount)
    image = image_of(canvas, grid)
    final = judge(image, targets, recipe, encoder)
    return Stylized(image, run.initial or final, final, tuple(run.trace), encoder.precision)


def _comparable(recipe: Recipe, style: Style, start: Start | None) -> Recipe:
    """The recipe without terms that look through compartments that style or content hardly has.

    So no tissue is forced to a share of brown. Where none can be compared, those of the style stay: they have no
    gradient, so the start is left as it is. Relative to nothing, a term that the style lacks would be endless.
    """
    if start is None:
        return recipe
    references = style.references[1.0]
    not_here = {name for name, part in start.compartments.items() if not part.any()}
    not_in_style = {
        term.mask
        for term in recipe.objective
        if term.mask in COMPARTMENTS and all(not references[term.name, layer].energy for layer in term.layers)
    }
    for missing in (not_here | not_in_style, not_in_style):
        there = tuple(term for term in recipe.objective if term.mask not in missing)
        if any(term.reference == "style" and term.weight > 0 for term in there):
            return replace(recipe, objective=there)
    return recipe


def _optimized(
    outset: Outset,
    number: int,
    style: Style,
    guides: Guides,
    compartments: Compartments,
    canvas_of: CanvasOf,
    run: StyleRun,
) -> tuple[Canvas, Targets, Encoder]:
    """The best picture of a scale, what it was compared with, and the encoder that was good enough.

    Where bf16 fails, canvas and targets are made anew in fp32, as a run that is resumed in fp32 makes them.
    """
    recipe, grid, scale = outset.recipe, outset.grid, outset.recipe.scales[number]
    here = replace(recipe, objective=for_scale(recipe.objective, scale, recipe.loss_scale))
    state = run.begin(number)
    while True:
        if state and state["precision"] == "fp32":
            outset = replace(outset, encoder=outset.encoder.exact)
        encoder = outset.encoder
        targets = _targets(replace(outset, encoder=encoder), style, scale, guides, compartments)
        canvas = canvas_of(outset)
        if scale == 1 and run.initial is None:
            run.initial = judge(to_uint8(outset.first), targets, recipe, encoder)
        size = outset.he.shape[1], outset.he.shape[0]
        follow = partial(run.record, scale, size, partial(image_of, canvas, grid))
        watch = Watch(follow, run.keep, run.interrupts)
        try:
            optimize(canvas, targets, here, recipe.steps[number], encoder, watch, state)
        except NotFiniteInBf16Error as error:
            warnings.warn("The loss was not finite in bf16; going on in fp32.", stacklevel=3)
            state = error.state
        else:
            return canvas, targets, encoder


def image_of(canvas: Canvas, grid: TileGrid) -> Image:
    """The canvas's present picture, uint8 (H, W, 3)."""
    width, height = grid.size
    image = np.empty((height, width, 3), np.uint8)
    with torch.no_grad():
        for tile in grid:
            image[tile.core.at] = to_uint8(canvas.picture(tile.core))
    return image


def _targets(outset: Outset, style: Style, scale: float, guides: Guides, compartments: Compartments) -> Targets:
    """What the picture of a content at a scale is compared with."""
    recipe, encoder = outset.recipe, outset.encoder
    picture = to_tensor(outset.he).to(encoder.device)
    masks = masks_of(picture, recipe, outset.mpp, guides, compartments)
    loss = loss_function(recipe, encoder.exact)
    targets = targets_of(loss, outset.grid, masks, style.references[scale], style.floors.get(scale, 0.0))
    targets = with_reference(loss, "content", picture_windows(picture), targets)
    if refers_to(recipe.objective, "hematoxylin") and outset.stains is not None:
        alone = hematoxylin_alone(picture, outset.stains)
        targets = with_reference(loss, "hematoxylin", picture_windows(alone), targets)
    return targets


KEEPS_DETAIL = ("content", "color")


def first_picture(
    content: Image, style: Style, recipe: Recipe, scale: float, start: Start | None = None
) -> Tensor:
    """What a scale begins from, (1, 3, H, W), on the CPU: the `start`, or by the recipe's `init`."""
    size = size_at(content, scale)
    if start is not None:
        return to_tensor(resize(start.picture, size))
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


def _carried_over(coarser: tuple[Tensor, Canvas] | None, start: Tensor, init: str) -> Tensor:
    """A scale's first picture: where the start keeps the tissue's detail, only the change is enlarged."""
    if coarser is None:
        return start
    began, coarse = coarser
    became = coarse.picture(whole((began.shape[3], began.shape[2]))).detach()
    change = became - began if init in KEEPS_DETAIL else became
    enlarged = F.interpolate(change, start.shape[2:], mode="bicubic", align_corners=False)
    return (start + enlarged if init in KEEPS_DETAIL else enlarged).clamp(0, 1)
