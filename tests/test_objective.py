import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
import torch

from chromogen.style.encoder import Encoder
from chromogen.style.loss import (
    LossFunction,
    Targets,
    add_gradient,
    picture_windows,
    targets_of,
    tiles_of,
    value_of,
    with_reference,
)
from chromogen.style.objective import (
    NO_MASKS,
    Masks,
    Objective,
    References,
    Term,
    average,
    for_scale,
    layers_of,
    masks_asked,
    total,
)
from chromogen.style.recipes import content_term, style_term, tv_term

EVERY: Objective = (
    content_term("relu2_2", 0.5, "mse"),
    replace(content_term("relu3_1", 0.25, "mae"), name="mae"),
    replace(content_term("image", 0.25, "huber"), name="huber"),
    style_term(),
    replace(style_term(layers=("image",)), name="color"),
    tv_term(0.1),
)


def picture(seed: int, height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


Pictures: TypeAlias = dict[str, torch.Tensor]  # by reference: "content", "style"
GIVEN: Pictures = {"content": picture(1), "style": picture(2, 32, 18)}


def measured(
    objective: Objective, name: str, encoder: Encoder, image: torch.Tensor, scale: str, masks: Masks = NO_MASKS
) -> References:
    """What the terms that refer to a reference measure of its picture."""
    loss = LossFunction(tuple(term for term in objective if term.reference == name), scale, encoder)
    grid = tiles_of((image.shape[3], image.shape[2]), objective)
    return with_reference(loss, name, picture_windows(image), targets_of(loss, grid, masks)).references


def targets_for(
    loss: LossFunction, x: torch.Tensor, given: Pictures, masks: Masks = NO_MASKS, of_style: Masks = NO_MASKS
) -> Targets:
    """What a picture x is compared with: a style of any size, and content of its own."""
    known = (
        measured(loss.objective, "style", loss.encoder, given["style"], loss.loss_scale, of_style)
        if "style" in given
        else {}
    )
    targets = targets_of(loss, tiles_of((x.shape[3], x.shape[2]), loss.objective), masks, known)
    return (
        with_reference(loss, "content", picture_windows(given["content"]), targets)
        if "content" in given
        else targets
    )


def values_of(
    encoder: Encoder, x: torch.Tensor, scale: str, objective: Objective = EVERY, given: Pictures = GIVEN
) -> dict[str, float]:
    loss = LossFunction(objective, scale, encoder)
    return {k: v.item() for k, v in value_of(loss, picture_windows(x), targets_for(loss, x, given))[1].items()}


def test_paper_scale_is_the_reports_arithmetic(encoder: Encoder) -> None:
    """Every formula again in numpy float64, from the raw features, with Grams summed over positions."""
    x, p, s = picture(3), picture(1), picture(2, 32, 18)
    features = [
        {k: v[0].double().numpy() for k, v in encoder(image, layers_of(EVERY)).items()} for image in (x, p, s)
    ]
    for f in features:
        f["image"] = 255 * f["image"]
    f, c, a = features

    def style(layer: str) -> float:
        n, m = f[layer].shape[0], f[layer][0].size
        g, wanted = (v[layer].reshape(n, -1) @ v[layer].reshape(n, -1).T for v in (f, a))
        wanted = wanted * m / a[layer][0].size
        return float(((g - wanted) ** 2).sum() / (4 * n**2 * m**2))

    found = values_of(encoder, x, "paper")
    assert found["content"] == pytest.approx(0.5 * ((f["relu2_2"] - c["relu2_2"]) ** 2).sum(), rel=1e-4)
    assert found["mae"] == pytest.approx(np.abs(f["relu3_1"] - c["relu3_1"]).sum(), rel=1e-4)
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert found["style"] == pytest.approx(sum(style(layer) for layer in layers) / 5, rel=1e-4)
    assert found["color"] == pytest.approx(style("image"), rel=1e-4)
    i = f["image"]
    differences = np.abs(np.diff(i, axis=1)).sum() + np.abs(np.diff(i, axis=2)).sum()
    assert found["tv"] == pytest.approx(differences, rel=1e-4)


def test_relative_scale_divides_by_the_references_energy(encoder: Encoder) -> None:
    x, p = picture(3), picture(1)
    f, c = (encoder(image, ["relu2_2", "relu3_1"]) for image in (x, p))
    found = values_of(encoder, x, "relative")
    error, energy = (f["relu2_2"] - c["relu2_2"]).square().sum(), c["relu2_2"].square().sum()
    assert found["content"] == pytest.approx((error / energy).item(), rel=1e-4)
    error, energy = (f["relu3_1"] - c["relu3_1"]).abs().sum(), c["relu3_1"].abs().sum()
    assert found["mae"] == pytest.approx((error / energy).item(), rel=1e-4)


def test_relative_style_is_the_mean_relative_gram_error(encoder: Encoder) -> None:
    def gram(image: torch.Tensor, layer: str) -> torch.Tensor:
        v = encoder(image, [layer])[layer][0].flatten(1)
        return v @ v.T / v.shape[1]

    errors = []
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"):
        g, a = gram(picture(3), layer), gram(picture(2, 32, 18), layer)
        errors.append(((g - a).square().sum() / a.square().sum()).item())
    found = values_of(encoder, picture(3), "relative")
    assert found["style"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_relative_values_do_not_depend_on_units(encoder: Encoder) -> None:
    """The image counts 0-1 in `relative` and 0-255 in `paper`; ratios cannot tell."""
    found = values_of(encoder, picture(3), "relative")
    in_paper = values_of(encoder, picture(3), "paper")
    energy = measured(EVERY, "style", encoder, GIVEN["style"], "paper")["color", "image"].energy.item()
    assert found["color"] == pytest.approx(in_paper["color"] / energy, rel=1e-4)


@pytest.mark.parametrize("scale", ["paper", "relative"])
def test_terms_with_a_reference_vanish_on_it(encoder: Encoder, scale: str) -> None:
    on_content = values_of(encoder, GIVEN["content"], scale)
    on_style = values_of(encoder, GIVEN["style"], scale, (style_term(),), {"style": GIVEN["style"]})
    assert [on_content[name] for name in ("content", "mae", "huber")] == [0, 0, 0]
    assert on_style["style"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", ["paper", "relative"])
@pytest.mark.parametrize("term", EVERY, ids=lambda term: term.name)
def test_every_term_has_a_finite_gradient(encoder: Encoder, scale: str, term: Term) -> None:
    x, loss = picture(3).requires_grad_(), LossFunction((term,), scale, encoder)
    add_gradient(loss, picture_windows(x), targets_for(loss, x, GIVEN))
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


def test_layer_weights_count_inside_a_term(encoder: Encoder) -> None:
    term = replace(style_term(), layers={"relu1_1": 2.0, "relu2_1": 0.0})
    only = replace(term, layers={"relu1_1": 1.0})
    found, wanted = (values_of(encoder, picture(3), "relative", (one,))["style"] for one in (term, only))
    assert found == pytest.approx(2 * wanted)


def test_total_is_the_weighted_sum() -> None:
    objective = (content_term(weight=0.5), style_term(weight=2.0))
    values = {"content": torch.tensor(4.0), "style": torch.tensor(3.0)}
    assert total(objective, values).item() == 8.0


def test_average_mixes_statistics_not_pictures(encoder: Encoder) -> None:
    objective = (style_term(layers=("relu1_1",)),)
    one, other = (measured(objective, "style", encoder, picture(seed, 16 * seed), "relative") for seed in (1, 2))
    mixed = average(objective, [one, other], [3, 1])["style", "relu1_1"]
    wanted = 0.75 * one["style", "relu1_1"].measured + 0.25 * other["style", "relu1_1"].measured
    assert torch.allclose(mixed.measured, wanted)
    assert mixed.energy.item() == pytest.approx((wanted.square().sum() / (4 * 64**2)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -1.0}, "`style_weight` to be a finite weight of at least 0, got -1.0"),
        ({"weight": math.nan}, "got nan"),
        ({"weight": math.inf}, "got inf"),
        ({"layers": {"relu1_1": -0.5}}, "`relu1_1` to be a finite weight of at least 0"),
        ({"layers": {}}, "`style_layers` to be at least one layer"),
        ({"layers": {"relu9_9": 1.0}}, "did you mean relu"),
        ({"statistic": "gramm"}, "did you mean gram"),
        ({"distance": "rmse"}, "did you mean mse"),
        ({"reference": "target"}, "one of content, style"),
    ],
)
def test_terms_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(style_term(), **changes)


@pytest.mark.parametrize("scale", ["paper", "relative"])
def test_every_scale_of_a_run_minimizes_the_same(encoder: Encoder, scale: str) -> None:
    """A picture of 2 x 2 blocks and its half: sums over its pixels are a quarter, weights make up for it."""
    objective = (content_term("image", 0.3), style_term(2.0, ("image",)))

    def loss(pictures: list[torch.Tensor], fraction: float) -> float:
        x, content, style = pictures
        scaled = LossFunction(for_scale(objective, fraction, scale), scale, encoder)
        targets = targets_for(scaled, x, {"content": content, "style": style})
        return value_of(scaled, picture_windows(x), targets)[0].item()

    half = [picture(seed) for seed in (1, 2, 3)]
    whole = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in half]
    assert loss(half, 0.5) == pytest.approx(loss(whole, 1.0), rel=1e-5)


