"""A tile in, a stained tile out: an image that is stained in one piece, with its provenance."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.compute.grid import whole
from chromogen.image import Image, write_image
from chromogen.provenance import peak_rss_mb
from chromogen.slides.facts import Facts
from chromogen.slides.pyramid import processors
from chromogen.slides.slide import Slide, open_slide
from chromogen.staining.confidence import Levels, squares_of, unlike_fraction
from chromogen.staining.stainer import Stainer, paint_image
from chromogen.stains.appearance import doubts
from chromogen.whole_slide.blocks import MAX_THREADS
from chromogen.whole_slide.survey import seam_score, write_confidence
from chromogen.whole_slide.view import view_at, warn_of_coarse_pixels, warn_of_doubt


def stain_tile(
    file: Path, out: Path, stainer: Stainer, *, mpp: float | None, icc: bool, confidence: Path | None = None
) -> dict[str, Any]:
    """Read an image, stain it, write it with its provenance; the facts.

    Its mpp is the stainer's where none is known. `confidence` is as for `stain_slide`. Raises: ValueError or
    OSError.
    """
    began = time.perf_counter()
    with open_slide(file, mpp, icc, assumed_mpp=stainer.mpp) as slide:
        warn_of_coarse_pixels(slide, stainer)
        view = view_at(slide, stainer.mpp)
        image = view.read(whole(view.size))
        known = slide.mpp_from != "assumed"
        doubt = doubts(image, "content", view.mpp or slide.need_mpp())
        warn_of_doubt(slide, stainer, doubt)
        facts = tile_facts(slide, view.mpp or slide.need_mpp(), stainer)
    with ThreadPoolExecutor(min(MAX_THREADS, processors())) as pool:
        painted = paint_image(stainer, image, each=pool.map)
    stained, levels = np.ascontiguousarray(painted[..., :3]), _levels(painted)
    sure = {"unlike_fraction": unlike_fraction(levels)} if levels.any() else {}
    told = {**facts.as_json(), "statistics": {"confidence": sure}}
    write_image(out, stained, told, facts.mpp if known else None)
    if confidence is not None:
        write_confidence(confidence, levels, told)
    seconds = time.perf_counter() - began
    return {
        "output": str(out),
        "size": list(view.size),
        "mpp": facts.mpp,
        **({} if known else {"mpp_assumed": stainer.mpp}),
        "stainer": stainer.name,
        "target_stain": stainer.target_stain,
        "where": stainer.where,
        "notice": facts.notice,
        "seconds": seconds,
        "mpx_per_s": view.size[0] * view.size[1] / 1e6 / seconds,
        "tiles": 1,
        "tissue_fraction": None,
        "doubt": doubt,
        "unlike_fraction": sure.get("unlike_fraction"),
        "seam_score": _seams(stainer, stained),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def _levels(painted: Image) -> Levels:
    """How sure the stainer was, in squares; 0 where it does not say."""
    return squares_of(painted[..., 3] if painted.shape[2] > 3 else np.zeros(painted.shape[:2], np.uint8))


def _seams(stainer: Stainer, stained: Image) -> float | None:
    """Where sliding windows meet; None without one."""
    size = stained.shape[1], stained.shape[0]
    cells = stainer.sliding_window.cells(whole(size)) if stainer.sliding_window else []
    return seam_score(lambda window: stained[window.at], cells, size)


def tile_facts(slide: Slide, mpp: float, stainer: Stainer) -> Facts:
    """What the file of a tile says."""
    return Facts(
        mpp=mpp,
        stainer=stainer.name,
        stainer_hash=stainer.identity,
        target_stain=stainer.target_stain,
        source_quickhash=slide.quickhash,
        source_mpp=slide.mpp if slide.mpp_from != "assumed" else None,
        where=stainer.where,
    )
