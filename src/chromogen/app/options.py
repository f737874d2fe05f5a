"""Between text on the command line and a recipe: parsing, overriding, and what help says of defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import product
from typing import Any

from chromogen.errors import choose, expected, repeated
from chromogen.style.layers import check_layers
from chromogen.style.objective import Term
from chromogen.style.recipes import PRESETS, Recipe, in_space, preset, with_style, with_term, with_total_steps

DEFAULT_PRESET = "histology"


def from_preset(value: Callable[[Recipe], object]) -> str:
    """What help says of an option whose default is the preset's: that of the usual one, then the others."""
    usual = value(PRESETS[DEFAULT_PRESET])
    others: dict[str, list[str]] = {}
    for name, recipe in PRESETS.items():
        if str(value(recipe)) != str(usual):
            others.setdefault(str(value(recipe)), []).append(name)
    said = "; ".join(f"{other} in {', '.join(names)}" for other, names in others.items())
    return f"Default: {usual}; by preset: {said}." if others else f"Default: {usual}."


def term_value(name: str, field: str) -> Callable[[Recipe], object]:
    """The field of a term in a recipe, as help shows it."""

    def value(recipe: Recipe) -> object:
        found = next((getattr(term, field) for term in recipe.objective if term.name == name), "none")
        return ",".join(found) if isinstance(found, Mapping) else found

    return value


def numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Numbers from text with commas between. Raises: ValueError, which names the option."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise expected(option, f"{wanted} with commas between", text) from None


def region_of(option: str, text: str | None) -> tuple[int, int, int, int] | None:
    """A part of a slide from text, X,Y,W,H. Raises: ValueError, which names the option.

    >>> region_of("region", "0,512,1024,1024")
    (0, 512, 1024, 1024)
    """
    if text is None:
        return None
    found = numbers(option, text, int)
    if len(found) != 4:
        raise expected(option, "X,Y,W,H", text)
    x, y, width, height = found
    return x, y, width, height


BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def byte_count(option: str, text: str) -> int:
    """A number of bytes from text like 2G, 1.5 GB or 500M. Raises: ValueError, which names the option.

    >>> byte_count("max_memory", "1.5G")
    1500000000
    """
    unit = text.strip().upper().removesuffix("B").lstrip("0123456789. ")
    number = text.strip().upper().removesuffix("B").removesuffix(unit)
    try:
        return int(float(number) * BYTES[unit])
    except (ValueError, KeyError):
        raise expected(option, "a number of bytes like 2G or 500M", text) from None


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


def build_recipe(preset_name: str, fields: Mapping[str, Any], terms: Mapping[tuple[str, str], Any]) -> Recipe:
    """A preset with single fields overridden: of the recipe, and of its terms by (term, field); None keeps."""
    recipe = preset(preset_name)
    if fields.get("space") is not None:
        recipe = in_space(recipe, fields["space"])
    for (term, field), value in terms.items():
        if value is not None:
            change = with_style if term == "style" else partial(with_term, name=term)
            recipe = change(recipe, **{field: value})
    steps = fields.get("steps")
    given = {name: value for name, value in fields.items() if value is not None and name != "steps"}
    if "scales" in given and (steps is None or len(steps) == 1):
        total = steps[0] if steps else sum(recipe.steps)
        return with_total_steps(replace(recipe, **given, steps=(1,) * len(given["scales"])), total)
    recipe = replace(recipe, **given, **({"steps": steps} if steps and len(steps) > 1 else {}))
    return with_total_steps(recipe, steps[0]) if steps and len(steps) == 1 else recipe


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
        choose(f"a field of {term} in grid", part, ("weight", "layers", "distance", "mask"))
        return with_term(recipe, term, **{part: _value(field, text, *(f for f in fields(Term) if f.name == part))})
    options = {f.name: f for f in fields(Recipe) if f.name != "objective"}
    value = _value(field, text, options[choose("a field in grid", field, options)])
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
