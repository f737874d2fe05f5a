"""The option `--where`: which source of *where* a text names, and that source for a slide or a tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chromogen.app.paths import check_there
from chromogen.app.staining import Task
from chromogen.compute.grid import whole
from chromogen.errors import choose, expected
from chromogen.image import WRITE_SUFFIXES, Image
from chromogen.models import MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.regions.geojson import SUFFIXES as GEOJSON_SUFFIXES
from chromogen.slides.slide import Slide, open_slide
from chromogen.staining.looks import Look
from chromogen.staining.onnx_where import read_where_model
from chromogen.staining.stainer import Stainer
from chromogen.staining.tissue import MPP
from chromogen.staining.where import BY_TISSUE, Frame, Where
from chromogen.staining.where_map import read_map, read_paired
from chromogen.staining.where_regions import ELSEWHERE, read_regions
from chromogen.style.where_style import style_map
from chromogen.whole_slide.view import view_at

NAMES = ("tissue", "style")
FILES = (*GEOJSON_SUFFIXES, *WRITE_SUFFIXES, ONNX_SUFFIX, MODEL_SUFFIX)


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


def levels_of(texts: Sequence[str]) -> dict[str, float]:
    """Levels by class from `CLASS=VALUE`. Raises: ValueError for another form, a class twice, or no level.

    >>> levels_of(["Tumor=0.8", "elsewhere=0"])
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
