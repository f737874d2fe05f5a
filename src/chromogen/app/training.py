"""Training on files: fields of images, folders and slides in, a model with its record beside it out."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.app.pairs import Pairs, evidence_of, record_of
from chromogen.app.paths import check_folder, check_there
from chromogen.files import write_whole
from chromogen.image import Image, write_image
from chromogen.plots import loss_plot, save_plot
from chromogen.provenance import NOTICE, peak_rss_mb, sha256_of
from chromogen.slides.slide import open_slide, slide_files
from chromogen.stainer_file import Model, check_suffix, claim_of, trained_weights, write_model
from chromogen.stains.appearance import doubts
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.marker_network import check_marker
from chromogen.training.fields import Content, split
from chromogen.training.ranks import ALONE, Ranks
from chromogen.training.train import OnTrained, Trained, Training, TrainStep, train_stainer
from chromogen.whole_slide.fields import tissue_fields

OVERVIEW_PX = 1024
SHEET_PAIRS = 6


@dataclass(frozen=True)
class Outputs:
    """The model's file, and what lies beside it under its name."""

    model: Path

    def beside(self, ending: str) -> Path:
        """NAME.train.jsonl and the like."""
        return self.model.with_name(f"{self.model.stem}.{ending}")


@dataclass(frozen=True)
class Inputs:
    """Files and folders of H&E and IHC, their pixel size in um where files do not say it or are wrong.

    `style_mpp` is that of the IHC, where it is another. Styles are by marker, "" where there is but one. `pairs`
    come beside or instead; `start` is a model of one look to go on from.
    """

    contents: Sequence[Path] = ()
    styles: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    mpp: float | None = None
    pairs: Pairs | None = None
    start: Model | None = None
    style_mpp: float | None = None


def check_files(inputs: Inputs, out: Path) -> None:
    """What can be said before anything is read. Raises: ValueError, FileNotFoundError, OSError."""
    check_suffix(out)
    check_folder(out.parent)
    files_of(inputs.contents, "content")
    for marker, paths in inputs.styles.items():
        files_of(paths, "style")
        if len(inputs.styles) > 1 or marker:
            check_marker(marker)


