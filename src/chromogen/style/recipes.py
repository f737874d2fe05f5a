"""Recipes: what decides a picture, as one frozen value; presets, and the text that changes them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise, product
from typing import Any

from chromogen.errors import choose, expected, repeated
from chromogen.style.objective import (
    COMPARTMENTS,
    GUIDE,
    LOSS_SCALES,
    OF_LIGHT,
    Objective,
    Term,
    check_layers,
    masks_asked,
)

# Everything that decides a picture besides its inputs, as one frozen value; the presets are such values.

SPACES = ("rgb", "stain")
SITES = ("auto", "nuclear", "cytoplasm")
INITS = ("content", "color", "style", "noise")
OPTIMIZERS = ("lbfgs", "adam")
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@dataclass(frozen=True)
class Recipe:
    """How a picture is optimized: what is minimized, from where, at which scales, for how long.

    In the `space` rgb the picture's pixels are free. In stain the picture starts from *where* times *how*, and a
    small network changes the amounts of both stains, as a function of the tissue, within bounds.
    `scales` are fractions of the final size, coarse to fine, ending in 1; `steps` has one number per scale,
    where a step is one evaluation of loss and gradient. A scale ends early when its loss fell by less than the
    fraction `plateau` over the last 10 steps (0: never). The first `preconditioned_steps` of every scale divide
    the gradient of Gram matrices by the style's own variances (0: the plain descent of the papers): quicker to the
    style, at content's cost, so plain steps should follow. L-BFGS remembers `history` steps: 30 gain a tenth in
    long runs and end short ones at a higher loss. With `stop_at_floor`, a scale ends
    when the style error is no more than real images of the style have among themselves. In stain space, `site`
    says where in a cell the marker sits (nuclear or cytoplasm; auto: as the style shows it), `seed` also decides
    which nuclei are brown, `share` how many of them (None: as many as in the style), and the finished picture's
    DAB is multiplied by `dab_amount`. Raises ValueError.
    """

    objective: Objective
    loss_scale: str = "relative"
    space: str = "rgb"
    init: str = "content"
    scales: tuple[float, ...] = (1.0,)
    steps: tuple[int, ...] = (100,)
    optimizer: str = "lbfgs"
    plateau: float = 0.0
    preconditioned_steps: int = 0
    history: int = 10
    seed: int = 0
    stop_at_floor: bool = False
    site: str = "auto"
    dab_amount: float = 1.0
    share: float | None = None

    def __post_init__(self) -> None:
        choose("loss_scale", self.loss_scale, LOSS_SCALES)
        choose("space", self.space, SPACES)
        choose("init", self.init, INITS)
        choose("optimizer", self.optimizer, OPTIMIZERS)
        _check_scales(self.scales)
        _check_space(self)
        if len(self.steps) != len(self.scales) or min(self.steps) < 0 or sum(self.steps) < 1:
            raise expected("steps", f"{len(self.scales)} numbers of at least 0, one a scale", self.steps)
        if not 0 <= self.plateau < 1:
            raise expected("plateau", "at least 0 and less than 1", self.plateau)
        if self.preconditioned_steps < 0:
            raise expected("preconditioned_steps", "at least 0", self.preconditioned_steps)
        if self.history < 1:
            raise expected("history", "at least 1", self.history)
        if not 0 <= self.seed < 2**63:
            raise expected("seed", "a whole number of at least 0", self.seed)
        if self.loss_scale == "paper" and self.stop_at_floor:
            raise expected("loss_scale", "relative to stop at the floor", "paper")
        of_light = next((term.name for term in self.objective if term.statistic in OF_LIGHT), None)
        if self.loss_scale == "paper" and of_light:
            raise expected("loss_scale", f"relative for {of_light}", "paper")
        if not any(term.reference == "style" and term.weight > 0 for term in self.objective):
            raise expected(
                "objective", "at least one style term with a weight above 0", "none", "raise style_weight"
            )


def _check_scales(scales: tuple[float, ...]) -> None:
    rising = all(a < b for a, b in pairwise(scales))
    if not (scales and rising and scales[0] > 0 and scales[-1] == 1):
        raise expected("scales", "rising fractions that end in 1, like 0.5,1", scales)


def _check_space(recipe: Recipe) -> None:
    choose("site", recipe.site, SITES)
    if not (math.isfinite(recipe.dab_amount) and recipe.dab_amount >= 0):
        raise expected("dab_amount", "a number of at least 0", recipe.dab_amount)
    if recipe.share is not None and not 0 <= recipe.share <= 1:
        raise expected("share", "0 to 1", recipe.share)
    if recipe.space == "stain":
        if recipe.optimizer != "adam":
            raise expected("optimizer", "adam in the space stain, where a network is changed", recipe.optimizer)
        return
    if (recipe.site, recipe.dab_amount, recipe.share) != ("auto", 1.0, None):
        wanted = "left alone in the space rgb"
        raise expected("site, share and dab_amount", wanted, recipe.site, "choose the space stain")
    if brown := masks_asked(recipe.objective) & set(COMPARTMENTS):
        raise expected("mask", "no compartment of an IHC in the space rgb", min(brown), "choose the space stain")


def content_term(layer: str = "relu2_2", weight: float = 1e-3, distance: str = "mse") -> Term:
    """The report's content loss: features of one layer, at its 4th convolution unless said otherwise."""
    return Term("content", weight, {layer: 1.0}, "activations", distance, "content")


