"""What is measured of style images once, at every scale, and kept on disk: no style is measured twice."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, permutations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from chromogen.errors import expected
from chromogen.files import keep_newest, write_whole
from chromogen.image import Image, resize, to_tensor
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.staining.exemplar import Exemplar, joined_exemplars
from chromogen.staining.looks import exemplar_of_record, record_of
from chromogen.style.encoder import Encoder
from chromogen.style.loss import LossFunction, picture_of, targets_of, tiles_of, with_reference
from chromogen.style.memory import MEASURING_BYTES, check_memory
from chromogen.style.objective import (
    COMPARTMENTS,
    Masks,
    Objective,
    References,
    Term,
    average,
    distance_of,
    layers_of,
    masks_asked,
    reference_of,
    smallest_side_px,
    total,
    values_by,
)
from chromogen.style.recipes import Recipe, as_record, style_terms
from chromogen.style.start import (
    NO_GUIDES,
    Compartments,
    Guides,
    check_guides,
    compartments_of,
    masks_of,
    measured_exemplars,
)

SQUARE_UM = 24.0  # of the chessboard that halves an image: about three cells
MAX_COMPARED = 8  # of several style images, to find their floor

OnMeasured: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Style:
    """Style images, the weight of each, and what the objective measures of them per scale; reusable.

    `mpp` is the size of their pixels in um, and of those of the contents that they are for. `floors` are the style
    errors, by scale, that real images of this style have among themselves. `exemplar` is what their stain looks
    like, for stain space.
    """

    images: tuple[Image, ...]
    mix: tuple[float, ...]
    references: dict[float, References]
    mpp: float = ASSUMED_MPP
    floors: Mapping[float, float] = field(default_factory=dict)
    exemplar: Exemplar | None = None


def measure_style(  # noqa: PLR0913 - what is measured, by what, and where that is kept
    images: Sequence[Image],
    recipe: Recipe,
    encoder: Encoder,
    mix: Sequence[float] | None = None,
    on_measured: OnMeasured | None = None,
    mpp: float = ASSUMED_MPP,
    guides: Guides = NO_GUIDES,
    tile_px: int | None = None,
    kept_in: Path | None = None,
) -> Style:
    """Measure style images once, at every scale of the recipe; `mix` weights them (default: equally).

    Lengths are taken at `mpp` um per pixel, in styles and contents. `on_measured(done, of)` is called after every
    measurement. `guides` are the regions of a single image that a guided recipe asks for. Raises: ValueError for a
    mix that is not one weight of at least 0 per image, images too small, and guides that do not fit; in stain
    space also as `start.measured_exemplars`.
    What is measured is `kept_in` a folder, if one is given, for the same pixels, regions, mix, style terms and
    network to be found there. A folder that cannot be read or written is done without.
    """
    mixed = shares(len(images), mix)
    file = kept_in / f"{_key(images, mixed, mpp, guides, recipe, encoder)}.safetensors" if kept_in else None
    if file and (found := _read(file, recipe, mpp, encoder)):
        return Style(tuple(images), mixed, *found)
    if guides and len(images) > 1:
        raise expected("style", "one image where regions are drawn on it", f"{len(images)} images")
    for image in images:
        check_style_size(image, recipe, "style")
        check_guides(image, recipe, guides, "style")
        if tile_px is None:
            check_memory(image, MEASURING_BYTES * image.shape[0] * image.shape[1], encoder, "style")
    exemplars = measured_exemplars(images, mpp, recipe.site) if recipe.space == "stain" else []
    stained = _compartments(images, recipe, mpp, exemplars)
    done = count(1)

    def at(number: int, scale: float) -> References:
        image = images[number]
        small = resize(image, size_at(image, scale))
        masks = masks_of(to_tensor(small).to(encoder.device), recipe, mpp / scale, guides, stained[number])
        measured = _measured(small, recipe.objective, recipe, encoder.exact, masks, tile_px)
        if on_measured:
            on_measured(next(done), len(images) * len(recipe.scales))
        return measured

    references = {
        scale: average(recipe.objective, (at(number, scale) for number in range(len(images))), mixed)
        for scale in recipe.scales
    }
    asked = recipe.scales if recipe.stop_at_floor else ()
    given = encoder.exact, guides, stained, tile_px
    floors = {scale: _floor(images, recipe, scale, mpp / scale, *given) for scale in asked}
    exemplar = joined_exemplars(exemplars, mixed) if exemplars else None
    style = Style(tuple(images), mixed, references, mpp, floors, exemplar)
    if file:
        with suppress(OSError):
            _write(file, style)
    return style


def _compartments(
    images: Sequence[Image], recipe: Recipe, mpp: float, exemplars: Sequence[Exemplar]
) -> list[Compartments]:
    """Those of each image, where the recipe looks through any."""
    if masks_asked(recipe.objective).isdisjoint(COMPARTMENTS):
        return [{}] * len(images)
    return [compartments_of(image, mpp, exemplar) for image, exemplar in zip(images, exemplars, strict=True)]


def _measured(
    image: Image, objective: Objective, recipe: Recipe, encoder: Encoder, masks: Masks, tile_px: int | None
) -> References:
    """What terms that refer to the style measure of its image, uint8 (H, W, 3)."""
    terms = tuple(term for term in objective if term.reference == "style")
    loss = LossFunction(terms, recipe.loss_scale, encoder)
    targets = targets_of(loss, tiles_of((image.shape[1], image.shape[0]), recipe.objective, tile_px), masks)
    return with_reference(loss, "style", picture_of(image, encoder.device), targets).references


def _floor(
    images: Sequence[Image],
    recipe: Recipe,
    scale: float,
    mpp: float,
    encoder: Encoder,
    guides: Guides,
    stained: Sequence[Compartments],
    tile_px: int | None,
) -> float:
    """The style error that the images have among themselves on average; of one, its halves by a chessboard."""
    terms = tuple(replace(term, mask=term.mask or "tissue") for term in style_terms(recipe))
    found = []
    for image, compartments in zip(images[:MAX_COMPARED], stained, strict=False):
        small = resize(image, size_at(image, scale))
        picture = to_tensor(small).to(encoder.device)
        masks = masks_of(picture, replace(recipe, objective=terms), mpp, guides, compartments)
        dark = _chessboard(picture, min(SQUARE_UM / mpp, min(picture.shape[2:]) / 4))
        halves = (dark, 1 - dark) if len(images) == 1 else (torch.ones_like(dark),)
        for half in halves:
            seen = {name: mask * half for name, mask in masks.items()}
            found.append(_measured(small, terms, recipe, encoder, seen, tile_px))
    errors = [_style_error(terms, *pair) for pair in permutations(found, 2)]
    return math.fsum(errors) / len(errors)


def _style_error(terms: Objective, ours: References, theirs: References) -> float:
    def at(term: Term, layer: str) -> Tensor:
        place = term.name, layer
        return distance_of(term, ours[place].measured, theirs[place], "relative")

    return float(total(terms, values_by(terms, at))) / math.fsum(term.weight for term in terms)


def _chessboard(picture: Tensor, square_px: float) -> Tensor:
    """(1, 1, H, W) of squares, 0 and 1."""
    rows, columns = ((torch.arange(side, device=picture.device) / square_px).floor() for side in picture.shape[2:])
    return ((rows[:, None] + columns) % 2)[None, None].to(picture.dtype)


def shares(count: int, mix: Sequence[float] | None) -> tuple[float, ...]:
    """The weight of each of `count` style images, together 1; ValueError for a mix that does not fit."""
    weights = (1.0,) * count if mix is None else tuple(mix)
    if len(weights) != count or count == 0:
        raise expected("mix", f"one weight for each of {count} styles", f"{len(weights)} weights")
    whole = math.fsum(weights)
    if min(weights) < 0 or not 0 < whole < math.inf:
        raise expected("mix", "weights of at least 0 that are not all 0", weights)
    return tuple(weight / whole for weight in weights)


def size_at(image: Image, scale: float) -> tuple[int, int]:
    """Width and height of an image (H, W, 3) at a scale."""
    height, width = image.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def check_style_size(image: Image, recipe: Recipe, name: str) -> None:
    """ValueError for an image (H, W, 3) too small for the recipe's layers at its coarsest scale."""
    least = math.ceil(smallest_side_px(layers_of(recipe.objective)) / recipe.scales[0])
    height, width = image.shape[:2]
    if min(height, width) < least:
        raise expected(name, f"at least {least} px on each side for these layers", f"{width} x {height} px")


