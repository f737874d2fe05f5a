"""Trials: what goes in, how far they are, and what is said of how to make them again."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromogen.app.view.state import Job, job_queue
from chromogen.app.view.trials import (
    Trial,
    new_trial,
    options_of,
    start_trial,
)
from chromogen.app.view.work_queue import Queued, WorkQueue
from chromogen.image import read_image, write_image
from chromogen.provenance import sha256_of
from chromogen.slides.slide import Picture, read_picture
from test_densities import IHC
from waiting import wait_for

SIZE = (64, 64)


def worker(code: str) -> property:
    """A command that takes the place of the real one."""
    return property(lambda _self: [sys.executable, "-c", textwrap.dedent(code)])


STEPS = """
import json, shutil, time
for index in range(1, 4):
    step = {"index": index, "of": 3, "seconds": 0.1 * index, "losses": {"total": 1.0 / index}}
    open("trace.jsonl", "a").write(json.dumps(step) + "\\n")
shutil.copy("region.png", ".previews/region_step_0002.png")
shutil.copy("region.png", "result.png")
"""


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkQueue[Job]]:
    monkeypatch.setattr(Trial, "command", worker(STEPS))
    made = job_queue(tmp_path / "trials")
    yield made
    made.close()


def start(trials: WorkQueue[Job]) -> Queued[Job]:
    trial = new_trial("0" * 16, (3, 4), SIZE, 0.5, options_of("fast", 0.5, {"steps": 3, "seed": None}))
    return start_trial(trials, trial, IHC[:64, :64].copy(), Picture(IHC, None))


@pytest.mark.parametrize(("own", "shape", "mpp"), [(0.25, (32, 32, 3), 0.5), (None, (64, 64, 3), None)])
def test_an_exemplar_comes_at_the_regions_pixel_size(
    trials: WorkQueue[Job], own: float | None, shape: tuple[int, int, int], mpp: float | None
) -> None:
    region = IHC[:64, :64].copy()
    trial = new_trial("0" * 16, (3, 4), SIZE, 0.5, options_of("fast", 0.5, {}))
    folder = trials.folder_of(start_trial(trials, trial, region, Picture(region, own)).id)
    kept = read_picture(folder / "exemplar.png")
    assert (kept.pixels.shape, kept.mpp) == (shape, mpp and pytest.approx(mpp))
    assert read_picture(folder / "region.png").mpp == pytest.approx(0.5)


def test_a_trial_runs_to_its_end(trials: WorkQueue[Job]) -> None:
    trial = start(trials)
    assert wait_for(trials, trial.id, 120).state == "done"
    progress = trial.work.progress(trials.folder_of(trial.id))
    assert (progress.step, progress.of, progress.preview) == (3, 3, 2)
    assert progress.losses == pytest.approx([1, 1 / 2, 1 / 3])
    assert trial.work.newest_picture(trials.folder_of(trial.id)).name == "result.png"
    assert (read_image(trials.folder_of(trial.id) / "region.png") == IHC[:64, :64]).all()


def test_half_a_line_of_a_trace_is_not_read(tmp_path: Path) -> None:
    step = {"index": 1, "of": 9, "seconds": 1.0, "losses": {"total": 2.0}}
    again = {**step, "losses": {"total": 1.5}}
    lines = [json.dumps(step), json.dumps(again), "not json", '{"index": 2, "of"']
    (tmp_path / "trace.jsonl").write_text("\n".join(lines))
    assert new_trial("0" * 16, (3, 4), SIZE, 0.5, ["--preset", "fast"]).progress(tmp_path).losses == [1.5]


@pytest.mark.slow
def test_both_ways_told_make_the_same_picture(tmp_path: Path) -> None:
    """The real command, and what the page says of how to make it again, as a shell line and in Python."""
    trials = job_queue(tmp_path / "trials")
    options = options_of("fast", 0.5, {"steps": 3, "seed": 7})
    trial = new_trial("0" * 16, (0, 0), (96, 96), 0.5, options)
    start_trial(trials, trial, IHC[:96, :96].copy(), Picture(IHC[:200, :200].copy(), None))
    ended = wait_for(trials, trial.id, 300)
    assert ended.state == "done", ended.error
    made = read_image(trials.folder_of(trial.id) / "result.png")
    for name, program in (
        ("shell", [*trial.shell_line.replace("chromogen", f"{sys.executable} -m chromogen", 1).split()]),
        ("python", [sys.executable, "-c", trial.python_lines]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("region.png", "exemplar.png"):
            write_image(folder / file, read_image(trials.folder_of(trial.id) / file))
        subprocess.run(program, cwd=folder, check=True, capture_output=True)
        assert (read_image(folder / "result.png") == made).all(), name
    trials.close()


def test_a_trial_is_finished_when_its_result_is_of_its_region_and_exemplar(trials: WorkQueue[Job]) -> None:
    trial = wait_for(trials, start(trials).id, 120).work
    folder = trials.folder_of(trial.id)
    assert not trial.is_finished(folder), "a picture that does not say what it is of"
    region, exemplar = (sha256_of(folder / name) for name in ("region.png", "exemplar.png"))
    for facts, is_finished in (
        ({"content_sha256": region, "style_sha256": [exemplar]}, True),
        ({"content_sha256": exemplar, "style_sha256": [exemplar]}, False),
        ({"content_sha256": region, "style_sha256": [region]}, False),
    ):
        write_image(folder / "result.png", IHC, facts)
        assert trial.is_finished(folder) is is_finished
    (folder / "result.png").write_bytes((folder / "result.png").read_bytes()[:100])
    assert not trial.is_finished(folder)
    (folder / "result.png").unlink()
    assert not trial.is_finished(folder)
    assert set(trial.leftovers) < set(trial.files)
