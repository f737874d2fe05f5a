"""The web app's answers about slides: which there are, tiles, densities, differences, numbers of regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
import numpy as np
import openslide
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from chromogen.app.view import densities, region_numbers, tiles
from chromogen.app.view.pool import Opened, SlidePool
from chromogen.app.view.shelf import Entry, Shelf
from chromogen.image import is_image, read_provenance, shrunk
from chromogen.provenance import NOTICE
from chromogen.recent import Recent
from chromogen.slides.facts import read_facts
from chromogen.slides.threads import processors

KEEP = {"cache-control": "private, max-age=86400, immutable"}  # the address has the file's version
CLIENT_GONE = 499
MOST_CACHED_BYTES = 96_000_000
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
        self._recent: Recent[bytes] = Recent(MOST_CACHED_BYTES, len)

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
    """A slide in the list."""

    id: str
    name: str
    version: str


class SlideFacts(SlideLine):
    """What a slide is; `mpp` is um per level-0 pixel, None where the file does not say.

    `stains_doubt` says in a sentence why other stains may be right, where that is not sure.

    `virtual` names what made it, where it is a virtual stain that says so.
    """

    width: int
    height: int
    mpp: float | None
    levels: int
    tile_px: int
    stains: Stains
    stains_doubt: str | None
    virtual: str | None
    associated: list[str]


class Beside(BaseModel):
    """How two slides lie on one another."""

    scale: float
    by: str


class Region(BaseModel):
    """A region by name, GeoJSON geometry in level-0 pixels of the slide it was drawn on."""

    name: str = Field("", max_length=200)
    geometry: dict[str, Any]


class Asked(BaseModel):
    """Numbers of regions drawn on the slide `on`, in each of `slides`, with the vectors to take them apart."""

    on: str = Field(pattern=SLIDE_ID)
    slides: dict[str, Stains] = Field(max_length=4)
    regions: list[Region] = Field(max_length=200)
    threshold_od10: float = Field(0.2, ge=0, le=2.55)


def slide_routes(shelf: Shelf, pool: SlidePool, renderer: Renderer, *, labels: bool) -> APIRouter:
    """The routes below /api/slides, and /api/numbers."""
    routes = APIRouter(prefix="/api", tags=["slides"])
    _list_routes(routes, shelf, pool, renderer, labels=labels)
    _tile_routes(routes, shelf, pool, renderer)
    _comparison_routes(routes, shelf, pool, renderer)

    @routes.post("/numbers")
    async def numbers(asked: Asked) -> list[dict[str, Any]]:
        """Area, percent positive, mean density, mIOD, pixel H-score and nuclei, of every region in every slide."""
        entries = {slide_id: shelf.find(slide_id) for slide_id in (asked.on, *asked.slides)}
        found = []
        for (index, region), (slide_id, stains) in product(enumerate(asked.regions), asked.slides.items()):
            work = partial(
                _numbers, pool, entries[asked.on], entries[slide_id], region, stains, asked.threshold_od10
            )
            found.append({"region": index, "name": region.name, "slide": slide_id, **await renderer.run(work)})
        return found

    return routes


def _list_routes(routes: APIRouter, shelf: Shelf, pool: SlidePool, renderer: Renderer, *, labels: bool) -> None:
    @routes.get("/slides")
    async def slides() -> list[SlideLine]:
        """All slides and images under the paths that were named."""
        entries = await renderer.run(shelf.entries)
        return [SlideLine(id=entry.id, name=entry.name, version=entry.version) for entry in entries]

    @routes.get("/slides/{slide_id}")
    async def slide(slide_id: SlideId) -> SlideFacts:
        """Size, pixel size, levels, and the stain it looks to have."""
        return await renderer.run(lambda: _facts(pool, shelf.find(slide_id), labels=labels))  # type: ignore[no-any-return]

    @routes.get("/slides/{slide_id}/thumbnail.jpg", response_class=Response, responses=JPEG)
    async def thumbnail(request: Request, slide_id: SlideId) -> Response:
        """The whole slide, small."""
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


def _tile_routes(routes: APIRouter, shelf: Shelf, pool: SlidePool, renderer: Renderer) -> None:
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


def _comparison_routes(routes: APIRouter, shelf: Shelf, pool: SlidePool, renderer: Renderer) -> None:
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
    ) -> Response:
        """How another slide differs here, and whether structure was kept (see `difference_tile`)."""
        one, other, address = shelf.find(slide_id), shelf.find(other_id), tiles.Address(level, x, y)
        first, second = stains or ("h-e", "h-dab")
        key = ("difference", one.id, one.version, other.id, other.version, address, first, second)

        def make() -> bytes:
            with pool.reading(one) as a, pool.reading(other) as b:
                return densities.difference_tile(a, b, address, (first, second))

        return await renderer.answer(request, key, "image/png", make)

    @routes.get("/slides/{slide_id}/beside/{other_id}")
    async def beside(slide_id: SlideId, other_id: SlideId) -> Beside:
        """How many level-0 pixels of the other slide lie along one of the first."""
        one, other = shelf.find(slide_id), shelf.find(other_id)

        def compare() -> Beside:
            with pool.reading(one) as a, pool.reading(other) as b:
                scale, by = densities.scale_between(a, b)
                return Beside(scale=scale, by=by)

        return await renderer.run(compare)  # type: ignore[no-any-return]


def _read(pool: SlidePool, entry: Entry, work: Callable[[Opened], bytes]) -> bytes:
    with pool.reading(entry) as opened:
        return work(opened)


def _facts(pool: SlidePool, entry: Entry, *, labels: bool) -> SlideFacts:
    with pool.reading(entry) as opened:
        width, height = opened.size
        return SlideFacts(
            id=entry.id,
            name=entry.name,
            version=entry.version,
            width=width,
            height=height,
            mpp=opened.mpp,
            levels=tiles.levels_of(opened.size),
            tile_px=tiles.TILE_PX,
            stains=opened.look.stains,
            stains_doubt=opened.look.stains_doubt,
            virtual=_made_by(entry.path),
            associated=_associated_names(entry) if labels else [],
        )


def _made_by(path: FilePath) -> str | None:
    """The stainer of a virtual stain, or how else it was made; None for what does not say that it is one."""
    facts = read_facts(path)
    if facts is not None:
        return facts.stainer
    said = (read_provenance(path) if is_image(path) else None) or {}
    return str(said.get("stainer", "style transfer")) if said.get("notice") == NOTICE else None


def _numbers(
    pool: SlidePool, on: Entry, entry: Entry, region: Region, stains: str, threshold: float
) -> dict[str, Any]:
    drawn = region_numbers.parse_region(region.geometry)
    with pool.reading(on) as first, pool.reading(entry) as opened:
        scale = densities.scale_between(first, opened)[0] if on.id != entry.id else 1.0
        try:
            there = region_numbers.scaled_region(drawn, scale)
            return asdict(region_numbers.numbers_of(opened, there, stains, threshold))
        except ValueError as error:
            if on.id == entry.id:
                raise
            return {"why": str(error)}


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