# Style statistics on disk: what was measured once of the same pixels is not measured again.

FORMAT = 4  # to be raised whenever a statistic comes to mean something else
MAX_FILES = 50
FLOOR, EXEMPLAR = "floor", "exemplar"


def style_cache_folder() -> Path:
    """Where measured styles are kept: `styles` in the user's cache folder; it may be deleted at any time."""
    return platformdirs.user_cache_path("chromogen") / "styles"


# Of a recipe and its terms, by as_record: what the statistics of styles do not depend on. All else is in the key.
NOT_MEASURED = {
    "init",
    "steps",
    "optimizer",
    "plateau",
    "preconditioned_steps",
    "history",
    "seed",
    "dab_amount",
    "share",
}
NOT_MEASURED_OF_TERMS = {"weight", "distance"}  # floors do depend on them, and on the weights of layers


def _key(
    images: Sequence[Image],
    mix: Sequence[float],
    mpp: float,
    guides: Guides,
    recipe: Recipe,
    encoder: Encoder,
) -> str:
    """A name for everything that decides the statistics, and for nothing else."""
    record = {
        "format": FORMAT,
        "images": [_pixels(image) for image in images],
        "guides": {name: _pixels(mask) for name, mask in guides.items()},
        "mix": list(mix),
        "mpp": mpp,
        "recipe": _measured_of(recipe),
        "network": [encoder.weights.sha256, encoder.pooling],
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _measured_of(recipe: Recipe) -> dict[str, Any]:
    """The record of the recipe, without what leaves the statistics of its style terms as they are."""
    record = {name: value for name, value in as_record(recipe).items() if name not in NOT_MEASURED}
    terms = [term for term in record["objective"] if term["reference"] == "style"]
    if not recipe.stop_at_floor:
        left_out = [{name: term[name] for name in term.keys() - NOT_MEASURED_OF_TERMS} for term in terms]
        terms = [term | {"layers": sorted(term["layers"])} for term in left_out]
    return record | {"objective": terms}


def _pixels(array: NDArray[Any]) -> tuple[str, tuple[int, ...], str]:
    return array.dtype.str, array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _entry(scale: float, name: str, layer: str) -> str:
    return json.dumps([scale, name, layer])


def _read(
    file: Path, recipe: Recipe, mpp: float, encoder: Encoder
) -> tuple[dict[float, References], float, dict[float, float], Exemplar | None] | None:
    terms = tuple(term for term in recipe.objective if term.reference == "style")
    try:
        tensors = load(file.read_bytes())
        found = {
            scale: {
                (term.name, layer): reference_of(term, tensors[_entry(scale, term.name, layer)].to(encoder.device))
                for term in terms
                for layer in term.layers
            }
            for scale in recipe.scales
        }
        asked = recipe.scales if recipe.stop_at_floor else ()
        floors = {scale: tensors[_entry(scale, FLOOR, "")].item() for scale in asked}
        exemplar = _exemplar_from(tensors) if recipe.space == "stain" else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
    with suppress(OSError):  # used last now, where that may be noted
        os.utime(file)
    return found, mpp, floors, exemplar


def _exemplar_from(tensors: Mapping[str, torch.Tensor]) -> Exemplar:
    """The style's exemplar. Raises: KeyError, ValueError or TypeError where there is none."""
    told = tensors[_entry(1.0, EXEMPLAR, "")].numpy().tobytes()
    return exemplar_of_record(json.loads(told))


def _write(file: Path, style: Style) -> None:
    tensors = {
        _entry(scale, *key): reference.measured.cpu().contiguous()
        for scale, references in style.references.items()
        for key, reference in references.items()
    }
    tensors |= {
        _entry(scale, FLOOR, ""): torch.tensor(floor, dtype=torch.float64) for scale, floor in style.floors.items()
    }
    if style.exemplar is not None:
        told = json.dumps(record_of(style.exemplar)).encode()
        tensors[_entry(1.0, EXEMPLAR, "")] = torch.tensor(list(told), dtype=torch.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, save(tensors))
    keep_newest(file.parent, "*.safetensors", MAX_FILES)
