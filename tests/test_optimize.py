"""Every scale ends with the best picture it saw, whatever the last step did, and however the run went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.compute.tiles import whole
from chromogen.image import Image, to_uint8
from chromogen.style import optimize as module
from chromogen.style.canvas import Canvas, PixelCanvas
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.descent import Adam
from chromogen.style.encoder import Encoder, Weights
from chromogen.style.measured_style import measure_style
from chromogen.style.optimize import Optimization
from chromogen.style.recipes import Recipe, content_term, style_term, tv_term
from chromogen.style.stylize import CanvasOf, Outset, Step, Stylized, canvas_of_recipe, stylized
from synthetic import drawn_pair, tissue_like

HE, IHC = tissue_like(48, 40, seed=3), tissue_like(48, 40, seed=4)[..., ::-1].copy()
DRAWN = drawn_pair(48)  # stain space starts from nuclei and DAB, which the others do not show
STYLE = style_term(layers=("relu1_1", "relu2_1"))
RGB = Recipe((content_term("relu2_2", 0.5), STYLE), steps=(5,))
STAIN = replace(RGB, objective=(STYLE,), space="stain", optimizer="adam")
RECIPES = {
    "lbfgs": RGB,
    "adam": replace(RGB, optimizer="adam"),
    "network": STAIN,
}


def pictures_for(recipe: Recipe) -> tuple[Image, Image]:
    """An H&E and an IHC that the recipe's space can work with."""
    return DRAWN if recipe.space == "stain" else (HE, IHC)


def spoiled(at: int, scale: int = 0, amount: float = -3.0) -> CanvasOf:
    """Canvases as the recipe wants them; at one scale the update of one step goes astray.

    A network's weights are made negative: positive ones add stain, which may be better.
    """
    canvases: list[Canvas] = []

    def canvas_of(outset: Outset) -> Canvas:
        canvas = canvas_of_recipe(outset)
        canvases.append(canvas)
        if len(canvases) - 1 != scale:
            return canvas
        project, steps = canvas.project, iter(range(1, 1000))

        def astray() -> None:
            project()
            if next(steps) == at:
                with torch.no_grad():
                    for parameter in canvas.parameters:
                        noise = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1))
                        parameter.copy_(noise if isinstance(canvas, PixelCanvas) else amount * noise)

        canvas.project = astray  # type: ignore[method-assign]
        return canvas

    return canvas_of


def watched(
    recipe: Recipe, encoder: Encoder, canvas_of: CanvasOf, **given: object
) -> tuple[Stylized, list[Image]]:
    """The result, and the picture after every step."""
    pictures: list[Image] = []

    def look(_step: Step, picture: Callable[[], Image]) -> None:
        pictures.append(picture())

    pair = pictures_for(recipe)
    result = stylized(*pair, recipe, encoder=encoder, canvas_of=canvas_of, on_step=look, **given)  # type: ignore[arg-type]
    return result, pictures


def totals_of(result: Stylized) -> list[float]:
    return [step.losses.total for step in result.trace]


@pytest.mark.parametrize("tile_px", [None, 32])
@pytest.mark.parametrize("name", RECIPES)
def test_a_last_update_that_goes_astray_is_taken_back(name: str, tile_px: int | None, encoder: Encoder) -> None:
    result, pictures = watched(RECIPES[name], encoder, spoiled(at=5), tile_px=tile_px)
    totals = totals_of(result)
    assert len(totals) == 5
    best = totals.index(min(totals))
    assert best > 0
    assert np.array_equal(result.image, pictures[best - 1]), (
        "what was looked at in a step is what the last one left"
    )
    assert result.final.total == pytest.approx(min(totals), rel=0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_a_good_last_update_is_kept(name: str, encoder: Encoder) -> None:
    result, pictures = watched(RECIPES[name], encoder, canvas_of_recipe)
    assert result.final.total < min(totals_of(result))
    assert np.array_equal(result.image, pictures[-1])


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 12])
def test_no_number_of_steps_ends_above_the_lowest_loss(steps: int, encoder: Encoder) -> None:
    """A heavy term with a kink misleads L-BFGS, ever and again."""
    wild = replace(RGB, objective=(*RGB.objective, tv_term(30.0)), steps=(steps,))
    result = stylized(HE, IHC, wild, encoder=encoder)
    assert result.final.total <= 1.01 * min(*totals_of(result), result.initial.total)


