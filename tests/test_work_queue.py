"""Work is queued, followed, stopped and taken up again; the work itself is a process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from chromogen.app.view import work_queue as module
from chromogen.app.view.work_queue import Queued, UnknownWorkError, WorkQueue, new_id, wait_for

NOTHING = ""
FOREVER = "import time; time.sleep(600)"
ONCE_STOPPED = "import os, time; os.path.exists('begun') or (open('begun', 'w').close(), time.sleep(600))"


@dataclass(frozen=True)
class Errand:
    """Python to be run."""

    id: str
    code: str
    places: tuple[int, ...] = (1, 2)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]

    @property
    def files(self) -> tuple[str, ...]:
        return ("begun", "store", "../elsewhere")


def queue_in(folder: Path) -> WorkQueue[Errand]:
    return WorkQueue(folder, Errand, "errand.json")


@pytest.fixture
def works(tmp_path: Path) -> Iterator[WorkQueue[Errand]]:
    made = queue_in(tmp_path / "works")
    yield made
    made.close()


def start(works: WorkQueue[Errand], code: str) -> Queued[Errand]:
    errand = Errand(new_id(), code)
    (works.folder / errand.id).mkdir(parents=True)
    return works.start(errand)


def until(holds: Callable[[], bool], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def begun(works: WorkQueue[Errand], errand: Queued[Errand]) -> None:
    """Wait until its process has come to its code."""
    until(lambda: (works.folder / errand.id / "begun").exists() and works.find(errand.id).state == "running")


def test_work_is_done_and_taken_down(works: WorkQueue[Errand]) -> None:
    errand = start(works, NOTHING)
    assert wait_for(works, errand.id, 300).state == "done"
    other = queue_in(works.folder)
    assert other.all() == works.all()
    assert other.find(errand.id).work.places == (1, 2)


def test_what_is_said_is_kept(works: WorkQueue[Errand]) -> None:
    ended = wait_for(works, start(works, "import sys; sys.exit('Error: no such thing')").id, 300)
    assert (ended.state, ended.error) == ("failed", "no such thing")


def test_work_done_elsewhere_is_kept(works: WorkQueue[Errand]) -> None:
    errand = Errand(new_id(), NOTHING)
    (works.folder / errand.id).mkdir(parents=True)
    works.keep(errand)
    assert queue_in(works.folder).find(errand.id).state == "done"


def test_running_work_is_cancelled_its_process_ends_and_it_goes_on(works: WorkQueue[Errand]) -> None:
    first, second = start(works, ONCE_STOPPED), start(works, FOREVER)
    begun(works, first)
    pid = works.find(first.id).pid
    assert works.cancel(second.id).state == "cancelled", "what waits"
    assert works.cancel(first.id).state == "cancelled"
    works.resume(first.id)
    until(lambda: not psutil.pid_exists(pid or 0))
    assert wait_for(works, first.id, 300).state == "done"
    assert works.cancel(first.id).state == "done"
    with pytest.raises(ValueError, match="one that was stopped"):
        works.resume(first.id)


def test_what_has_ended_is_removed_with_its_store_and_nothing_else(works: WorkQueue[Errand]) -> None:
    errand, other = start(works, ONCE_STOPPED), start(works, NOTHING)
    begun(works, errand)
    with pytest.raises(ValueError, match="has ended"):
        works.remove(errand.id)
    works.cancel(errand.id)
    wait_for(works, other.id, 60)  # its process is gone by then
    folder, outside = works.folder / errand.id, works.folder / "elsewhere"
    outside.write_text("of the user")
    (folder / "store" / "blocks").mkdir(parents=True)
    (folder / "store" / "link").symlink_to(outside)
    (folder / "notes.txt").write_text("of the user")
    works.remove(errand.id)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    assert outside.exists(), "neither behind a link, nor by a name that leads out"
    works.remove(other.id)
    assert not (works.folder / other.id).exists()
    assert works.all() == queue_in(works.folder).all() == []
    assert wait_for(works, start(works, NOTHING).id, 60).state == "done", "the worker goes on"


def test_what_was_cancelled_while_it_waited_is_removed(works: WorkQueue[Errand]) -> None:
    first, second = start(works, FOREVER), start(works, NOTHING)
    until(lambda: works.find(first.id).state == "running")
    works.cancel(second.id)
    works.remove(second.id)
    works.cancel(first.id)
    assert wait_for(works, start(works, NOTHING).id, 60).state == "done", "its turn is passed over"


def test_a_folder_that_is_a_link_is_left_alone(works: WorkQueue[Errand], tmp_path: Path) -> None:
    errand = start(works, NOTHING)
    wait_for(works, errand.id, 60)
    folder = works.folder / errand.id
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    works.remove(errand.id)
    assert (tmp_path / "moved" / "errand.json").exists()


def test_one_at_a_time_and_not_too_many(works: WorkQueue[Errand], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    started = [start(works, FOREVER)]
    until(lambda: works.find(started[0].id).state == "running")
    started += [start(works, FOREVER) for _ in range(2)]
    with pytest.raises(ValueError, match="at most 2 waiting"):
        start(works, FOREVER)
    assert [works.find(errand.id).state for errand in started] == ["running", "waiting", "waiting"]


def test_a_closed_server_leaves_work_to_be_resumed(tmp_path: Path) -> None:
    before = queue_in(tmp_path)
    errand = start(before, ONCE_STOPPED)
    begun(before, errand)
    before.close()
    after = queue_in(tmp_path)
    assert after.find(errand.id).state == "interrupted"
    after.resume(errand.id)
    assert wait_for(after, errand.id, 300).state == "done"
    after.close()
    assert queue_in(tmp_path).find(errand.id).state == "done"


def test_closing_while_a_process_starts_leaves_none(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    for delay_s in (0, 0.001, 0.005, 0.02):
        works = queue_in(tmp_path / str(delay_s))
        start(works, FOREVER)
        time.sleep(delay_s)
        works.close()
    until(lambda: {child.pid for child in psutil.Process().children()} <= before)


def test_after_a_killed_server_its_process_is_ended(tmp_path: Path) -> None:
    orphan = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        errand = Errand(new_id(), NOTHING)
        began = psutil.Process(orphan.pid).create_time()
        record = {**vars(errand), "state": "running", "pid": orphan.pid, "pid_began": began}
        (tmp_path / errand.id).mkdir()
        (tmp_path / errand.id / "errand.json").write_text(json.dumps(record))
        assert queue_in(tmp_path).find(errand.id).state == "interrupted"
        assert orphan.wait(120) != 0
    finally:
        orphan.kill()


def test_a_second_server_leaves_the_first_alone(works: WorkQueue[Errand], monkeypatch: pytest.MonkeyPatch) -> None:
    errand = start(works, FOREVER)
    until(lambda: works.find(errand.id).state == "running")
    second = queue_in(works.folder)
    assert second.find(errand.id).state == "running"
    assert psutil.pid_exists(works.find(errand.id).pid or 0)
    works.cancel(errand.id)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert second.find(errand.id).state == "cancelled", "what the first has written since"


def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path) -> None:
    errand = Errand(new_id(), NOTHING)
    (tmp_path / errand.id).mkdir()
    record = {**vars(errand), "state": "running", "pid": os.getpid(), "pid_began": 1.0}
    (tmp_path / errand.id / "errand.json").write_text(json.dumps(record))
    assert queue_in(tmp_path).find(errand.id).state == "interrupted"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": "../../x", "code": ""}'])
def test_broken_records_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "20260101-000000-abcdef").mkdir()
    (tmp_path / "20260101-000000-abcdef" / "errand.json").write_text(text)
    assert queue_in(tmp_path).all() == []


def test_unknown_work(works: WorkQueue[Errand]) -> None:
    for ask in (works.find, works.cancel, works.resume, works.remove, works.folder_of):
        with pytest.raises(UnknownWorkError):
            ask("20260101-000000-abcdef")
