"""How sure a stainer was of a slide: one map of all blocks, and the picture of it that is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.image import write_image
from chromogen.slides.store import BlockStore
from chromogen.staining.confidence import SQUARE_PX
from chromogen.staining.confidence_map import Levels, heat_map

SHOWS = "confidence: yellow is like the exemplar's tissue, violet unlike it; white is glass"


def slide_levels(store: BlockStore) -> Levels:
    """The maps of all finished blocks as one, uint8 (h, w) of squares of SQUARE_PX; 0 where there is none."""
    width, height = (-(-side // SQUARE_PX) for side in store.size)
    levels = np.zeros((height, width), np.uint8)
    for index in store.indices():
        found, window = store.levels(index), store.window(index)
        if found is not None:
            top, left = window.top // SQUARE_PX, window.left // SQUARE_PX
            levels[top : top + found.shape[0], left : left + found.shape[1]] = found
    return levels


def write_confidence(path: Path, levels: Levels, facts: Mapping[str, Any]) -> None:
    """Write a map in colours, with the facts of the stained slide, of whose pixels a square has SQUARE_PX.

    Raises: ImageError where the file's ending is none of an image; OSError.
    """
    mpp = float(facts["mpp"]) * SQUARE_PX
    write_image(path, heat_map(levels), {**facts, "mpp": mpp, "shows": SHOWS}, mpp)
