"""The web app's answers about stainers: which there are, what they make of a view or slide, how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from chromogen.app.view.map_pictures import unlike_picture
from chromogen.app.view.pool import ShelfPool
from chromogen.app.view.region_files import MAX_REGIONS, ImportedRegion
from chromogen.app.view.slide_catalog import Entry, SlideCatalog, UnknownSlideError
from chromogen.app.view.slide_routes import PNG, SLIDE_ID, Renderer
from chromogen.app.view.stained_views import show_where, stain_view, stainer_mpp
from chromogen.app.view.stainer_list import StainerLine, stainer_lines
from chromogen.app.view.stains import CONFIDENCE, REGIONS, TISSUE, Stain, stain_progress, start_slide, with_regions
from chromogen.app.view.virtual import virtual_facts
from chromogen.app.view.where_files import DRAWN, WhereLine, where_lines
from chromogen.app.view.work_folder import REGION, RESULT, new_folder
from chromogen.app.view.work_queue import UNDER_WAY, Queued, WorkQueue, new_id
from chromogen.app.view.work_routes import FRESH, WorkId, add_work_routes, labelled_png, work_json
from chromogen.app.view.worker_process import WorkerProcess
from chromogen.errors import choose, expected
from chromogen.files import canonical_name, scratch_folder
from chromogen.image import read_image, read_provenance
from chromogen.pixel_size import MPP_RANGE
from chromogen.slides.slide import open_slide
from chromogen.staining.confidence import levels_in
from chromogen.staining.stainer import STAINERS, is_look
from chromogen.staining.tissue import MPP

PNG_OR_TIFF: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/tiff": {}}}}
HIDDEN = ("source", "model", "where_file")
STAINER = "^[a-z0-9-]{1,50}$"  # a name, or an id from the list: never a path


class NewWhere(BaseModel):
    """What says where a look stains: tissue, regions with a level for each class, or a file by its id."""

    source: str = Field(default=TISSUE, pattern=f"^({TISSUE}|{DRAWN}|[0-9a-f]{{16}})$")
    regions: list[ImportedRegion] = Field(default_factory=list, max_length=MAX_REGIONS)
    levels: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, max_length=MAX_REGIONS + 1
    )


class NewStain(BaseModel):
    """A slide and a stainer, and what of both their files do not say.

    `mpp` is the slide's pixel size in um; a
    generator trained elsewhere may need its `trained_mpp` and `value_range`. `dials`, `where` and `fill`, which
    stains tissue unlike the exemplar's too, are those of a measured look.
    """

    slide: str = Field(pattern=SLIDE_ID)
    stainer: str = Field(pattern=STAINER)
    mpp: float | None = Field(None, ge=MPP_RANGE[0], le=MPP_RANGE[1])
    trained_mpp: float | None = Field(None, ge=MPP_RANGE[0], le=MPP_RANGE[1])
    value_range: Literal["0..1", "-1..1", "0..255"] | None = None
    dials: dict[str, float] = Field(default_factory=dict, max_length=20)
    where: NewWhere = NewWhere()
    fill: bool = False


class NewSlideStain(NewStain):
    """The same, and where it is only of a part of the slide, that region in its level-0 pixels."""

    location: tuple[int, int] | None = None
    size: tuple[int, int] | None = None


class NewViewStain(NewStain):
    """The same, and a region of the slide, in its level-0 pixels."""

    location: tuple[int, int]
    size: tuple[int, int]


def stain_routes(
    shelf: SlideCatalog,
    pool: ShelfPool,
    renderer: Renderer,
    models: SlideCatalog,
    stains: WorkQueue[Stain],
    apart: WorkerProcess,
) -> APIRouter:
    """The routes of stains, stained views and stainers; `models` has files of stainers, which `apart` reads."""
    routes = APIRouter(prefix="/api", tags=["stains"])
    _start_routes(routes, shelf, pool, renderer, models, stains, apart)
    _where_routes(routes, shelf, pool, renderer, models, apart)
    add_work_routes(routes, "stains", renderer, stains, lambda queued: _shown(queued, stains), stain_progress)
    _result_routes(routes, renderer, stains)
    return routes


def _start_routes(
    routes: APIRouter,
    shelf: SlideCatalog,
    pool: ShelfPool,
    renderer: Renderer,
    models: SlideCatalog,
    stains: WorkQueue[Stain],
    apart: WorkerProcess,
) -> None:
    @routes.get("/stainers")
    async def stainers() -> list[StainerLine]:
        """The stainers that can be applied, and why others cannot."""
        return await apart.run(stainer_lines, await renderer.run(models.entries))

    @routes.post("/stained-views", status_code=201)
    async def view(asked: NewViewStain) -> dict[str, Any]:
        """Stain a region of a slide, at most 2048 px a side at the stainer's pixel size, and wait for it.

        It becomes what the whole slide would be there. Without a pixel size the stainer's is assumed.
        """
        stain = await _placed(asked, shelf, pool, renderer, models, apart)
        return _shown(await _view(stain, asked.where.regions, stains, apart), stains)

    @routes.post("/stains", status_code=201)
    async def slide(asked: NewSlideStain) -> dict[str, Any]:
        """Put the staining of a slide, or of a part that is too large for a view, into the queue."""
        stain, own = await renderer.run(lambda: _asked(asked, shelf, pool, models))
        await _mpp_of(stain, apart)  # what is wrong with the stainer shows here
        if own is None and asked.mpp is None:
            raise expected("mpp", "given for a slide that does not say its pixel size", "none", "type it in")
        placed = replace(stain, location=asked.location, size=asked.size, queued=asked.location is not None)
        return _shown(await renderer.run(lambda: start_slide(stains, placed, asked.where.regions)), stains)


def _where_routes(
    routes: APIRouter,
    shelf: SlideCatalog,
    pool: ShelfPool,
    renderer: Renderer,
    models: SlideCatalog,
    apart: WorkerProcess,
) -> None:
    @routes.get("/wheres")
    async def wheres(slide: Annotated[str, Query(pattern=SLIDE_ID)]) -> list[WhereLine]:
        """What can say where a slide is stained: tissue, regions, and files that may."""

        def found() -> tuple[list[Entry], list[Entry], tuple[int, int]]:
            with pool.reading(shelf.find(slide)) as opened:
                return shelf.entries(), models.entries(), opened.size

        return await apart.run(where_lines, *await renderer.run(found))

    @routes.post("/where-maps", response_class=Response, responses=PNG)
    async def where_map(asked: NewViewStain) -> Response:
        """*Where* a look would stain a region of a slide, as large as a view may be: a picture to lay on it."""
        stain = await _placed(asked, shelf, pool, renderer, models, apart)
        if not is_look(stain.model):
            raise expected("stainer", "a measured look, which alone is told where", stain.stainer)
        with scratch_folder() as scratch:
            ready = with_regions(stain, asked.where.regions, scratch)
            with _failing_without_folders(ready):
                picture = await apart.run(show_where, ready)
        return Response(picture, media_type="image/png", headers=FRESH)


async def _placed(
    asked: NewViewStain,
    shelf: SlideCatalog,
    pool: ShelfPool,
    renderer: Renderer,
    models: SlideCatalog,
    apart: WorkerProcess,
) -> Stain:
    """What a view is to be stained with; a slide that says no pixel size has the stainer's."""
    stain: Stain
    stain, own = await renderer.run(lambda: _asked(asked, shelf, pool, models))
    placed = replace(stain, location=asked.location, size=asked.size)
    wanted = await _mpp_of(stain, apart)
    return placed if own or asked.mpp else replace(placed, mpp=wanted)