def train_on_files(
    inputs: Inputs,
    out: Path,
    training: Training,
    encoder: Encoder,
    *,
    on_step: OnTrained,
    resume: bool,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train a stainer on what `check_files` lets through; its facts. Of several `ranks` only the first writes.

    Without styles they are the IHC of those pairs that are trained on.

    Beside the model lie NAME.train.jsonl (every step), NAME.loss.png and NAME.preview.png, and until it is done
    NAME.checkpoint. Raises: ValueError or FileNotFoundError for wrong inputs, OSError, ArithmeticError.
    """
    outputs = Outputs(out)
    contents, ihc, data, assumed = _read(inputs, training.mpp)
    facts = {"training": _record(training), **data}
    checkpoint = Checkpoint(outputs.beside("checkpoint"), facts, resume=resume)
    log = outputs.beside("train.jsonl")

    def follow(step: TrainStep, seen: Any) -> None:
        _log(log, step)
        if step.validation:
            _draw(outputs, seen())
        on_step(step, seen)

    network = inputs.start.network() if inputs.start else None
    train = partial(train_stainer, contents, ihc, training, encoder=encoder, ranks=ranks, start=network)
    if not ranks.is_first:
        train()
        return {}
    trained = train(on_step=follow, checkpoint=checkpoint)
    model = _model(out.stem, training, trained, data, encoder, inputs.pairs)
    write_model(out, model)
    save_plot(loss_plot(curves_of(trained.trace), out.stem), outputs.beside("loss.png"))
    checkpoint.forget()
    facts = {**_facts(out, model, trained), "peak_rss_mb": round(peak_rss_mb(), 1)}
    return facts | ({"without_mpp": assumed} if assumed else {})


def _read(inputs: Inputs, mpp: float) -> tuple[list[Content], dict[str, list[Image]], dict[str, Any], int]:
    """H&E, IHC by marker, uint8 (H, W, 3) at `mpp`, what they are, as hashes, and how many state no pixel size."""
    pairs = inputs.pairs
    given = files_of(inputs.contents, "content")
    shown = {marker: files_of(paths, "style") for marker, paths in (inputs.styles or {"": ()}).items()}
    read = [_content(file, mpp, inputs.mpp, "content") for file in given]
    styles = {
        marker: [_content(file, mpp, inputs.style_mpp or inputs.mpp, "style") for file in files]
        for marker, files in shown.items()
    }
    assumed = sum(is_assumed for found in (read, *styles.values()) for _, is_assumed in found)
    contents = [content for content, _ in read]
    ihc = {marker: [field for content, _ in found for field in content.fields] for marker, found in styles.items()}
    if pairs:
        contents += pairs.contents
    if pairs and not inputs.styles:
        ihc = {"": [content.paired.image for content in split(contents)[0] if content.paired]}
    return contents, ihc, _data(given, shown, pairs, inputs.start), assumed


def _data(
    contents: Sequence[Path], styles: Mapping[str, Sequence[Path]], pairs: Pairs | None, start: Model | None
) -> dict[str, Any]:
    """What is trained on, as hashes."""
    roles = {"content_sha256": contents} | {f"style_sha256 {m}".rstrip(): files for m, files in styles.items()}
    data: dict[str, Any] = {
        role: [sha256_of(file) for file in files if file.is_file()] for role, files in roles.items()
    }
    data |= pairs.data if pairs else {}
    return data | ({"from_model_sha256": start.sha256} if start else {})


def _record(training: Training) -> dict[str, Any]:
    """As plain data, for a model and a checkpoint."""
    return {**vars(training), "objective": [asdict(term) for term in training.objective]}


def _model(
    name: str, training: Training, trained: Trained, data: dict[str, Any], encoder: Encoder, pairs: Pairs | None
) -> Model:
    record = {
        **(_paired(pairs, trained) if pairs else {"kind": "style"}),
        **_record(training),
        "steps": trained.steps,
        "validated_on": trained.validated_on,
        "validation": dict(trained.validation),
        "collapse": trained.collapse,
        "encoder": encoder.record(),
    }
    network = trained.network
    weights, stain = trained_weights(network), "DAB" if training.site == "any" else f"DAB, {training.site}"
    return Model(name, stain, training.mpp, network.architecture, network.target, weights, record, data)


def _paired(pairs: Pairs, trained: Trained) -> dict[str, Any]:
    evidence = evidence_of(pairs, trained.validated_on, trained.validation.get("dab_r"))
    return {"kind": "paired", "evidence": evidence, "pairs": record_of(pairs)}


def _facts(out: Path, model: Model, trained: Trained) -> dict[str, Any]:
    return {
        "output": str(out),
        "bytes": out.stat().st_size,
        "sha256": model.sha256,
        "steps": trained.steps,
        "seconds": trained.trace[-1].seconds if trained.trace else 0.0,
        "validation": dict(trained.validation),
        "validated_on": trained.validated_on,
        "collapse": trained.collapse,
        "claim": claim_of(model.training),
        "notice": NOTICE,
    }


def files_of(paths: Sequence[Path], role: str) -> list[Path]:
    """Files, and the images and slides in folders. Raises: FileNotFoundError; ValueError for an empty folder."""
    check_there(role, paths, "an existing image, slide or folder")
    return slide_files(paths)


def _content(file: Path, mpp: float, slide_mpp: float | None, role: str) -> tuple[Content, bool]:
    """Fields at an mpp, and whether that is what Chromogen assumes of an image that states no pixel size."""
    with open_slide(file, mpp=slide_mpp, assumed_mpp=mpp) as slide:
        view, step = slide.overview(OVERVIEW_PX)
        if doubt := doubts(view, role, slide.need_mpp() * step):
            warnings.warn(f"{file.name} {doubt}.", stacklevel=2)
        return Content(file.name, tuple(tissue_fields(slide, view, step, mpp))), slide.mpp_from == "assumed"


def _log(file: Path, step: TrainStep) -> None:
    """Add a step; what an earlier run has done after its last checkpoint is done again."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if len(lines) >= step.index:
        write_whole(file, "".join(f"{line}\n" for line in lines[: step.index - 1]).encode())
    with file.open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(step)) + "\n")


def _draw(outputs: Outputs, pairs: Sequence[tuple[Image, Image]]) -> None:
    """H&E above, what it becomes below."""
    rows = [np.concatenate([pair[i] for pair in pairs[:SHEET_PAIRS]], 1) for i in (0, 1)]
    write_image(outputs.beside("preview.png"), np.concatenate(rows), {"notice": NOTICE})


def curves_of(trace: Sequence[TrainStep]) -> dict[str, list[float]]:
    """Loss, its terms, and the latest validation at every step."""
    names = list(trace[0].terms) if trace else []
    held, latest = [], math.nan
    for step in trace:
        latest = step.validation["total"] if step.validation else latest
        held.append(latest)
    terms = {name: [step.terms[name] for step in trace] for name in names}
    return {"loss": [step.loss for step in trace], **terms, "validation": held}
