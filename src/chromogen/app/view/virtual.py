"""Which slides are virtual stains, by what their files say, and the label that pictures of them carry."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from chromogen.image import Image, read_provenance
from chromogen.slides.facts import read_facts

LABEL = ("VIRTUAL STAIN", "not for diagnosis")
MARK = "virtual stain"  # begins the notice of every version of Chromogen
INK, PAPER = (255, 255, 255), (150, 20, 20)
MIN_LETTER_PX, GOOD_LETTER_PX, MAX_LETTER_PX = 8, 11, 48
MARGIN = 0.25  # of a letter's height


@lru_cache(maxsize=4096)
def virtual_facts(path: Path, _version: str) -> Mapping[str, Any] | None:
    """What a virtual stain's file says of how it was made; None for any other file.

    The content decides, not the name: facts in OME-TIFF and OME-Zarr, the provenance in plain images.
    """
    try:
        facts = read_facts(path)
        said = facts.as_json() if facts else (read_provenance(path) or {})
    except Exception:  # other people's files break in every way there is, and are no virtual stain
        return None
    return said if MARK in str(said.get("notice")).lower() else None


def stainer_of(facts: Mapping[str, Any] | None) -> str | None:
    """The stainer of a virtual stain, or how else it was made; None for what is none."""
    return None if facts is None else str(facts.get("stainer", "style transfer"))


def labelled(image: Image) -> Image:
    """The image, uint8 (H, W, 3), with `LABEL` over its lower edge, on a ground of its own; as large as before.

    In one line where the letters can be large enough, else in two.
    """
    height, width = image.shape[:2]
    lines = [" - ".join(LABEL)]
    font = _fitting(lines, width, height)
    if font.size <= MIN_LETTER_PX:
        lines = list(LABEL)
        font = _fitting(lines, width, height)
    picture = PIL.Image.fromarray(image)
    draw = PIL.ImageDraw.Draw(picture)
    line_px = round(font.size * (1 + MARGIN))
    top = height - line_px * len(lines) - round(font.size * MARGIN)
    draw.rectangle((0, top, width, height), fill=PAPER)
    for number, line in enumerate(lines):
        middle = (width / 2, top + (number + 0.5) * line_px + font.size * MARGIN / 2)
        draw.text(middle, line, fill=INK, font=font, anchor="mm")
    return np.asarray(picture)


def _fitting(lines: list[str], width: int, height: int) -> PIL.ImageFont.FreeTypeFont:
    """The largest letters in which lines fit a picture; at least `MIN_LETTER_PX`, though they may not fit."""
    trial = _font(100)
    widest = max(trial.getlength(line) for line in lines) / 100
    letter_px = min(0.9 * width / widest, max(height / 12, GOOD_LETTER_PX), MAX_LETTER_PX)
    return _font(max(letter_px, MIN_LETTER_PX))


def _font(size_px: float) -> PIL.ImageFont.FreeTypeFont:
    return cast(PIL.ImageFont.FreeTypeFont, PIL.ImageFont.load_default(size_px))
