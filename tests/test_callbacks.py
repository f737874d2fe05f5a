"""What listens to the steps of a run: a trace is that of an undisturbed run, however often it was stopped."""

import json
from pathlib import Path

import numpy as np

from chromogen.app.jobs import trace_to
from chromogen.style.optimize import Losses
from chromogen.style.stylize import Step


def steps_to(path: Path, content: int, first: int, last: int, loss: float = 1.0) -> None:
    """A run of one content that begins at one step, and ends, or is killed, with another."""
    write = trace_to(path, content)
    for index in range(first, last + 1):
        write(Step(index, 9, 1.0, (4, 4), 0.5, Losses(loss, {})), lambda: np.zeros((4, 4, 3), np.uint8))


def lines_in(path: Path) -> list[tuple[int, int, float]]:
    steps = map(json.loads, path.read_text().splitlines())
    return [(step["content"], step["index"], step["losses"]["total"]) for step in steps]


def test_a_resumed_run_writes_no_step_twice(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    steps_to(path, 0, 1, 3)
    steps_to(path, 1, 1, 6)
    steps_to(path, 1, 4, 7, loss=2.0)
    whole = [(content, index, 1.0) for content in (0, 1) for index in (1, 2, 3)]
    assert lines_in(path) == whole + [(1, index, 2.0) for index in (4, 5, 6, 7)]


def test_a_content_that_begins_anew_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    steps_to(path, 0, 1, 2)
    steps_to(path, 1, 1, 5)
    steps_to(path, 1, 1, 2, loss=2.0)
    assert lines_in(path) == [(0, 1, 1.0), (0, 2, 1.0), (1, 1, 2.0), (1, 2, 2.0)]


def test_what_is_no_whole_step_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    steps_to(path, 0, 1, 2)
    whole = path.read_bytes()
    for half in (whole[:-1], whole[:-9], whole + b"\xff\xfe\n", whole + b"[]\n3\n"):
        path.write_bytes(half)
        steps_to(path, 0, 3, 3)
        assert [index for _, index, _ in lines_in(path)] == [1, *([2] if len(half) >= len(whole) else []), 3]
