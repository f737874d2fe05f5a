"""A release says its version, date and address in every file, once, also the second time."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

import release

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "https://forge.example/owner/chromogen"


def texts() -> dict[str, str]:
    return {name: (ROOT / name).read_text("utf-8") for name in release.edits("1.2.3", "2030-01-02", ADDRESS)}


def released(before: dict[str, str], version: str, date: str, address: str | None) -> dict[str, str]:
    return before | {name: edit(before[name]) for name, edit in release.edits(version, date, address).items()}


def test_every_file_says_it() -> None:
    made = released(texts(), "1.2.3", "2030-01-02", ADDRESS)
    urls = tomllib.loads(made["pyproject.toml"])["project"]["urls"]
    assert urls["Issues"] == f"{ADDRESS}/issues"
    cited = yaml.safe_load(made["CITATION.cff"])
    assert (cited["version"], str(cited["date-released"])) == ("1.2.3", "2030-01-02")
    assert cited["repository-code"] == ADDRESS
    assert f"repo_url: {ADDRESS}" in made["mkdocs.yml"]
    assert '__version__ = "1.2.3"' in made["src/chromogen/provenance.py"]
    assert "## [Unreleased]\n\n## [1.2.3] - 2030-01-02\n" in made["CHANGELOG.md"]


def test_the_next_release_keeps_the_address() -> None:
    first = released(texts(), "1.2.3", "2030-01-02", ADDRESS)
    again = released(first, "1.2.3", "2030-01-03", ADDRESS)
    assert again["pyproject.toml"] == first["pyproject.toml"]
    assert again["CHANGELOG.md"].count("## [1.2.3]") == 1
    later = released(again, "1.2.4", "2030-02-02", None)
    cited = yaml.safe_load(later["CITATION.cff"])
    assert (cited["version"], cited["repository-code"]) == ("1.2.4", ADDRESS)
    assert later["CHANGELOG.md"].index("[1.2.4]") < later["CHANGELOG.md"].index("[1.2.3]")


def test_a_file_without_its_line_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="Expected one line like"):
        released(texts() | {"CITATION.cff": "title: none\n"}, "1.2.3", "2030-01-02", None)


@pytest.mark.parametrize("file", sorted(ROOT.glob(".github/**/*.yml")), ids=lambda file: file.name)
def test_what_the_forge_reads_is_yaml(file: Path) -> None:
    assert yaml.safe_load(file.read_text("utf-8"))


def test_the_forge_runs_what_a_change_must_pass() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    assert {"run": ".ci/run"} in jobs["lint-and-test"]["steps"]
