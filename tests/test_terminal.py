"""Progress where stderr is a log and no terminal."""

from __future__ import annotations

import time

import pytest

from chromogen.app.terminal import PROGRESS_S, one_bar


def progress_of(capsys: pytest.CaptureFixture[str], lines: int) -> list[str]:
    """What a task that is at 3 of 8 prints, once so many lines are there."""
    said = ""
    with one_bar("slide.svs") as follow:
        follow(3, 8, "blocks")
        for _ in range(500):
            said += capsys.readouterr().err
            if said.count("\n") >= lines:
                break
            time.sleep(0.01)
    return said.splitlines()


def test_a_log_gets_lines_of_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_S, "0.02")
    lines = progress_of(capsys, 2)
    assert len(lines) >= 2
    assert lines[-1] == "Progress: slide.svs: 3/8 blocks"


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert progress_of(capsys, 0) == []


def test_no_lines_when_turned_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_S, "0")
    with one_bar("slide.svs") as follow:
        follow(3, 8, "blocks")
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_seconds_that_are_no_number_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_S, "often")
    with (
        pytest.raises(ValueError, match=r"Expected `CHROMOGEN_PROGRESS_S` to be a number of seconds, got often"),
        one_bar("x"),
    ):
        pass
