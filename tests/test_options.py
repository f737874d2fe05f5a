import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.app.arguments import byte_count
from chromogen.style.objective import LAYERS
from chromogen.style.recipes import PRESETS, build_recipe, grid_recipes, numbers, parse_layers, preset, style_terms


@given(st.lists(st.tuples(st.sampled_from(LAYERS), st.floats(0, 1e6)), min_size=1, unique_by=lambda x: x[0]))
def test_layers_with_weights_come_back(layers: list[tuple[str, float]]) -> None:
    assert parse_layers("layers", ",".join(f"{n}={w!r}" for n, w in layers)) == dict(layers)


@given(st.lists(st.sampled_from(LAYERS), min_size=1, unique=True))
def test_layers_without_weights_share_one(layers: list[str]) -> None:
    parsed = parse_layers("layers", " , ".join(layers))
    assert list(parsed) == layers
    assert sum(parsed.values()) == pytest.approx(1)


@given(st.text())
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        parsed = parse_layers("layers", text)
    except ValueError:
        return
    assert set(parsed) <= set(LAYERS)


@pytest.mark.parametrize(("text", "message"), [("relu1_1=x", "to be numbers"), ("relu1_1,conv9", "did you mean")])
def test_layers_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_layers("style_layers", text)


def test_numbers() -> None:
    assert numbers("steps", "4,5", int) == (4, 5)
    assert numbers("scales", "0.5,1", float) == (0.5, 1.0)
    with pytest.raises(ValueError, match="`steps` to be whole numbers with commas between, got 4.5"):
        numbers("steps", "4.5", int)


def test_nothing_given_is_the_preset() -> None:
    assert build_recipe("best", {"seed": None, "steps": None}) == PRESETS["best"]


def test_single_fields_override_a_preset() -> None:
    recipe = build_recipe("paper", {"seed": 4, "steps": (7,)}, ["init=noise", "content.weight=0.5"])
    assert (recipe.init, recipe.seed, recipe.steps, recipe.objective[0].weight) == ("noise", 4, (7,), 0.5)
    assert recipe.objective[1] == PRESETS["paper"].objective[1]


def test_style_settings_change_all_style_terms_together() -> None:
    recipe = build_recipe("histology", {}, ["style.weight=3", "style.layers=relu1_1,relu2_1=2"])
    assert sum(term.weight for term in style_terms(recipe)) == pytest.approx(3)
    assert {tuple(term.layers.items()) for term in style_terms(recipe)} == {(("relu1_1", 0.5), ("relu2_1", 2.0))}


def test_the_space_and_the_scales_come_first_whatever_the_order() -> None:
    recipe = build_recipe("best", {}, ["steps=3,4", "scales=0.25,1", "optimizer=adam", "space=stain"])
    assert (recipe.space, recipe.optimizer, recipe.scales, recipe.steps) == ("stain", "adam", (0.25, 1.0), (3, 4))


def test_one_number_of_steps_is_shared_among_the_scales() -> None:
    recipe = build_recipe("best", {"steps": (30,)})
    assert recipe.steps == (15, 15)


def test_several_numbers_of_steps_are_one_a_scale() -> None:
    assert build_recipe("best", {"steps": (3, 2)}).steps == (3, 2)
    with pytest.raises(ValueError, match="2 numbers of at least 0"):
        build_recipe("best", {"steps": (3, 2, 1)})


def test_new_scales_share_the_presets_steps() -> None:
    recipe = build_recipe("paper", {}, ["scales=0.25,0.5,1"])
    assert len(recipe.steps) == 3
    assert sum(recipe.steps) == sum(PRESETS["paper"].steps)
    assert build_recipe("paper", {"steps": (4, 5)}, ["scales=0.5,1"]).steps == (4, 5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["seed"], "FIELD=VALUE"),
        (["seed="], "FIELD=VALUE"),
        (["sed=1"], "did you mean seed"),
        (["seed=1", "seed=2"], "each field once, got seed twice"),
        (["content.wait=1"], "did you mean weight"),
        (["scales=1,0.5"], "rising fractions"),
        (["space=stane"], "did you mean stain"),
    ],
)
def test_a_wrong_setting_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_recipe("paper", {}, settings)


def test_a_grid_changes_fields_of_recipes_and_terms() -> None:
    base = preset("paper")
    texts = ["content.layers=relu2_2,relu3_1+relu4_1=2", "steps=9", "optimizer=adam", "plateau=0.1"]
    first, second = grid_recipes(base, texts).values()
    assert dict(first.objective[0].layers) == {"relu2_2": 1.0}
    assert dict(second.objective[0].layers) == {"relu3_1": 0.5, "relu4_1": 2.0}
    assert (second.steps, second.optimizer, second.plateau) == ((9,), "adam", 0.1)
    (scaled,) = grid_recipes(base, ["scales=0.5+1", "steps=3+4"]).values()
    assert (scaled.scales, scaled.steps) == ((0.5, 1.0), (3, 4))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed", "FIELD=VALUE"),
        ("seed=", "FIELD=VALUE"),
        ("sed=1", "did you mean seed"),
        ("content.wait=1", "did you mean weight"),
        ("contend.weight=1", "did you mean content"),
        ("seed=x", "whole numbers"),
        ("init=nois", "did you mean noise"),
    ],
)
def test_a_grid_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grid_recipes(preset("paper"), [text])


def test_a_field_comes_once() -> None:
    with pytest.raises(ValueError, match="each field once"):
        grid_recipes(preset("paper"), ["seed=1", "seed=2"])


@pytest.mark.parametrize(
    ("text", "count"), [("2G", 2 * 10**9), ("1.5 GB", 1_500_000_000), ("500m", 5 * 10**8), ("1000", 1000)]
)
def test_byte_counts(text: str, count: int) -> None:
    assert byte_count("max_memory", text) == count


@pytest.mark.parametrize("text", ["", "G", "2X", "-", "two", "1.2.3G"])
def test_what_is_no_byte_count(text: str) -> None:
    with pytest.raises(ValueError, match="`max_memory` to be a number of bytes like 2G or 500M"):
        byte_count("max_memory", text)