def test_of_one_step_that_went_astray_the_start_is_left(encoder: Encoder) -> None:
    result = stylized(HE, IHC, replace(RGB, steps=(1,)), encoder=encoder, canvas_of=spoiled(at=1))
    assert np.array_equal(result.image, HE)
    assert result.final == result.initial


def test_a_coarse_scale_hands_on_its_best_picture(encoder: Encoder) -> None:
    """With its fifth update astray, as if there had been four."""
    five, four = (replace(RGB, scales=(0.5, 1.0), steps=(steps, 3)) for steps in (5, 4))
    disturbed = stylized(HE, IHC, five, encoder=encoder, canvas_of=spoiled(at=5))
    straight = stylized(HE, IHC, four, encoder=encoder)
    assert totals_of(disturbed)[5:] == totals_of(straight)[4:]
    assert np.array_equal(disturbed.image, straight.image)


@pytest.mark.parametrize("ends", ["plateau", "floor"])
def test_a_scale_that_ends_early_ends_with_its_best_picture(ends: str, encoder: Encoder) -> None:
    recipe = replace(RGB, steps=(40,), plateau=0.6 if ends == "plateau" else 0.0)
    style = replace(measure_style([IHC], recipe, encoder), floors={1.0: 1e9} if ends == "floor" else {})
    straight = stylized(HE, style, recipe, encoder=encoder)
    taken = len(straight.trace)
    assert 10 < taken < 40
    disturbed = stylized(HE, style, recipe, encoder=encoder, canvas_of=spoiled(at=taken))
    assert totals_of(disturbed) == totals_of(straight)
    assert disturbed.final.total == pytest.approx(min(totals_of(straight)), rel=0.02)


def test_the_judgement_of_a_scale_is_one_look_without_a_gradient(encoder: Encoder) -> None:
    looks: list[bool] = []

    class Counting(Encoder):
        def with_grams(self, image, *given):  # type: ignore[no-untyped-def]
            looks.append(image.requires_grad)
            return super().with_grams(image, *given)

    counting = Counting(encoder.weights, precision="fp32")
    stylized(HE, measure_style([IHC], RGB, encoder), RGB, encoder=counting)
    assert looks == [False, False] + 5 * [True] + [False, False], (
        "content, start; steps; the last update, the result"
    )


