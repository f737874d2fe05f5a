"""The web app's answers about stainers: which there are, what they make of a view or slide, how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, Literal

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from chromogen.app.view.apart import Apart
from chromogen.app.view.pool import ShelfPool
from chromogen.app.view.shelf import Shelf, UnknownSlideError
from chromogen.app.view.slide_routes import PNG, SLIDE_ID, Renderer
from chromogen.app.view.stained_views import stain_view, stainer_mpp
from chromogen.app.view.stainer_list import StainerLine, stainer_lines
from chromogen.app.view.stains import Stain, progress_in, start_slide
from chromogen.app.view.work_folder import REGION, RESULT, new_folder
from chromogen.app.view.work_queue import UNDER_WAY, Queued, WorkQueue, new_id
from chromogen.app.view.work_routes import WorkId, add_work_routes, labelled_png, shown
from chromogen.errors import choose, expected
from chromogen.image import read_image, read_provenance
from chromogen.pixel_size import MPP_RANGE
from chromogen.stainer import STAINERS

PNG_OR_TIFF: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/tiff": {}}}}
HIDDEN = ("source", "model")
STAINER = "^[a-z0-9-]{1,50}$"  # a name, or an id from the list: never a path


class NewStain(BaseModel):
    """A slide and a stainer, and what of both their files do not say.

    `mpp` is the slide's pixel size in um; a
    generator trained elsewhere may need its `trained_mpp` and `value_range`; `dials` are those of a measured look.
    """

    slide: str = Field(pattern=SLIDE_ID)
    stainer: str = Field(pattern=STAINER)
    mpp: float | None = Field(None, ge=MPP_RANGE[0], le=MPP_RANGE[1])
    trained_mpp: float | None = Field(None, ge=MPP_RANGE[0], le=MPP_RANGE[1])
    value_range: Literal["0..1", "-1..1", "0..255"] | None = None
    dials: dict[str, float] = Field(default_factory=dict, max_length=20)


class NewSlideStain(NewStain):
    """The same, and where it is only of a part of the slide, that region in its level-0 pixels."""

    location: tuple[int, int] | None = None
    size: tuple[int, int] | None = None


class NewViewStain(NewStain):
    """The same, and a region of the slide, in its level-0 pixels."""

    location: tuple[int, int]
    size: tuple[int, int]


def stain_routes(
    shelf: Shelf, pool: ShelfPool, renderer: Renderer, models: Shelf, stains: WorkQueue[Stain], apart: Apart
) -> APIRouter:
    """The routes of stains, stained views and stainers; `models` has files of stainers, which `apart` reads."""
    routes = APIRouter(prefix="/api", tags=["stains"])
    _start_routes(routes, shelf, pool, renderer, models, stains, apart)
    add_work_routes(routes, "stains", renderer, stains, _shown, progress_in)
    _result_routes(routes, renderer, stains)
    return routes


def _start_routes(
    routes: APIRouter,
    shelf: Shelf,
    pool: ShelfPool,
    renderer: Renderer,
    models: Shelf,
    stains: WorkQueue[Stain],
    apart: Apart,
) -> None:
    async def checked(asked: NewStain) -> tuple[Stain, float | None, float]:
        """What was asked, with the pixel sizes of slide and stainer; ValueError where there is no such stainer."""
        stain, own = await renderer.run(lambda: _asked(asked, shelf, pool, models))
        with _failing_without_folders(stain):
            return stain, own, await apart.run(stainer_mpp, stain)

    @routes.get("/stainers")
    async def stainers() -> list[StainerLine]:
        """The stainers that can be applied, and why others cannot."""
        return await apart.run(stainer_lines, await renderer.run(models.entries))

    @routes.post("/stained-views", status_code=201)
    async def view(asked: NewViewStain) -> dict[str, Any]:
        """Stain a region of a slide, at most 2048 px a side at the stainer's pixel size, and wait for it.

        It becomes what the whole slide would be there. Without a pixel size the stainer's is assumed.
        """
        stain, own, wanted = await checked(asked)
        placed = replace(stain, location=asked.location, size=asked.size)
        return _shown(await _view(placed if own or asked.mpp else replace(placed, mpp=wanted), stains, apart))

    @routes.post("/stains", status_code=201)
    async def slide(asked: NewSlideStain) -> dict[str, Any]:
        """Put the staining of a slide, or of a part that is too large for a view, into the queue."""
        stain, own, _ = await checked(asked)
        if own is None and asked.mpp is None:
            raise expected("mpp", "given for a slide that does not say its pixel size", "none", "type it in")
        placed = replace(stain, location=asked.location, size=asked.size, queued=asked.location is not None)
        return _shown(await renderer.run(lambda: start_slide(stains, placed)))


async def _view(stain: Stain, stains: WorkQueue[Stain], apart: Apart) -> Queued[Stain]:
    """The stain of a view, done; where it fails, nothing is left of it."""
    with _failing_without_folders(stain), new_folder(stains.folder / stain.id) as folder:
        await apart.run(stain_view, stain, folder)
        return stains.keep(stain)


def _result_routes(routes: APIRouter, renderer: Renderer, stains: WorkQueue[Stain]) -> None:
    @routes.get("/stains/{work_id}/region.png", response_class=FileResponse, responses=PNG)
    async def region(work_id: WorkId) -> FileResponse:
        """What a view showed."""
        _check_view(stains, work_id)
        return FileResponse(stains.folder_of(work_id) / REGION)

    @routes.get("/stains/{work_id}/result", response_class=FileResponse, responses=PNG_OR_TIFF)
    async def result(work_id: WorkId) -> FileResponse:
        """The result with its provenance, to be kept: an image or a slide."""
        stain = stains.find(work_id).work
        name = f"virtual-stain-{work_id}.png" if stain.output == RESULT else f"virtual-{stain.output}"
        return FileResponse(_result(stains, work_id), filename=name)

    @routes.get("/stains/{work_id}/labelled.png", response_class=Response, responses=PNG)
    async def label(work_id: WorkId) -> Response:
        """The result of a view, with a label in the picture that it is a virtual stain."""
        _check_view(stains, work_id)
        file = _result(stains, work_id)
        picture, facts = await renderer.run(lambda: (read_image(file), read_provenance(file) or {}))
        return labelled_png(picture, facts, f"virtual-stain-{work_id}-labelled.png")


def _check_view(stains: WorkQueue[Stain], work_id: str) -> None:
    """Raises: 404 where a slide was made, not a picture of a view."""
    if stains.find(work_id).work.output != RESULT:
        raise HTTPException(404, "A whole slide was stained.")


def _result(stains: WorkQueue[Stain], work_id: str) -> FilePath:
    """The file of a result; 404 where there is none yet."""
    found = stains.find(work_id)
    file = stains.folder_of(work_id) / found.work.output
    if found.state in UNDER_WAY or not file.is_file():
        raise HTTPException(404, "The stain has no result yet.")
    return file


def _asked(asked: NewStain, shelf: Shelf, pool: ShelfPool, models: Shelf) -> tuple[Stain, float | None]:
    """What is to be stained, with the slide's own pixel size; ValueError where there is no such stainer."""
    entry, (name, model) = shelf.find(asked.slide), _chosen(models, asked.stainer)
    with pool.reading(entry) as opened:
        own, doubt = opened.mpp, opened.look.doubt_as("content")
    return Stain(
        id=new_id(),
        slide=entry.id,
        name=entry.name,
        source=str(entry.path),
        stainer=name,
        model=model,
        mpp=None if own else asked.mpp,
        trained_mpp=asked.trained_mpp,
        value_range=asked.value_range,
        doubt=doubt,
        dials=asked.dials,
    ), own


def _chosen(models: Shelf, asked: str) -> tuple[str, str]:
    """A stainer's name, and what loads it; ValueError where there is none."""
    try:
        entry = models.find(asked)
    except UnknownSlideError:
        return (choose("stainer", asked, STAINERS),) * 2
    return entry.name, str(entry.path)


def _shown(stain: Queued[Stain]) -> dict[str, Any]:
    """What a browser may know: no folder of this machine."""
    error = _without_folders(stain.error, stain.work)
    return {**shown(stain, HIDDEN), "error": error, "output": stain.work.output}


@contextmanager
def _failing_without_folders(stain: Stain) -> Iterator[None]:
    """What goes wrong with a stain as a ValueError that names no folder."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        raise ValueError(_without_folders(str(error), stain)) from error


def _without_folders(text: str, stain: Stain) -> str:
    for file in (stain.source, stain.model):
        text = text.replace(f"{FilePath(file).parent}{os.sep}", "")
    return text