async def _mpp_of(stain: Stain, apart: WorkerProcess) -> float:
    """The stainer's pixel size in um. Raises: ValueError for a stainer that cannot be."""
    with _failing_without_folders(stain):
        return await apart.run(stainer_mpp, stain)


async def _view(
    stain: Stain, drawn: list[ImportedRegion], stains: WorkQueue[Stain], apart: WorkerProcess
) -> Queued[Stain]:
    """The stain of a view, done; where it fails, nothing is left of it."""
    with new_folder(stains.folder / stain.id) as folder:
        ready = with_regions(stain, drawn, folder)
        with _failing_without_folders(ready):
            await apart.run(stain_view, ready, folder)
        return stains.keep(ready)


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

    @routes.get("/stains/{work_id}/regions.geojson", response_class=FileResponse)
    async def regions(work_id: WorkId) -> FileResponse:
        """The regions that it follows."""
        file = stains.folder_of(work_id) / REGIONS
        if not file.is_file():
            raise HTTPException(404, "The stain follows no regions.")
        return FileResponse(file, media_type="application/geo+json", filename=REGIONS)

    @routes.get("/stains/{work_id}/unlike.png", response_class=Response, responses=PNG)
    async def unlike(work_id: WorkId) -> Response:
        """Which tissue is unlike the exemplar's, hatched: a picture to lay on the result."""
        found = stains.folder_of(work_id)

        def picture() -> bytes:
            with open_slide(_result(stains, work_id), assumed_mpp=MPP) as stained:
                return unlike_picture(levels_in(read_image(found / CONFIDENCE)), stained.size)

        if not (found / CONFIDENCE).is_file():
            raise HTTPException(404, "The stainer does not say how sure it is.")
        return Response(await renderer.run(picture), media_type="image/png", headers=FRESH)


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


