"""Training on pairs in files: a model with its record beside it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.files import json_lines_to
from chromogen.image import Image, write_image
from chromogen.plots import loss_plot, save_plot
from chromogen.provenance import NOTICE, peak_rss_mb
from chromogen.staining.where_network import Model, write_model
from chromogen.style.checkpoint import Checkpoint
from chromogen.training.distributed import ALONE, Ranks
from chromogen.training.pairs import Pairs, model_of
from chromogen.training.train import OnTrained, Shown, Trained, Training, TrainStep, train_where

SHEET_PAIRS, ENLARGED = 6, 2  # of what is shown at 2 um to a pixel


def train_on_pairs(
    pairs: Pairs,
    out: Path,
    training: Training,
    *,
    start: Model | None = None,
    on_step: OnTrained,
    resume: bool,
    ranks: Ranks = ALONE,
    device: str = "auto",
) -> dict[str, Any]:
    """Train a network on pairs and write its model; the facts. Of several `ranks` only the first writes.

    Beside the model lie NAME.train.jsonl (every step), NAME.loss.png and NAME.preview.png, and until it is done
    NAME.checkpoint. Raises: ValueError for wrong inputs, OSError, ArithmeticError.
    """
    data = pairs.data | ({"from_model_sha256": start.sha256} if start else {})
    network = start.network() if start else None
    if not ranks.is_first:
        train_where(pairs.kept, training, start=network, ranks=ranks, device=device)
        return {}
    checkpoint = Checkpoint(_beside(out, "checkpoint"), {"training": asdict(training), **data}, resume=resume)
    log = json_lines_to(_beside(out, "train.jsonl"), lambda old, new: old["index"] < new["index"])

    def follow(step: TrainStep, shown: Shown) -> None:
        log(asdict(step))
        if step.validation:
            _draw(_beside(out, "preview.png"), shown())
        on_step(step, shown)

    with checkpoint.interrupts if ranks.count == 1 else nullcontext():  # which others would not wait for
        trained = train_where(
            pairs.kept, training, start=network, on_step=follow, checkpoint=checkpoint, ranks=ranks, device=device
        )
    model = model_of(out.stem, training, trained, data, pairs)
    write_model(out, model)
    save_plot(loss_plot(curves_of(trained.trace), out.stem), _beside(out, "loss.png"))
    checkpoint.forget()
    return {**_facts(out, model, trained), "peak_rss_mb": round(peak_rss_mb(), 1)}


def _beside(model: Path, ending: str) -> Path:
    """NAME.train.jsonl and the like."""
    return model.with_name(f"{model.stem}.{ending}")


def _facts(out: Path, model: Model, trained: Trained) -> dict[str, Any]:
    return {
        "output": str(out),
        "bytes": out.stat().st_size,
        "sha256": model.sha256,
        "target_stain": model.look.target_stain,
        "steps": trained.steps,
        "seconds": trained.trace[-1].seconds if trained.trace else 0.0,
        "validation": dict(trained.validation),
        "validated_on": trained.validated_on,
        "claim": model.claim,
        "notice": NOTICE,
    }


def _draw(sheet_file: Path, pairs: Sequence[tuple[Image, Image, Image]]) -> None:
    """H&E above, where DAB is expected below, and where the IHC has it at the bottom."""
    shown = pairs[:SHEET_PAIRS]
    height, width = (max(he.shape[axis] for he, *_ in shown) for axis in (0, 1))
    rows = [np.concatenate([_framed(pair[row], height, width) for pair in shown], 1) for row in range(3)]
    sheet = np.concatenate(rows).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    write_image(sheet_file, sheet, {"notice": NOTICE})


def _framed(image: Image, height: int, width: int) -> Image:
    """The image with white to its right and below."""
    missing = (0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)
    return np.pad(image, missing, constant_values=255)


def curves_of(trace: Sequence[TrainStep]) -> dict[str, list[float]]:
    """The loss and the latest validation at every step."""
    held, latest = [], math.nan
    for step in trace:
        latest = step.validation["loss"] if step.validation else latest
        held.append(latest)
    return {"loss": [step.loss for step in trace], "validation": held}
