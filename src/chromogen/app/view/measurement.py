"""Numbers of regions as people get them: tables, what a reader must know of them, and files, CSV and GeoJSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from chromogen.app.view.drawn_regions import ImportedRegion, feature_of
from chromogen.app.view.opened import LABEL
from chromogen.pixel_size import ASSUMED_MPP

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
FORMULA = tuple("=+-@\t")  # begins what a spreadsheet would take for one


@dataclass(frozen=True)
class MeasuredSlide:
    """A slide as it was measured: with which vectors, who chose them, and how it lay on the first.

    `is_covered` says that a virtual stain lies over it on the page.
    """

    id: str
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
    regions: Sequence[ImportedRegion]
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
        words = {name: label.format(threshold=self.threshold_od10) for name, (label, _) in COLUMNS.items()}
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
                TableRow(label=words[name], cells=[_cell(slide, line, name) for slide, line in lines])
                for name in COLUMNS
            ],
            why=f"{'; '.join(reasons)}." if reasons else "",
        )

    def _csv(self) -> str:
        """A line for each region and slide."""
        keys = (*MORE, *ENDS, "nuclei_threshold_source", *COLUMNS)
        held = io.StringIO()
        writer = csv.writer(held, lineterminator="\r\n")
        writer.writerow(["region", *MeasuredSlide("", "", "").as_record(), "threshold_od10", *keys, "why"])
        for index, region in enumerate(self.regions):
            for slide, line in self._lines(index):
                values = [line.get(key) for key in keys]
                row = [region.name, *slide.as_record().values(), self.threshold_od10, *values, _why(line)]
                writer.writerow([_as_text(value) for value in row])
        return held.getvalue()

    def _geojson(self) -> str:
        """Regions as annotations with their numbers as measurements, and how these came about."""
        features = [feature_of(region, **self._annotated(at)) for at, region in enumerate(self.regions)]
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
    reasons = (line.get("why"), line.get("nuclei_doubt"))
    return line.get("error") or "; ".join(reason for reason in reasons if reason)


def _cell(slide: MeasuredSlide, line: dict[str, Any], name: str) -> Cell:
    digits = COLUMNS[name][1]
    of = {"H&E": "eosin", "H-DAB": "DAB"}[slide.kind] if name == "above_threshold_percent" else ""
    return Cell(text=number_in_words(line.get(name), digits), interval=interval_of(line, name, digits), of=of)


def number_in_words(value: float | None, digits: int) -> str:
    """A number as people read it."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval_of(line: dict[str, Any], name: str, digits: int) -> str:
    """The interval of 95 % of a number, where it has one."""
    low, high = (line.get(f"{name}_{end}") for end in ("low", "high"))
    return (
        "" if low is None or high is None else f"{number_in_words(low, digits)} to {number_in_words(high, digits)}"
    )


def _as_text(value: object) -> object:
    """A cell that a spreadsheet would take for a formula as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _short(name: str) -> str:
    return name.rpartition("/")[2]
