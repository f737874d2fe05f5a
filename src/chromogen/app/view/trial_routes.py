"""The web app's answers about trials: what can be tried, starting, following and stopping."""

from __future__ import annotations

import secrets
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from chromogen.app.view.adjusted import adjusted
from chromogen.app.view.guard import IMAGE_TYPES
from chromogen.app.view.pool import ShelfPool
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.app.view.slide_routes import PNG, SLIDE_ID, Renderer
from chromogen.app.view.trials import (
    EXEMPLAR,
    Trial,
    new_trial,
    newest_picture,
    options_of,
    start_trial,
    trial_progress,
)
from chromogen.app.view.upload_decoder import take_in
from chromogen.app.view.work_folder import REGION, RESULT
from chromogen.app.view.work_queue import UNDER_WAY, Queued, WorkQueue
from chromogen.app.view.work_routes import FRESH, WorkId, add_work_routes, labelled_png, picture_at, work_json
from chromogen.errors import expected
from chromogen.files import scratch_folder
from chromogen.image import Image, encode_image, read_image, read_provenance
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.slides.picture import Picture, read_picture
from chromogen.slides.slide import Slide
from chromogen.stainer import builtin_ihc
from chromogen.stains.appearance import doubts
from chromogen.style.recipes import PRESETS, preset
from chromogen.style.settings import DEFAULT_PRESET

BUILT_IN = "built-in"
EXEMPLAR_PX = 2048  # of the longer side, at most
EXEMPLARS = ".exemplars"
EXEMPLAR_ID = "^(built-in|upload-[0-9a-f]{16}|[0-9a-f]{16})$"
Strength = Annotated[float, Query(ge=0, le=1)]
DabAmount = Annotated[float, Query(ge=0, le=5)]


class NewTrial(BaseModel):
    """A region of a slide, an exemplar (built-in, uploaded, or a slide's id) and how to go about it."""

    slide: str = Field(pattern=SLIDE_ID)
    location: tuple[int, int]
    size: tuple[int, int]
    exemplar: str = Field(BUILT_IN, pattern=EXEMPLAR_ID)
    preset: str = Field(DEFAULT_PRESET, max_length=50, json_schema_extra={"enum": list(PRESETS)})
    steps: int | None = Field(None, ge=1, le=2000)
    dab_amount: float | None = Field(None, ge=0, le=10)
    seed: int | None = Field(None, ge=0, le=2**31)


class Uploaded(BaseModel):
    """The name under which an uploaded exemplar can be asked for, and why it may be no IHC."""

    exemplar: str
    exemplar_doubt: str | None


def trial_routes(shelf: SlideCatalog, pool: ShelfPool, renderer: Renderer, trials: WorkQueue[Trial]) -> APIRouter:
    """The routes below /api/trials, and /api/exemplars."""
    routes = APIRouter(prefix="/api", tags=["trials"])
    _exemplar_routes(routes, renderer, trials)
    add_work_routes(routes, "trials", renderer, trials, work_json, trial_progress)
    _picture_routes(routes, renderer, trials)

    @routes.post("/trials", status_code=201)
    async def start(asked: NewTrial) -> dict[str, Any]:
        """Put `stylize` of a region into the queue."""
        preset(asked.preset)
        return work_json(await renderer.run(lambda: _start(asked, shelf, pool, trials)))

    return routes


_AN_IMAGE = {"requestBody": {"required": True, "content": {kind: {} for kind in IMAGE_TYPES}}}


def _exemplar_routes(routes: APIRouter, renderer: Renderer, trials: WorkQueue[Trial]) -> None:
    @routes.post("/exemplars", openapi_extra=_AN_IMAGE)
    async def upload(request: Request) -> Uploaded:
        """Take an image, as the body, for a style exemplar; it is decoded in a process with bounded memory."""
        body = await request.body()
        name = f"upload-{secrets.token_hex(8)}"
        decoded = trials.folder / EXEMPLARS / f"{name}.png"
        await renderer.run(lambda: _take_in(body, decoded))
        doubt = await renderer.run(lambda: _exemplar_doubt(decoded))
        return Uploaded(exemplar=name, exemplar_doubt=doubt)

    @routes.get("/exemplars/built-in.png", response_class=Response, responses=PNG)
    async def built_in() -> Response:
        """The exemplar that comes with scikit-image."""
        return Response(encode_image(builtin_ihc(), ".png"), media_type="image/png")


