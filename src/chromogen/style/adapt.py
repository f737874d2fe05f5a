"""A trained network adapted to one image in a few steps, on the losses of `stylize`: its weights are changed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from chromogen.errors import expected
from chromogen.grid import Window, whole
from chromogen.image import Image
from chromogen.style.canvas import MOST_GRADIENT, Stains, stains_of
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.descent import descend, judge
from chromogen.style.encoder import Encoder
from chromogen.style.guides import NO_GUIDES, Guides, check_guides
from chromogen.style.kinds import PlainNetwork, kind_of, site_of
from chromogen.style.measured_style import Style, check_size, measure_style, tiles_of
from chromogen.style.recipes import Recipe
from chromogen.style.run import OnStep, Run
from chromogen.style.stainer_network import (
    STRIDE_PX,
    StainerNetwork,
    Target,
    density_from,
    padded,
    slide_look,
)
from chromogen.style.stylize import Stylized, aim_of, seen_of


class TrainedNetwork:
    """The canvas of a trained network: the H&E, uint8 (H, W, 3), as it stains it, on the H&E's own white."""

    learning_rate, one_cycle = 0.01, True

    def __init__(self, network: PlainNetwork, he: Image, device: torch.device) -> None:
        """The network itself is changed."""
        self.network, self.he, self.look = network.to(device).train(), he, slide_look(he)
        self.halo_px = kind_of(network.architecture).halo_px
        self.parameters: list[Tensor] = list(network.parameters())
        self._given = torch.tensor(self.look.strength).to(device), torch.tensor([self.look.residue]).to(device)
        self._white = torch.tensor(self.look.white).to(device).view(1, 3, 1, 1)

    def picture(self, window: Window | None = None) -> Tensor:
        """What the network makes of the H&E, or of what it has to see for a window."""
        size = self.he.shape[1], self.he.shape[0]
        inside = window or whole(size)
        outer = inside.grown(self.halo_px, size).aligned(STRIDE_PX)
        seen = padded(np.ascontiguousarray(self.he[outer.at]))
        density: Tensor = self.network(density_from(seen, self.look.white).to(self._white.device), *self._given)
        light = (self._white + 1) * (-density[..., *inside.seen_from(outer).at]).exp() - 1
        return (light / 255).clamp(0, 1)

    def tame(self) -> None:
        """Long gradients are cut."""
        nn.utils.clip_grad_norm_(self.parameters, MOST_GRADIENT)

    def settle(self) -> None:
        """Nothing to do."""


def adapt(  # noqa: PLR0913 - those of `stylize`, and the network
    network: PlainNetwork,
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
    """The content as the network stains it after the last scale's steps of the recipe; as `stylize` otherwise.

    A network in stain space takes on the style's own stain vectors and strengths at once. The one given stays as
    it is. Raises: as `stylize`; ValueError where the recipe leaves pixels free, or asks for what no network of
    this kind has.
    """
    encoder = encoder or Encoder()
    recipe = replace(recipe, scales=recipe.scales[-1:], steps=recipe.steps[-1:])
    check_size(content, recipe, "content")
    check_guides(content, recipe, guides, "content")
    _check_fits(network, recipe, tile_px)
    if not isinstance(style, Style):
        style = measure_style([style], recipe, encoder, tile_px=tile_px)
    stains = stains_of(content, style.images, style.mix)
    grid = tiles_of(content, recipe.objective, tile_px)
    aim = aim_of(content, style, 1.0, stains, recipe, encoder, guides, grid)
    canvas = TrainedNetwork(_own(network, stains, content), content, encoder.device)
    run = Run(recipe, on_step, checkpoint)
    run.initial = run.initial or judge(seen_of(canvas, grid), aim, recipe, encoder)
    size = content.shape[1], content.shape[0]
    follow = partial(run.record, 1.0, size, partial(seen_of, canvas, grid))
    encoder = descend(canvas, aim, recipe, recipe.steps[0], encoder, follow, run.keep, run.begin(0))
    if isinstance(canvas.network, StainerNetwork):
        target = canvas.network.target
        canvas.network.target = replace(target, dab=target.dab * recipe.dab_amount)
    image = seen_of(canvas, grid)
    final = judge(image, aim, recipe, encoder)
    return Stylized(image, run.initial, final, tuple(run.trace), encoder.precision)


def _check_fits(network: PlainNetwork, recipe: Recipe, tile_px: int | None) -> None:
    if recipe.space != "stain" or recipe.variable != "network":
        raise expected("variable", "network, in stain space, where a model is adapted", recipe.variable)
    site = site_of(network.architecture)
    if recipe.site not in ("any", site):
        raise expected("site", f"left out, or the model's, {site}", recipe.site)
    if isinstance(network, StainerNetwork):
        return
    if tile_px is not None:
        raise expected("tile", "left out: an rgb network takes moments of the whole picture", f"{tile_px} px")
    if recipe.dab_amount != 1:
        raise expected("dab_amount", "left out: an rgb network knows no DAB", recipe.dab_amount)


def _own(network: PlainNetwork, stains: Stains, content: Image) -> PlainNetwork:
    """A copy, aimed at these stains."""
    ours = slide_look(content).strength[0]
    matrix = tuple(tuple(map(float, row)) for row in stains.matrix)
    target = Target(matrix, stains.hematoxylin_gain * ours, stains.strongest_dab)
    made: PlainNetwork = kind_of(network.architecture).build(network.architecture, target)
    made.load_state_dict(network.state_dict())
    return made
