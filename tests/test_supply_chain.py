"""What is said of dependencies: their licences, and known vulnerabilities, also where nobody answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("packaging")
import supply_chain
from supply_chain import Part, judged

ROOT = Path(__file__).resolve().parents[1]
CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}


@pytest.mark.parametrize(
    ("dependencies", "status"),
    [
        ([CLEAN, {**CLEAN, "name": "b"}], 0),
        ([CLEAN, BAD], 1),
        ([CLEAN, SKIPPED], 3),
        ([BAD], 1),
        ([CLEAN], 3),
        ([], 3),
    ],
)
def test_who_is_not_asked_for_is_not_clean(
    dependencies: list[object], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(json.dumps({"dependencies": dependencies}), "no answer", ["a", "b"]) == status
    out, err = capsys.readouterr()
    assert ("NOT AUDITED" in err) == (len(dependencies) < 2 or SKIPPED in dependencies)
    assert ("CVE-1" in out) == (BAD in dependencies)


@pytest.mark.parametrize("said", ["", "{", "[]", "{}", '{"dependencies": 5}'])
def test_no_answer_at_all(said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(said, "Connection refused\n", ["a"]) == 3
    assert "a (Connection refused)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("licence", "together"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND MIT", True),
        ("LGPL-2.1-only", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("GPL-2.0 OR MIT", True),
        ("not said", False),
        ("Proprietary", False),
    ],
)
def test_licences_that_go_together(licence: str, together: bool) -> None:
    assert Part("a", "1", licence, "").goes_together is together


def test_the_page_of_licences_has_all_that_is_needed() -> None:
    page = (ROOT / "docs" / "explanation" / "licences.md").read_text(encoding="utf-8")
    for name in supply_chain.parts()[0]:
        assert f"| {name.name} |" in page, (
            "run: python scripts/supply_chain.py licences --write docs/explanation/licences.md"
        )
