"""The web app's answers about regions and views: their numbers, and their nuclei one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from shapely.geometry import MultiPolygon, box

from chromogen.app.view import region_numbers
from chromogen.app.view.alignments import Alignments
from chromogen.app.view.placement import placement_between
from chromogen.app.view.pool import ShelfPool
from chromogen.app.view.region_files import MAX_REGIONS, Imported, Region, import_regions
from chromogen.app.view.region_numbers import Numbers
from chromogen.app.view.slide_catalog import Entry, SlideCatalog
from chromogen.app.view.slide_nuclei import NotWantedError, NucleusFinder, NucleusNumbers, SlideSource
from chromogen.app.view.slide_routes import CLIENT_GONE, SLIDE_ID, Renderer, SlideId, Stains, words_of
from chromogen.errors import FAILURES
from chromogen.pixel_size import ASSUMED_MPP

_A_FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
Pixel = Annotated[float, Query(ge=0, le=10**8)]
Extent = Annotated[float, Query(gt=0, le=10**8)]


class RegionRequest(BaseModel):
    """Numbers of regions drawn on the slide `on`, in each of `slides`, with the vectors to take them apart."""

    on: str = Field(pattern=SLIDE_ID)
    slides: dict[str, Stains] = Field(max_length=4)
    regions: list[Region] = Field(max_length=MAX_REGIONS)
    threshold_od10: float = Field(0.2, ge=0, le=2.55)


def region_routes(
    shelf: SlideCatalog, pool: ShelfPool, renderer: Renderer, finder: NucleusFinder, alignments: Alignments
) -> APIRouter:
    """The routes /api/regions, /api/numbers, and /api/slides/ID/nuclei."""
    routes = APIRouter(prefix="/api", tags=["regions"])
    measure = partial(_numbers, partial(_measured, shelf, pool, alignments), renderer, finder)

    @routes.post("/regions", openapi_extra=_A_FILE)
    async def regions(request: Request) -> Imported:
        """The polygons of a GeoJSON file, as the body, read as `chromogen stylize --content-mask` reads it."""
        body = await request.body()
        return await renderer.run(lambda: import_regions(body))  # type: ignore[no-any-return]

    @routes.post("/numbers")
    async def numbers(asked: RegionRequest) -> list[dict[str, Any]]:
        """Area, percent positive, mean density, mIOD, pixel H-score and nuclei, of every region in every slide.

        In the order of regions and slides. Where there are no numbers, `error` says why.
        """
        found = []
        for (index, region), (slide_id, stains) in product(enumerate(asked.regions), asked.slides.items()):
            numbers = await measure((asked.on, slide_id), region, stains, asked.threshold_od10)
            found.append({"region": index, "name": region.name, "slide": slide_id, **numbers})
        return found

    @routes.get("/slides/{slide_id}/nuclei")
    async def nuclei(
        request: Request,
        slide_id: SlideId,
        left: Pixel,
        top: Pixel,
        width: Extent,
        height: Extent,
        stains: Stains = "h-dab",
    ) -> Response:
        """The nuclei whose centre lies in a box of the slide, all in its level-0 pixels (see `Judged.as_json`)."""

        async def is_wanted() -> bool:
            return not await request.is_disconnected()

        entry = shelf.find(slide_id)
        source = await renderer.run(lambda: _source(pool, entry, stains))
        try:
            found = await finder.within(source, box(left, top, left + width, top + height), is_wanted)
        except NotWantedError:
            return Response(status_code=CLIENT_GONE)
        return Response(await renderer.run(found.as_json), media_type="application/json")

    return routes


def _source(pool: ShelfPool, entry: Entry, stains: Stains) -> SlideSource:
    with pool.reading(entry) as opened:
        mpp = opened.mpp or ASSUMED_MPP
        return SlideSource(entry.path, entry.version, mpp, "h-e" if stains.startswith("h-e") else "h-dab")


async def _numbers(
    measured: Callable[..., tuple[MultiPolygon, SlideSource, Numbers]],
    renderer: Renderer,
    finder: NucleusFinder,
    slides: tuple[str, str],
    region: Region,
    stains: Stains,
    threshold: float,
) -> dict[str, Any]:
    """Of a region drawn on the first slide, in the second; or why there are none."""
    try:
        measure = partial(measured, slides, region, stains, threshold)
        there, source, numbers = await renderer.run(measure)
        nuclei, lacking = await _nuclei(finder, source, there, numbers)
        why = "; ".join(words for words in (numbers.why, lacking) if words)
        return {**asdict(numbers), **nuclei, "why": why}
    except (*FAILURES, LookupError) as error:
        return {"error": words_of(error)}


def _measured(
    shelf: SlideCatalog,
    pool: ShelfPool,
    alignments: Alignments,
    slides: Sequence[str],
    region: Region,
    stains: Stains,
    threshold: float,
) -> tuple[MultiPolygon, SlideSource, Numbers]:
    """The region as it lies on the second slide, whose nuclei to count there, and what pixels say of it."""
    drawn = region_numbers.parse_region(region.geometry)
    on, entry = map(shelf.find, slides)
    with pool.reading(on) as first, pool.reading(entry) as opened:
        there = region_numbers.placed_region(drawn, placement_between(first, opened, alignments))
        numbers = region_numbers.numbers_of(opened, there, stains, threshold)
    return there, _source(pool, entry, stains), numbers


async def _nuclei(
    finder: NucleusFinder, source: SlideSource, region: MultiPolygon, numbers: Numbers
) -> tuple[dict[str, Any], str]:
    """What nuclei say of a region, and why they say nothing; that takes no other number away."""
    try:
        found = (await finder.within(source, region)).numbers
    except FAILURES as error:
        return {**asdict(NucleusNumbers(0)), "nuclei": None, "nuclei_per_mm2": None}, words_of(error)
    per_mm2 = 1e6 * found.nuclei / numbers.tissue_um2 if numbers.tissue_um2 else None
    return {**asdict(found), "nuclei_per_mm2": per_mm2}, ""
