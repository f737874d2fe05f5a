"""Stains: `chromogen stain` on a view of a slide, done at once, or on all of it, as work in a queue."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from chromogen.app.view.drawn_regions import ImportedRegion, write_regions
from chromogen.app.view.slide_catalog import STORE
from chromogen.app.view.work_folder import REGION, RESULT, TRACE, Progress, lines_of
from chromogen.models import LOOK_SUFFIX, MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import is_look

REGIONS, CONFIDENCE = "regions.geojson", "confidence.png"
SUFFIXES = (MODEL_SUFFIX, ONNX_SUFFIX, LOOK_SUFFIX)  # of files of stainers
TISSUE = "tissue"
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
        return next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)

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
        load, stainer = self._loading()
        mpp = f", mpp={self.mpp:.6g}" if self.mpp else ""
        region = f", region={self.region}" if self.region else ""
        lossless = f", {LOSSLESS!r}" if self.region else ""
        return "\n".join(
            [
                "from pathlib import Path",
                "from chromogen import Output, SlideFile, SlideJob, stain_slide",
                *load,
                "",
                f"stainer = {stainer}",
                f"slide = SlideFile(Path({self.name!r}){mpp})",
                f"output = Output(Path({self.slide_out!r}){lossless})",
                f"stain_slide(SlideJob(slide, stainer{region}), output)",
            ]
        )

    def _loading(self) -> tuple[list[str], str]:
        """What loads the stainer in Python: imports and what goes before, and a call."""
        if self.is_set:
            return self._loading_look()
        if Path(self.model).suffix.lower() != ONNX_SUFFIX:
            return ["from chromogen import Stainer"], f"Stainer.from_pretrained({self.stainer!r})"
        mpp = f", model_mpp={self.trained_mpp:.6g}" if self.trained_mpp else ""
        value_range = f", value_range={self.value_range!r}" if self.value_range else ""
        return ["from chromogen import Stainer"], f"Stainer.from_pretrained({self.stainer!r}{mpp}{value_range})"

    def _loading_look(self) -> tuple[list[str], str]:
        imports = ["from chromogen.staining.stainer import load_look, stainer_of_look"]
        given = [f"{name}={value:g}" for name, value in self.dials.items()]
        if self.where_file:
            option = f"{self.where!r}, {self.levels}" if self.levels else repr(self.where)
            mpp = f", {self.mpp:.6g}" if self.mpp else ""
            where = f"where = WhereOption({option}).of(Path({self.name!r}){mpp})"
            imports = ["from chromogen.app.staining import WhereOption", *imports, "", where]
            given.append("where=where")
        elif Path(self.model).suffix.lower() == MODEL_SUFFIX:
            imports = [f"{imports[0]}, look_where"]
            given.append(f"where=look_where({self.stainer!r})")
        given += ["fill=True"] if self.fill else []
        return imports, f"stainer_of_look(load_look({self.stainer!r}), {', '.join(given)})"


def with_regions(stain: Stain, drawn: Sequence[ImportedRegion], folder: Path) -> Stain:
    """The stain, with the regions that it follows in a file in the folder, where it follows any."""
    if stain.where != REGIONS:
        return stain
    write_regions(folder / REGIONS, drawn)
    return replace(stain, where_file=str((folder / REGIONS).absolute()))
