"""Between text and a recipe: settings like `content.weight=0.5`, and sweeps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

from chromogen.errors import choose, expected, repeated
from chromogen.style.objective import Term, check_layers
from chromogen.style.recipes import Recipe, in_space, preset, with_style, with_term, with_total_steps

DEFAULT_PRESET = "histology"


def numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Numbers from text with commas between. Raises: ValueError, which names the option."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise expected(option, f"{wanted} with commas between", text) from None


def parse_layers(option: str, text: str) -> dict[str, float]:
    """Layers from text: names with commas between, each with `=weight` or sharing 1 equally. Raises: ValueError.

    >>> parse_layers("style_layers", "relu1_1,relu2_1")
    {'relu1_1': 0.5, 'relu2_1': 0.5}
    >>> parse_layers("content_layer", "relu2_2=1,relu4_2=0.25")
    {'relu2_2': 1.0, 'relu4_2': 0.25}
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    split = [part.partition("=") for part in parts]
    check_layers([name for name, _, _ in split])
    return {
        name: numbers(option, weight, float)[0] if equals else 1 / len(parts) for name, equals, weight in split
    }


def build_recipe(preset_name: str, fields: Mapping[str, Any], settings: Sequence[str] = ()) -> Recipe:
    """A preset with fields replaced (None keeps), and with settings like `content.weight=0.5` or `init=noise`.

    A field named `steps` comes last: one number is shared among the scales. Raises: ValueError.

    >>> build_recipe("paper", {"steps": (50,)}, ["init=noise", "scales=0.5,1"]).steps
    (25, 25)
    """
    recipe = preset(preset_name)
    chosen = [_setting(text) for text in settings]
    if twice := repeated([field for field, _ in chosen]):
        raise expected("set", "each field once", f"{twice} twice")
    for field, text in sorted(chosen, key=lambda setting: _ORDER.get(setting[0], len(_ORDER))):
        recipe = _with_field(recipe, field, text)
    recipe = replace(
        recipe, **{name: value for name, value in fields.items() if value is not None and name != "steps"}
    )
    steps = fields.get("steps")
    if not steps:
        return recipe
    return with_total_steps(recipe, steps[0]) if len(steps) == 1 else replace(recipe, steps=steps)


_ORDER = {"space": 0, "scales": 1}  # what decides which other settings can be, first


def _setting(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise expected("set", "FIELD=VALUE", text, "as in content.weight=0.5")
    return field.strip(), value.strip()


def grid_recipes(base: Recipe, texts: Sequence[str]) -> dict[str, Recipe]:
    """Every combination of the values in texts like `content.weight=1e-4,1e-3`, by name: a sweep of recipes.

    A field is one of a recipe or of a term of its objective; inside a value `+` joins layers, scales and steps.
    Raises: ValueError for a field that is none, or is there twice.

    >>> base = preset("paper")
    >>> list(grid_recipes(base, ["init=content,noise", "content.layers=relu2_2"]))
    ['init=content,content.layers=relu2_2', 'init=noise,content.layers=relu2_2']
    """
    axes = [_axis(text) for text in texts]
    names = [field for field, _ in axes]
    if twice := repeated(names):
        raise expected("grid", "each field once", f"{twice} twice", "join its values with commas")
    recipes = {}
    for values in product(*(values for _, values in axes)):
        chosen = dict(zip(names, values, strict=True))
        recipe = base
        for field, text in chosen.items():
            recipe = _with_field(recipe, field, text)
        recipes[",".join(f"{field}={text}" for field, text in chosen.items())] = recipe
    return recipes


def _axis(text: str) -> tuple[str, list[str]]:
    field, equals, values = text.partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not found:
        raise expected("grid", "FIELD=VALUE,VALUE...", text, "as in content.weight=1e-4,1e-3")
    return field.strip(), list(dict.fromkeys(found))


def _with_field(recipe: Recipe, field: str, text: str) -> Recipe:
    term, dot, part = field.partition(".")
    if dot:
        choose(f"a field of {term}", part, ("weight", "layers", "distance", "mask"))
        value = _value(field, text, *(f for f in fields(Term) if f.name == part))
        return with_style(recipe, **{part: value}) if term == "style" else with_term(recipe, term, **{part: value})
    options = {f.name: f for f in fields(Recipe) if f.name != "objective"}
    value = _value(field, text, options[choose("a field of the recipe", field, options)])
    if field == "space":
        return in_space(recipe, value)
    if field == "steps" and len(value) == 1:
        return with_total_steps(recipe, value[0])
    if field == "scales":
        return with_total_steps(replace(recipe, scales=value, steps=(1,) * len(value)), sum(recipe.steps))
    return replace(recipe, **{field: value})


def _value(field: str, text: str, described: Any) -> Any:
    """Text as what the field holds, by its annotation."""
    match described.type:
        case "int":
            return numbers(field, text, int)[0]
        case "float":
            return numbers(field, text, float)[0]
        case "tuple[int, ...]":
            return numbers(field, text.replace("+", ","), int)
        case "tuple[float, ...]":
            return numbers(field, text.replace("+", ","), float)
        case "Mapping[str, float]":
            return parse_layers(field, text.replace("+", ","))
    return text
