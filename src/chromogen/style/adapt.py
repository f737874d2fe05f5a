"""A trained network adapted to one image in a few steps, on the losses of `stylize`: its weights are changed."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from chromogen.errors import expected
from chromogen.grid import Window, whole
from chromogen.image import Image
from chromogen.stains.light import picture_from
from chromogen.style.canvas import Stains, cut_gradients
from chromogen.style.kinds import PlainNetwork, kind_of, site_of
from chromogen.style.recipes import Recipe
from chromogen.style.slide_densities import STRIDE_PX, Target, density_from, padded
from chromogen.style.stainer_network import StainerNetwork, slide_look
from chromogen.style.stylize import CanvasOf, Outset


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
        return picture_from(density[..., *inside.seen_from(outer).at], self._white)

    def tame(self) -> None:
        """Long gradients are cut."""
        cut_gradients(self.parameters)

    def settle(self) -> None:
        """Nothing to do."""

    def develop(self, amount: float) -> None:
        """The network paints more or less of it."""
        if isinstance(self.network, StainerNetwork):
            target = self.network.target
            self.network.target = replace(target, dab=target.dab * amount)


def at_full_scale(recipe: Recipe) -> Recipe:
    """The recipe with its last scale alone: a network knows tissue at one pixel size."""
    return replace(recipe, scales=recipe.scales[-1:], steps=recipe.steps[-1:])


def check_adaptable(network: PlainNetwork, recipe: Recipe, tile_px: int | None = None) -> None:
    """ValueError where the recipe leaves pixels free, or asks for what no network of this kind has."""
    if recipe.space != "stain":
        raise expected("space", "stain where a model is adapted", recipe.space)
    if recipe.scales != (1.0,):
        raise expected("scales", "1 alone where a model is adapted", recipe.scales)
    site = site_of(network.architecture)
    if recipe.site not in ("auto", site):
        raise expected("site", f"left out, or the model's, {site}", recipe.site)
    if isinstance(network, StainerNetwork):
        return
    if tile_px is not None:
        raise expected("tile", "left out: an rgb network takes moments of the whole picture", f"{tile_px} px")
    if recipe.dab_amount != 1:
        raise expected("dab_amount", "left out: an rgb network knows no DAB", recipe.dab_amount)


def adapted(network: PlainNetwork) -> CanvasOf:
    """For `stylize`, with a recipe `at_full_scale`: a copy of the network is what the steps change.

    A network in stain space takes on the style's own stain vectors and strengths at once. The one given stays as
    it is. What it gives raises ValueError as `check_adaptable` does.
    """

    def canvas_of(outset: Outset) -> TrainedNetwork:
        check_adaptable(network, outset.recipe, outset.grid.core_px if outset.grid else None)
        stains = cast("Stains", outset.stains)  # in stain space there are
        return TrainedNetwork(_own(network, stains, outset.he), outset.he, outset.encoder.device)

    return canvas_of


def _own(network: PlainNetwork, stains: Stains, content: Image) -> PlainNetwork:
    """A copy, aimed at these stains."""
    ours = slide_look(content).strength[0]
    matrix = tuple(tuple(map(float, row)) for row in stains.matrix)
    target = Target(matrix, stains.hematoxylin_gain * ours, stains.strongest_dab)
    made: PlainNetwork = kind_of(network.architecture).build(network.architecture, target)
    made.load_state_dict(network.state_dict())
    return made
