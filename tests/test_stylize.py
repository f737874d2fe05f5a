import itertools
import warnings
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.image import Image, to_tensor
from chromogen.stains.appearance import color_moments, match_colors
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.style import stylize as module
from chromogen.style.canvas import PixelCanvas, ihc_vectors
from chromogen.style.encoder import Encoder, Weights
from chromogen.style.measured_style import Style, measure_style
from chromogen.style.objective import COMPARTMENTS, References, Term
from chromogen.style.recipes import (
    INITS,
    OPTIMIZERS,
    Recipe,
    content_term,
    guided_recipe,
    hematoxylin_term,
    style_term,
    tv_term,
)
from chromogen.style.stylize import Step, stylized
from synthetic import drawn_pair, tissue_like

SHALLOW = (content_term(weight=0.05), style_term(layers=("relu1_1", "relu2_1")))
QUICK = Recipe(SHALLOW, steps=(8,))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("init", INITS)
def test_the_loss_falls_and_the_picture_keeps_its_size(
    content: Image, style: Image, encoder: Encoder, init: str, optimizer: str
) -> None:
    recipe = replace(QUICK, init=init, optimizer=optimizer, scales=(0.5, 1.0), steps=(6, 24))
    result = stylized(content, style, recipe, encoder=encoder)
    assert result.image.shape == content.shape
    assert result.image.dtype == np.uint8
    assert result.final.total < result.initial.total
    assert len(result.trace) == 30


def test_a_step_is_one_evaluation(content: Image, style: Image, encoder: Encoder) -> None:
    calls = itertools.count()

    class Counting(Encoder):
        def with_grams(self, image, *given):
            if image.requires_grad:
                next(calls)
            return super().with_grams(image, *given)

    result = stylized(content, style, QUICK, encoder=Counting(encoder.weights, precision="fp32"))
    assert len(result.trace) == next(calls) == 8


def test_initial_and_final_are_what_an_independent_sum_gives(
    content: Image, style: Image, encoder: Encoder
) -> None:
    """Relative losses of the very uint8 pictures, straight from features."""

    def loss(image: Image) -> tuple[float, float]:
        x, c, s = (encoder(to_tensor(i), ["relu1_1", "relu2_1", "relu2_2"]) for i in (image, content, style))
        wanted = c["relu2_2"]
        of_content = ((x["relu2_2"] - wanted).square().sum() / wanted.square().sum()).item()
        grams = [
            [(f := v[layer][0].flatten(1)) @ f.T / f.shape[1] for v in (x, s)] for layer in ("relu1_1", "relu2_1")
        ]
        return of_content, np.mean([((g - a).square().sum() / a.square().sum()).item() for g, a in grams])

    result = stylized(content, style, replace(QUICK, init="color"), encoder=encoder)
    start = match_colors(content, color_moments(style))
    for losses, picture in ((result.initial, start), (result.final, result.image)):
        of_content, of_style = loss(picture)
        assert losses.terms == pytest.approx({"content": of_content, "style": of_style}, rel=1e-3)
        assert losses.total == pytest.approx(0.05 * of_content + of_style, rel=1e-3)


def test_content_init_begins_at_the_content(content: Image, style: Image, encoder: Encoder) -> None:
    result = stylized(content, style, QUICK, encoder=encoder)
    assert result.initial.terms["content"] == 0
    assert result.trace[0].losses.total == pytest.approx(result.initial.total, rel=1e-4)


def test_the_same_seed_gives_the_same_picture(content: Image, style: Image, encoder: Encoder) -> None:
    noise = replace(QUICK, init="noise")
    one, same, other = (stylized(content, style, replace(noise, seed=s), encoder=encoder) for s in (1, 1, 2))
    assert np.array_equal(one.image, same.image)
    assert not np.array_equal(one.image, other.image)


def test_weights_decide(content: Image, style: Image, encoder: Encoder) -> None:
    """A heavier content term keeps more of the content, a heavier style term more of the style."""
    loose, tight = (
        stylized(content, style, replace(QUICK, objective=(content_term(weight=w), SHALLOW[1])), encoder=encoder)
        for w in (1e-4, 10.0)
    )
    assert tight.final.terms["content"] < loose.final.terms["content"]
    assert tight.final.terms["style"] > loose.final.terms["style"]


def test_total_variation_smooths(content: Image, style: Image, encoder: Encoder) -> None:
    plain, smooth = (
        stylized(content, style, replace(QUICK, objective=(*SHALLOW, tv_term(weight))), encoder=encoder)
        for weight in (0.0, 10.0)
    )
    assert smooth.final.terms["tv"] < plain.final.terms["tv"]


