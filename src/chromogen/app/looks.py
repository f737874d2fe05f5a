"""Looks from reference IHCs: measured with what is doubtful of them, written with a preview, and told."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.app.info import look_card
from chromogen.data import DemoSlideError, demo_field, demo_slide
from chromogen.errors import expected
from chromogen.files import check_apart, check_folder, check_there
from chromogen.image import Image, write_image
from chromogen.models import LOOK_SUFFIX
from chromogen.provenance import NOTICE
from chromogen.slides.slide import open_slide
from chromogen.staining.looks import Look, write_look
from chromogen.staining.stainer import stainer_of_look
from chromogen.staining.tissue import MPP
from chromogen.stains.tissue import densest_window, tissue_mask
from chromogen.whole_slide.measured_looks import ReferenceFile, look_of_references, read_references
from chromogen.whole_slide.survey import Region

PREVIEW_PX, GAP_PX = 448, 8  # side of a picture in the preview, and how far apart they are


@dataclass(frozen=True)
class LookRequest:
    """Reference IHCs of one marker, what it stains, and what the look is called; `mpp` is theirs in um per pixel.

    `he` is the H&E that the preview shows the look on.
    """

    styles: Sequence[Path]
    site: str = "auto"
    mpp: float | None = None
    region: Region | None = None
    name: str = ""
    source: str = ""
    licence: str = ""
    he: Path | None = None


def measured_look(asked: LookRequest) -> tuple[Look, list[ReferenceFile]]:
    """The look of reference IHCs, and these; what is doubtful of them is warned of. Raises: as `measure_look`."""
    references = read_references(asked.styles, asked.mpp, asked.region)
    look = look_of_references(references, asked.site, asked.name, asked.source, asked.licence)
    for doubt in look.doubts:
        warnings.warn(f"{doubt}.", stacklevel=2)
    return look, references


def make_look(asked: LookRequest, out: Path) -> dict[str, Any]:
    """Measure reference IHCs, write their look and NAME.preview.png beside it; the facts.

    Raises: ValueError for another suffix, and for an output that would overwrite an input; as `measure_look`.
    """
    preview = out.with_name(f"{out.stem}.preview.png")
    _check(asked, out, preview)
    look, references = measured_look(asked)
    look = look if asked.name else replace(look, name=out.stem)
    write_look(out, look)
    pictures = [_most_tissue(references[0].picture), *_stained(look, asked.he)]
    write_image(preview, _side_by_side(pictures), {"notice": NOTICE}, MPP)
    assumed = sum(reference.assumed for reference in references)
    files = {"output": str(out), "preview": str(preview), "bytes": out.stat().st_size}
    return {**files, "exemplars": len(references), "without_mpp": assumed, **look_card(look)}


def _check(asked: LookRequest, out: Path, preview: Path) -> None:
    if out.suffix.lower() != LOOK_SUFFIX:
        advice = "name pairs by --paired to train a model"
        raise expected("out", f"a look's file ending in {LOOK_SUFFIX}, as no pairs are given", out, advice)
    check_there("style", asked.styles, "an existing IHC image, slide or folder")
    check_there("preview", [asked.he] if asked.he else [], "an existing H&E image or slide")
    check_apart([out, preview], [*asked.styles, *([asked.he] if asked.he else [])])
    check_folder(out.parent)


def _stained(look: Look, file: Path | None) -> list[Image]:
    """A field of H&E and the same in the look; nothing where the demo slide is not to be had."""
    try:
        he = _field(file or demo_slide())
    except DemoSlideError as error:
        warnings.warn(f"The preview shows the exemplar alone. {error}", stacklevel=3)
        return []
    return [he, stainer_of_look(look)(he)]


def _field(file: Path) -> Image:
    """The field of an H&E with the most nuclei, at MPP."""
    with open_slide(file, assumed_mpp=MPP) as slide:
        location, size = demo_field(slide, round(PREVIEW_PX * MPP / slide.need_mpp()))
        return slide.read_region(location, size, MPP)


def _most_tissue(picture: Image) -> Image:
    """The part of a picture with the most tissue."""
    height, width = (min(PREVIEW_PX, side) for side in picture.shape[:2])
    x, y = densest_window(tissue_mask(picture, MPP), (width, height))
    return picture[y : y + height, x : x + width]


def _side_by_side(pictures: Sequence[Image]) -> Image:
    """Pictures in a row on white."""
    tallest = max(len(picture) for picture in pictures)
    padded = [
        np.pad(picture, ((0, tallest - len(picture)), (0, GAP_PX), (0, 0)), constant_values=255)
        for picture in pictures
    ]
    return np.concatenate(padded, axis=1)[:, :-GAP_PX]
