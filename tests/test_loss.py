"""Loss and gradient of a picture in tiles against the same in one piece: one battery over terms and canvases."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

import chromogen.style.stylize as module
from chromogen.compute.tiles import TileGrid
from chromogen.image import Image
from chromogen.style import loss as loss_module
from chromogen.style import winograd
from chromogen.style.canvas import Canvas, part_of
from chromogen.style.encoder import Encoder
from chromogen.style.loss import Targets, add_gradient, check_can_be_tiled, halo_px
from chromogen.style.measured_style import measure_style
from chromogen.style.objective import Objective, Term
from chromogen.style.optimize import loss_function
from chromogen.style.recipes import Recipe, content_term, hematoxylin_term, style_term, tv_term
from chromogen.style.stylize import stylized
from synthetic import drawn_pair, tissue_like

SIZE = (101, 83)  # odd, and no multiple of anything
HE, IHC = tissue_like(SIZE[1], SIZE[0], seed=3), tissue_like(70, 77, seed=4)[..., ::-1].copy()
DRAWN = drawn_pair(SIZE[0])[0][: SIZE[1]].copy(), drawn_pair(77)[1][:70].copy()  # with nuclei and DAB
SHALLOW = style_term(layers=("relu1_1", "relu2_1", "relu3_1"))

OBJECTIVES: dict[str, tuple[Objective, str]] = {
    "gram": ((SHALLOW,), "relative"),
    "gram of the image": ((style_term(layers=("image", "relu1_1")),), "relative"),
    "masked gram": ((replace(SHALLOW, mask="tissue", name="in tissue"), SHALLOW), "relative"),
    "content": ((content_term("relu3_2", 0.5), SHALLOW), "relative"),
    "content, several layers": (
        (replace(content_term("relu2_2", 0.5), layers={"relu2_2": 0.3, "relu3_1": 0.7, "image": 1.0}), SHALLOW),
        "relative",
    ),
    "content, mae": ((content_term("relu2_2", 0.5, "mae"), SHALLOW), "relative"),
    "content, huber": ((content_term("relu2_2", 0.5, "huber"), SHALLOW), "relative"),
    "total variation": ((tv_term(0.1), SHALLOW), "relative"),
    "differences of features": (
        (Term("tv", 0.1, {"relu3_1": 1.0}, "differences", "mae", None), SHALLOW),
        "relative",
    ),
    "laplacian": (
        (Term("edges", 0.5, {"image": 0.5, "relu2_2": 0.5}, "laplacian", "mse", "content"), SHALLOW),
        "relative",
    ),
    "haematoxylin": ((hematoxylin_term(0.5), SHALLOW), "relative"),
    "paper": ((content_term(), tv_term(0.1), SHALLOW), "paper"),
    "a style's content": ((replace(content_term("relu2_2"), reference="hematoxylin"), SHALLOW), "relative"),
}
CANVASES = {
    "rgb": {"space": "rgb"},
    "network": {"space": "stain", "optimizer": "adam"},
}

Found: TypeAlias = tuple[float, dict[str, float], list[Tensor]]  # loss, values, gradients


def pictures_for(recipe: Recipe) -> tuple[Image, Image]:
    """An H&E and an IHC that the recipe's space can work with."""
    return DRAWN if recipe.space == "stain" else (HE, IHC)


def at_first(recipe: Recipe, encoder: Encoder, tile_px: int | None) -> Found:
    """Loss, values and gradient of a recipe's first picture, disturbed so that nothing is zero by symmetry."""
    found: list[Found] = []

    def look(
        canvas: Canvas, targets: Targets, here: Recipe, _steps: int, encoder: Encoder, *_more: object
    ) -> None:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1)
            for parameter in canvas.parameters:
                parameter += 0.05 * torch.randn_like(parameter)
            if recipe.space == "rgb":
                canvas.project()
        loss, values = add_gradient(loss_function(here, encoder), canvas.picture, targets)
        gradients = [parameter.grad.clone() for parameter in canvas.parameters if parameter.grad is not None]
        found.append((loss.item(), {name: value.item() for name, value in values.items()}, gradients))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "optimize", look)
        he, ihc = pictures_for(recipe)
        style = measure_style([ihc], recipe, encoder, tile_px=tile_px)
        stylized(he, style, recipe, encoder=encoder, tile_px=tile_px)
    return found[0]


def assert_the_same(whole: Found, tiled: Found) -> None:
    assert tiled[0] == pytest.approx(whole[0], rel=1e-4)
    assert tiled[1] == pytest.approx(whole[1], rel=1e-4)
    assert len(tiled[2]) == len(whole[2]) > 0
    for ours, theirs in zip(tiled[2], whole[2], strict=True):
        assert theirs.abs().max() > 0
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


def recipe_of(name: str, canvas: str = "rgb") -> Recipe:
    objective, loss_scale = OBJECTIVES[name]
    return Recipe(objective, loss_scale, **CANVASES[canvas])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradient_in_tiles_are_those_of_the_whole(name: str, encoder: Encoder) -> None:
    recipe = recipe_of(name)
    assert_the_same(at_first(recipe, encoder, None), at_first(recipe, encoder, 48))


@pytest.mark.parametrize("name", ["masked gram", "haematoxylin"])
def test_so_they_are_in_stain_space(name: str, encoder: Encoder) -> None:
    recipe = recipe_of(name, "network")
    assert_the_same(at_first(recipe, encoder, None), at_first(recipe, encoder, 48))


