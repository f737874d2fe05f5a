"""Style statistics on disk: what was measured once of the same pixels is not measured again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from chromogen.files import keep_newest, write_whole
from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.staining.exemplar import Exemplar
from chromogen.staining.looks import exemplar_of_record, record_of
from chromogen.style.encoder import Encoder
from chromogen.style.measured_style import OnMeasured, Style, measure_style, shares
from chromogen.style.objective import Objective, References, reference_of
from chromogen.style.recipes import Recipe, as_record
from chromogen.style.start import NO_GUIDES, Guides

FORMAT = 4  # to be raised whenever a statistic comes to mean something else
MAX_FILES = 50
FLOOR, EXEMPLAR = "floor", "exemplar"


def style_cache_folder() -> Path:
    """Where measured styles are kept: `styles` in the user's cache folder; it may be deleted at any time."""
    return platformdirs.user_cache_path("chromogen") / "styles"


def measure_style_once(
    images: Sequence[Image],
    recipe: Recipe,
    encoder: Encoder,
    mix: Sequence[float] | None = None,
    on_measured: OnMeasured | None = None,
    mpp: float = ASSUMED_MPP,
    guides: Guides = NO_GUIDES,
) -> Style:
    """`measure_style`, or what it gave the last time for the same pixels, regions, mix, style terms and network.

    A cache that cannot be read or written is done without.
    """
    terms = tuple(term for term in recipe.objective if term.reference == "style")
    mixed = shares(len(images), mix)
    file = style_cache_folder() / f"{_key(images, mixed, mpp, guides, recipe, encoder)}.safetensors"
    found = _read(file, terms, recipe, mpp, encoder)
    if found:
        return Style(tuple(images), mixed, *found)
    style = measure_style(images, recipe, encoder, mix, on_measured, mpp, guides)
    with suppress(OSError):
        _write(file, style)
    return style


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
    file: Path, terms: Objective, recipe: Recipe, mpp: float, encoder: Encoder
) -> tuple[dict[float, References], float, dict[float, float], Exemplar | None] | None:
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
