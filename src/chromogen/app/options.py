"""Between text on the command line and a recipe: parsing, overriding, and what help says of defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chromogen.errors import expected
from chromogen.style.layers import check_layers
from chromogen.style.recipes import PRESETS, Recipe, preset, with_term, with_total_steps

DEFAULT_PRESET = "default"


def from_preset(value: Callable[[Recipe], object]) -> str:
    """What help says of an option whose default is the preset's."""
    values = {name: value(recipe) for name, recipe in PRESETS.items()}
    if len(set(map(str, values.values()))) == 1:
        return f"Default: {values[DEFAULT_PRESET]}."
    return "Default, by preset: " + ", ".join(f"{name} {v}" for name, v in values.items()) + "."


def term_value(name: str, field: str) -> Callable[[Recipe], object]:
    """The field of a term in a recipe, as help shows it."""

    def value(recipe: Recipe) -> object:
        found = next(getattr(term, field) for term in recipe.objective if term.name == name)
        return ",".join(found) if isinstance(found, Mapping) else found

    return value


def numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Numbers from text with commas between."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise expected(option, f"{wanted} with commas between", text) from None


def parse_layers(option: str, text: str) -> dict[str, float]:
    """Layers from text: names with commas between, each with `=weight` or sharing 1 equally.

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


def build_recipe(preset_name: str, fields: Mapping[str, Any], terms: Mapping[tuple[str, str], Any]) -> Recipe:
    """A preset with single fields overridden: of the recipe, and of its terms by (term, field); None keeps."""
    recipe = preset(preset_name)
    for (term, field), value in terms.items():
        if value is not None:
            recipe = with_term(recipe, term, **{field: value})
    steps = fields.get("steps")
    given = {name: value for name, value in fields.items() if value is not None and name != "steps"}
    if "scales" in given and (steps is None or len(steps) == 1):
        total = steps[0] if steps else sum(recipe.steps)
        return with_total_steps(replace(recipe, **given, steps=(1,) * len(given["scales"])), total)
    recipe = replace(recipe, **given, **({"steps": steps} if steps and len(steps) > 1 else {}))
    return with_total_steps(recipe, steps[0]) if steps and len(steps) == 1 else recipe
