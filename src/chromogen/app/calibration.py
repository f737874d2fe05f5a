"""A model given a lab's own amount of DAB, from files to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chromogen.app.paths import check_apart, check_folder
from chromogen.app.training import files_of
from chromogen.errors import expected
from chromogen.evaluation.fields import find_pairs
from chromogen.image import Image
from chromogen.provenance import NOTICE, sha256_of
from chromogen.slides.slide import open_slide
from chromogen.stainer_file import Model, check_suffix, read_model, write_model
from chromogen.style.slide_densities import Target
from chromogen.style.stainer_network import Architecture, StainerNetwork, slide_look, stain
from chromogen.training.calibration import calibrated


def calibrate_on_files(
    file: Path,
    contents: Sequence[Path],
    styles: Sequence[Path],
    out: Path,
    *,
    paired: Path | None = None,
    slide_mpp: float | None = None,
) -> dict[str, Any]:
    """The model of a file, with DAB as strong as in a few IHC of a lab, for its H&E; its facts.

    Raises: ValueError or FileNotFoundError for wrong inputs, OSError.
    """
    check_suffix(out)
    check_folder(out.parent)
    model = read_model(file)
    if not isinstance(model.architecture, Architecture):
        raise expected("model", "a stain-pyramid of one marker, which has a DAB", model.architecture.kind)
    pairs = find_pairs(paired) if paired else []
    he = [*files_of(contents, "content"), *dict.fromkeys(pair.he for pair in pairs)]
    ihc = [*files_of(styles, "style"), *dict.fromkeys(pair.ihc for pair in pairs)]
    check_apart([out], [file, *he, *ihc])
    read = [[_whole(file, model.mpp, slide_mpp) for file in files] for files in (he, ihc)]
    shown, real = ([image for image, _ in images] for images in read)
    found, before, after = calibrated(model.target, lambda target: _stained(model, target, shown), real)
    record = {
        "gain": found.gain,
        "offset": found.offset,
        "error_before": before,
        "error_after": after,
        "content_sha256": [sha256_of(file) for file in he],
        "style_sha256": [sha256_of(file) for file in ihc],
        "from_model_sha256": model.sha256,
    }
    made = replace(
        model, name=out.stem, target=found.of(model.target), training={**model.training, "calibration": record}
    )
    write_model(out, made)
    assumed = {"mpp_assumed": [model.mpp for images in read for _, is_assumed in images if is_assumed]}
    return {"output": str(out), "sha256": made.sha256, **record, **assumed, "notice": NOTICE}


def _whole(file: Path, mpp: float, slide_mpp: float | None) -> tuple[Image, bool]:
    """The image at an mpp, and whether that is assumed of it, as it states no pixel size."""
    with open_slide(file, mpp=slide_mpp, assumed_mpp=mpp) as slide:
        return slide.read_at((0, 0), slide.size_at(mpp), mpp), slide.mpp_from == "assumed"


def _stained(model: Model, target: Target, images: Sequence[Image]) -> list[Image]:
    network = replace(model, target=target).network()
    assert isinstance(network, StainerNetwork)  # noqa: S101 - of its architecture it is one
    return [stain(network, image, slide_look(image)) for image in images]
