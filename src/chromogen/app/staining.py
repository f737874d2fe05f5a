"""Staining of files: by what, which are tiles and which are slides, what each becomes, and tiles one by one."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromogen.app.paths import check_apart, check_folder, check_there, make_folder
from chromogen.errors import expected
from chromogen.files import stem_of
from chromogen.grid import whole
from chromogen.image import WRITE_SUFFIXES, Image, is_image, write_image
from chromogen.onnx_models.generator import load_generator
from chromogen.onnx_models.onnx_file import SUFFIX as ONNX_SUFFIX
from chromogen.provenance import peak_rss_mb
from chromogen.slides.facts import Facts
from chromogen.slides.slide import Slide, open_slide, slide_files
from chromogen.slides.threads import processors
from chromogen.stainer import Stainer, load_look, load_stainer, stain_image, stainer_of_look
from chromogen.staining.exemplar import Exemplar, joined_exemplars, measure_exemplar
from chromogen.staining.looks import Look
from chromogen.staining.tissue import MPP as EXEMPLAR_MPP
from chromogen.stains.appearance import doubts
from chromogen.whole_slide.output import SUFFIXES
from chromogen.whole_slide.runners import MOST_THREADS
from chromogen.whole_slide.seams import seam_score
from chromogen.whole_slide.stain import OnBlock
from chromogen.whole_slide.view import view_at, warn_of_coarse_pixels, warn_of_doubt

TIFF = (".tif", ".tiff")
LARGEST_TILE_PX = 25_000_000


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


def noted(follow: OnBlock, trace: Path, file: Path) -> OnBlock:
    """`follow`, and for every block a line of JSON at the end of `trace`, for others to follow."""
    began = time.perf_counter()

    def note(done: int, of: int) -> None:
        line = {"file": file.name, "done": done, "of": of, "seconds": time.perf_counter() - began}
        with trace.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        follow(done, of)

    return note


def look_stainer(
    styles: Sequence[Path], name: str, site: str, share: float | None, seed: int, mpp: float | None
) -> Stainer:
    """The stainer of a look: one by name or file, or measured now on reference IHCs, `styles`.

    `mpp` is the pixel size of styles that do not say it. Raises: ValueError for what is no look, and for an
    exemplar that shows none; FileNotFoundError; SlideError.
    """
    if not styles:
        if site != "auto":
            raise expected("site", "left out without --style", site, "a look has a site of its own")
        return stainer_of_look(load_look(name), share, seed)
    return stainer_of_look(measured_look(styles, site, mpp), share, seed)


def measured_look(styles: Sequence[Path], site: str, mpp: float | None) -> Look:
    """The look of reference IHCs, `styles`, measured now. Raises: as `look_stainer`."""
    check_there("style", styles, "an existing IHC image or slide")
    exemplars = [_exemplar_of(style, site, mpp) for style in styles]
    source = ", ".join(style.name for style in styles)
    return Look(styles[0].stem, f"as {source}", source, "as its source", joined_exemplars(exemplars))


def _exemplar_of(style: Path, site: str, mpp: float | None) -> Exemplar:
    with open_slide(style, mpp, assumed_mpp=EXEMPLAR_MPP) as slide:
        view = view_at(slide, EXEMPLAR_MPP)
        if view.size[0] * view.size[1] > LARGEST_TILE_PX:
            got = f"{view.size[0]} x {view.size[1]} px at {EXEMPLAR_MPP:g} um/px"
            raise expected("style", f"a field of at most {LARGEST_TILE_PX:,} px", got, "cut one out of the slide")
        ihc = view.read(whole(view.size))
    if doubt := doubts(ihc, "style", EXEMPLAR_MPP):
        warnings.warn(f"{style.name} {doubt}.", stacklevel=3)
    return measure_exemplar(ihc, site)


def any_stainer(
    name: str, marker: str | None, mpp: float | None, value_range: str | None, blend_px: int | None
) -> Stainer:
    """The stainer of a name or file, a generator's among them; what only that is given goes with none else.

    Raises: as `load_stainer` and `load_generator`.
    """
    if Path(name).suffix.lower() == ONNX_SUFFIX:
        if marker is not None:
            raise expected("marker", "left out: a generator has one look", marker)
        return load_generator(name, mpp, value_range=value_range, blend_px=blend_px)
    for option, given in (("range", value_range), ("blend", blend_px)):
        if given is not None:
            raise expected(option, f"given with a generator in a {ONNX_SUFFIX} file", given, "leave it out")
    return load_stainer(name, marker)


def stain_tile(task: Task, stainer: Stainer, *, mpp: float | None, icc: bool) -> dict[str, Any]:
    """Read an image, stain it, write it with its provenance; the facts.

    Its mpp is the stainer's where none is known. Raises: ValueError or OSError.
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
    with ThreadPoolExecutor(min(MOST_THREADS, processors())) as pool:
        stained = stain_image(stainer, image, each=pool.map)
    write_image(task.out, stained, facts.as_json(), facts.mpp if known else None)
    seconds = time.perf_counter() - began
    return {
        "output": str(task.out),
        "size": list(view.size),
        "mpp": facts.mpp,
        **({} if known else {"mpp_assumed": stainer.mpp}),
        "stainer": stainer.name,
        "target_stain": stainer.target_stain,
        "notice": facts.notice,
        "seconds": seconds,
        "mpx_per_s": view.size[0] * view.size[1] / 1e6 / seconds,
        "tiles": 1,
        "tissue_fraction": None,
        "doubt": doubt,
        "seam_score": _seams(stainer, stained),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def _seams(stainer: Stainer, stained: Image) -> float | None:
    """Where windows of a lattice meet; None without one."""
    size = stained.shape[1], stained.shape[0]
    cells = stainer.lattice.cells(whole(size)) if stainer.lattice else []
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
    )
