"""Stains: `chromogen stain` on a view of a slide, done at once, or on all of it, as work in a queue."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from chromogen.app.staining import WhereOption
from chromogen.app.view.choices import MODEL_SUFFIXES, TISSUE, dialled
from chromogen.app.view.drawn_regions import ImportedRegion, write_regions
from chromogen.app.view.pictures import where_picture
from chromogen.app.view.slide_catalog import STORE
from chromogen.app.view.work_folder import (
    REGION,
    RESULT,
    TRACE,
    Progress,
    check_region,
    keep_region,
    lines_of,
    region_file,
)
from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window
from chromogen.image import write_image
from chromogen.page import script
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.staining.confidence import unlike_fraction
from chromogen.staining.looks import Look
from chromogen.staining.stainer import Stainer, is_look, load_look
from chromogen.staining.stainer import look_where as own_where
from chromogen.staining.where import BY_TISSUE, Where
from chromogen.staining.window import where_map
from chromogen.whole_slide.job import SlideJob, stain_part
from chromogen.whole_slide.kept_views import fitted_to, kept_survey, kept_view, look_fitted_to, showing
from chromogen.whole_slide.stain import tile_facts
from chromogen.whole_slide.survey import Survey, write_confidence
from chromogen.whole_slide.view import SlideFile, View, held_slide, read_around_damage

REGIONS, CONFIDENCE = "regions.geojson", "confidence.png"
LONGEST_PART = 60
LOSSLESS = "deflate"


@dataclass(frozen=True)
class Stain:
    """What was asked.

    `source` is the file of the slide of id `slide`, `name` what people call it; `location` and `size` say where
    a part of it is, in level-0 pixels, None for the whole; a part that is `queued` is too large to be done at
    once, and becomes a slide. `mpp` is the slide's where its file says none.
    Of a measured look, `dials` are those that were moved; `where` is what people call its source of *where*,
    `where_file` the file that is read for it, `levels` those of its classes; `fill` stains unlike tissue, too.
    `stainer` is a name, `model` what is loaded: that name, or a file. A generator trained elsewhere may have to be
    told its `trained_mpp` and `value_range`. `doubt` says why
    the slide may not be an H&E.
    """

    id: str
    slide: str
    name: str
    source: str
    stainer: str
    model: str
    mpp: float | None = None
    location: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    trained_mpp: float | None = None
    value_range: str | None = None
    doubt: str | None = None
    queued: bool = False
    dials: dict[str, float] = field(default_factory=dict)
    where: str = TISSUE
    where_file: str = ""
    levels: dict[str, float] = field(default_factory=dict)
    fill: bool = False
    record: ClassVar[str] = "stain.json"
    kind: ClassVar[Literal["stain"]] = "stain"
    unit: ClassVar[str] = "block"
    begins_by: ClassVar[str] = "looking at the slide"
    kept: ClassVar[str] = "finished blocks are kept"

    @property
    def title(self) -> str:
        """By what it is stained, in a few words."""
        name = Path(self.stainer).name
        return next((name.removesuffix(end) for end in MODEL_SUFFIXES if name.endswith(end)), name)

    @property
    def settings(self) -> str:
        """What was set of the stainer, in a few words."""
        dials = [f"{name} {round(value, 2):g}" for name, value in self.dials.items()]
        return ", ".join([*dials, *(["filled"] if self.fill else [])])

    @property
    def made_in(self) -> str:
        """Where its command line is run."""
        part = "; it writes this part as a slide, without loss" if self.location else ""
        return f"In the folder of {Path(self.name).name}{part}:"

    @property
    def sources(self) -> tuple[str, ...]:
        """The files that it reads, whose folders nobody else need know."""
        return tuple(filter(None, (self.source, self.model, self.where_file)))

    @property
    def is_slide(self) -> bool:
        """Whether its result is a slide, not one picture."""
        return self.output != RESULT

    @property
    def region(self) -> tuple[int, int, int, int] | None:
        """X, y, width and height of a view."""
        return (*self.location, *self.size) if self.location and self.size else None

    @property
    def is_set(self) -> bool:
        """Whether something was chosen that only a measured look has."""
        return bool(self.dials or self.where_file or self.fill)

    @property
    def slide_out(self) -> str:
        """The name under which the command line writes it."""
        names = [Path(name).stem for name in (self.name, self.stainer)]
        names += [f"{self.location[0]}-{self.location[1]}"] if self.location else []
        return f"{'_'.join(name[:LONGEST_PART] for name in names)}.ome.tif"

    @property
    def output(self) -> str:
        """The name of the result in its folder: of a view a picture that any browser shows."""
        return RESULT if self.location and not self.queued else self.slide_out

    @property
    def files(self) -> tuple[str, ...]:
        """What it leaves in its folder."""
        made = (self.slide_out, f"{self.slide_out}{STORE}")
        return (REGION, RESULT, TRACE, REGIONS, CONFIDENCE, *made)

    @property
    def leftovers(self) -> tuple[str, ...]:
        """Its finished blocks."""
        return (f"{self.slide_out}{STORE}",)

    def is_finished(self, folder: Path) -> bool:
        """Whether the slide is there, whole: it was compared with its blocks before it was given its name."""
        try:
            with open_slide(folder / self.slide_out):
                return read_facts(folder / self.slide_out) is not None
        except (OSError, ValueError):
            return False

    def progress(self, folder: Path) -> Progress:
        """How far a slide is, from what its process has written into its folder."""
        lines = lines_of(folder / TRACE, "done")
        if not lines:
            return Progress()
        first, last = lines[0], lines[-1]
        blocks, seconds = last["done"] - first["done"], last["seconds"] - first["seconds"]
        left = (last["of"] - last["done"]) * seconds / blocks if blocks else None
        return Progress(last["done"], last["of"], last["seconds"], left)

    @property
    def command(self) -> list[str]:
        """The whole command, with what lets others follow it."""
        follow = ["--trace", TRACE, "--json", *(["--confidence", CONFIDENCE] if is_look(self.model) else [])]
        options = self.options(self.model, self.where_file)
        return [sys.executable, "-m", "chromogen", "stain", self.source, *options, *follow]

    def options(self, stainer: str, where: str) -> list[str]:
        """What follows the input on the command line, with the file of *where*."""
        given = {
            "--model-mpp": self.trained_mpp and f"{self.trained_mpp:.6g}",
            "--mpp": self.mpp and f"{self.mpp:.6g}",
            "--region": self.region and ",".join(map(str, self.region)),
            "--compression": LOSSLESS if self.region else None,
            **{f"--{name.replace('_', '-')}": f"{value:g}" for name, value in self.dials.items()},
        }
        ranges = [f"--range={self.value_range}"] if self.value_range else []  # it may begin with a minus
        said = [word for option, value in given.items() if value for word in (option, value)]
        follows = ["--where", where, *(f"--level={name}={level:g}" for name, level in self.levels.items())]
        of_look = [*(follows if self.where_file else []), *(["--fill"] if self.fill else [])]
        return ["--stainer", stainer, *said, *ranges, *of_look, "-o", self.slide_out]

    @property
    def shell_line(self) -> str:
        """The command line that makes the same, in the folder of the slide."""
        return shlex.join(["chromogen", "stain", self.name, *self.options(self.stainer, self.where)])

    @property
    def python_lines(self) -> str:
        """The same in Python."""
        return script("stain.py.txt", stain=self, suffix=Path(self.model).suffix.lower())


def with_regions(stain: Stain, drawn: Sequence[ImportedRegion], folder: Path) -> Stain:
    """The stain, with the regions that it follows in a file in the folder, where it follows any."""
    if stain.where != REGIONS:
        return stain
    write_regions(folder / REGIONS, drawn)
    return replace(stain, where_file=str((folder / REGIONS).absolute()))


# Views of slides, stained as the whole slide would be there: by its own statistics, kept from view to view.

_WHERES: LruCache[Where] = LruCache(20, lambda _: 1)
_REGIONS: LruCache[bytes] = LruCache(30_000_000, len)  # as files
_LOOKS: LruCache[Look] = LruCache(20, lambda _: 1)
BLACK = (0, 0, 0)


class Ready(NamedTuple):
    """What a region of a slide is stained with: the job, the slide as it is seen, its survey, a fitted stainer."""

    job: SlideJob
    view: View
    seen: Survey
    fitted: Stainer


def loaded(stain: Stain) -> Stainer:
    """The stainer that was asked for. Raises: as `Stainer.from_pretrained`, `dialled` and `where_of`."""
    if stain.is_set:
        return dialled(_look(stain), stain.dials, where_of(stain), fill=stain.fill)
    return Stainer.from_pretrained(stain.model, stain.trained_mpp, value_range=stain.value_range)


def where_of(stain: Stain) -> Where:
    """The source of *where* that was asked for, read once as long as its file does not change.

    Without any it is the model's own, or the slide's tissue. Raises: as `WhereOption.of`.
    """
    if not stain.where_file:
        return own_where(stain.model) or BY_TISSUE
    file = Path(stain.where_file)
    key = (*_version(file), tuple(stain.levels.items()), stain.source, stain.mpp)
    option = WhereOption(stain.where_file, stain.levels or None)
    return _WHERES.get(key, lambda: option.of(Path(stain.source), stain.mpp))


def _look(stain: Stain) -> Look:
    """The look that was asked for, read once as long as its file does not change. Raises: as `load_look`."""
    file = Path(stain.model)
    key = _version(file) if file.suffix and file.is_file() else (stain.model,)
    return _LOOKS.get(key, lambda: load_look(stain.model))


def _version(file: Path) -> tuple[object, ...]:
    """A file as it is now. Raises: OSError."""
    found = file.stat()
    return file, found.st_mtime_ns, found.st_size


def stainer_mpp(stain: Stain) -> float:
    """Its pixel size, um, whatever says where it stains. Raises: as `loaded`."""
    return loaded(replace(stain, where_file="", levels={})).mpp


def stain_view(stain: Stain, folder: Path) -> None:
    """Stain the region of a stain, and write it, with the H&E that it was, into the folder.

    Where the stainer says how sure it is, that is written too. Raises: as `_ready`.
    """
    with _ready(stain) as ready:
        job, view, fitted = ready.job, ready.view, ready.fitted
        paints = showing(fitted, job.window(view)) if is_look(stain.model) else fitted
        made = stain_part(job, view, ready.seen, paints)
        mpp = view.mpp or view.slide.need_mpp()
        keep_region(folder, _region_file(stain, view, job.window(view), mpp))
        sure = {} if made.levels is None else {"unlike_fraction": unlike_fraction(made.levels)}
        facts = replace(
            tile_facts(view.slide, mpp, fitted), settings=job.plan(view), statistics={"confidence": sure}
        )
        write_image(folder / RESULT, made.pixels, facts.as_json(), facts.mpp if facts.source_mpp else None)
        if made.levels is not None:
            write_confidence(folder / CONFIDENCE, made.levels, facts.as_json())


def _region_file(stain: Stain, view: View, window: Window, mpp: float) -> bytes:
    """The H&E of a region, as a file, made once."""

    def make() -> bytes:
        return region_file(read_around_damage(view, window)[0], mpp, stain.location or (0, 0))

    return _REGIONS.get((*view.identity, window, stain.location), make)


def show_where(stain: Stain) -> bytes:
    """*Where* in the region of a stain by a look, as a picture to lay on the slide. Raises: as `_ready`."""
    with _ready(stain) as (job, view, seen, fitted):
        where = where_of(stain)
        painting = partial(where_map, _look(stain).exemplar.site, where)
        shows = replace(fitted, paint=painting, identity=f"where {where.identity}", white=BLACK)
        return where_picture(stain_part(job, view, seen, shows).pixels[..., 0])


@contextmanager
def _ready(stain: Stain) -> Iterator[Ready]:
    """What the region of a stain is stained with.

    Raises: ValueError where the region is too small or large at the stainer's mpp, or leads out; OSError.
    """
    stainer = loaded(stain)
    file = SlideFile(Path(stain.source), stain.mpp)
    with held_slide(file) as slide:
        view = kept_view(slide, stainer.mpp)
        job = SlideJob(file, stainer, stain.region)
        advice = "zoom in, or stain the whole slide"
        check_region("view at the stainer's pixel size", job.window(view).size, advice)
        seen = kept_survey(view)
        if is_look(stain.model):
            seed = int(stain.dials.get("seed", 0))
            yield Ready(job, view, seen, look_fitted_to(stainer, view, seen, seed, where_of(stain)))
        else:
            yield Ready(job, view, seen, fitted_to(stainer, view, seen))
