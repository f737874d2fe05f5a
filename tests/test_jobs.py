"""Jobs as the page shows them: what is said of how far they are, and nothing of this machine's folders."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.app.view.stains import Stain
from chromogen.app.view.state import Job, job_line, job_queue
from chromogen.app.view.trials import new_trial, options_of
from chromogen.app.view.work_queue import Queued, WorkQueue, new_id
from chromogen.image import write_image
from chromogen.provenance import NOTICE
from test_densities import IHC


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[WorkQueue[Job]]:
    (tmp_path / "results").mkdir()
    made = job_queue(tmp_path / "results")
    yield made
    made.close()


def stain(**changes: object) -> Stain:
    made = Stain(new_id(), "0" * 16, "a.svs", "/slides/a.svs", "models/er.safetensors", "/m/er.safetensors", 0.5)
    return replace(made, **changes)  # type: ignore[arg-type]


def status(jobs: WorkQueue[Job], job: Job, state: str, error: str = "", **trace: object) -> str:
    folder = jobs.folder / job.id
    folder.mkdir(exist_ok=True)
    if trace:
        (folder / "trace.jsonl").write_text(json.dumps(trace) + "\n")
    return job_line(jobs, SlideCatalog([jobs.folder]), Queued(job, state, error)).status


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("waiting", "Waiting for its turn"),
        ("running", "Starting: looking at the slide"),
        ("done", "Done"),
        ("cancelled", "Cancelled; finished blocks are kept"),
        ("interrupted", "Interrupted, as the server ended meanwhile; finished blocks are kept"),
    ],
)
def test_a_stain_says_how_far_it_is(jobs: WorkQueue[Job], state: str, words: str) -> None:
    assert status(jobs, stain(), state) == words


def test_progress_and_failure_are_said(jobs: WorkQueue[Job]) -> None:
    trial = new_trial("0" * 16, (0, 0), (64, 64), None, options_of("fast", None, {}))
    step = {"index": 3, "of": 9, "seconds": 30.0, "losses": {"total": 1.0}}
    assert status(jobs, trial, "running", **step) == "Step 3 of 9, about 60 s left"
    assert status(jobs, trial, "done") == "Done: 3 steps in 30 s"
    assert status(jobs, stain(), "failed", "no /slides/a.svs") == "Failed: no a.svs"


def test_what_was_set_is_said_and_no_folder_is(jobs: WorkQueue[Job]) -> None:
    job = stain(dials={"share": 0.254, "seed": 3.0}, fill=True, location=(1, 2), size=(70, 80))
    folder = jobs.folder / job.id
    folder.mkdir()
    where = {"source": "regions", "claim": "as you drew", "levels": {"tumour": 0.5}}
    facts = {"notice": NOTICE, "where": where, "statistics": {"confidence": {"unlike_fraction": 0.25}}}
    write_image(folder / "result.png", IHC[:64, :64].copy(), facts)
    line = job_line(jobs, SlideCatalog([jobs.folder]), Queued(job, "done"))
    assert (line.title, line.settings) == ("er", "share 0.25, seed 3, filled")
    assert line.where == "Follows regions that a person drew (tumour 50 %): as you drew. Not a measurement."
    assert (line.unlike_percent, line.is_slide, line.region) == (25, False, None)
    assert line.result is not None
    assert "/home" not in line.model_dump_json()