@pytest.mark.parametrize("tile_px", [16, 33, 64])
def test_any_tile_size(tile_px: int, encoder: Encoder) -> None:
    recipe = recipe_of("content")
    assert_the_same(at_first(recipe, encoder, None), at_first(recipe, encoder, tile_px))


def test_so_they_are_where_convolutions_are_winograds(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "HE", tissue_like(190, 233, seed=3))
    monkeypatch.setattr(winograd, "MIN_PX", 0)
    recipe = Recipe((style_term(layers=("relu3_1", "relu4_1")),), "relative")
    assert_the_same(*(at_first(recipe, encoder, tile_px) for tile_px in (None, 96)))


def test_deep_layers_see_past_the_tile(encoder: Encoder) -> None:
    """relu5_1 sees 70 px to every side: with the halo of relu4_1, a tile's padding would reach its core."""
    recipe = Recipe((style_term(layers=("relu1_1", "relu5_1")),))
    assert halo_px(recipe.objective) == 70
    assert_the_same(at_first(recipe, encoder, None), at_first(recipe, encoder, 64))


def test_a_halo_too_small_would_show(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = at_first(recipe_of("content"), encoder, None)
    monkeypatch.setattr(loss_module, "halo_px", lambda objective: 0)
    tiled = at_first(recipe_of("content"), encoder, 48)
    assert float((tiled[2][0] - whole[2][0]).norm() / whole[2][0].norm()) > 1e-2


def test_every_local_statistic_has_the_halo_it_needs() -> None:
    edges = Term("edges", 0.5, {"relu3_1": 1.0}, "laplacian", "mse", "content")
    assert halo_px((edges,)) == 14  # 10 px that relu3_1 sees, and a neighbour 4 px away
    assert halo_px((replace(edges, layers={"relu4_2": 1.0}),)) == 46


def test_what_compares_all_with_all_is_refused(encoder: Encoder) -> None:
    term = Term("places", 1.0, {"relu3_1": 1.0}, "self_similarity", "mse", "content")
    recipe = Recipe((SHALLOW, term))
    with pytest.raises(ValueError, match="`places` to be a term that adds up over tiles, got self_similarity"):
        check_can_be_tiled(recipe.objective)
    with pytest.raises(ValueError, match="adds up over tiles"):
        stylized(HE, IHC, recipe, encoder=encoder, tile_px=48)


@pytest.mark.parametrize("optimizer", ["lbfgs", pytest.param("adam", marks=pytest.mark.slow)])
def test_a_tiled_picture_is_the_untiled_one(optimizer: str, encoder: Encoder) -> None:
    """But for rounding, which differs by processor and which L-BFGS makes more of."""
    recipe = replace(recipe_of("content"), scales=(0.5, 1.0), steps=(3, 3), optimizer=optimizer)
    whole = stylized(HE, IHC, recipe, encoder=encoder)
    tiled = stylized(HE, IHC, recipe, encoder=encoder, tile_px=32)
    assert tiled.final.total == pytest.approx(whole.final.total, rel=1e-2)
    assert np.abs(tiled.image.astype(int) - whole.image).max() <= 4
    assert np.abs(tiled.image.astype(int) - whole.image).mean() < 0.1


@pytest.mark.slow
def test_a_tiled_network_stains_like_the_untiled_one(encoder: Encoder) -> None:
    recipe = replace(recipe_of("masked gram", "network"), scales=(0.5, 1.0), steps=(3, 3))
    whole, tiled = (stylized(*DRAWN, recipe, encoder=encoder, tile_px=tile_px) for tile_px in (None, 32))
    assert np.abs(tiled.image.astype(int) - whole.image).max() <= 2


def test_preconditioned_steps_are_the_same_in_tiles(encoder: Encoder) -> None:
    recipe = replace(recipe_of("gram"), steps=(3,), preconditioned_steps=3)
    whole = stylized(HE, IHC, recipe, encoder=encoder)
    tiled = stylized(HE, IHC, recipe, encoder=encoder, tile_px=48)
    assert tiled.trace[-1].losses.total == pytest.approx(whole.trace[-1].losses.total, rel=1e-2)


def test_there_is_no_seam(encoder: Encoder) -> None:
    """Differences between neighbours across the borders of tiles are those of the untiled picture."""
    recipe = replace(recipe_of("gram"), steps=(6,))
    whole, tiled = (
        stylized(HE, IHC, recipe, encoder=encoder, tile_px=tile_px).image.astype(float) for tile_px in (None, 32)
    )
    borders = {tile.core.left - 1 for tile in TileGrid((HE.shape[1], HE.shape[0]), 32, 0) if tile.core.left}
    assert len(borders) == 3
    for border in borders:
        steps = [np.abs(np.diff(picture, axis=1))[:, border].mean() for picture in (whole, tiled)]
        assert steps[1] == pytest.approx(steps[0], rel=0.02)


def test_parts_of_a_parameter_add_up_their_gradients() -> None:
    x = torch.zeros(1, 1, 40, 40, requires_grad=True)
    for tile in TileGrid((40, 40), 16, 16):
        part_of(x, tile.outer).sum().backward()
    assert x.grad is not None
    looked_at = torch.zeros(40, 40)
    for tile in TileGrid((40, 40), 16, 16):
        looked_at[tile.outer.at] += 1
    assert torch.equal(x.grad[0, 0], looked_at)
