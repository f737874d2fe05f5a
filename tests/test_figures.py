"""Figures to be trusted: a measured table names its script, and what is quoted stands where it was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from documentation import PAGES, ROOT

DOCS = ROOT / "docs"
# These quote; the others measure, or say what the code and what it needs have.
QUOTING = [ROOT / "README.md", *(DOCS / name for name in ("how-to/troubleshooting.md", "explanation/limits.md"))]
MEASURING = [page for page in PAGES if page not in QUOTING]
SOURCE = re.compile(
    r"(?:benchmarks|scripts|tests)/\w+\.(?:py|sh)|`chromogen \w+[^`]*`|^chromogen \w+", re.MULTILINE
)
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\]\([^)]*\)|\([^()]*#\d+[^()]*\)|"
    r"(?:Python|torch|Node\.js) [\d.]+(?:(?:,| to| and| or) [\d.]+)*",
    re.DOTALL,
)
FIGURE = re.compile(
    r"(?<![\w.,/-])(?:(\d[\d ]*(?:\.\d+)?)[ -]?(s|min|minutes|hours|kB|MB|GB|Mpx/s|%|times)(?!\w)|(\d+\.\d+)\b)"
)
DATE = re.compile(r"20\d\d-\d\d-\d\d")
MOSTLY, MIN_CELLS = 0.4, 6


def sections_of(text: str) -> Iterator[str]:
    """Parts from one heading to the next; an inner one begins with its outer one's first lines."""
    outer = ""
    for part in re.split(r"^(?=#{1,6} )", text, flags=re.MULTILINE):
        if part.startswith("### "):
            yield outer + part
        else:
            outer = part
            yield part


def tables_of(section: str) -> Iterator[list[str]]:
    """The cells of each table, without its head and what its rows are called."""
    for table in re.findall(r"(?:^ *\|.*\n)+", section, re.MULTILINE):
        rows = [line.strip().strip("|").split("|") for line in table.splitlines()[2:]]
        yield [cell.strip() for row in rows for cell in row[1:]]


def is_measured(cells: list[str]) -> bool:
    """Whether most cells of a table are figures."""
    figures = [cell for cell in cells if re.match(r"\W*\d[\d .,%]*", cell)]
    return len(figures) >= max(MIN_CELLS, MOSTLY * len(cells))


def own_part(section: str) -> str:
    return section[max(section.rfind("\n### "), 0) :]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_measured_tables_name_what_measured_them(page: Path) -> None:
    for section in sections_of(page.read_text("utf-8")):
        if any(map(is_measured, tables_of(own_part(section)))):
            heading = own_part(section).strip().splitlines()[0]
            assert SOURCE.search(section), f"{page.name}, {heading}: which script measured this?"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"\b(?:benchmarks|scripts|tests)/\w+\.(?:py|sh)\b", page.read_text("utf-8")):
        assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_lab_notes_say_when() -> None:
    parts = re.split(r"^(?=## )", (DOCS / "development" / "lab-notes.md").read_text("utf-8"), flags=re.MULTILINE)[
        1:
    ]
    assert parts
    for part in parts:
        assert DATE.search(part), part.splitlines()[0]


def figures_in(text: str) -> set[tuple[str, str]]:
    """Number and unit of what looks measured; code, addresses and quotations of others are left out."""
    prose = NOT_PROSE.sub(" ", text)
    found = FIGURE.finditer(prose)
    return {(each[3], "") if each[3] else (each[1].replace(" ", ""), each[2]) for each in found}


@pytest.mark.parametrize("page", QUOTING, ids=lambda page: page.name)
def test_what_is_quoted_was_measured(page: Path) -> None:
    measured = {number for other in MEASURING for number, _ in figures_in(other.read_text("utf-8"))}
    measured |= {number for other in MEASURING for number in re.findall(r"\d+\.\d+", other.read_text("utf-8"))}
    quoted = figures_in(page.read_text("utf-8"))
    unknown = {f"{number} {unit}".strip() for number, unit in quoted if number not in measured}
    assert not unknown, f"{page.name} quotes what no page of docs/ has measured: {sorted(unknown)}"


def test_a_figure_is_seen() -> None:
    text = "It takes 2.6 to 5 kB, 38 steps, 97 s, a tenth. (jcjohnson/neural-style#21: 12 hours) `--max 3.5`"
    assert figures_in(text) == {("2.6", ""), ("5", "kB"), ("97", "s")}
