"""The documentation as a site: complete, and asking no other host for anything."""

from __future__ import annotations

import os
import re
import shutil
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
PAGES = {
    "index.html",
    "tutorials/first-tile.html",
    "reference/commands.html",
    "reference/api.html",
    "explanation/formulas.html",
    "development/contributing.html",
    "development/changelog.html",
}


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text("utf-8")
    named = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)}
    assert set(chromogen.__all__) - {"__version__", "data"} <= named
    assert {"he", "ihc", "slide"} <= named


class Loads(HTMLParser):
    """What a page loads by itself, and the MathML in it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.formulas = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if (tag, name) in LOADED]
        self.formulas += tag == "math"


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does it."""
    (command,) = re.findall(r"mkdocs (build .*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": "scripts", "NO_MKDOCS_2_WARNING": "1"}
    words = [sys.executable, "-m", "mkdocs", *command.split(), "--site-dir", str(site)]
    return subprocess.run(words, cwd=root, env=environment, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    assert len(built.stderr.splitlines()) < 5, "what is in order is not talked about"
    return folder


def test_every_page_is_in_the_navigation() -> None:
    """The fast half of the next test."""
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = set(re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE))
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} <= listed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "text", "complaint"),
    [
        ("nowhere.md", "# A page that the navigation lacks", "not included in the"),
        ("how-to/where.md", "[a page](that-is-not-there.md)", "is not found among documentation files"),
        ("how-to/where.md", "[a heading](regions.md#that-is-not-there)", "does not contain an anchor"),
        ("how-to/where.md", "[outside](../../pyproject.toml)", "is not found among documentation files"),
    ],
)
def test_what_is_out_of_order_fails(page: str, text: str, complaint: str, tmp_path: Path) -> None:
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in (ROOT / "mkdocs.yml", *ROOT.glob("*.md")):
        shutil.copy(path, tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")
    with (tmp_path / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{text}\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert complaint in built.stderr


@pytest.mark.slow
def test_pages_are_there_and_load_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    assert pages.keys() >= PAGES
    for name, text in pages.items():
        loads = Loads()
        loads.feed(text)
        foreign = [address for address in loads.addresses if "//" in address]
        assert not foreign, f"{name} loads {foreign}"
        assert (loads.formulas > 0) == (name == "explanation/formulas.html")
    styles = "".join(path.read_text("utf-8") for path in (site / "assets").rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//", styles)


@pytest.mark.slow
def test_the_command_lines_page_has_every_option(site: Path) -> None:
    page = (site / "reference" / "commands.html").read_text("utf-8")
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        for option in command.params:
            assert all(f">{name}<" in page for name in option.opts if name.startswith("-")), option.name
