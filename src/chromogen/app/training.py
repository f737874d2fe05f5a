"""Training on pairs in files: a model with its record beside it out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.app.pairs import Pairs, evidence_of, pairs_record
from chromogen.files import write_whole
from chromogen.image import Image, write_image
from chromogen.plots import loss_plot, save_plot
from chromogen.provenance import NOTICE, peak_rss_mb
from chromogen.staining.looks import Look
from chromogen.staining.where_network import Model, trained_weights, write_model
from chromogen.style.checkpoint import Checkpoint
from chromogen.training.distributed import ALONE, Ranks
from chromogen.training.train import OnTrained, Shown, Trained, Training, TrainStep, train_where
from chromogen.whole_slide.measured_looks import UNKNOWN_LICENCE, stain_of

SHEET_PAIRS, ENLARGED = 6, 2  # of what is shown at 2 um to a pixel
SOURCE = "the IHC of the pairs"  # whose names may be patients'


@dataclass(frozen=True)
class Outputs:
    """The model's file, and what lies beside it under its name."""

    model: Path

    def beside(self, ending: str) -> Path:
        """NAME.train.jsonl and the like."""
        return self.model.with_name(f"{self.model.stem}.{ending}")


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
    outputs = Outputs(out)
    data = pairs.data | ({"from_model_sha256": start.sha256} if start else {})
    network = start.network() if start else None
    if not ranks.is_first:
        train_where(pairs.kept, training, start=network, ranks=ranks, device=device)
        return {}
    checkpoint = Checkpoint(outputs.beside("checkpoint"), {"training": asdict(training), **data}, resume=resume)
    log = outputs.beside("train.jsonl")

    def follow(step: TrainStep, shown: Shown) -> None:
        _log(log, step)
        if step.validation:
            _draw(outputs, shown())
        on_step(step, shown)

    with checkpoint.interrupts if ranks.count == 1 else nullcontext():  # which others would not wait for
        trained = train_where(
            pairs.kept, training, start=network, on_step=follow, checkpoint=checkpoint, ranks=ranks, device=device
        )
    model = _model(out.stem, training, trained, data, pairs)
    write_model(out, model)
    save_plot(loss_plot(curves_of(trained.trace), out.stem), outputs.beside("loss.png"))
    checkpoint.forget()
    return {**_facts(out, model, trained), "peak_rss_mb": round(peak_rss_mb(), 1)}


def _model(name: str, training: Training, trained: Trained, data: dict[str, Any], pairs: Pairs) -> Model:
    record = {
        "evidence": evidence_of(pairs, trained.validated_on, trained.validation),
        "pairs": pairs_record(pairs),
        **asdict(training),
        "steps": trained.steps,
        "validated_on": trained.validated_on,
        "validation": dict(trained.validation),
    }
    look = Look(name, stain_of(trained.exemplar), SOURCE, UNKNOWN_LICENCE, trained.exemplar)
    network = trained.network
    return Model(name, network.architecture, trained_weights(network), look, record, data)


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


def _log(file: Path, step: TrainStep) -> None:
    """Add a step; what an earlier run has done after its last checkpoint is done again."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if len(lines) >= step.index:
        write_whole(file, "".join(f"{line}\n" for line in lines[: step.index - 1]).encode())
    with file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(step)) + "\n")


def _draw(outputs: Outputs, pairs: Sequence[tuple[Image, Image, Image]]) -> None:
    """H&E above, where DAB is expected below, and where the IHC has it at the bottom."""
    shown = pairs[:SHEET_PAIRS]
    height, width = (max(he.shape[axis] for he, *_ in shown) for axis in (0, 1))
    rows = [np.concatenate([_framed(pair[row], height, width) for pair in shown], 1) for row in range(3)]
    sheet = np.concatenate(rows).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    write_image(outputs.beside("preview.png"), sheet, {"notice": NOTICE})


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
