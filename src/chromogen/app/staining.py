"""Staining of files: by what, which are tiles and which are slides, what each becomes, and tiles one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.app.paths import check_apart, check_folder, check_there, make_folder
from chromogen.compute.grid import whole
from chromogen.errors import expected
from chromogen.files import stem_of
from chromogen.image import WRITE_SUFFIXES, Image, is_image, write_image
from chromogen.provenance import peak_rss_mb
from chromogen.slides.facts import Facts
from chromogen.slides.pyramid import processors
from chromogen.slides.slide import Slide, open_slide, slide_files
from chromogen.staining.confidence import Levels, squares_of, unlike_fraction
from chromogen.staining.stainer import Stainer, paint_image
from chromogen.stains.appearance import doubts
from chromogen.whole_slide.blocks import MAX_THREADS
from chromogen.whole_slide.job import SUFFIXES
from chromogen.whole_slide.stain import OnBlock
from chromogen.whole_slide.survey import seam_score, write_confidence
from chromogen.whole_slide.view import view_at, warn_of_coarse_pixels, warn_of_doubt

TIFF = (".tif", ".tiff")
LARGEST_TILE_PX = 25_000_000
DEFAULT_LOOK = "epithelial"  # which was measured on scikit-image's IHC


@dataclass(frozen=True)
class Task:
    """A file and what it becomes: a slide, or a tile, which is an image."""

    file: Path
    out: Path
    is_slide: bool


def plan_stains(paths: Sequence[Path], out: Path) -> list[Task]:
    """What is read and where its result goes: `out` itself, or NAME.ome.tif or NAME.png in the folder `out`.

    Raises: ValueError or FileNotFoundError where an input is missing, an output would overwrite an input or
    another output, or its folder cannot be written to. Makes the folder `out` if only it is missing.
    """
    check_there("paths", paths, "an existing slide or image")
    files = slide_files(paths)
    into_folder = len(files) > 1 or files != list(paths) or (out.is_dir() and not out.name.endswith(SUFFIXES))
    tasks = [_in_folder(file, out) for file in files] if into_folder else [_alone(files[0], out)]
    _check_different(tasks)
    check_apart([task.out for task in tasks], files)
    if into_folder:
        make_folder(out)
    check_folder(tasks[0].out.parent)
    return tasks


def _check_different(tasks: Sequence[Task]) -> None:
    """ValueError for two files that would be written under one name, which names both."""
    files: dict[str, Path] = {}
    for task in tasks:
        name = task.out.name
        if name in files:
            twins = f"{files[name]} and {task.file}, which both become {name}"
            raise expected("input", "files of different names", twins, "rename one, or stain it elsewhere")
        files[name] = task.file


def _in_folder(file: Path, out: Path) -> Task:
    if _is_slide(file):
        return Task(file, out / f"{stem_of(file)}.ome.tif", True)
    return Task(file, out / f"{stem_of(file)}.png", False)


def _alone(file: Path, out: Path) -> Task:
    """The output's name decides whether it is a slide."""
    if out.name.lower().endswith(SUFFIXES):
        return Task(file, out, True)
    if out.suffix.lower() not in WRITE_SUFFIXES:
        raise expected("out", f"a file ending in {', '.join((*SUFFIXES, *WRITE_SUFFIXES))}", out)
    if not is_image(file):
        raise expected("out", f"a slide's name ending in {', '.join(SUFFIXES)}", out)
    return Task(file, out, False)


def _is_slide(file: Path) -> bool:
    """All but images of one level that are no larger than a tile, or cannot be read at all."""
    if not is_image(file) or file.name.lower().endswith(SUFFIXES):
        return True
    if file.suffix.lower() not in TIFF:
        return False
    try:
        with open_slide(file) as slide:
            return len(slide.level_sizes) > 1 or slide.size[0] * slide.size[1] > LARGEST_TILE_PX
    except (OSError, ValueError):
        return False


def begin_trace(trace: Path, tasks: Sequence[Task]) -> None:
    """Begin a new file for `noted`; ValueError where it is one of the others, or cannot be written."""
    check_apart([trace], [file for task in tasks for file in (task.file, task.out)])
    check_folder(trace.parent)
    trace.unlink(missing_ok=True)


def check_confidence(path: Path, tasks: Sequence[Task]) -> None:
    """ValueError where the map of one input's confidence cannot be written there."""
    if len(tasks) > 1:
        raise expected("confidence", "given with one input", f"{len(tasks)} inputs", "stain one by one")
    if path.suffix.lower() not in WRITE_SUFFIXES:
        raise expected("confidence", f"a file ending in {', '.join(WRITE_SUFFIXES)}", path)
    check_apart([path], [tasks[0].file, tasks[0].out])
    check_folder(path.parent)


def noted(follow: OnBlock, trace: Path, file: Path) -> OnBlock:
    """`follow`, and for every block a line of JSON at the end of `trace`, for others to follow."""
    began = time.perf_counter()

    def note(done: int, of: int) -> None:
        line = {"file": file.name, "done": done, "of": of, "seconds": time.perf_counter() - began}
        with trace.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        follow(done, of)

    return note


def stain_tile(
    task: Task, stainer: Stainer, *, mpp: float | None, icc: bool, confidence: Path | None = None
) -> dict[str, Any]:
    """Read an image, stain it, write it with its provenance; the facts.

    Its mpp is the stainer's where none is known. `confidence` is as for `stain_slide`. Raises: ValueError or
    OSError.
    """
    began = time.perf_counter()
    with open_slide(task.file, mpp, icc, assumed_mpp=stainer.mpp) as slide:
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
    write_image(task.out, stained, told, facts.mpp if known else None)
    if confidence is not None:
        write_confidence(confidence, levels, told)
    seconds = time.perf_counter() - began
    return {
        "output": str(task.out),
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