def test_style_of_another_size_is_compared_by_its_mean_gram(
    content: Image, style: Image, encoder: Encoder
) -> None:
    tiled = np.tile(style[:32], (2, 1, 1))
    one, other = (measure_style([image], QUICK, encoder).references[1.0] for image in (style[:32], tiled))
    key = ("style", "relu1_1")
    inside = torch.nn.functional.cosine_similarity(
        one[key].measured.flatten(), other[key].measured.flatten(), dim=0
    )
    assert inside > 0.999
    assert other[key].energy / one[key].energy == pytest.approx(1, rel=0.05)


def test_several_styles_are_averaged_by_their_mix(content: Image, style: Image, encoder: Encoder) -> None:
    both = measure_style([style, content], QUICK, encoder, mix=[3, 1])
    assert both.mix == (0.75, 0.25)
    alone = [measure_style([image], QUICK, encoder).references[1.0] for image in (style, content)]
    key = ("style", "relu2_1")
    wanted = 0.75 * alone[0][key].measured + 0.25 * alone[1][key].measured
    assert torch.allclose(both.references[1.0][key].measured, wanted)


def test_a_mix_with_all_on_one_is_that_one(content: Image, style: Image, encoder: Encoder) -> None:
    recipe = replace(QUICK, init="color")
    mixed = stylized(
        content, measure_style([style, content], recipe, encoder, mix=[1, 0]), recipe, encoder=encoder
    )
    alone = stylized(content, style, recipe, encoder=encoder)
    assert np.abs(mixed.image.astype(int) - alone.image).max() <= 1


def test_colour_moments_of_a_mix_are_those_of_all_pixels(style: Image) -> None:
    halves = Style((style[:18], style[18:]), (0.5, 0.5), {})
    mean, covariance = module._mean_moments(halves)
    wanted_mean, wanted = color_moments(style)
    np.testing.assert_allclose(mean, wanted_mean, rtol=1e-6)
    np.testing.assert_allclose(covariance, wanted, rtol=1e-2)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ([1.0, 2.0], "one weight for each of 1 styles, got 2"),
        ([-1.0], "at least 0"),
        ([0.0], "not all 0"),
        ([float("nan")], "at least 0"),
        ([float("inf")], "at least 0"),
    ],
)
def test_mixes_that_make_no_sense(style: Image, encoder: Encoder, mix: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_style([style], QUICK, encoder, mix=mix)


def test_no_style_image(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="each of 0 styles"):
        measure_style([], QUICK, encoder)


def test_listeners_see_every_step_and_the_picture(content: Image, style: Image, encoder: Encoder) -> None:
    seen: list[tuple[Step, tuple[int, ...]]] = []
    recipe = replace(QUICK, scales=(0.5, 1.0), steps=(2, 3))
    stylized(
        content, style, recipe, encoder=encoder, on_step=lambda step, image: seen.append((step, image().shape))
    )
    assert [step.index for step, _ in seen] == [1, 2, 3, 4, 5]
    assert {step.of for step, _ in seen} == {5}
    assert [shape for _, shape in seen] == [(20, 24, 3)] * 2 + [(40, 48, 3)] * 3
    assert [step.size for step, _ in seen] == [(24, 20)] * 2 + [(48, 40)] * 3
    assert [step.scale for step, _ in seen] == [0.5] * 2 + [1.0] * 3
    assert all(set(step.losses.terms) == {"content", "style"} for step, _ in seen)


def test_a_plateau_ends_a_scale(content: Image, style: Image, encoder: Encoder) -> None:
    recipe = replace(QUICK, steps=(60,), plateau=0.5)
    assert 11 <= len(stylized(content, style, recipe, encoder=encoder).trace) < 60


def test_coarse_scales_weigh_sums_over_pixels_like_the_finest(
    content: Image, style: Image, encoder: Encoder
) -> None:
    """Of the paper's losses: the total that a coarse step reports has its content term four times as heavy."""
    recipe = replace(QUICK, loss_scale="paper", scales=(0.5, 1.0), steps=(2, 2))
    *_, coarse, _, fine = stylized(content, style, recipe, encoder=encoder).trace
    for step, factor in ((coarse, 4), (fine, 1)):
        terms = step.losses.terms
        assert step.losses.total == pytest.approx(0.05 * factor * terms["content"] + terms["style"], rel=1e-5)


def test_zero_steps_at_a_scale_pass_it_by(content: Image, style: Image, encoder: Encoder) -> None:
    recipe = replace(QUICK, scales=(0.5, 1.0), steps=(0, 3))
    assert {step.scale for step in stylized(content, style, recipe, encoder=encoder).trace} == {1.0}


def test_a_finer_scale_keeps_the_contents_detail(content: Image, style: Image, encoder: Encoder) -> None:
    """From coarse to fine only the change is enlarged: with nothing changed, the fine start is the content."""
    start = to_tensor(content)
    coarse = torch.zeros(1, 3, 20, 24)
    assert torch.equal(module._carried_over((coarse, PixelCanvas(coarse)), start, "content"), start)


def broken_in(precision: str) -> type[Encoder]:
    class Broken(Encoder):
        def with_grams(self, image, *given):
            found = super().with_grams(image, *given)
            if self.precision == precision and image.requires_grad:
                return tuple({name: f * float("nan") for name, f in part.items()} for part in found)
            return found

    return Broken


def test_where_bf16_is_not_finite_fp32_goes_on_and_says_so(
    content: Image, style: Image, weights: Weights, bf16: str
) -> None:
    with pytest.warns(UserWarning, match="not finite in bf16; going on in fp32"):
        result = stylized(content, style, QUICK, encoder=broken_in(bf16)(weights, precision=bf16))
    assert result.precision == "fp32"
    assert result.final.total < result.initial.total


def test_where_fp32_is_not_finite_either_it_is_an_error(content: Image, style: Image, weights: Weights) -> None:
    with pytest.raises(ArithmeticError, match="The loss is nan after 0 steps"):
        stylized(content, style, QUICK, encoder=broken_in("fp32")(weights, precision="fp32"))


def test_bf16_reaches_the_loss_that_fp32_does(content: Image, style: Image, weights: Weights, bf16: str) -> None:
    recipe = replace(QUICK, steps=(25,))
    totals = [
        stylized(content, style, recipe, encoder=Encoder(weights, precision=p)).final.total for p in ("fp32", bf16)
    ]
    assert totals[1] == pytest.approx(totals[0], rel=0.1)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (15, 40)])
