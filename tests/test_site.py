"""The documentation as a site: complete, and asking no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

import chromogen
from chromogen.app.cli import app

ROOT = Path(__file__).resolve().parents[1]
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
PAGES = ("index", "tutorial", "command-line", "python", "science", "contributing", "changelog")


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    named = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert set(chromogen.__all__) - {"__version__"} <= named


class Loads(HTMLParser):
    """What a page loads by itself, and the MathML in it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.formulas = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if (tag, name) in LOADED]
        self.formulas += tag == "math"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": "scripts", "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_pages_are_there_and_load_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.stem: path.read_text("utf-8") for path in site.glob("*.html")}
    assert set(PAGES) <= set(pages)
    for name, text in pages.items():
        loads = Loads()
        loads.feed(text)
        foreign = [address for address in loads.addresses if "//" in address]
        assert not foreign, f"{name} loads {foreign}"
        assert (loads.formulas > 0) == (name == "science")
    styles = "".join(path.read_text("utf-8") for path in (site / "assets").rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//", styles)


@pytest.mark.slow
def test_the_command_lines_page_has_every_option(site: Path) -> None:
    page = (site / "command-line.html").read_text("utf-8")
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        for option in command.params:
            assert all(f">{name}<" in page for name in option.opts if name.startswith("-")), option.name