def test_only_what_has_a_value_at_every_place_weighs_more_in_a_small_picture() -> None:
    """Patches are compared at no more than 24 x 24 places, of small and large pictures alike."""
    likeness = Term("likeness", 1.0, {"relu2_1": 1.0}, "self_similarity", "mse", "content")
    weights = [term.weight for term in for_scale((likeness, style_term(), tv_term(1.0)), 0.5, "paper")]
    assert weights == [1, 1, 4]


def test_a_masked_term_sees_the_tissue_alone(encoder: Encoder) -> None:
    """A picture with glass beside the tissue has the Gram matrix of the tissue, but for the margin."""
    term = replace(style_term(layers=("relu1_1",)), mask="tissue")
    tissue, inside = 0.5 * picture(1, 32, 32), torch.zeros(1, 1, 32, 32)
    inside[..., :30] = 1
    beside, its = (
        torch.cat([x, other], dim=3) for x, other in ((tissue, torch.ones_like(tissue)), (inside, 0 * inside))
    )
    found = {}
    for mask in ("tissue", None):
        loss = LossFunction((replace(term, mask=mask),), "relative", encoder)
        of_style = {"tissue": inside} if mask else NO_MASKS
        targets = targets_for(loss, beside, {"style": tissue}, {"tissue": its}, of_style)
        found[mask] = value_of(loss, picture_windows(beside), targets)[1]["style"].item()
    assert found["tissue"] < 1e-6
    assert found[None] > 0.2


def test_masks_are_known_and_only_for_statistics_that_know_them() -> None:
    assert masks_asked((*EVERY, replace(style_term(), mask="tissue"))) == {"tissue"}
    with pytest.raises(ValueError, match="did you mean tissue"):
        replace(style_term(), mask="tisue")
    with pytest.raises(ValueError, match="Expected `statistic`"):
        replace(content_term(), mask="tissue")
    with pytest.raises(ValueError, match="`reference` to be content or hematoxylin for activations, got style"):
        replace(content_term(), reference="style")