def test_a_run_interrupted_while_its_last_update_is_judged_goes_on(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_given: object) -> None:
        raise KeyboardInterrupt

    def run(*, resume: bool) -> Stylized:
        kept = Checkpoint(tmp_path / "checkpoint", {}, resume=resume, every_s=0.0)
        return stylized(HE, IHC, RGB, encoder=encoder, checkpoint=kept, canvas_of=spoiled(at=0 if resume else 5))

    whole = stylized(HE, IHC, RGB, encoder=encoder, canvas_of=spoiled(at=5))
    with monkeypatch.context() as patch:
        patch.setattr(Optimization, "end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(resume=False)
    resumed = run(resume=True)
    assert np.array_equal(resumed.image, whole.image)
    assert (totals_of(resumed), resumed.final) == (totals_of(whole), whole.final)


# --- restarts ---


def test_a_restart_does_not_end_a_scale_by_its_plateau(encoder: Encoder) -> None:
    """The loss of a step that went astray, and of those before it, say nothing of how fast it goes now."""
    recipe = replace(RGB, steps=(40,), plateau=0.2)
    straight = stylized(HE, IHC, recipe, encoder=encoder)
    at = 11
    assert len(straight.trace) > at
    disturbed = totals_of(stylized(HE, IHC, recipe, encoder=encoder, canvas_of=spoiled(at=at)))
    assert disturbed[at] > module.WILD * disturbed[at - 1], "the step went astray"
    assert disturbed[at + 1] == pytest.approx(disturbed[at - 1], rel=1e-5)
    assert len(disturbed) > at + 1 + module.PLATEAU_STEPS


def test_a_scale_that_has_converged_since_a_restart_ends() -> None:
    optimization = Optimization(PixelCanvas(torch.rand(1, 3, 4, 4)), RGB, 60)
    for total in (9.0, 5.0, 4.0, 20.0):
        optimization.remember(total, [torch.full((1, 3, 4, 4), total)])
    assert (optimization.since_restart, optimization.lowest) == ([], 4.0)
    assert torch.equal(optimization.canvas.parameters[0], torch.full((1, 3, 4, 4), 4.0))
    for step in range(module.PLATEAU_STEPS + 1):
        assert not module._has_converged(optimization.since_restart, 0.01), step
        optimization.remember(4.0, [torch.zeros(1)])
    assert module._has_converged(optimization.since_restart, 0.01)


def test_the_rate_after_a_restart_is_planned_for_the_steps_that_are_left() -> None:
    canvas = PixelCanvas(torch.rand(1, 3, 4, 4))
    canvas.one_cycle = True  # type: ignore[misc]
    optimization = Optimization(canvas, replace(RGB, optimizer="adam"), 20)
    for total in (4.0, 3.0, 20.0):
        optimization.remember(total, [torch.zeros(1, 3, 4, 4)])
    assert isinstance(optimization.optimizer, Adam)
    assert (optimization.optimizer.taken, optimization.optimizer.steps) == (0, 20 - 3)


def test_a_loss_that_is_not_finite_in_fp32_is_a_wild_step(encoder: Encoder) -> None:
    """There is a best picture to go back to: hours of work are not thrown away."""
    evaluations: list[int] = []

    class Once(Encoder):
        def with_grams(self, image, *given):  # type: ignore[no-untyped-def]
            found = super().with_grams(image, *given)
            if image.requires_grad:
                evaluations.append(1)
                if len(evaluations) == 4:
                    return tuple({name: f * float("nan") for name, f in part.items()} for part in found)
            return found

    result = stylized(HE, IHC, RGB, encoder=Once(encoder.weights, precision="fp32"))
    assert [step.index for step in result.trace] == [1, 2, 3, 4, 5]
    assert np.isfinite(totals_of(result)).all()
    assert result.final.total <= min(totals_of(result))


# --- from bf16 to fp32 ---


class Failing(Encoder):
    """Gives no finite loss in bf16 once `done` steps are behind."""

    done, fails_after = 0, 0

    def with_grams(self, image, *given):  # type: ignore[no-untyped-def]
        found = super().with_grams(image, *given)
        if self.precision == "bf16" and image.requires_grad and self.done >= self.fails_after:
            return tuple({name: f * float("nan") for name, f in part.items()} for part in found)
        return found


class KilledError(Exception):
    """A run that ends in the middle of a step."""


TWO_SCALES = {name: replace(recipe, scales=(0.5, 1.0), steps=(4, 5)) for name, recipe in RECIPES.items()}


def failing_run(
    recipe: Recipe,
    weights: Weights,
    fails_after: int,
    *,
    file: Path | None = None,
    killed_in: int = 0,
    done: int = 0,
) -> tuple[Stylized | None, list[Step]]:
    """A run whose bf16 fails after so many steps (None where it was killed), and the steps that were reported."""
    encoder, told = Failing(weights, precision="bf16"), list[Step]()
    encoder.done, encoder.fails_after = done, fails_after

    def listen(step: Step, _picture: object) -> None:
        if step.index == killed_in:
            raise KilledError
        encoder.done = step.index
        told.append(step)

    checkpoint = Checkpoint(file, {}, resume=done > 0, every_s=0.0) if file else None
    try:
        pair = pictures_for(recipe)
        result = stylized(*pair, recipe, encoder=encoder, on_step=listen, checkpoint=checkpoint)
    except KilledError:
        return None, told
    return result, told


@pytest.mark.filterwarnings("ignore:The loss was not finite in bf16")
@pytest.mark.parametrize("fails_after", [0, 3, 4, 6])
@pytest.mark.parametrize("name", ["lbfgs", "network"])
def test_after_a_fall_back_steps_are_counted_as_in_any_run(
    name: str, fails_after: int, weights: Weights, bf16: str
) -> None:
    recipe = TWO_SCALES[name]
    result, told = failing_run(recipe, weights, fails_after)
    straight = stylized(*pictures_for(recipe), recipe, encoder=Encoder(weights, precision=bf16))
    assert result is not None
    for steps in (told, result.trace):
        assert [(s.index, s.of, s.scale, s.size) for s in steps] == [
            (s.index, s.of, s.scale, s.size) for s in straight.trace
        ]
    assert [s.losses for s in told[:fails_after]] == [s.losses for s in straight.trace[:fails_after]]
    assert [s.seconds for s in told] == sorted(s.seconds for s in told)
    assert result.precision == "fp32"
    last = [step.losses.total for step in told if step.scale == 1]
    assert result.final.total <= 1.02 * min(last)


@pytest.mark.parametrize("name", ["lbfgs", "network"])
def test_a_run_that_fails_at_once_is_one_in_fp32(name: str, weights: Weights, encoder: Encoder, bf16: str) -> None:
    """Also what a network sees of the tissue is in fp32 then."""
    with pytest.warns(UserWarning, match=f"not finite in {bf16}; going on in fp32"):
        result, told = failing_run(RECIPES[name], weights, 0)
    straight = stylized(*pictures_for(RECIPES[name]), RECIPES[name], encoder=encoder)
    assert result is not None
    assert [step.losses for step in told] == [step.losses for step in straight.trace]
    assert np.array_equal(result.image, straight.image)
    assert result.final == straight.final


@pytest.mark.filterwarnings("ignore:The loss was not finite in bf16")
@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize(("fails_after", "killed_in"), [(2, 4), (2, 7), (6, 6)])
@pytest.mark.parametrize("name", ["lbfgs", "network"])
def test_a_killed_run_goes_on_as_it_would_have_before_and_after_a_fall_back(
    name: str, fails_after: int, killed_in: int, weights: Weights, tmp_path: Path
) -> None:
    recipe, file = TWO_SCALES[name], tmp_path / "checkpoint"
    whole, _ = failing_run(recipe, weights, fails_after)
    killed, before = failing_run(recipe, weights, fails_after, file=file, killed_in=killed_in)
    assert killed is None
    resumed, after = failing_run(recipe, weights, fails_after, file=file, done=killed_in - 1)
    assert whole is not None
    assert resumed is not None
    assert [step.index for step in before + after] == list(range(1, 10))
    assert totals_of(resumed) == totals_of(whole)
    assert np.array_equal(resumed.image, whole.image)
    assert (resumed.initial, resumed.final, resumed.precision) == (whole.initial, whole.final, whole.precision)


def test_pictures_of_the_best_are_what_their_loss_was_of() -> None:
    canvas = PixelCanvas(torch.zeros(1, 3, 2, 2))
    optimization = Optimization(canvas, RGB, 3)
    for total, value in ((3.0, 0.1), (1.0, 0.4), (1.5, 0.7)):
        optimization.remember(total, [torch.full((1, 3, 2, 2), value)])
    for total in (1.0, 1.2, float("nan"), float("inf")):
        with torch.no_grad():
            canvas.x.fill_(0.9)
        optimization.end(total)
        assert (to_uint8(canvas.picture(whole((2, 2)))) == 102).all(), total
    with torch.no_grad():
        canvas.x.fill_(0.9)
    optimization.end(0.99)
    assert (to_uint8(canvas.picture(whole((2, 2)))) > 200).all()
