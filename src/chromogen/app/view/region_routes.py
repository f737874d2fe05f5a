"""The web app's answers about regions and views: their numbers, and their nuclei one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from shapely.geometry import MultiPolygon, box

from chromogen.app.view import drawn_regions
from chromogen.app.view.drawn_regions import MAX_REGIONS, Imported, ImportedRegion, Numbers, Region, import_regions
from chromogen.app.view.measurement import Measured, MeasuredSlide, Measurement
from chromogen.app.view.opened import stainer_of
from chromogen.app.view.placement import placement_between
from chromogen.app.view.slide_nuclei import NotWantedError, NucleusNumbers, SlideSource
from chromogen.app.view.slide_routes import name_of, words_of
from chromogen.app.view.state import CLIENT_GONE, SLIDE_ID, SlideId, Stains, State
from chromogen.errors import FAILURES
from chromogen.pixel_size import ASSUMED_MPP

_A_FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
GONE = "a slide that has gone"
MAX_SOURCES = 60  # panes, and virtual stains that lie on the first
Pixel = Annotated[float, Query(ge=0, le=10**8)]
Extent = Annotated[float, Query(gt=0, le=10**8)]


class MeasuredSource(BaseModel):
    """A slide to measure, and the vectors that take it apart.

    `is_chosen` says that a person chose these, `is_covered` that a virtual stain lies over it on the page.
    """

    id: str = Field(pattern=SLIDE_ID)
    stains: Stains = "h-dab"
    is_chosen: bool = False
    is_covered: bool = False


class RegionRequest(BaseModel):
    """Numbers of regions drawn on the slide `on`, in each of `slides`."""

    on: str = Field(pattern=SLIDE_ID)
    slides: list[MeasuredSource] = Field(max_length=MAX_SOURCES)
    regions: list[ImportedRegion] = Field(max_length=MAX_REGIONS)
    threshold_od10: float = Field(0.2, ge=0, le=2.55)


def region_routes(state: State) -> APIRouter:
    """The routes /api/regions, /api/numbers, and /api/slides/ID/nuclei."""
    routes = APIRouter(prefix="/api", tags=["regions"])
    run = state.renderer.run

    @routes.post("/regions", openapi_extra=_A_FILE)
    async def regions(request: Request) -> Imported:
        """The polygons of a GeoJSON file, as the body, read as `chromogen stylize --content-mask` reads it."""
        body = await request.body()
        return await run(lambda: import_regions(body))

    @routes.post("/numbers")
    async def numbers(asked: RegionRequest) -> Measurement:
        """Area, percent positive, mean density, mIOD, pixel H-score and nuclei, of every region in every slide.

        A region or a slide that cannot be measured takes no others away.
        """
        slides = await run(lambda: [_measured_slide(state, asked.on, source) for source in asked.slides])
        found = Measured(asked.threshold_od10, slides, asked.regions)
        for (index, region), source in product(enumerate(asked.regions), asked.slides):
            line = await _numbers(state, (asked.on, source.id), region, source.stains, asked.threshold_od10)
            found.numbers.append({"region": index, "name": region.name, "slide": source.id, **line})
        return await run(found.answer)

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

        source = await run(lambda: _source(state, slide_id, stains))
        try:
            found = await state.nuclei.within(source, box(left, top, left + width, top + height), is_wanted)
        except NotWantedError:
            return Response(status_code=CLIENT_GONE)
        return Response(await run(found.as_json), media_type="application/json")

    return routes


def _source(state: State, slide_id: str, stains: Stains) -> SlideSource:
    entry = state.slides.find(slide_id)
    with state.pool.reading(entry) as opened:
        mpp = opened.mpp or ASSUMED_MPP
    return SlideSource(entry.path, entry.version, mpp, "h-e" if stains.startswith("h-e") else "h-dab")


def _measured_slide(state: State, on: str, source: MeasuredSource) -> MeasuredSlide:
    """What is known of a slide that is measured; next to nothing where it cannot be read."""
    try:
        entry = state.slides.find(source.id)
    except LookupError:
        return MeasuredSlide(source.id, GONE, source.stains)
    plain = MeasuredSlide(source.id, name_of(state, entry), source.stains, is_covered=source.is_covered)
    try:
        with state.reading(on) as first, state.pool.reading(entry) as opened:
            placed = placement_between(first, opened, state.alignments)
            doubt = opened.look.stains_doubt or ""
            by = "recognised, not sure" if doubt else "recognised"
            return replace(
                plain,
                virtual=stainer_of(opened.virtual),
                stains_by="chosen by the user" if source.is_chosen else by,
                doubt=doubt,
                has_mpp=opened.mpp is not None,
                by="" if source.id == on else placed.by,
                is_guess=placed.is_guess and source.id != on,
            )
    except (*FAILURES, LookupError):
        return plain


async def _numbers(
    state: State, slides: tuple[str, str], region: Region, stains: Stains, threshold: float
) -> dict[str, Any]:
    """Of a region drawn on the first slide, in the second; or why there are none."""
    try:
        there, numbers = await state.renderer.run(lambda: _measured(state, slides, region, stains, threshold))
        source = await state.renderer.run(lambda: _source(state, slides[1], stains))
        nuclei, lacking = await _nuclei(state, source, there, numbers)
        why = "; ".join(words for words in (numbers.why, lacking) if words)
        return {**asdict(numbers), **nuclei, "why": why}
    except (*FAILURES, LookupError) as error:
        return {"error": words_of(error)}


def _measured(
    state: State, slides: Sequence[str], region: Region, stains: Stains, threshold: float
) -> tuple[MultiPolygon, Numbers]:
    """The region as it lies on the second slide, whose nuclei to count there, and what pixels say of it."""
    drawn = drawn_regions.parse_region(region.geometry)
    with state.reading(slides[0]) as first, state.reading(slides[1]) as opened:
        there = drawn_regions.placed_region(drawn, placement_between(first, opened, state.alignments))
        return there, drawn_regions.numbers_of(opened, there, stains, threshold)


async def _nuclei(
    state: State, source: SlideSource, region: MultiPolygon, numbers: Numbers
) -> tuple[dict[str, Any], str]:
    """What nuclei say of a region, and why they say nothing; that takes no other number away."""
    try:
        found = (await state.nuclei.within(source, region)).numbers
    except FAILURES as error:
        return {**asdict(NucleusNumbers(0)), "nuclei": None, "nuclei_per_mm2": None}, words_of(error)
    per_mm2 = 1e6 * found.nuclei / numbers.tissue_um2 if numbers.tissue_um2 else None
    return {**asdict(found), "nuclei_per_mm2": per_mm2}, ""