def style_term(weight: float = 1.0, layers: tuple[str, ...] = STYLE_LAYERS) -> Term:
    """The report's style loss: Gram matrices, equal layer weights that sum to one."""
    return Term("style", weight, dict.fromkeys(layers, 1 / max(len(layers), 1)), "gram", "gram_mse", "style")


def tv_term(weight: float) -> Term:
    """Total variation: the absolute differences between neighbouring pixels."""
    return Term("tv", weight, {"image": 1.0}, "differences", "mae", None)


def hematoxylin_term(weight: float) -> Term:
    """The haematoxylin of the H&E, place by place."""
    return Term("hematoxylin", weight, {"image": 1.0}, "hematoxylin", "mse", "hematoxylin")


# Started from the style's colours, dark nuclei turn brown; started from the content they stay blue. At any style
# error relu2_2 keeps more of the tissue than relu4_2, and no more of its colours (docs/explanation/report.md).
_TISSUE = (content_term("relu2_2", weight=0.5), style_term())

# A network that changes stains by the tissue around is fitted at half size and drawn at full size; the deepest
# layer, which sees 16 px of that as one, would take a third of the time (docs/development/decisions.md).
_COMPARTMENT_LAYERS = STYLE_LAYERS[:-1]

PRESETS: dict[str, Recipe] = {
    "paper": Recipe((content_term(), style_term()), loss_scale="paper", steps=(200,)),
    "fast": Recipe(_TISSUE, scales=(0.5, 1.0), steps=(30, 8), plateau=0.01),
    "balanced": Recipe(_TISSUE, scales=(0.5, 1.0), steps=(50, 25), plateau=0.01),
    "histology": Recipe(
        tuple(replace(style_term(0.25, _COMPARTMENT_LAYERS), name=name, mask=name) for name in COMPARTMENTS),
        space="stain",
        optimizer="adam",
        scales=(0.5, 1.0),
        steps=(24, 0),
    ),
    "best": Recipe(_TISSUE, scales=(0.5, 1.0), steps=(100, 100), plateau=0.002),
}


for _site in SITES[1:]:
    PRESETS[_site] = replace(PRESETS["histology"], site=_site)


def preset(name: str) -> Recipe:
    """The preset of that name; ValueError with the nearest name for any other."""
    return PRESETS[choose("preset", name, PRESETS)]


