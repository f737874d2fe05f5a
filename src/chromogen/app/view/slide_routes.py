"""The web app's answers about slides: which there are, tiles, densities, differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import numpy as np
import openslide
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

from chromogen.app.view import densities, tiles
from chromogen.app.view.alignments import Alignments
from chromogen.app.view.cases import case_of, marker_of
from chromogen.app.view.placement import placement_between
from chromogen.app.view.pool import Opened, ShelfPool
from chromogen.app.view.slide_catalog import Entry, SlideCatalog
from chromogen.app.view.virtual import stainer_of, virtual_facts
from chromogen.compute.lru_cache import LruCache
from chromogen.image import shrunk
from chromogen.slides.pyramid import processors

KEEP = {"cache-control": "private, max-age=86400, immutable"}  # the address has the file's version
CLIENT_GONE = 499
MAX_CACHED_BYTES = 96_000_000
Stains = Literal["h-dab", "h-e", "h-dab-ruifrok", "h-e-ruifrok"]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
SLIDE_ID = "^[0-9a-f]{16}$"
SlideId = Annotated[str, Path(pattern=SLIDE_ID)]
Level = Annotated[int, Path(ge=0, le=32)]
Place = Annotated[int, Path(ge=0, le=10**6)]


class Renderer:
    """Does work in threads, as many at a time as there are cores; what nobody waits for any more is left out."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(max(2, processors()))
        self._recent: LruCache[bytes] = LruCache(MAX_CACHED_BYTES, len)

    async def answer(
        self, request: Request, key: tuple[object, ...], media_type: str, make: Callable[[], bytes]
    ) -> Response:
        """The bytes that `make` gives, held under the key for the next who asks."""
        held = self._recent.peek(key)
        if held is None:
            async with self._limiter:
                if await request.is_disconnected():
                    return Response(status_code=CLIENT_GONE)
                held = await anyio.to_thread.run_sync(self._recent.get, key, make)
        return Response(held, media_type=media_type, headers=KEEP)

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` gives."""
        async with self._limiter:
            return await anyio.to_thread.run_sync(work)


class SlideLine(BaseModel):
    """A slide in the list; `virtual` names what made it, where its file says that it is a virtual stain.

    Slides of one `case` belong together, by their names; `marker` is what a name says that it is stained for.
    """

    id: str
    name: str
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


def slide_routes(
    shelf: SlideCatalog, pool: ShelfPool, renderer: Renderer, alignments: Alignments, *, labels: bool
) -> APIRouter:
    """The routes below /api/slides."""
    routes = APIRouter(prefix="/api", tags=["slides"])
    _list_routes(routes, shelf, pool, renderer, alignments, labels=labels)
    _tile_routes(routes, shelf, pool, renderer)
    _comparison_routes(routes, shelf, pool, renderer, alignments)
    return routes


def _list_routes(
    routes: APIRouter,
    shelf: SlideCatalog,
    pool: ShelfPool,
    renderer: Renderer,
    alignments: Alignments,
    *,
    labels: bool,
) -> None:
    def lines() -> list[SlideLine]:
        alignments.look()
        return [_line(entry) for entry in shelf.entries()]

    def facts(slide_id: str) -> SlideFacts:
        return _facts(pool, shelf.find(slide_id), alignments, labels=labels)

    @routes.get("/slides")
    async def slides() -> list[SlideLine]:
        """All slides and images under the paths that were named."""
        return await renderer.run(lines)  # type: ignore[no-any-return]

    @routes.get("/slides/{slide_id}")
    async def slide(slide_id: SlideId) -> SlideFacts:
        """Size, pixel size, levels, and the stain it looks to have."""
        return await renderer.run(lambda: facts(slide_id))  # type: ignore[no-any-return]

    @routes.get("/slides/{slide_id}/thumbnail.jpg", response_class=Response, responses=JPEG)
    async def thumbnail(request: Request, slide_id: SlideId) -> Response:
        """The whole slide, small; a virtual stain with a label that says so."""
        entry = shelf.find(slide_id)
        key = ("thumbnail", entry.id, entry.version)
        return await renderer.answer(request, key, "image/jpeg", lambda: _read(pool, entry, tiles.thumbnail))

    @routes.get("/slides/{slide_id}/associated/{name}.jpg", response_class=Response, responses=JPEG)
    async def associated(
        request: Request, slide_id: SlideId, name: Annotated[str, Path(max_length=100)]
    ) -> Response:
        """The label, macro or another image that a scanner put beside; only where the user asked for them."""
        if not labels:
            raise HTTPException(403, "Labels may identify a patient; start with --labels to see them.")
        entry = shelf.find(slide_id)
        key = ("associated", entry.id, entry.version, name)
        return await renderer.answer(request, key, "image/jpeg", lambda: _associated(entry, name))


def _tile_routes(routes: APIRouter, shelf: SlideCatalog, pool: ShelfPool, renderer: Renderer) -> None:
    @routes.get("/slides/{slide_id}/tiles/{level}/{x}/{y}.jpg", response_class=Response, responses=JPEG)
    async def tile(request: Request, slide_id: SlideId, level: Level, x: Place, y: Place) -> Response:
        """A tile; level 0 holds the whole slide in one."""
        entry, address = shelf.find(slide_id), tiles.Address(level, x, y)
        key = ("tile", entry.id, entry.version, address)
        return await renderer.answer(
            request, key, "image/jpeg", lambda: _read(pool, entry, lambda opened: tiles.tile(opened, address))
        )

    @routes.get("/slides/{slide_id}/densities/{level}/{x}/{y}.png", response_class=Response, responses=PNG)
    async def density(
        request: Request, slide_id: SlideId, level: Level, x: Place, y: Place, stains: Stains = "h-dab"
    ) -> Response:
        """Densities of both stains and the tissue, as the three channels of a PNG (see `density_tile`)."""
        entry, address = shelf.find(slide_id), tiles.Address(level, x, y)
        key = ("density", entry.id, entry.version, address, stains)
        return await renderer.answer(
            request,
            key,
            "image/png",
            lambda: _read(pool, entry, lambda opened: densities.density_tile(opened, address, stains)),
        )


def _comparison_routes(
    routes: APIRouter, shelf: SlideCatalog, pool: ShelfPool, renderer: Renderer, alignments: Alignments
) -> None:
    @routes.get(
        "/slides/{slide_id}/differences/{other_id}/{level}/{x}/{y}.png", response_class=Response, responses=PNG
    )
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
        one, other, address = shelf.find(slide_id), shelf.find(other_id), tiles.Address(level, x, y)
        first, second = stains or ("h-e", "h-dab")
        key = ("difference", one.id, one.version, other.id, other.version, address, first, second, placed)

        def make() -> bytes:
            with pool.reading(one) as a, pool.reading(other) as b:
                lies = placement_between(a, b, alignments)
                return densities.difference_tile(a, b, address, (first, second), lies)

        return await renderer.answer(request, key, "image/png", make)


def _read(pool: ShelfPool, entry: Entry, work: Callable[[Opened], bytes]) -> bytes:
    with pool.reading(entry) as opened:
        return work(opened)


def _facts(pool: ShelfPool, entry: Entry, alignments: Alignments, *, labels: bool) -> SlideFacts:
    with pool.reading(entry) as opened:
        width, height = opened.size
        return SlideFacts(
            **_line(entry).model_dump(),
            width=width,
            height=height,
            mpp=opened.mpp,
            levels=tiles.tile_levels(opened.size),
            tile_px=tiles.TILE_PX,
            stains=opened.look.stains,
            stains_doubt=opened.look.stains_doubt,
            input_doubt=opened.look.doubt_as("content"),
            exemplar_doubt=opened.look.doubt_as("style"),
            associated=_associated_names(entry) if labels else [],
            tissue=alignments.tissue_of((opened.virtual or {}).get("source_quickhash") or opened.slide.quickhash),
        )


def _line(entry: Entry) -> SlideLine:
    virtual = stainer_of(virtual_facts(entry.path, entry.version))
    return SlideLine(
        id=entry.id,
        name=entry.name,
        case=case_of(entry.name),
        marker=marker_of(entry.name),
        version=entry.version,
        virtual=virtual,
    )


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
        raise tiles.NoSuchTileError(f"The slide has no image {name!r}.")
    with openslide.OpenSlide(entry.path) as slide:
        image = np.array(slide.associated_images[name].convert("RGB"))
    return tiles.as_jpeg(shrunk(image, 1024))