def _asked(
    asked: NewStain, shelf: SlideCatalog, pool: ShelfPool, models: SlideCatalog
) -> tuple[Stain, float | None]:
    """What is to be stained, with the slide's own pixel size; ValueError where there is no such stainer."""
    entry, (name, model) = shelf.find(asked.slide), _chosen(models, asked.stainer)
    if (asked.dials or asked.fill or asked.where.source != TISSUE) and not is_look(model):
        raise expected("stainer", "a measured look, with dials, fill or where", name, "leave these out")
    where, where_file = _where(asked.where.source, shelf, models)
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
        where=where,
        where_file=where_file,
        levels={canonical_name(label): level for label, level in asked.where.levels.items()},
        fill=asked.fill,
    ), own


def _where(source: str, shelf: SlideCatalog, models: SlideCatalog) -> tuple[str, str]:
    """What people call a source of *where*, and its file; regions have theirs once there is a folder for them."""
    if source in (TISSUE, DRAWN):
        return (TISSUE, "") if source == TISSUE else (REGIONS, REGIONS)
    try:
        entry = models.find(source)
    except UnknownSlideError:
        entry = shelf.find(source)
    return entry.name, str(entry.path)


def _chosen(models: SlideCatalog, asked: str) -> tuple[str, str]:
    """A stainer's name, and what loads it; ValueError where there is none."""
    try:
        entry = models.find(asked)
    except UnknownSlideError:
        return (choose("stainer", asked, STAINERS),) * 2
    return entry.name, str(entry.path)


def _shown(stain: Queued[Stain], stains: WorkQueue[Stain]) -> dict[str, Any]:
    """What a browser may know: no folder of this machine; of what is done, what its file says of *where*."""
    error, told = _without_folders(stain.error, stain.work), {}
    if stain.state == "done":
        told = _told(stains.folder_of(stain.work.id) / stain.work.output)
    return {**work_json(stain, HIDDEN), "error": error, "output": stain.work.output, "told": told}


def _told(result: FilePath) -> dict[str, Any]:
    """By which source the stain lies where it does, and how much of the tissue is unlike the exemplar's."""
    try:
        found = result.stat()
    except OSError:
        return {}
    facts = virtual_facts(result, f"{found.st_mtime_ns:x}-{found.st_size:x}") or {}
    statistics = facts.get("statistics") or {}
    return {"where": facts.get("where"), **(statistics.get("confidence") or {})}


@contextmanager
def _failing_without_folders(stain: Stain) -> Iterator[None]:
    """What goes wrong with a stain as a ValueError that names no folder."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        raise ValueError(_without_folders(str(error), stain)) from error


def _without_folders(text: str, stain: Stain) -> str:
    for file in filter(None, (stain.source, stain.model, stain.where_file)):
        text = text.replace(f"{FilePath(file).parent}{os.sep}", "")
    return text
