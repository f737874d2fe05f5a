"""Stains: a stainer on what is seen, at once, or on the whole slide, as work in a queue (`chromogen stain`)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from chromogen.app.staining import Task, stain_tile
from chromogen.app.view.work_folder import REGION, RESULT, TRACE, keep_region, lines_of, new_folder
from chromogen.app.view.work_queue import Queued, WorkQueue
from chromogen.image import Image
from chromogen.stainer import load_stainer

RECORD = "stain.json"
LONGEST_STEM = 100


@dataclass(frozen=True)
class Stain:
    """What was asked.

    `source` is the file of the slide of id `slide`, `name` what people call it; `location` and `size` say where
    a region was, in level-0 pixels, None for the whole. `mpp` is that of the region's pixels, or the slide's where
    its file says none. `stainer` is its name, `model` what `load_stainer` takes: that name, or a file.
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

    @property
    def output(self) -> str:
        """The name of the result in its folder."""
        slide, stainer = (Path(name).stem[:LONGEST_STEM] for name in (self.name, self.stainer))
        return RESULT if self.location else f"{slide}_{stainer}.ome.tif"

    @property
    def command(self) -> list[str]:
        """The whole command, with what lets others follow it."""
        follow = ["--trace", TRACE, "--json"]
        return [sys.executable, "-m", "chromogen", "stain", self.source, *self.options(self.model), *follow]

    def options(self, stainer: str) -> list[str]:
        """What follows the input on the command line."""
        mpp = ["--mpp", f"{self.mpp:.6g}"] if self.mpp else []
        return ["--stainer", stainer, *mpp, "-o", self.output]

    @property
    def shell_line(self) -> str:
        """The command line that makes the same, in the folder of the region or slide."""
        given = REGION if self.location else self.name
        return shlex.join(["chromogen", "stain", given, *self.options(self.stainer)])

    @property
    def python_lines(self) -> str:
        """The same in Python."""
        stainer, output = f"load_stainer({self.stainer!r})", f"Path({self.output!r})"
        if self.location:
            return "\n".join(
                [
                    "from pathlib import Path",
                    "from chromogen import load_stainer",
                    "from chromogen.app.staining import Task, stain_tile",
                    "",
                    f"task = Task(Path({REGION!r}), {output}, is_slide=False)",
                    f"stain_tile(task, {stainer}, mpp={self.mpp:.6g}, icc=True)",
                ]
            )
        mpp = f", mpp={self.mpp:.6g}" if self.mpp else ""
        return "\n".join(
            [
                "from pathlib import Path",
                "from chromogen import Output, SlideFile, SlideJob, load_stainer, stain_slide",
                "",
                f"slide = SlideFile(Path({self.name!r}){mpp})",
                f"stain_slide(SlideJob(slide, {stainer}), Output({output}))",
            ]
        )


@dataclass(frozen=True)
class BlockProgress:
    """Blocks done, of how many; seconds since the process began to work, and about how many are left."""

    step: int = 0
    of: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None


def stain_queue(folder: Path) -> WorkQueue[Stain]:
    """The stains in a folder."""
    return WorkQueue(folder, Stain, RECORD)


def start_slide(stains: WorkQueue[Stain], stain: Stain) -> Queued[Stain]:
    """Put the staining of a whole slide into the queue; ValueError where too many wait."""
    stains.check_room()
    with new_folder(stains.folder / stain.id):
        return stains.start(stain)


def stain_region(stains: WorkQueue[Stain], stain: Stain, region: Image) -> Queued[Stain]:
    """Stain a region at once, uint8 (H, W, 3), and keep it with its result. Raises: ValueError, OSError."""
    with new_folder(stains.folder / stain.id) as folder:
        keep_region(folder, region, stain.mpp, stain.location or (0, 0))
        task = Task(folder / REGION, folder / RESULT, is_slide=False)
        stain_tile(task, load_stainer(stain.model), mpp=stain.mpp, icc=True)
        return stains.keep(stain)


def progress_in(folder: Path) -> BlockProgress:
    """How far a slide is, from what its process has written into its folder."""
    lines = lines_of(folder / TRACE, "done")
    if not lines:
        return BlockProgress()
    first, last = lines[0], lines[-1]
    blocks, seconds = last["done"] - first["done"], last["seconds"] - first["seconds"]
    left = (last["of"] - last["done"]) * seconds / blocks if blocks else None
    return BlockProgress(last["done"], last["of"], last["seconds"], left)
