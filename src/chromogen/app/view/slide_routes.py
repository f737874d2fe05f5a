"""The web app's answers about slides: which there are, tiles, densities, differences."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import numpy as np
import openslide
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

from chromogen.app.view import pictures
from chromogen.app.view.opened import Opened, stainer_of, virtual_facts
from chromogen.app.view.placement import placement_between
from chromogen.app.view.slide_catalog import Entry, UnknownSlideError, case_of, marker_of
from chromogen.app.view.stains import CONFIDENCE
from chromogen.app.view.state import JPEG, PNG, Job, SlideId, Stains, State
from chromogen.app.view.trials import EXEMPLAR
from chromogen.app.view.work_folder import REGION, RESULT
from chromogen.app.view.work_queue import UnknownWorkError
from chromogen.image import shrunk

Level = Annotated[int, Path(ge=0, le=32)]
Place = Annotated[int, Path(ge=0, le=10**6)]
COPIES = (REGION, EXEMPLAR, RESULT, CONFIDENCE)  # of jobs: pictures that lie on slides


class SlideLine(BaseModel):
    """A slide in the list; `virtual` names what made it, where its file says that it is a virtual stain.

    `title` is what people call it; `is_copy` says that it is a picture of a job that lies on another slide.
    Slides of one `case` belong together, by their names; `marker` is what a name says that it is stained for.
    """

    id: str
    name: str
    title: str
    is_copy: bool
    case: str
    marker: str
    version: str
    virtual: str | None


class SlideFacts(SlideLine):
    """What a slide is; `mpp` is um per level-0 pixel, None where the file does not say.

    `stains` are the vectors to begin with, `stains_doubt` why they may be the wrong ones. `input_doubt` says why
    it may be no H&E to stain, `exemplar_doubt` why it may be no IHC to stain after. `tissue` is the same
    for slides that a transform lays on each other, and for a virtual stain and what it was made of.
    """

    width: int
    height: int
    mpp: float | None
    levels: int
    tile_px: int
    stains: Stains
    stains_doubt: str | None
    input_doubt: str | None
    exemplar_doubt: str | None
    associated: list[str]
    tissue: str


def slide_routes(state: State) -> APIRouter:
    """The routes below /api/slides."""
    routes = APIRouter(prefix="/api/slides", tags=["slides"])
    _list_routes(routes, state)
    _tile_routes(routes, state)
    return routes


def _list_routes(routes: APIRouter, state: State) -> None:
    run = state.renderer.run

    def lines() -> list[SlideLine]:
        state.alignments.look()
        return [_line(state, entry) for entry in state.slides.entries()]

    @routes.get("")
    async def slides() -> list[SlideLine]:
        """All slides and images under the paths that were named."""
        return await run(lines)

    @routes.get("/{slide_id}")
    async def slide(slide_id: SlideId) -> SlideFacts:
        """Size, pixel size, levels, and the stain it looks to have."""
        return await run(lambda: _facts(state, slide_id))

    @routes.get("/{slide_id}/thumbnail.jpg", response_class=Response, responses=JPEG)
    async def thumbnail(request: Request, slide_id: SlideId) -> Response:
        """The whole slide, small; a virtual stain with a label that says so."""
        return await _picture(state, request, [slide_id], ("thumbnail",), pictures.thumbnail)

    @routes.get("/{slide_id}/associated/{name}.jpg", response_class=Response, responses=JPEG)
    async def associated(
        request: Request, slide_id: SlideId, name: Annotated[str, Path(max_length=100)]
    ) -> Response:
        """The label, macro or another image that a scanner put beside; only where the user asked for them."""
        if not state.shows_labels:
            raise HTTPException(403, "Labels may identify a patient; start with --labels to see them.")
        entry = state.slides.find(slide_id)
        return await _picture(state, request, [slide_id], ("label", name), lambda _: _associated(entry, name))


def _tile_routes(routes: APIRouter, state: State) -> None:
    @routes.get("/{slide_id}/tiles/{level}/{x}/{y}.jpg", response_class=Response, responses=JPEG)
    async def tile(request: Request, slide_id: SlideId, level: Level, x: Place, y: Place) -> Response:
        """A tile; level 0 holds the whole slide in one."""
        at = pictures.Address(level, x, y)
        return await _picture(state, request, [slide_id], ("tile", at), lambda opened: pictures.tile(opened, at))

    @routes.get("/{slide_id}/densities/{level}/{x}/{y}.png", response_class=Response, responses=PNG)
    async def density(
        request: Request, slide_id: SlideId, level: Level, x: Place, y: Place, stains: Stains = "h-dab"
    ) -> Response:
        """Densities of both stains and the tissue, as the three channels of a PNG (see `density_tile`)."""
        at = pictures.Address(level, x, y)
        made = partial(pictures.density_tile, address=at, stains=stains)
        return await _picture(state, request, [slide_id], ("density", at, stains), made)

    @routes.get("/{slide_id}/differences/{other_id}/{level}/{x}/{y}.png", response_class=Response, responses=PNG)
    async def difference(
        request: Request,
        slide_id: SlideId,
        other_id: SlideId,
        level: Level,
        x: Place,
        y: Place,
        stains: Annotated[list[Stains] | None, Query(max_length=2, min_length=2)] = None,
        placed: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """How another slide differs here, and whether structure was kept (see `difference_tile`).

        `placed` is anything that is another where the slides lie otherwise: answers are kept by it.
        """
        at = pictures.Address(level, x, y)
        first, second = stains or ("h-e", "h-dab")

        def make(one: Opened, other: Opened) -> bytes:
            lies = placement_between(one, other, state.alignments)
            return pictures.difference_tile(one, other, at, (first, second), lies)

        key = ("difference", at, first, second, placed)
        return await _picture(state, request, [slide_id, other_id], key, make)


async def _picture(
    state: State, request: Request, slides: list[str], key: tuple[object, ...], make: Callable[..., bytes]
) -> Response:
    """The picture that `make` gives of open slides, held under their versions and the key."""
    entries = [state.slides.find(slide) for slide in slides]

    def made() -> bytes:
        with ExitStack() as stack:
            return make(*(stack.enter_context(state.pool.reading(entry)) for entry in entries))

    versions = [(entry.id, entry.version) for entry in entries]
    kind = "image/jpeg" if request.url.path.endswith(".jpg") else "image/png"
    return await state.renderer.answer(request, (*key, *versions), kind, made)


def _facts(state: State, slide_id: str) -> SlideFacts:
    entry = state.slides.find(slide_id)
    with state.pool.reading(entry) as opened:
        look, quickhash = opened.look, opened.slide.quickhash
        return SlideFacts(
            **_line(state, entry).model_dump(),
            width=opened.size[0],
            height=opened.size[1],
            mpp=opened.mpp,
            levels=pictures.tile_levels(opened.size),
            tile_px=pictures.TILE_PX,
            stains=look.stains,
            stains_doubt=look.stains_doubt,
            input_doubt=look.doubt_as("content"),
            exemplar_doubt=look.doubt_as("style"),
            associated=_associated_names(entry) if state.shows_labels else [],
            tissue=state.alignments.tissue_of((opened.virtual or {}).get("source_quickhash") or quickhash),
        )


def _line(state: State, entry: Entry) -> SlideLine:
    job, file = _job_of(state, entry), entry.path.name
    is_made = job is not None and file != REGION
    title = f"{job.title}{', region' if job.location else ''}" if job and is_made else file
    return SlideLine(
        id=entry.id,
        name=entry.name,
        title=title,
        is_copy=job is not None and file in COPIES,
        case=case_of(_source_name(state, job, entry)),
        marker=marker_of(entry.name),
        version=entry.version,
        virtual=stainer_of(virtual_facts(entry.path, entry.version)),
    )


def name_of(state: State, entry: Entry) -> str:
    """What numbers call a slide: its name, of a result by what it was made, with the end of the job's id."""
    job = _job_of(state, entry)
    return f"{job.title} {job.id[-6:]}" if job else entry.name