def test_pictures_too_small_for_the_layers_are_refused(
    style: Image, encoder: Encoder, shape: tuple[int, int]
) -> None:
    small = np.zeros((*shape, 3), np.uint8)
    deep = Recipe((style_term(),), steps=(1,))
    with pytest.raises(ValueError, match=rf"`content` to be at least 16 px.*got {shape[1]} x {shape[0]} px"):
        stylized(small, style, deep, encoder=encoder)
    with pytest.raises(ValueError, match="`style` to be at least 32 px"):
        measure_style([small], replace(deep, scales=(0.5, 1.0), steps=(1, 1)), encoder)


def test_a_picture_larger_than_memory_is_refused(
    content: Image, style: Image, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Little:
        available = 1_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with pytest.raises(ValueError, match=r"48 x 40 px, which needs about .*its longer side \d\d px \(--size\)"):
        stylized(content, style, QUICK, encoder=encoder)
    with pytest.raises(ValueError, match=r"`style` to be small enough.*\(--style-size\)"):
        measure_style([style], QUICK, encoder)


def test_a_flat_white_style_makes_no_nan(content: Image, encoder: Encoder) -> None:
    white = np.full((32, 32, 3), 255, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = stylized(content, white, replace(QUICK, init="color"), encoder=encoder)
    assert np.isfinite(result.final.total)


def test_an_encoder_is_made_where_none_is_given(
    content: Image, style: Image, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Encoder", lambda: encoder)
    assert stylized(content, style, replace(QUICK, steps=(1,))).precision == "fp32"


def test_preconditioning_changes_the_way_and_not_the_losses(
    content: Image, style: Image, encoder: Encoder
) -> None:
    """A step's losses are those of the picture before it: equal at the start, and apart when a step was taken."""
    plain, other = (
        stylized(content, style, replace(QUICK, preconditioned_steps=n), encoder=encoder).trace for n in (0, 4)
    )
    assert other[0].losses == plain[0].losses
    assert other[4].losses != plain[4].losses


def test_preconditioned_steps_come_first_and_reach_the_style_sooner(
    content: Image, style: Image, encoder: Encoder
) -> None:
    recipe = replace(QUICK, objective=(style_term(layers=("relu1_1", "relu2_1")),), steps=(15,))
    few, all_of_them, none = (
        stylized(content, style, replace(recipe, preconditioned_steps=n), encoder=encoder) for n in (3, 15, 0)
    )
    assert few.trace[2].losses == all_of_them.trace[2].losses
    assert few.image.tobytes() != all_of_them.image.tobytes()
    assert all_of_them.final.total < none.final.total


def test_preconditioning_weighs_content_less(content: Image, style: Image, encoder: Encoder) -> None:
    """Why it is for first steps: gone on with, it ends nearer to the style and further from the content."""
    plain, other = (
        stylized(content, style, replace(QUICK, steps=(60,), preconditioned_steps=n), encoder=encoder).final.terms
        for n in (0, 60)
    )
    assert other["style"] < plain["style"]
    assert other["content"] > plain["content"]


@pytest.mark.parametrize("loss_scale", ["relative", "paper"])
def test_the_first_step_of_a_scale_is_neither_lost_nor_wild(
    content: Image, style: Image, encoder: Encoder, loss_scale: str
) -> None:
    """Pixels move by 0.003 of their range on average, whatever the size of the loss."""
    moved: list[float] = []

    def measure_move(step: Step, picture: object) -> None:
        moved.append(np.abs(picture().astype(float) - before[-1]).mean() / 255)  # type: ignore[operator]
        before.append(picture().astype(float))  # type: ignore[operator]

    before = [content.astype(float)]
    stylized(
        content, style, replace(QUICK, loss_scale=loss_scale, steps=(2,)), encoder=encoder, on_step=measure_move
    )
    assert 0.0015 < moved[0] < 0.0045
    assert moved[1] < 0.2


def test_a_wild_step_is_taken_back(content: Image, style: Image, encoder: Encoder) -> None:
    """A heavy term with a kink misleads L-BFGS: without going back, the loss ends at 4.6 and not at 0.63."""
    heavy = replace(QUICK, steps=(24,), objective=(*SHALLOW, tv_term(30.0)))
    result = stylized(content, style, heavy, encoder=encoder)
    totals = [step.losses.total for step in result.trace]
    assert max(totals[1:]) > 2 * min(totals), "the case shows a wild step"
    assert totals[-1] < 1.2 * min(totals)


def test_style_over_tissue_does_not_stain_the_glass_more(style: Image, encoder: Encoder) -> None:
    """Half of the content is glass: a mean over all of it would have glass painted."""
    content = np.concatenate([tissue_like(40, 40, seed=3), np.full((40, 40, 3), 250, np.uint8)], axis=1)
    whole, tissue = (
        stylized(content, style, replace(QUICK, objective=objective, steps=(10,)), encoder=encoder)
        for objective in (SHALLOW, (SHALLOW[0], replace(SHALLOW[1], mask="tissue")))
    )
    changed = [np.abs(r.image[:, 56:].astype(int) - 250).mean() for r in (whole, tissue)]
    assert changed[1] < 0.5 * changed[0]
    assert tissue.final.terms["style"] < tissue.initial.terms["style"]


STAIN = Recipe((replace(SHALLOW[1], mask="tissue"),), space="stain", optimizer="adam", steps=(20,))


def test_stain_space_brings_the_style_and_keeps_the_hematoxylin(encoder: Encoder) -> None:
    he, ihc = drawn_pair()
    result = stylized(he, ihc, STAIN, encoder=encoder)
    assert result.final.terms["style"] < 0.9 * result.initial.terms["style"]
    before, after = (separate_stains(i, m)[..., 0] for i, m in ((he, H_E), (result.image, ihc_vectors(ihc))))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.8
    assert result.image[:, 104:].min() > 235, "glass stays glass"


BY_COMPARTMENT = replace(
    STAIN, objective=tuple(replace(SHALLOW[1], name=name, mask=name, weight=0.25) for name in COMPARTMENTS)
)


def test_tissue_that_the_exemplar_lacks_is_not_forced_to_its_share_of_brown(encoder: Encoder) -> None:
    """Stroma alone, in the style of a field that is mostly gland."""
    he, ihc = drawn_pair()
    style = measure_style([ihc], BY_COMPARTMENT, encoder)
    gland, stroma = (
        stylized(np.ascontiguousarray(he[:, part]), style, BY_COMPARTMENT, encoder=encoder)
        for part in (slice(0, 96), slice(74, 128))
    )
    assert gland.final.terms.keys() == set(COMPARTMENTS)
    assert stroma.final.terms.keys() < set(COMPARTMENTS)
    dab = [separate_stains(r.image, H_DAB)[..., 1] for r in (gland, stroma)]
    assert dab[1][:, :22].mean() < 0.3 * dab[0][:, :56].mean()


def test_where_no_compartment_can_be_compared_the_losses_stay_bounded(encoder: Encoder) -> None:
    """The style shows only brown tissue, of which the H&E has none: nothing is relative to nothing."""
    he, _ = drawn_pair(96)
    style = measure_style([tissue_like(64, 64, seed=1)], BY_COMPARTMENT, encoder)
    found = stylized(he, style, BY_COMPARTMENT, encoder=encoder)
    assert found.final.terms.keys() == {"brown nuclei", "brown"}
    assert found.final.terms == pytest.approx(found.initial.terms)
    assert max(found.final.terms.values()) < 1.01


def test_glass_alone_is_left_as_it_is(encoder: Encoder) -> None:
    style = measure_style([drawn_pair()[1]], BY_COMPARTMENT, encoder)
    found = stylized(np.full((64, 64, 3), 243, np.uint8), style, BY_COMPARTMENT, encoder=encoder)
    assert found.image.min() > 200
    assert np.ptp(found.image, axis=(0, 1)).max() <= 2


def stained_pair(width: int = 64) -> tuple[Image, Image]:
    """An H&E with glass at its right, and an IHC: nuclei of hematoxylin in eosin, or in DAB."""
    rng = np.random.default_rng(0)
    parts = np.zeros((64, width, 3))
    parts[..., 0] = 0.2 + (ndimage.gaussian_filter(rng.normal(size=(64, width)), 2) > 0.1)
    parts[..., 1] = 0.5
    ihc = combine_stains(parts + rng.random((64, width, 1)) * [0.1, 0.6, 0], H_DAB)
    parts[:, 48:] = 0
    return combine_stains(parts, H_E), ihc


def test_a_network_gives_the_same_stain_to_the_same_tissue(encoder: Encoder) -> None:
    """Two copies of a tile side by side are stained alike, but for the seam and the borders."""
    he, ihc = stained_pair()
    result = stylized(np.concatenate([he, he], axis=1), ihc, STAIN, encoder=encoder).image.astype(int)
    assert np.abs(result[24:40, 24:40] - result[24:40, 88:104]).mean() <= 4


def test_stain_space_is_repeatable_and_asks_for_what_it_can(encoder: Encoder) -> None:
    he, ihc = stained_pair()
    one, other = (stylized(he, ihc, replace(STAIN, steps=(3,)), encoder=encoder).image for _ in range(2))
    assert (one == other).all()
    for changes, words in (
        ({"optimizer": "lbfgs"}, "adam in the space stain"),
        ({"space": "rgb", "objective": (replace(SHALLOW[1], mask="brown"),)}, "no compartment of an IHC"),
        ({"space": "stane"}, "did you mean stain"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(STAIN, **changes)


def halves(image: Image, left: str = "A", right: str = "B") -> dict[str, NDArray[np.float32]]:
    mask = np.zeros(image.shape[:2], np.float32)
    mask[:, : image.shape[1] // 2] = 1
    return {left: mask, right: 1 - mask}


def test_every_region_takes_the_style_of_its_like(encoder: Encoder) -> None:
    """Crossed over, the brown goes to the other side."""
    he = np.tile(stained_pair()[0][:, :48], (1, 2, 1))
    parts = np.full((64, 96, 3), (0.3, 0, 0))
    parts[:, 48:] = (0.2, 1.5, 0)
    ihc = combine_stains(parts + np.random.default_rng(0).random((64, 96, 1)) * [0.1, 0.1, 0], H_DAB)
    recipe = guided_recipe(replace(QUICK, objective=STAIN.objective, steps=(15,)), ["A", "B"])
    straight, crossed = (
        stylized(he, measure_style([ihc], recipe, encoder, guides=g), recipe, encoder=encoder, guides=halves(he))
        for g in (halves(ihc), halves(ihc, "B", "A"))
    )
    for result, sign in ((straight, 1), (crossed, -1)):
        dab = separate_stains(result.image, H_DAB)[..., 1]
        assert sign * (dab[:, 56:].mean() - dab[:, :40].mean()) > 0.2


def test_guides_that_do_not_fit_are_refused(encoder: Encoder) -> None:
    he, ihc = stained_pair()
    recipe = guided_recipe(STAIN, ["A", "B"])
    style = measure_style([ihc], recipe, encoder, guides=halves(ihc))
    empty = halves(he) | {"A": np.zeros(he.shape[:2], np.float32)}
    for guides, words in (
        ({}, "the regions A, B, got none"),
        (halves(he[:32]), "as large as the image, 64 x 64 px, got 64 x 32 px"),
        (empty, "nothing under A"),
    ):
        with pytest.raises(ValueError, match=words):
            stylized(he, style, recipe, encoder=encoder, guides=guides)
    with pytest.raises(ValueError, match="one image where regions are drawn"):
        measure_style([ihc, ihc], recipe, encoder, guides=halves(ihc))
    with pytest.raises(ValueError, match="the regions none, got A, B"):
        stylized(he, ihc, STAIN, encoder=encoder, guides=halves(he))


def test_stain_space_goes_from_coarse_to_fine(encoder: Encoder) -> None:
    he, ihc = drawn_pair()
    recipe = replace(STAIN, scales=(0.5, 1.0), steps=(30, 1))
    both = stylized(he, ihc, recipe, encoder=encoder)
    fine = stylized(he, ihc, replace(recipe, steps=(0, 1)), encoder=encoder)
    assert both.final.terms["style"] < 0.95 * fine.final.terms["style"]


def test_twice_the_dab_is_twice_the_dab(encoder: Encoder) -> None:
    he, ihc = drawn_pair()
    style = measure_style([ihc], STAIN, encoder)
    one, two = (
        stylized(he, style, replace(STAIN, steps=(5,), dab_amount=amount), encoder=encoder).image
        for amount in (1.0, 2.0)
    )
    dab = [separate_stains(image, np.array(style.exemplar.matrix))[:, :56, 1].mean() for image in (one, two)]
    assert dab[1] == pytest.approx(2 * dab[0], rel=0.1)


@pytest.mark.parametrize(
    "term",
    [
        hematoxylin_term(1.0),
        Term("edges", 1.0, {"image": 1.0}, "laplacian", "mse", "content"),
        Term("likeness", 1.0, {"relu2_1": 1.0}, "self_similarity", "mse", "content"),
        Term("content", 1.0, {"relu2_2": 1.0}, "activations", "mse", "hematoxylin"),
    ],
)
def test_a_term_that_holds_the_tissue_is_lower_with_more_weight(term: Term, encoder: Encoder) -> None:
    he, ihc = stained_pair()
    loose, tight = (
        stylized(
            he,
            ihc,
            replace(QUICK, objective=(*STAIN.objective, replace(term, weight=weight)), steps=(15,)),
            encoder=encoder,
        ).final.terms[term.name]
        for weight in (1e-6, 10.0)
    )
    assert tight < 0.9 * loose


FLOOR = replace(STAIN, stop_at_floor=True)


def test_the_floor_is_the_distance_of_halves_or_of_images(encoder: Encoder) -> None:
    _, ihc = stained_pair()
    alone = measure_style([ihc], FLOOR, encoder).floors[1.0]
    assert 0 < alone < 0.2
    same = measure_style([ihc, ihc], FLOOR, encoder).floors[1.0]
    assert same == pytest.approx(0, abs=1e-6)
    other = tissue_like(64, 64, seed=9)
    apart = measure_style([ihc, other], FLOOR, encoder)
    ours, theirs = (measure_style([image], STAIN, encoder).references[1.0] for image in (ihc, other))
    wanted = [error(ours, theirs), error(theirs, ours)]
    assert apart.floors[1.0] == pytest.approx(sum(wanted) / 2, rel=1e-4)


def error(ours: References, theirs: References) -> float:
    """The relative Gram error, by hand."""
    pairs = [(ours["style", n].measured, theirs["style", n].measured) for n in STAIN.objective[0].layers]
    return float(np.mean([(a - b).square().sum() / b.square().sum() for a, b in pairs]))


def test_a_scale_ends_at_the_floor(encoder: Encoder) -> None:
    he, ihc = stained_pair()
    style = measure_style([ihc], FLOOR, encoder)
    free = stylized(he, replace(style, floors={}), FLOOR, encoder=encoder)
    errors = [step.losses.terms["style"] for step in free.trace]
    floor = errors[10]
    held = stylized(he, replace(style, floors={1.0: floor}), FLOOR, encoder=encoder)
    assert len(free.trace) == 20
    assert len(held.trace) == next(i for i, e in enumerate(errors, 1) if i > 10 and e <= floor)