def in_space(recipe: Recipe, space: str) -> Recipe:
    """The recipe in a space of `SPACES`, with what can be there: a network by Adam, or a style over all tissue.

    Raises: ValueError for another space.
    """
    if choose("space", space, SPACES) == recipe.space:
        return recipe
    if space == "stain":
        return replace(recipe, space=space, optimizer="adam")
    grams = style_terms(recipe)
    others = tuple(term for term in recipe.objective if term not in grams)
    weight = math.fsum(term.weight for term in grams)
    style = replace(grams[0], name="style", weight=weight, mask="tissue")
    return replace(recipe, objective=(style, *others), space=space, site="auto", dab_amount=1.0, share=None)


def with_term(recipe: Recipe, name: str, **changes: Any) -> Recipe:
    """The recipe with fields of one of its terms replaced; `tv` and `content` are added where there are none.

    In stain space, content is compared with the haematoxylin alone: the H&E's colours are not to be kept.
    """
    objective = recipe.objective
    added = {"tv": tv_term(0.0), "content": content_term(weight=0.5)}
    if name in added and all(term.name != name for term in objective):
        reference = "hematoxylin" if (name, recipe.space) == ("content", "stain") else added[name].reference
        objective = (*objective, replace(added[name], reference=reference))
    choose("term", name, [term.name for term in objective])
    changed = tuple(replace(term, **changes) if term.name == name else term for term in objective)
    return replace(recipe, objective=changed)


def with_style(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with fields of all its style terms replaced; a `weight` is what they weigh together.

    Raises: ValueError for values that no term can have.
    """
    grams = style_terms(recipe)
    if "weight" in changes:
        if not changes["weight"] >= 0:
            raise expected("style_weight", "a finite weight of at least 0", changes["weight"])
        whole = math.fsum(term.weight for term in grams)
        factor = changes.pop("weight") / whole if whole else 0.0
        weights = {term.name: term.weight * factor for term in grams}
    else:
        weights = {term.name: term.weight for term in grams}
    changed = {term.name: replace(term, **changes, weight=weights[term.name]) for term in grams}
    return replace(recipe, objective=tuple(changed.get(term.name, term) for term in recipe.objective))


def style_terms(recipe: Recipe) -> Objective:
    """Those that compare Gram matrices with the style's."""
    return tuple(term for term in recipe.objective if (term.statistic, term.reference) == ("gram", "style"))


def guided_recipe(recipe: Recipe, regions: Collection[str]) -> Recipe:
    """The recipe with its style compared region by region, each weighing the same (guided, Gatys et al. 2017).

    They take the place of all the recipe's Gram matrices, and of its compartments; regions together weigh what
    those did. Raises ValueError where there is no region.
    """
    if not regions:
        raise expected("masks", "at least one region", "none")
    grams = style_terms(recipe)
    others = tuple(term for term in recipe.objective if term not in grams)
    weight = sum(term.weight for term in grams) / len(regions)
    terms = tuple(replace(grams[0], name=f"style in {name}", weight=weight, mask=GUIDE + name) for name in regions)
    return replace(recipe, objective=(*terms, *others))


def with_total_steps(recipe: Recipe, total: int) -> Recipe:
    """The recipe with `total` steps, shared among its scales as before; the last scale takes the rest.

    Raises: ValueError for less than one.
    """
    if total < 1:
        raise expected("steps", "at least 1", total)
    shares = [total * steps // sum(recipe.steps) for steps in recipe.steps[:-1]]
    return replace(recipe, steps=(*shares, total - sum(shares)))


def as_record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data for provenance and JSON; `from_record` reads it back."""
    sequences = {"scales": list(recipe.scales), "steps": list(recipe.steps)}
    return asdict(recipe) | sequences | {"objective": [asdict(term) for term in recipe.objective]}


def from_record(record: Mapping[str, Any]) -> Recipe:
    """The recipe that `as_record` wrote, also after a trip through JSON."""
    terms = tuple(Term(**term) for term in record["objective"])
    sequences = {key: tuple(record[key]) for key in ("scales", "steps")}
    return Recipe(**{**record, **sequences, "objective": terms})


# Between text and a recipe: settings like `content.weight=0.5`, and sweeps of them.

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
