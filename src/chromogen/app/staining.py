"""Staining of files: by what, which are tiles and which are slides, what each becomes, and tiles one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromogen.app.arguments import check_left_out, region_of
from chromogen.app.looks import LookRequest, measured_look
from chromogen.app.terminal import note_assumed
from chromogen.compute.tiles import whole
from chromogen.errors import choose, expected
from chromogen.files import check_apart, check_folder, check_there, make_folder, stem_of
from chromogen.image import WRITE_SUFFIXES, Image, is_image
from chromogen.models import MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.regions.geojson import SUFFIXES as GEOJSON_SUFFIXES
from chromogen.slides.slide import Slide, open_slide, slide_files
from chromogen.staining.looks import Look
from chromogen.staining.onnx_generator import read_where_model
from chromogen.staining.stainer import Stainer, builtin_ihc, load_look
from chromogen.staining.tissue import MPP
from chromogen.staining.where import BY_TISSUE, Frame, Where
from chromogen.staining.where_files import ELSEWHERE, read_map, read_paired, read_regions
from chromogen.style.where_style import style_map
from chromogen.whole_slide.blocks import Run, cluster_at, local_cluster, on_cluster
from chromogen.whole_slide.job import SUFFIXES, Output, SlideJob
from chromogen.whole_slide.stain import OnBlock, stain_slide, stain_tile
from chromogen.whole_slide.view import SlideFile, view_at

TIFF = (".tif", ".tiff")
LARGEST_TILE_PX = 25_000_000
DEFAULT_LOOK = "epithelial"  # which was measured on scikit-image's IHC
NAMES = ("tissue", "style")
FILES = (*GEOJSON_SUFFIXES, *WRITE_SUFFIXES, ONNX_SUFFIX, MODEL_SUFFIX)


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


def noted(follow: OnBlock, trace: Path, file: Path) -> OnBlock:
    """`follow`, and for every block a line of JSON at the end of `trace`, for others to follow."""
    began = time.perf_counter()

    def note(done: int, of: int) -> None:
        line = {"file": file.name, "done": done, "of": of, "seconds": time.perf_counter() - began}
        with trace.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")
        follow(done, of)

    return note


@dataclass(frozen=True)
class Staining:
    """How files are stained, and what is written beside their results.

    `mpp` is um per pixel where files do not say it or are wrong. `part` (x, y, w, h) in level-0 pixels is of a
    single slide; `tissue_mask`, `strict` and `restart` are for slides, as in `SlideJob` and `stain_slide`.
    `confidence` is an image to write for a single input, `trace` a file with a line of JSON for each block.
    `needs_mpp` says that a generator must know the pixel size.
    """

    mpp: float | None
    icc: bool = True
    part: tuple[int, int, int, int] | None = None
    tissue_mask: bool = True
    confidence: Path | None = None
    trace: Path | None = None
    compression: str = "jpeg"
    anonymous: bool = False
    strict: bool = False
    restart: bool = False
    needs_mpp: bool = False

    def begin(self, tasks: Sequence[Task]) -> None:
        """Check what is asked of these inputs, and begin a new trace. Raises: ValueError."""
        single = {"region": self.part, "confidence": self.confidence}
        for option, given in single.items():
            if given and (len(tasks) > 1 or (option == "region" and not tasks[0].is_slide)):
                wanted = f"given with one {'slide' if option == 'region' else 'input'}"
                raise expected(option, wanted, f"{len(tasks)} inputs", "stain one by one")
        if self.confidence and self.confidence.suffix.lower() not in WRITE_SUFFIXES:
            raise expected("confidence", f"a file ending in {', '.join(WRITE_SUFFIXES)}", self.confidence)
        for beside in filter(None, (self.confidence, self.trace)):
            check_apart([beside], [file for task in tasks for file in (task.file, task.out)])
            check_folder(beside.parent)
        if self.trace:
            self.trace.unlink(missing_ok=True)
        for task in tasks:
            self._output(task)

    def stain(self, task: Task, stainer: Stainer, run: Run | None, follow: OnBlock) -> dict[str, Any]:
        """Stain one file; the facts. Raises: as `stain_tile` and `stain_slide`."""
        output = self._output(task)
        if output is None:
            return stain_tile(task.file, task.out, stainer, mpp=self.mpp, icc=self.icc, confidence=self.confidence)
        file = SlideFile(task.file, self.mpp, self.icc)
        if self.needs_mpp and stainer.sliding_window is not None:
            _check_mpp(file)
        return stain_slide(
            SlideJob(file, stainer, self.part, self.tissue_mask),
            output,
            run=run,
            strict=self.strict,
            restart=self.restart,
            confidence=self.confidence,
            on_block=noted(follow, self.trace, task.file) if self.trace else follow,
        )

    def _output(self, task: Task) -> Output | None:
        """The slide that is written; None for a tile. Raises: ValueError for a compression that there is not."""
        return Output(task.out, self.compression, anonymous=self.anonymous) if task.is_slide else None


def _check_mpp(file: SlideFile) -> None:
    """ValueError where a slide does not state its pixel size: a generator has no usual one."""
    with file.open() as slide:
        if slide.mpp is None:
            wanted = f"given, as {str(file.path)!r} does not say its pixel size"
            raise expected("mpp", wanted, "none", "0.25 at 40x, 0.5 at 20x")


@dataclass(frozen=True)
class WhereOption:
    """What a user asks for: a name or a file, and levels by class of regions."""

    source: str = "tissue"
    levels: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        """Raises: ValueError for what names no source, and for options that do not go with it."""
        if self.source not in NAMES and not self.source.lower().endswith(FILES):
            if not Path(self.source).suffix:
                choose("where", self.source, NAMES)
            raise expected("where", f"{', '.join(NAMES)} or a file ending in {', '.join(FILES)}", self.source)
        if self.levels and not self.of_one_slide:
            raise expected("level", "given with regions, in GeoJSON or a label image", self.source, "leave it out")

    @property
    def of_one_slide(self) -> bool:
        """Whether the file was drawn on a slide, or shows a slide, and so belongs to no other."""
        return self._ends(GEOJSON_SUFFIXES) or self._ends(WRITE_SUFFIXES)

    def for_all(self) -> Where | None:
        """The source, where it is the same for every input; None for others."""
        if self.source == "tissue":
            return BY_TISSUE
        if self.source not in NAMES:
            check_there("where", [Path(self.source)], "an existing file")
        if self._ends(MODEL_SUFFIX):
            return read_paired(Path(self.source))
        return read_where_model(Path(self.source)) if self._ends(ONNX_SUFFIX) else None

    def of(self, file: Path, mpp: float | None = None) -> Where:
        """The source for one slide, whose pixels are `mpp` um where its file does not say.

        Raises: as `for_all`, `open_slide` and the sources.
        """
        where = self.for_all()
        if where is not None:
            return where
        with open_slide(file, mpp, assumed_mpp=MPP) as slide:
            return self.on(slide)

    def on(self, slide: Slide) -> Where:
        """The source that a file of one slide is."""
        frame = Frame(slide.size, view_at(slide, MPP).size)
        if not (self.levels or self._ends(GEOJSON_SUFFIXES)):
            return read_map(Path(self.source).absolute(), frame)
        levels = dict(self.levels or {})
        elsewhere = levels.pop(ELSEWHERE, 0.0)
        return read_regions(Path(self.source).absolute(), frame, levels, elsewhere)

    def _ends(self, suffixes: str | tuple[str, ...]) -> bool:
        return self.source.lower().endswith(suffixes)


def levels_by_class(texts: Sequence[str]) -> dict[str, float]:
    """Levels by class from `CLASS=VALUE`. Raises: ValueError for another form, a class twice, or no level.

    >>> levels_by_class(["Tumor=0.8", "elsewhere=0"])
    {'Tumor': 0.8, 'elsewhere': 0.0}
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            level = float(value)
        except ValueError:
            level = -1.0
        if not name or not 0 <= level <= 1:
            raise expected("level", "CLASS=VALUE, with a value from 0 to 1", text, "such as Tumor=0.8")
        if name in found:
            raise expected("level", "given once for each class", f"{name} twice")
        found[name] = level
    return found