def _picture_routes(routes: APIRouter, renderer: Renderer, trials: WorkQueue[Trial]) -> None:
    @routes.get("/trials/{work_id}/picture.png", response_class=Response, responses=PNG)
    async def picture(work_id: WorkId) -> Response:
        """The newest picture: the result, or how far it is."""
        return await picture_at(renderer, lambda: newest_picture(trials.folder_of(work_id)))

    @routes.get("/trials/{work_id}/region.png", response_class=Response, responses=PNG)
    async def region(work_id: WorkId) -> Response:
        """The H&E that went in."""
        return await picture_at(renderer, lambda: trials.folder_of(work_id) / REGION)

    @routes.get("/trials/{work_id}/exemplar.png", response_class=Response, responses=PNG)
    async def exemplar(work_id: WorkId) -> Response:
        """The IHC that went in."""
        return await picture_at(renderer, lambda: trials.folder_of(work_id) / EXEMPLAR)

    @routes.get("/trials/{work_id}/result.png", response_class=Response, responses=PNG)
    async def result(work_id: WorkId) -> Response:
        """The result with its provenance, to be kept."""
        answer = await picture_at(renderer, lambda: trials.folder_of(work_id) / RESULT)
        answer.headers["content-disposition"] = f'attachment; filename="virtual-ihc-{work_id}.png"'
        return answer

    @routes.get("/trials/{work_id}/labelled.png", response_class=Response, responses=PNG)
    async def label(work_id: WorkId, strength: Strength = 1, dab_amount: DabAmount = 1) -> Response:
        """The same as `adjusted.png`, with a label in the picture that it is a virtual stain."""
        picture, facts = await renderer.run(lambda: _adjusted(trials, work_id, strength, dab_amount))
        return labelled_png(picture, facts, f"virtual-ihc-{work_id}-labelled.png")

    @routes.get("/trials/{work_id}/adjusted.png", response_class=Response, responses=PNG)
    async def adjust(work_id: WorkId, strength: Strength = 1, dab_amount: DabAmount = 1) -> Response:
        """The result with less of the style, or more or less DAB, without a new run."""
        picture, facts = await renderer.run(lambda: _adjusted(trials, work_id, strength, dab_amount))
        return Response(encode_image(picture, ".png", facts), media_type="image/png", headers=FRESH)


def _start(asked: NewTrial, shelf: SlideCatalog, pool: ShelfPool, trials: WorkQueue[Trial]) -> Queued[Trial]:
    with pool.reading(shelf.find(asked.slide)) as opened:
        given = {"steps": asked.steps, "dab_amount": asked.dab_amount, "seed": asked.seed}
        options = options_of(asked.preset, opened.mpp, given)
        trial = new_trial(asked.slide, asked.location, asked.size, opened.mpp, options)
        region = opened.slide.read_region(asked.location, asked.size)
    return start_trial(trials, trial, region, exemplar_picture(asked.exemplar, shelf, pool, trials))


def exemplar_picture(name: str, shelf: SlideCatalog, pool: ShelfPool, trials: WorkQueue[Trial]) -> Picture:
    """The exemplar of a name: built-in, uploaded, or a slide's middle.

    Raises: ValueError where it is not there.
    """
    if name == BUILT_IN:
        return Picture(builtin_ihc(), None)
    if name.startswith("upload-"):
        uploaded = trials.folder / EXEMPLARS / f"{name}.png"
        if not uploaded.is_file():
            raise expected("exemplar", "one that was uploaded", name, "upload it again")
        return read_picture(uploaded)
    with pool.reading(shelf.find(name)) as opened:
        return Picture(_middle(opened.slide), opened.mpp)


def _exemplar_doubt(file: FilePath) -> str | None:
    """Why an image may not be the IHC it is given as."""
    picture = read_picture(file)
    return doubts(picture.pixels, "style", picture.mpp or ASSUMED_MPP)


def _middle(slide: Slide) -> Image:
    """A slide at full resolution, or its middle where it is larger than an exemplar may be."""
    width, height = (min(side, EXEMPLAR_PX) for side in slide.size)
    left, top = (slide.size[0] - width) // 2, (slide.size[1] - height) // 2
    return slide.read_region((left, top), (width, height))


def _take_in(body: bytes, decoded: FilePath) -> None:
    decoded.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as scratch:
        uploaded = scratch / "uploaded.img"
        uploaded.write_bytes(body)
        take_in(uploaded, decoded)


def _adjusted(
    trials: WorkQueue[Trial], work_id: str, strength: float, dab_amount: float
) -> tuple[Image, dict[str, Any]]:
    """The result so changed, uint8 (H, W, 3), and its provenance; 404 where there is none yet."""
    result = trials.folder_of(work_id) / RESULT
    if trials.find(work_id).state in UNDER_WAY or not result.is_file():
        raise HTTPException(404, "The trial has no result yet.")
    facts = {**(read_provenance(result) or {}), "adjusted": {"strength": strength, "dab_amount": dab_amount}}
    he = read_image(trials.folder_of(work_id) / REGION)
    return adjusted(he, read_image(result), strength, dab_amount), facts


PRESET_NAMES = tuple(PRESETS)