def _job_of(state: State, entry: Entry) -> Job | None:
    """The job in whose folder a file lies."""
    try:
        return state.jobs.find(entry.name.partition("/")[0]).work
    except UnknownWorkError:
        return None


def _source_name(state: State, job: Job | None, entry: Entry) -> str:
    """The name that says of which case a slide is: of a result that of the slide it was made of."""
    try:
        return state.slides.find(job.slide).name if job else entry.name
    except UnknownSlideError:
        return entry.name


def words_of(error: Exception) -> str:
    """Why there is no answer. Words of the operating system may tell of folders; ours do not."""
    said = (error.strerror or "it failed") if isinstance(error, OSError) else str(error)
    return said or "There is too little memory for this."


def _associated_names(entry: Entry) -> list[str]:
    if openslide.OpenSlide.detect_format(entry.path) is None:
        return []
    with openslide.OpenSlide(entry.path) as slide:
        return sorted(slide.associated_images)


def _associated(entry: Entry, name: str) -> bytes:
    if name not in _associated_names(entry):
        raise pictures.NoSuchTileError(f"The slide has no image {name!r}.")
    with openslide.OpenSlide(entry.path) as slide:
        image = np.array(slide.associated_images[name].convert("RGB"))
    return pictures.as_jpeg(shrunk(image, 1024))
