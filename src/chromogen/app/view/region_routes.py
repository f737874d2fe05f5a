"""The web app's answers about regions and views: their numbers as people get them, and their nuclei one by one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from shapely.geometry import MultiPolygon, box

from chromogen.app.view import drawn_regions
from chromogen.app.view.opened import LABEL, stainer_of
from chromogen.app.view.placement import placement_between
from chromogen.app.view.slide_nuclei import (
    NotWantedError,
    NucleusNumbers,
    SlideSource,
    interval_of,
    number_in_words,
)
from chromogen.app.view.slide_routes import name_of, words_of
from chromogen.app.view.state import CLIENT_GONE, SLIDE_ID, SlideId, Stains, State
from chromogen.errors import FAILURES
from chromogen.pixel_size import ASSUMED_MPP

# Numbers of regions: tables, what a reader must know of them, and files, CSV and GeoJSON.

NOTICE = " - ".join(LABEL)
COLUMNS = {  # by key: what it is called, and how many digits it has
    "positive_nuclei_percent": ("% of nuclei positive", 1),
    "h_score": ("H-score of nuclei", 0),
    "nuclei": ("nuclei", 0),
    "nuclei_per_mm2": ("nuclei per mm² of tissue", 0),
    "nuclei_threshold_od10": ("positive: DAB above", 2),
    "above_threshold_percent": ("% above {threshold:.2f}", 1),
    "positive_percent": ("% positive (0.20)", 1),
    "miod_od10": ("mIOD", 3),
    "pixel_h_score": ("pixel H-score", 1),
    "tissue_percent": ("% tissue", 1),
    "area_um2": ("area, µm²", 0),
}
MORE = ("measured_mpp", "mean_od10", "positive_nuclei")  # in files alone
ENDS = tuple(f"{name}_{end}" for name in ("positive_nuclei_percent", "h_score") for end in ("low", "high"))
FORMULA = tuple("=+-@\t")  # begins what a spreadsheet would take for one, unless it is written as text


@dataclass(frozen=True)
class MeasuredSlide:
    """A slide as it was measured: with which vectors, who chose them, and how it lay on the first.

    `is_covered` says that a virtual stain lies over it on the page.
    """

    name: str
    stains: str
    virtual: str | None = None
    stains_by: str = ""
    doubt: str = ""
    has_mpp: bool = True
    by: str = ""
    is_guess: bool = False
    is_covered: bool = False

    @property
    def kind(self) -> str:
        """The stains in words."""
        return "H&E" if self.stains.startswith("h-e") else "H-DAB"

    def as_record(self) -> dict[str, str]:
        """What any file says of it."""
        return {
            "slide": self.name,
            "virtual_stain": self.virtual or "",
            "notice": "" if self.virtual is None else NOTICE,
            "stains": self.stains,
            "stains_by": self.stains_by,
            "stains_doubt": self.doubt,
            "pixel_size": "of the file" if self.has_mpp else f"not in the file, {ASSUMED_MPP} um assumed",
            "placed": self.by,
        }

    def notes(self) -> Iterator[str]:
        """What a reader has to know before the numbers."""
        if self.virtual is not None:
            yield f"{NOTICE}. Its numbers measure what the stainer painted."
        if self.doubt and "chosen" not in self.stains_by:
            yield f"not sure of its stains: {self.doubt}. Choose them behind its badge."
        if self.is_guess:
            yield f"lies on the first slide {self.by}."
        if not self.has_mpp:
            yield f"no pixel size in the file; {ASSUMED_MPP} µm is assumed."
        if self.is_covered:
            yield f"the numbers are those of the slide, not of the {LABEL[0].lower()} that is laid over it."


class Cell(BaseModel):
    """A number as it is shown, with its interval of 95 %, and of which stain it is where that may be either."""

    text: str
    interval: str = ""
    of: str = ""


class Column(BaseModel):
    """A slide at the head of a table."""

    name: str
    stains: str
    stains_by: str
    is_virtual: bool


class TableRow(BaseModel):
    """A number in every slide."""

    label: str
    cells: list[Cell]


class Table(BaseModel):
    """The numbers of a region, and why some are missing or not to be relied on."""

    caption: str
    columns: list[Column]
    rows: list[TableRow]
    why: str


class Measurement(BaseModel):
    """Regions measured in slides: `numbers` as they are, by region and slide, and as tables and files of them.

    Where there are no numbers, `error` says why.
    """

    numbers: list[dict[str, Any]]
    notes: list[str]
    tables: list[Table]
    csv: str
    geojson: str
    is_virtual: bool


@dataclass(frozen=True)
class Measured:
    """Numbers, a line for each region and slide in this order, and what they depend on."""

    threshold_od10: float
    slides: Sequence[MeasuredSlide]
    regions: Sequence[drawn_regions.ImportedRegion]
    numbers: list[dict[str, Any]] = field(default_factory=list)

    def answer(self) -> Measurement:
        """All that is shown or kept of it."""
        return Measurement(
            numbers=self.numbers,
            notes=self._notes(),
            tables=[self._table(index) for index in range(len(self.regions))],
            csv=self._csv(),
            geojson=self._geojson(),
            is_virtual=any(slide.virtual is not None for slide in self.slides),
        )

    def _lines(self, region: int) -> list[tuple[MeasuredSlide, dict[str, Any]]]:
        count = len(self.slides)
        return list(zip(self.slides, self.numbers[region * count : (region + 1) * count], strict=True))

    def _notes(self) -> list[str]:
        """Each note once, with the slides that it holds for."""
        named: dict[str, list[str]] = {}
        for slide in self.slides:
            for note in slide.notes():
                named.setdefault(note, []).append(_short(slide.name))
        return [f"{', '.join(names)}: {note}" for note, names in named.items()]

    def _table(self, region: int) -> Table:
        lines = self._lines(region)
        reasons = [f"{_short(slide.name)}: {why.rstrip('.')}" for slide, line in lines if (why := _why(line))]
        return Table(
            caption=self.regions[region].name or "",
            columns=[
                Column(
                    name=slide.name,
                    stains=slide.kind,
                    stains_by=slide.stains_by,
                    is_virtual=slide.virtual is not None,
                )
                for slide, _ in lines
            ],
            rows=[
                TableRow(
                    label=label.format(threshold=self.threshold_od10),
                    cells=[_cell(slide, line, name, digits) for slide, line in lines],
                )
                for name, (label, digits) in COLUMNS.items()
            ],
            why=f"{'; '.join(reasons)}." if reasons else "",
        )

    def _csv(self) -> str:
        """A line for each region and slide."""
        keys = (*MORE, *ENDS, "nuclei_threshold_source", *COLUMNS)
        held = io.StringIO()
        writer = csv.writer(held, lineterminator="\r\n")
        writer.writerow(["region", *MeasuredSlide("", "").as_record(), "threshold_od10", *keys, "why"])
        for index, region in enumerate(self.regions):
            for slide, line in self._lines(index):
                values = [line.get(key) for key in keys]
                row = [region.name, *slide.as_record().values(), self.threshold_od10, *values, _why(line)]
                is_formula = [isinstance(value, str) and value.startswith(FORMULA) for value in row]
                writer.writerow(
                    [f"'{value}" if hit else value for value, hit in zip(row, is_formula, strict=True)]
                )
        return held.getvalue()

    def _geojson(self) -> str:
        """Regions as annotations with their numbers as measurements, and how these came about."""
        features = [
            drawn_regions.feature_of(region, **self._annotated(at)) for at, region in enumerate(self.regions)
        ]
        slides = [slide.as_record() for slide in self.slides]
        made = {"threshold_od10": self.threshold_od10, "slides": slides}
        return json.dumps({"type": "FeatureCollection", "features": features, "chromogen": made}, indent=1)

    def _annotated(self, region: int) -> dict[str, dict[str, Any]]:
        """Measurements, and as metadata, which QuPath shows, what they are of."""
        measurements: dict[str, float] = {}
        metadata: dict[str, str] = {}
        for slide, line in self._lines(region):
            name = slide.name if slide.virtual is None else f"{slide.name} ({LABEL[0]})"
            numbers = {key: value for key, value in line.items() if isinstance(value, int | float)}
            measurements |= {f"{name}: {key}": value for key, value in numbers.items() if key != "region"}
            said = {**slide.as_record(), "why": _why(line)}
            metadata |= {f"{name}: {key}": value for key, value in said.items() if value and key != "slide"}
        return {"measurements": measurements, "metadata": metadata}


def _why(line: dict[str, Any]) -> str:
    """Why numbers are missing, or not to be relied on."""
    return line.get("error") or "; ".join(filter(None, (line.get("why"), line.get("nuclei_doubt"))))


def _cell(slide: MeasuredSlide, line: dict[str, Any], name: str, digits: int) -> Cell:
    of = {"H&E": "eosin", "H-DAB": "DAB"}[slide.kind] if name == "above_threshold_percent" else ""
    return Cell(text=number_in_words(line.get(name), digits), interval=interval_of(line, name, digits), of=of)


def _short(name: str) -> str:
    return name.rpartition("/")[2]


# The routes.

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
    regions: list[drawn_regions.ImportedRegion] = Field(max_length=drawn_regions.MAX_REGIONS)
    threshold_od10: float = Field(0.2, ge=0, le=2.55)


def region_routes(state: State) -> APIRouter:
    """The routes /api/regions, /api/numbers, and /api/slides/ID/nuclei."""
    routes = APIRouter(prefix="/api", tags=["regions"])
    run = state.renderer.run

    @routes.post("/regions", openapi_extra=_A_FILE)
    async def regions(request: Request) -> drawn_regions.Imported:
        """The polygons of a GeoJSON file, as the body, read as `chromogen stylize --content-mask` reads it."""
        body = await request.body()
        return await run(lambda: drawn_regions.import_regions(body))

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
        return MeasuredSlide(GONE, source.stains)
    plain = MeasuredSlide(name_of(state, entry), source.stains, is_covered=source.is_covered)
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
    state: State, slides: tuple[str, str], region: drawn_regions.ImportedRegion, stains: Stains, threshold: float
) -> dict[str, Any]:
    """Of a region drawn on the first slide, in the second; or why there are none."""
    try:
        there, numbers = await state.renderer.run(lambda: _measured(state, slides, region, stains, threshold))
        source = await state.renderer.run(lambda: _source(state, slides[1], stains))
        nuclei, lacking = await _nuclei(state, source, there, numbers)
        return {**asdict(numbers), **nuclei, "why": "; ".join(filter(None, (numbers.why, lacking)))}
    except (*FAILURES, LookupError) as error:
        return {"error": words_of(error)}


def _measured(
    state: State, slides: Sequence[str], region: drawn_regions.ImportedRegion, stains: Stains, threshold: float
) -> tuple[MultiPolygon, drawn_regions.Numbers]:
    """The region as it lies on the second slide, whose nuclei to count there, and what pixels say of it."""
    drawn = drawn_regions.parse_region(region.geometry)
    with state.reading(slides[0]) as first, state.reading(slides[1]) as opened:
        there = drawn_regions.placed_region(drawn, placement_between(first, opened, state.alignments))
        return there, drawn_regions.numbers_of(opened, there, stains, threshold)


async def _nuclei(
    state: State, source: SlideSource, region: MultiPolygon, numbers: drawn_regions.Numbers
) -> tuple[dict[str, Any], str]:
    """What nuclei say of a region, and why they say nothing; that takes no other number away."""
    try:
        found = (await state.nuclei.within(source, region)).numbers
    except FAILURES as error:
        return {**asdict(NucleusNumbers(0)), "nuclei": None, "nuclei_per_mm2": None}, words_of(error)
    per_mm2 = 1e6 * found.nuclei / numbers.tissue_um2 if numbers.tissue_um2 else None
    return {**asdict(found), "nuclei_per_mm2": per_mm2}, ""
