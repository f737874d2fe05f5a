"""Trials are queued, followed, stopped and taken up again; the work itself is a process."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from chromogen.app.view import trials as module
from chromogen.app.view.trials import (
    Trial,
    Trials,
    UnknownTrialError,
    new_trial,
    options_of,
    python_lines,
    shell_line,
    wait_for,
)
from chromogen.image import read_image, write_image
from test_densities import IHC

SIZE = (64, 64)


def worker(code: str) -> Callable[[Trial], list[str]]:
    return lambda _trial: [sys.executable, "-c", textwrap.dedent(code)]


STEPS = """
import json, shutil, time
for index in range(1, 4):
    step = {"index": index, "of": 3, "seconds": 0.1 * index, "losses": {"total": 1.0 / index}}
    open("trace.jsonl", "a").write(json.dumps(step) + "\\n")
shutil.copy("region.png", ".previews/region_step_0002.png")
shutil.copy("region.png", "result.png")
"""
FOREVER = "import time; time.sleep(600)"


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trials]:
    monkeypatch.setattr(module, "GRACE_S", 0.5)
    made = Trials(tmp_path / "trials")
    yield made
    made.close()


def start(trials: Trials) -> Trial:
    trial = new_trial("0" * 16, (3, 4), SIZE, 0.5, options_of("fast", 0.5, {"steps": 3, "seed": None}))
    return trials.start(trial, IHC[:64, :64].copy(), IHC)


def until(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def test_a_trial_runs_to_its_end(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_of", worker(STEPS))
    trial = start(trials)
    assert wait_for(trials, trial.id, 20).state == "done"
    progress = trials.progress(trial.id)
    assert (progress.step, progress.of, progress.preview) == (3, 3, 2)
    assert progress.losses == pytest.approx([1, 1 / 2, 1 / 3])
    assert trials.preview(trial.id).name == "result.png"
    assert (read_image(trials.path(trial.id, "region.png")) == IHC[:64, :64]).all()


def test_what_is_said_is_kept(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_of", worker("import sys; sys.exit('Error: no such thing')"))
    ended = wait_for(trials, start(trials).id, 20)
    assert (ended.state, ended.error) == ("failed", "no such thing")


def test_a_running_trial_is_cancelled_and_its_process_ends(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "command_of", worker(FOREVER))
    first, second = start(trials), start(trials)
    until(lambda: trials.find(first.id).state == "running")
    pid = trials.find(first.id).pid
    assert trials.cancel(second.id).state == "cancelled", "one that waits"
    assert trials.cancel(first.id).state == "cancelled"
    until(lambda: not psutil.pid_exists(pid or 0))
    assert trials.cancel(first.id).state == "cancelled"
    monkeypatch.setattr(module, "command_of", worker(STEPS))
    trials.resume(first.id)
    assert wait_for(trials, first.id, 20).state == "done"
    with pytest.raises(ValueError, match="one that was stopped"):
        trials.resume(first.id)


def test_one_at_a_time_and_not_too_many(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_of", worker(FOREVER))
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    started = [start(trials)]
    until(lambda: trials.find(started[0].id).state == "running")
    started += [start(trials) for _ in range(2)]
    with pytest.raises(ValueError, match="at most 2 waiting"):
        start(trials)
    assert [trials.find(trial.id).state for trial in started] == ["running", "waiting", "waiting"]


def test_a_closed_server_leaves_trials_to_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.5)
    monkeypatch.setattr(module, "command_of", worker(FOREVER))
    before = Trials(tmp_path)
    trial = start(before)
    until(lambda: before.find(trial.id).state == "running")
    before.close()
    after = Trials(tmp_path)
    assert after.find(trial.id).state == "interrupted"
    monkeypatch.setattr(module, "command_of", worker(STEPS))
    after.resume(trial.id)
    assert wait_for(after, trial.id, 20).state == "done"
    after.close()
    assert Trials(tmp_path).find(trial.id).state == "done"


def test_closing_while_a_process_starts_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.5)
    monkeypatch.setattr(module, "command_of", worker(FOREVER))
    before = {child.pid for child in psutil.Process().children()}
    for delay_s in (0, 0.001, 0.005, 0.02):
        trials = Trials(tmp_path / str(delay_s))
        start(trials)
        time.sleep(delay_s)
        trials.close()
    until(lambda: {child.pid for child in psutil.Process().children()} <= before)


def test_after_a_killed_server_its_process_is_ended(tmp_path: Path) -> None:
    orphan = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        trial = new_trial("0" * 16, (0, 0), SIZE, None, [])
        began = psutil.Process(orphan.pid).create_time()
        record = {**vars(trial), "state": "running", "pid": orphan.pid, "pid_began": began}
        (tmp_path / trial.id).mkdir()
        (tmp_path / trial.id / "trial.json").write_text(json.dumps(record))
        assert Trials(tmp_path).find(trial.id).state == "interrupted"
        assert orphan.wait(10) != 0
    finally:
        orphan.kill()


def test_a_second_server_leaves_the_firsts_trials_alone(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_of", worker(FOREVER))
    trial = start(trials)
    until(lambda: trials.find(trial.id).state == "running")
    second = Trials(trials.folder)
    assert second.find(trial.id).state == "running"
    assert psutil.pid_exists(trials.find(trial.id).pid or 0)
    trials.cancel(trial.id)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert second.find(trial.id).state == "cancelled", "what the first has written since"


def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path) -> None:
    trial = new_trial("0" * 16, (0, 0), SIZE, None, [])
    (tmp_path / trial.id).mkdir()
    record = {**vars(trial), "state": "running", "pid": os.getpid(), "pid_began": 1.0}
    (tmp_path / trial.id / "trial.json").write_text(json.dumps(record))
    assert Trials(tmp_path).find(trial.id).state == "interrupted"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"id": "../../x", "location": [], "size": [], "options": []}']
)
def test_broken_records_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "20260101-000000-abcdef").mkdir()
    (tmp_path / "20260101-000000-abcdef" / "trial.json").write_text(text)
    assert Trials(tmp_path).all() == []


def test_half_a_line_of_a_trace_is_not_read(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_of", worker(FOREVER))
    trial = start(trials)
    step = {"index": 1, "of": 9, "seconds": 1.0, "losses": {"total": 2.0}}
    again = {**step, "losses": {"total": 1.5}}
    lines = [json.dumps(step), json.dumps(again), "not json", '{"index": 2, "of"']
    trials.path(trial.id, "trace.jsonl").write_text("\n".join(lines))
    assert trials.progress(trial.id).losses == [1.5]


@pytest.mark.parametrize("size", [(63, 64), (64, 2049), (0, 0), (-5, 100)])
def test_regions_have_a_size(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="64 to 2048 px"):
        new_trial("0" * 16, (0, 0), size, None, [])


def test_unknown_trials(trials: Trials) -> None:
    for ask in (trials.find, trials.cancel, trials.resume, trials.progress, trials.preview):
        with pytest.raises(UnknownTrialError):
            ask("20260101-000000-abcdef")


@pytest.mark.slow
def test_both_ways_told_make_the_same_picture(trials: Trials, tmp_path: Path) -> None:
    """The real command, and what the page says of how to make it again, as a shell line and in Python."""
    options = options_of("fast", 0.5, {"steps": 3, "seed": 7})
    trial = new_trial("0" * 16, (0, 0), (96, 96), 0.5, options)
    trials.start(trial, IHC[:96, :96].copy(), IHC[:200, :200].copy())
    ended = wait_for(trials, trial.id, 300)
    assert ended.state == "done", ended.error
    made = read_image(trials.path(trial.id, "result.png"))
    for name, program in (
        ("shell", [*shell_line(trial).replace("chromogen", f"{sys.executable} -m chromogen", 1).split()]),
        ("python", [sys.executable, "-c", python_lines(trial)]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("region.png", "exemplar.png"):
            write_image(folder / file, read_image(trials.path(trial.id, file)))
        subprocess.run(program, cwd=folder, check=True, capture_output=True)
        assert (read_image(folder / "result.png") == made).all(), name
