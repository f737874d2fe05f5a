"""The web app's answers about stainers: which there are, what they make of a view or slide, how far it is."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from chromogen.app.view.pool import Opened, SlidePool
from chromogen.app.view.shelf import Shelf, UnknownSlideError
from chromogen.app.view.slide_routes import SLIDE_ID, Renderer
from chromogen.app.view.stains import Stain, progress_in, stain_region, start_slide
from chromogen.app.view.tiles import read_window
from chromogen.app.view.work_folder import REGION, check_region
from chromogen.app.view.work_queue import UNDER_WAY, Queued, WorkQueue, new_id
from chromogen.app.view.work_routes import WorkId, add_work_routes, shown
from chromogen.errors import choose, expected
from chromogen.grid import Window
from chromogen.models import MODEL_SUFFIX
from chromogen.slides.slide import MPP_RANGE
from chromogen.stainer import STAINERS, load_stainer

HIDDEN = ("source", "model")
STAINER = "^[a-z0-9-]{1,50}$"  # a name, or an id from the list: never a path


class StainerLine(BaseModel):
    """A stainer in the list, by what to ask for."""

    id: str
    name: str
    target_stain: str


class NewSlideStain(BaseModel):
    """A slide, a stainer, and the slide's pixel size in um where its file says none."""

    slide: str = Field(pattern=SLIDE_ID)
    stainer: str = Field(pattern=STAINER)
    mpp: float | None = Field(None, ge=MPP_RANGE[0], le=MPP_RANGE[1])


class NewViewStain(BaseModel):
    """A region of a slide, in its level-0 pixels, a stainer, and the pixel size where the file says none."""

    slide: str = Field(pattern=SLIDE_ID)
    stainer: str = Field(pattern=STAINER)
    location: tuple[int, int]
    size: tuple[int, int]
    mpp: float | None = Field(None, ge=MPP_RANGE[0], le=MPP_RANGE[1])


def stain_routes(
    shelf: Shelf, pool: SlidePool, renderer: Renderer, models: Shelf, stains: WorkQueue[Stain]
) -> APIRouter:
    """The routes below /api/stains, and /api/stainers; `models` has the files of stainers."""
    routes = APIRouter(prefix="/api", tags=["stains"])
    _start_routes(routes, shelf, pool, renderer, models, stains)
    add_work_routes(routes, "stains", renderer, stains, _shown, progress_in)
    _result_routes(routes, stains)
    return routes


def _start_routes(
    routes: APIRouter, shelf: Shelf, pool: SlidePool, renderer: Renderer, models: Shelf, stains: WorkQueue[Stain]
) -> None:
    @routes.get("/stainers")
    async def stainers() -> list[StainerLine]:
        """The stainers that can be applied."""
        return await renderer.run(lambda: _stainers(models))  # type: ignore[no-any-return]

    @routes.post("/stains/view", status_code=201)
    async def view(asked: NewViewStain) -> dict[str, Any]:
        """Stain a region of a slide, at most 2048 px a side at the stainer's pixel size, and wait for it."""
        return _shown(await renderer.run(lambda: _stain_view(asked, shelf, pool, models, stains)))

    @routes.post("/stains/slide", status_code=201)
    async def slide(asked: NewSlideStain) -> dict[str, Any]:
        """Put the staining of a whole slide into the queue."""
        return _shown(await renderer.run(lambda: _start(asked, shelf, pool, models, stains)))


def _result_routes(routes: APIRouter, stains: WorkQueue[Stain]) -> None:
    @routes.get("/stains/{work_id}/region.png", response_class=FileResponse)
    async def region(work_id: WorkId) -> FileResponse:
        """What a view showed."""
        if stains.find(work_id).work.location is None:
            raise HTTPException(404, "A whole slide was stained.")
        return FileResponse(stains.folder_of(work_id) / REGION)

    @routes.get("/stains/{work_id}/result", response_class=FileResponse)
    async def result(work_id: WorkId) -> FileResponse:
        """The result with its provenance, to be kept: an image or a slide."""
        found, stain = stains.find(work_id), stains.find(work_id).work
        file = stains.folder_of(work_id) / stain.output
        if found.state in UNDER_WAY or not file.is_file():
            raise HTTPException(404, "The stain has no result yet.")
        name = stain.output if stain.location is None else f"virtual-stain-{work_id}.png"
        return FileResponse(file, filename=name)


def _stainers(models: Shelf) -> list[StainerLine]:
    """The built-in ones, and those of files that can be loaded."""
    lines = [StainerLine(id=name, name=name, target_stain=make().target_stain) for name, make in STAINERS.items()]
    for entry in models.entries():
        if entry.path.suffix == MODEL_SUFFIX:
            with suppress(ValueError, OSError):
                target = load_stainer(entry.path).target_stain
                lines.append(StainerLine(id=entry.id, name=entry.name, target_stain=target))
    return lines


def _chosen(models: Shelf, asked: str) -> tuple[str, str]:
    """A stainer's name, and what `load_stainer` takes; ValueError where there is none."""
    try:
        entry = models.find(asked)
    except UnknownSlideError:
        return (choose("stainer", asked, STAINERS),) * 2
    return entry.name, str(entry.path)


def _stain_view(
    asked: NewViewStain, shelf: Shelf, pool: SlidePool, models: Shelf, stains: WorkQueue[Stain]
) -> Queued[Stain]:
    entry, (name, model) = shelf.find(asked.slide), _chosen(models, asked.stainer)
    wanted_mpp = load_stainer(model).mpp
    with pool.reading(entry) as opened:
        mpp = opened.mpp or asked.mpp or wanted_mpp
        step = max(1.0, wanted_mpp / mpp)
        size = round(asked.size[0] / step), round(asked.size[1] / step)
        check_region("view at the stainer's pixel size", size, "zoom, or take the whole")
        region = read_window(opened, _window(asked, opened), step)
    stain = Stain(new_id(), entry.id, entry.name, str(entry.path), name, model, mpp * step)
    return stain_region(stains, replace(stain, location=asked.location, size=asked.size), region)


def _window(asked: NewViewStain, opened: Opened) -> Window:
    (left, top), (width, height) = asked.location, asked.size
    if min(left, top) < 0 or left + width > opened.size[0] or top + height > opened.size[1]:
        raise expected("view", f"inside the slide of {opened.size[0]} x {opened.size[1]} px", asked.location)
    return Window(left, top, left + width, top + height)


def _start(
    asked: NewSlideStain, shelf: Shelf, pool: SlidePool, models: Shelf, stains: WorkQueue[Stain]
) -> Queued[Stain]:
    entry, (name, model) = shelf.find(asked.slide), _chosen(models, asked.stainer)
    with pool.reading(entry) as opened:
        if opened.mpp is None and asked.mpp is None:
            raise expected("mpp", "given for a slide that does not say its pixel size", "none", "type it in")
    return start_slide(stains, Stain(new_id(), entry.id, entry.name, str(entry.path), name, model, asked.mpp))


def _shown(stain: Queued[Stain]) -> dict[str, Any]:
    """What a browser may know: no folder of this machine."""
    error = stain.error
    for file in (stain.work.source, stain.work.model):
        error = error.replace(f"{FilePath(file).parent}{os.sep}", "")
    return {**shown(stain, HIDDEN), "error": error, "output": stain.work.output}
