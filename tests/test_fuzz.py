"""Broken and hostile files of every format by every way in: a small part of what `scripts/fuzz.py` does."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("no processes by fork, and no limits", allow_module_level=True)

import fuzz
import hostile

CASES = list(hostile.case_names(1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    hostile.make_whole(folder)
    fuzz.warm(folder)
    return folder


def test_broken_files_are_read_or_refused(whole: Path, tmp_path: Path) -> None:
    ended = list(
        fuzz.in_other_processes(CASES, lambda case: fuzz.read_case(case, whole, tmp_path / "scratch"), fuzz.BATCH)
    )
    assert [one.case for one in ended] == CASES
    assert not [one for one in ended if not one.is_good]
    assert {one.how for one in ended} == {fuzz.READ, fuzz.REFUSED}


def test_a_case_is_made_by_its_name_alone(whole: Path, tmp_path: Path) -> None:
    for case in CASES[:: len(CASES) // 20]:
        made = []
        for again in ("a", "b"):
            (tmp_path / case / again).mkdir(parents=True)
            broken = hostile.make_broken(case, whole, tmp_path / case / again)
            files = [broken] if broken.is_file() else sorted(path for path in broken.rglob("*") if path.is_file())
            made.append([file.read_bytes() for file in files])
        assert made[0] == made[1]


def _crash(_case: str) -> fuzz.Ended:
    signal.raise_signal(signal.SIGKILL)
    raise AssertionError


def _hang(_case: str) -> fuzz.Ended:
    while True:
        time.sleep(0)


@pytest.mark.parametrize(
    ("bad", "how"), [(_crash, "status -9"), pytest.param(_hang, "status -24", marks=pytest.mark.slow)]
)
def test_what_kills_a_process_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, bad: object, how: str
) -> None:
    monkeypatch.setattr(fuzz, "MAX_CPU_S", 1)

    def run(case: str) -> fuzz.Ended:
        return bad(case) if case == "b" else fuzz.measured(case, lambda: (fuzz.READ, ""))

    assert [(one.case, one.how) for one in fuzz.in_other_processes("abc", run, 50)] == [
        ("a", "read"),
        ("b", how),
        ("c", "read"),
    ]


def test_strays_and_foreign_errors_are_told(tmp_path: Path) -> None:
    def work() -> tuple[str, str]:
        raise KeyError("x")

    assert fuzz.measured("a", work).how == "escaped"
    scratch = fuzz._fresh(tmp_path / "scratch")
    good = fuzz.Ended("a", fuzz.READ, "", 0, 0)
    assert fuzz._with_strays(good, scratch, {"given"}).is_good
    (scratch / "cwd" / "stray").touch()
    assert not fuzz._with_strays(good, scratch, {"given"}).is_good
