"""Looks that are measured on a user's exemplars, and kept as files that any stain can be made by."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from chromogen.app.view.pool import ShelfPool
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.app.view.slide_routes import Renderer
from chromogen.app.view.stainer_list import StainerLine, stainer_lines
from chromogen.app.view.trial_routes import BUILT_IN, EXEMPLAR_ID, exemplar_picture
from chromogen.app.view.trials import Trial
from chromogen.app.view.work_queue import WorkQueue
from chromogen.app.view.worker_process import WorkerProcess
from chromogen.files import scratch_folder
from chromogen.image import Image, write_image
from chromogen.models import LOOK_SUFFIX
from chromogen.staining.looks import write_look

FOLDER = ".looks"
LONGEST_NAME = 60


class NewLook(BaseModel):
    """An exemplar (built-in, uploaded, or a slide's id), and the name to keep its look under."""

    exemplar: str = Field(BUILT_IN, pattern=EXEMPLAR_ID)
    name: str = Field("exemplar", min_length=1, max_length=500)


@dataclass(frozen=True)
class MeasuredLook:
    """The stainer that was made of an exemplar, and what warns of it."""

    stainer: StainerLine
    doubts: tuple[str, ...]


def look_routes(
    shelf: SlideCatalog,
    pool: ShelfPool,
    renderer: Renderer,
    models: SlideCatalog,
    trials: WorkQueue[Trial],
    apart: WorkerProcess,
) -> APIRouter:
    """The route /api/looks; looks lie in a folder beside the results, which `models` shows too."""
    routes = APIRouter(prefix="/api", tags=["stains"])
    folder = trials.folder / FOLDER
    models.add(folder)

    @routes.post("/looks", status_code=201)
    async def measure(asked: NewLook) -> dict[str, Any]:
        """Measure the look of an exemplar, and keep it as a stainer; seconds."""
        picture = await renderer.run(lambda: exemplar_picture(asked.exemplar, shelf, pool, trials))
        file = _free_name(folder, asked.name)
        doubts = await apart.run(keep_look, picture.pixels, picture.mpp, file, Path(asked.name).name)
        entry = next(entry for entry in await renderer.run(models.entries) if entry.path.name == file.name)
        (line,) = [one for one in await apart.run(stainer_lines, [entry]) if one.id == entry.id]
        return asdict(MeasuredLook(line, doubts))

    return routes


def keep_look(pixels: Image, mpp: float | None, file: Path, name: str) -> tuple[str, ...]:
    """Write the look of an IHC, uint8 (H, W, 3), to a file; what is doubtful of it.

    Raises: ValueError for an exemplar that shows no look; OSError.
    """
    from chromogen.whole_slide.measured_looks import measure_look

    with scratch_folder() as scratch:
        style = scratch / f"{file.stem}.png"
        write_image(style, pixels, mpp=mpp)
        look = measure_look(style)
    doubts = tuple(doubt.replace(style.name, name) for doubt in look.doubts)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_look(file, replace(look, source=name, doubts=doubts))
    return doubts


def _free_name(folder: Path, name: str) -> Path:
    """A file in the folder, called by what an exemplar is called, that is not there yet."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem).strip(".-")[:LONGEST_NAME] or "exemplar"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    return next(file for file in (folder / f"{one}{LOOK_SUFFIX}" for one in names) if not file.exists())
