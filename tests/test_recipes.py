import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.style.recipes import (
    PRESETS,
    Recipe,
    as_record,
    content_term,
    from_record,
    guided_recipe,
    in_space,
    preset,
    style_term,
    style_terms,
    with_style,
    with_term,
    with_total_steps,
)


def test_the_paper_preset_is_the_reports_best_setting() -> None:
    paper = preset("paper")
    content, style = paper.objective
    assert (paper.loss_scale, paper.init, paper.scales, paper.optimizer) == ("paper", "content", (1.0,), "lbfgs")
    assert (content.layers, content.distance) == ({"relu2_2": 1.0}, "mse")
    assert content.weight / style.weight == pytest.approx(1e-3)
    assert style.layers == dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), 0.2)


def test_an_unknown_preset_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean balanced"):
        preset("balancd")


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_survives_its_record(name: str) -> None:
    assert from_record(json.loads(json.dumps(as_record(PRESETS[name])))) == PRESETS[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_scale": "rel"}, "did you mean relative"),
        ({"init": "white"}, "`init` to be one of content, color, style, noise"),
        ({"optimizer": "sgd"}, "one of lbfgs, adam"),
        ({"scales": ()}, "rising fractions"),
        ({"scales": (1.0, 0.5)}, "rising fractions"),
        ({"scales": (0.5,)}, "end in 1"),
        ({"scales": (0.0, 1.0), "steps": (1, 1)}, "rising fractions"),
        ({"steps": (1, 2)}, "1 numbers of at least 0"),
        ({"steps": (0,)}, "1 numbers of at least 0"),
        ({"plateau": 1.0}, "less than 1"),
        ({"plateau": -0.1}, "at least 0"),
        ({"seed": -1}, "a whole number of at least 0"),
        ({"objective": (content_term(),)}, "at least one style term"),
        ({"objective": (style_term(weight=0.0),)}, "raise style_weight"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Recipe((style_term(),)), **changes)


def test_with_term_changes_one_field_of_one_term() -> None:
    changed = with_term(PRESETS["paper"], "content", weight=2.0)
    assert changed.objective == (content_term(weight=2.0), style_term())
    assert PRESETS["paper"].objective[0].weight == 1e-3


def test_with_term_adds_total_variation_where_it_is_missing() -> None:
    once = with_term(PRESETS["paper"], "tv", weight=0.5)
    assert [term.name for term in once.objective] == ["content", "style", "tv"]
    assert len(with_term(once, "tv", weight=0.1).objective) == 3


def test_with_term_knows_its_terms() -> None:
    with pytest.raises(ValueError, match="did you mean style"):
        with_term(PRESETS["paper"], "styl", weight=1.0)


@given(st.integers(1, 10_000), st.sampled_from(list(PRESETS.values())))
def test_total_steps_are_shared_and_none_is_lost(total: int, recipe: Recipe) -> None:
    shared = with_total_steps(recipe, total)
    assert sum(shared.steps) == total
    assert len(shared.steps) == len(recipe.scales)


def test_total_steps_must_be_some() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        with_total_steps(PRESETS["paper"], 0)


def test_content_in_stain_space_is_the_hematoxylins() -> None:
    added = with_term(PRESETS["histology"], "content", weight=0.1).objective[-1]
    assert (added.name, added.reference, added.weight) == ("content", "hematoxylin", 0.1)
    assert with_term(PRESETS["paper"], "content", weight=0.1).objective[0].reference == "content"


def test_style_terms_are_weighed_together() -> None:
    changed = with_style(PRESETS["histology"], weight=3.0, layers={"relu1_1": 1.0})
    assert [term.weight for term in style_terms(changed)] == [0.75] * 4
    assert {tuple(term.layers) for term in style_terms(changed)} == {("relu1_1",)}
    kept = with_style(PRESETS["histology"], layers={"relu1_1": 1.0})
    assert [term.weight for term in style_terms(kept)] == [0.25] * 4


def test_regions_take_the_place_of_compartments_and_weigh_as_much() -> None:
    recipe = guided_recipe(PRESETS["histology"], ["A", "B"])
    assert [(term.mask, term.weight) for term in style_terms(recipe)] == [("guide:A", 0.5), ("guide:B", 0.5)]
    assert recipe.objective[2:] == ()
    assert from_record(json.loads(json.dumps(as_record(recipe)))) == recipe
    with pytest.raises(ValueError, match="at least one region"):
        guided_recipe(PRESETS["histology"], [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "nuclaer"}, "did you mean nuclear"),
        ({"dab_amount": -1.0}, "at least 0"),
        ({"share": 1.5}, "0 to 1, got 1.5"),
        ({"dab_amount": float("nan")}, "at least 0"),
        ({"site": "membrane"}, "auto, nuclear, cytoplasm"),
        ({"site": "nuclear", "space": "rgb"}, "choose the space stain"),
        ({"space": "rgb"}, "no compartment of an IHC in the space rgb"),
        ({"optimizer": "lbfgs"}, "adam in the space stain"),
    ],
)
def test_sites_and_amounts_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["histology"], **changes)


def test_a_recipe_in_the_other_space_has_what_can_be_there() -> None:
    free = in_space(replace(PRESETS["histology"], site="nuclear", dab_amount=2.0), "rgb")
    assert [(term.name, term.mask, term.weight) for term in free.objective] == [("style", "tissue", 1.0)]
    assert (free.site, free.dab_amount) == ("auto", 1.0)
    stained = in_space(PRESETS["fast"], "stain")
    assert (stained.space, stained.optimizer, stained.objective) == ("stain", "adam", PRESETS["fast"].objective)
    assert in_space(stained, "stain") is stained
    with pytest.raises(ValueError, match="did you mean stain"):
        in_space(stained, "stane")
