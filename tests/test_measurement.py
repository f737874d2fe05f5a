"""Numbers as tables, notes and files: the page shows the numbers that its files hold."""

import csv
import io
import json
from typing import Any

import pytest

from chromogen.app.view.drawn_regions import ImportedRegion
from chromogen.app.view.region_routes import Measured, MeasuredSlide
from chromogen.app.view.slide_nuclei import interval_of, number_in_words

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
HE = MeasuredSlide("a/he.svs", "h-e", stains_by="recognised")
VIRTUAL = MeasuredSlide(
    "nuclear abcdef", "h-dab", "nuclear", "recognised, not sure", "it is odd", False, "by a guess", True
)


def line(slide: MeasuredSlide, region: int, **numbers: Any) -> dict[str, Any]:
    return {"region": region, "slide": slide.name, **numbers}


@pytest.fixture
def measured() -> Measured:
    regions = [
        ImportedRegion(name="=evil, 1", geometry=SQUARE, properties={"classification": {"name": "Tumor"}}),
        ImportedRegion(name="b", geometry=SQUARE),
    ]
    numbers = [
        line(HE, 0, nuclei=1234, above_threshold_percent=1.25, why="no DAB in an H&E"),
        line(VIRTUAL, 0, h_score=7.4, h_score_low=0.0, h_score_high=22.2, nuclei_doubt="few fields"),
        line(HE, 1, error="Outside."),
        line(VIRTUAL, 1, h_score=None),
    ]
    return Measured(0.2, [HE, VIRTUAL], regions, numbers)


def test_each_note_is_said_once_with_its_slides(measured: Measured) -> None:
    notes = measured.answer().notes
    assert notes == [
        "nuclear abcdef: VIRTUAL STAIN - not for diagnosis. Its numbers measure what the stainer painted.",
        "nuclear abcdef: not sure of its stains: it is odd. Choose them behind its badge.",
        "nuclear abcdef: lies on the first slide by a guess.",
        "nuclear abcdef: no pixel size in the file; 0.5 µm is assumed.",
    ]
    twice = Measured(0.2, [HE, HE], [], [])
    assert twice.answer().notes == []


def test_a_table_has_a_column_for_each_slide(measured: Measured) -> None:
    first, second = measured.answer().tables
    rows = {row.label: row.cells for row in first.rows}
    assert [column.stains for column in first.columns] == ["H&E", "H-DAB"]
    assert [column.is_virtual for column in first.columns] == [False, True]
    assert [cell.text for cell in rows["nuclei"]] == ["1,234", "–"]
    assert [cell.interval for cell in rows["H-score of nuclei"]] == ["", "0 to 22"]
    assert [(cell.text, cell.of) for cell in rows["% above 0.20"]] == [("1.2", "eosin"), ("–", "DAB")]
    assert first.why == "he.svs: no DAB in an H&E; nuclear abcdef: few fields."
    assert second.why == "he.svs: Outside."


def test_csv_has_a_line_for_each_region_and_slide_and_no_formula(measured: Measured) -> None:
    text = measured.answer().csv
    assert text.count("\r\n") == 5
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["region"] for row in rows] == ["'=evil, 1", "'=evil, 1", "b", "b"]
    assert [row["h_score"] for row in rows] == ["", "7.4", "", ""]
    assert (rows[1]["notice"], rows[1]["stains_doubt"]) == ("VIRTUAL STAIN - not for diagnosis", "it is odd")
    assert (rows[0]["pixel_size"], rows[1]["pixel_size"]) == ("of the file", "not in the file, 0.5 um assumed")
    assert rows[2]["why"] == "Outside."


def test_geojson_keeps_classes_and_says_what_was_measured(measured: Measured) -> None:
    found = json.loads(measured.answer().geojson)
    properties = found["features"][0]["properties"]
    assert properties["classification"] == {"name": "Tumor"}
    assert properties["measurements"] == {
        "a/he.svs: nuclei": 1234,
        "a/he.svs: above_threshold_percent": 1.25,
        "nuclear abcdef (VIRTUAL STAIN): h_score": 7.4,
        "nuclear abcdef (VIRTUAL STAIN): h_score_low": 0.0,
        "nuclear abcdef (VIRTUAL STAIN): h_score_high": 22.2,
    }
    assert properties["metadata"]["nuclear abcdef (VIRTUAL STAIN): placed"] == "by a guess"
    assert found["chromogen"]["threshold_od10"] == 0.2
    assert [slide["virtual_stain"] for slide in found["chromogen"]["slides"]] == ["", "nuclear"]


def test_numbers_as_people_read_them() -> None:
    assert [
        number_in_words(None, 1),
        number_in_words(1234.56, 1),
        number_in_words(0, 0),
        number_in_words(-0.5, 2),
    ] == ["–", "1,234.6", "0", "-0.50"]
    assert interval_of({"a_low": 1.0}, "a", 1) == ""
    assert interval_of({"a_low": 1.0, "a_high": 2000.0}, "a", 1) == "1.0 to 2,000.0"