@dataclass(frozen=True)
class LookStainer:
    """A look by the dials of a user, by `make`, whose source of *where* may be another for every input."""

    look: Look
    references: Sequence[Image]
    share: float | None
    make: Callable[[Where], Stainer]
    option: WhereOption

    def stainers(self, tasks: Sequence[Task], mpp: float | None, *, icc: bool) -> Callable[[Task], Stainer]:
        """The stainer of each input; sources that can be read are read now, so that errors come first.

        Raises: ValueError for a source that does not fit the inputs or the look; as `open_slide` and the sources.
        """
        slides = [task for task in tasks if task.is_slide]
        if self.option.source == "style":
            self._check_style(slides)
            return lambda task: self.make(self._style_of(task, mpp, icc=icc))
        if self.option.of_one_slide and len(tasks) > 1:
            raise expected("where", "of the slide that is stained", f"one file for {len(tasks)} inputs")
        stainer = self.make(self.option.of(tasks[0].file, mpp))
        return lambda _task: stainer

    def _check_style(self, slides: Sequence[Task]) -> None:
        if slides:
            wanted = "another source than style, which optimizes tiles alone"
            raise expected("where", wanted, f"a slide, {slides[0].file}", "write an image, such as .png")
        if not self.references:
            wanted = f"given with --where style, as {self.look.name} comes without its picture"
            raise expected("style", wanted, "none", "name a reference IHC")
        if self.share is not None:
            raise expected("share", "left out: the map of `where`, style, gives shares", self.share)

    def _style_of(self, task: Task, mpp: float | None, *, icc: bool) -> Where:
        with open_slide(task.file, mpp, icc, assumed_mpp=MPP) as slide:
            view = view_at(slide, MPP)
            return style_map(view.read(whole(view.size)), self.references, self.look.exemplar)


def asked_look(
    style: list[Path] | None, name: str, site: str, style_mpp: float | None, style_region: str | None
) -> tuple[Look, list[Image]]:
    """A look by its name or file, or measured now on reference IHCs, and these; doubts of them are printed."""
    if not style:
        of_style = {"style-mpp": style_mpp, "style-region": style_region}
        check_left_out({"site": None if site == "auto" else site, **of_style}, "with --style")
        return load_look(name), [builtin_ihc()] if name == DEFAULT_LOOK else []
    look, references = measured_look(LookRequest(style, site, style_mpp, region_of("style-region", style_region)))
    note_assumed([MPP for reference in references if reference.assumed], "--style-mpp", "reference IHC")
    return look, [reference.picture for reference in references]


def always(stainer: Stainer) -> Callable[[Task], Stainer]:
    """The same stainer for every input."""
    return lambda _task: stainer


@contextmanager
def runner(workers: int | None, scheduler: str | None) -> Iterator[Run | None]:
    """Where blocks are worked on; None: here."""
    if workers and scheduler:
        raise expected("workers", "left out where --scheduler is given", workers)
    if not (workers or scheduler):
        yield None
        return
    with cluster_at(scheduler) if scheduler else local_cluster(workers or 1) as client:
        yield on_cluster(client)
