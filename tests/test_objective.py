import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chromogen.style.encoder import Encoder
from chromogen.style.objective import (
    Objective,
    References,
    Term,
    average,
    for_scale,
    layers_of,
    look,
    masks_asked,
    measure,
    term_values,
    total,
)
from chromogen.style.recipes import content_term, profile_term, style_term, tv_term

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


@pytest.fixture(scope="module")
def references(encoder: Encoder) -> dict[str, References]:
    return {
        scale: measure(EVERY, "content", encoder, picture(1), scale)
        | measure(EVERY, "style", encoder, picture(2, 32, 18), scale)
        for scale in ("paper", "relative")
    }


def values_of(encoder: Encoder, image: torch.Tensor, references: References, scale: str) -> dict[str, float]:
    measured = look(encoder, image, EVERY, scale)
    return {k: v.item() for k, v in term_values(EVERY, measured, references, scale).items()}


def test_paper_scale_is_the_reports_arithmetic(encoder: Encoder, references: dict[str, References]) -> None:
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

    found = values_of(encoder, x, references["paper"], "paper")
    assert found["content"] == pytest.approx(0.5 * ((f["relu2_2"] - c["relu2_2"]) ** 2).sum(), rel=1e-4)
    assert found["mae"] == pytest.approx(np.abs(f["relu3_1"] - c["relu3_1"]).sum(), rel=1e-4)
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert found["style"] == pytest.approx(sum(style(layer) for layer in layers) / 5, rel=1e-4)
    assert found["color"] == pytest.approx(style("image"), rel=1e-4)
    i = f["image"]
    differences = np.abs(np.diff(i, axis=1)).sum() + np.abs(np.diff(i, axis=2)).sum()
    assert found["tv"] == pytest.approx(differences, rel=1e-4)


def test_relative_scale_divides_by_the_references_energy(
    encoder: Encoder, references: dict[str, References]
) -> None:
    x, p = picture(3), picture(1)
    f, c = (encoder(image, ["relu2_2", "relu3_1"]) for image in (x, p))
    found = values_of(encoder, x, references["relative"], "relative")
    error, energy = (f["relu2_2"] - c["relu2_2"]).square().sum(), c["relu2_2"].square().sum()
    assert found["content"] == pytest.approx((error / energy).item(), rel=1e-4)
    error, energy = (f["relu3_1"] - c["relu3_1"]).abs().sum(), c["relu3_1"].abs().sum()
    assert found["mae"] == pytest.approx((error / energy).item(), rel=1e-4)


def test_relative_style_is_the_mean_relative_gram_error(
    encoder: Encoder, references: dict[str, References]
) -> None:
    def gram(image: torch.Tensor, layer: str) -> torch.Tensor:
        v = encoder(image, [layer])[layer][0].flatten(1)
        return v @ v.T / v.shape[1]

    errors = []
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"):
        g, a = gram(picture(3), layer), gram(picture(2, 32, 18), layer)
        errors.append(((g - a).square().sum() / a.square().sum()).item())
    found = values_of(encoder, picture(3), references["relative"], "relative")
    assert found["style"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_relative_values_do_not_depend_on_units(encoder: Encoder, references: dict[str, References]) -> None:
    """The image counts 0-1 in `relative` and 0-255 in `paper`; ratios cannot tell."""
    found = values_of(encoder, picture(3), references["relative"], "relative")
    in_paper = values_of(encoder, picture(3), references["paper"], "paper")
    energy = references["paper"]["color", "image"].energy.item()
    assert found["color"] == pytest.approx(in_paper["color"] / energy, rel=1e-4)


@pytest.mark.parametrize("scale", ["paper", "relative"])
def test_terms_with_a_reference_vanish_on_it(
    encoder: Encoder, references: dict[str, References], scale: str
) -> None:
    on_content = values_of(encoder, picture(1), references[scale], scale)
    on_style = term_values(
        (style_term(),),
        look(encoder, picture(2, 32, 18), (style_term(),), scale),
        references[scale],
        scale,
    )
    assert [on_content[name] for name in ("content", "mae", "huber")] == [0, 0, 0]
    assert on_style["style"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", ["paper", "relative"])
@pytest.mark.parametrize("term", EVERY, ids=lambda term: term.name)
def test_every_term_has_a_finite_gradient(
    encoder: Encoder, references: dict[str, References], scale: str, term: Term
) -> None:
    x = picture(3).requires_grad_()
    measured = look(encoder, x, (term,), scale)
    term_values((term,), measured, references[scale], scale)[term.name].backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


def test_a_batch_is_the_mean_of_its_items(encoder: Encoder, references: dict[str, References]) -> None:
    one, other = (values_of(encoder, picture(seed), references["relative"], "relative") for seed in (3, 4))
    both = values_of(encoder, torch.cat([picture(3), picture(4)]), references["relative"], "relative")
    assert both == pytest.approx({name: (one[name] + other[name]) / 2 for name in one}, rel=1e-4)


def test_layer_weights_count_inside_a_term(encoder: Encoder) -> None:
    term = replace(style_term(), layers={"relu1_1": 2.0, "relu2_1": 0.0})
    reference = measure((term,), "style", encoder, picture(2), "relative")
    measured = look(encoder, picture(3), (term,), "relative")
    found = term_values((term,), measured, reference, "relative")["style"]
    only = replace(term, layers={"relu1_1": 1.0})
    assert found.item() == pytest.approx(2 * term_values((only,), measured, reference, "relative")["style"].item())


def test_total_is_the_weighted_sum() -> None:
    objective = (content_term(weight=0.5), style_term(weight=2.0))
    values = {"content": torch.tensor(4.0), "style": torch.tensor(3.0)}
    assert total(objective, values).item() == 8.0


def test_average_mixes_statistics_not_pictures(encoder: Encoder) -> None:
    objective = (style_term(layers=("relu1_1",)),)
    one, other = (measure(objective, "style", encoder, picture(seed, 16 * seed), "relative") for seed in (1, 2))
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
        reference = measure(objective, "content", encoder, content, scale)
        reference |= measure(objective, "style", encoder, style, scale)
        values = term_values(objective, look(encoder, x, objective, scale), reference, scale)
        return total(for_scale(objective, fraction, scale), values).item()

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
    reference = measure((term,), "style", encoder, tissue, "relative", {"tissue": inside})
    seen = term_values((term,), look(encoder, beside, (term,), "relative", {"tissue": its}), reference, "relative")
    blind = replace(term, mask=None)
    plain = term_values((blind,), look(encoder, beside, (blind,), "relative"), reference, "relative")
    assert seen["style"].item() < 1e-6
    assert plain["style"].item() > 0.2


def test_masks_are_known_and_only_for_statistics_that_know_them() -> None:
    assert masks_asked((*EVERY, replace(style_term(), mask="tissue"))) == {"tissue"}
    with pytest.raises(ValueError, match="did you mean tissue"):
        replace(style_term(), mask="tisue")
    with pytest.raises(ValueError, match="Expected `statistic`"):
        replace(content_term(), mask="tissue")
    with pytest.raises(ValueError, match="Expected `mask` to be given"):
        replace(profile_term(1.0), mask=None)
