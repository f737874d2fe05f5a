"""Work is queued, followed, stopped and taken up again; the work itself is a process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from chromogen.app.view import work_queue as module
from chromogen.app.view.work_queue import Queued, UnknownWorkError, WorkQueue, new_id
from waiting import wait_for

NOTHING = ""
FOREVER = "import time; time.sleep(600)"
FINISH = "open('result', 'w').close(); open('begun', 'w').close()"
AT_TERM = (
    "import signal, time; signal.signal(15, lambda *_: ({}, exit(1))); open('begun', 'w').close(); time.sleep(600)"
)
ONCE_STOPPED = "import os, time; os.path.exists('begun') or (open('begun', 'w').close(), time.sleep(600))"


@dataclass(frozen=True)
class Errand:
    """Python to be run."""

    id: str
    code: str
    places: tuple[int, ...] = (1, 2)
    record: ClassVar[str] = "errand.json"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]

    @property
    def files(self) -> tuple[str, ...]:
        return ("begun", "store", "../elsewhere")

    @property
    def leftovers(self) -> tuple[str, ...]:
        return ("store",)

    def is_finished(self, folder: Path) -> bool:
        return (folder / "result").is_file()


def queue_in(folder: Path) -> WorkQueue[Errand]:
    return WorkQueue(folder, Errand)


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
    monkeypatch.setattr(module, "MAX_WAITING", 2)
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
        assert not psutil.pid_exists(orphan.pid)
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


# --- who dies when: the record, the process, the server ---


def left_behind(folder: Path, *files: str, code: str = NOTHING, **state: object) -> Errand:
    """What a server that is gone has left of a piece of work."""
    errand = Errand(new_id(), code)
    (folder / errand.id / "store").mkdir(parents=True)
    for file in files:
        (folder / errand.id / file).touch()
    gone = {"server": 2**22 + 1, "server_began": 1.0}
    (folder / errand.id / "errand.json").write_text(json.dumps({**vars(errand), **gone, **state}))
    return errand


@pytest.mark.parametrize(
    ("state", "files", "complaint", "found", "error"),
    [
        ("running", ["result"], "", "done", ""),
        ("running", ["result"], "Error: a crash while it ended", "done", ""),
        ("running", [], "", "interrupted", ""),
        ("running", [], "Warning: coarse pixels", "interrupted", ""),
        ("running", [], "Warning: coarse pixels\nError: The disk is full.", "failed", "The disk is full."),
        ("waiting", [], "", "interrupted", ""),
        ("waiting", [], "Error: of an earlier run", "interrupted", ""),
        ("waiting", ["result"], "", "done", ""),
        ("cancelled", ["result"], "", "done", ""),
        ("cancelled", [], "", "cancelled", ""),
        ("failed", [], "", "failed", ""),
    ],
)
def test_what_a_folder_says_is_what_happened(
    tmp_path: Path, state: str, files: list[str], complaint: str, found: str, error: str
) -> None:
    """Server and process are gone: whichever went first, and whatever it could still write."""
    errand = left_behind(tmp_path, *files, state=state, pid=2**22 + 2, pid_began=1.0)
    (tmp_path / errand.id / ".complained.txt").write_text(complaint)
    for _ in range(2):  # and it stays so
        taken_up = queue_in(tmp_path).find(errand.id)
        assert (taken_up.state, taken_up.error) == (found, error)
    assert (tmp_path / errand.id / "store").exists() == (found != "done"), "of no use once the result is there"


def test_a_process_that_outlives_its_server_with_its_result_is_done(tmp_path: Path) -> None:
    """It hangs while it ends, as processes with many threads may."""
    folder = tmp_path / "orphan"
    folder.mkdir()
    orphan = subprocess.Popen([sys.executable, "-c", f"{FINISH}; {FOREVER}"], cwd=folder)
    try:
        until(lambda: (folder / "begun").exists())
        errand = left_behind(tmp_path, "result", state="running", pid=orphan.pid, pid_began=time.time())
        began = psutil.Process(orphan.pid).create_time() + 0.5  # the clock was set meanwhile
        record = tmp_path / errand.id / "errand.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "pid_began": began}))
        assert queue_in(tmp_path).find(errand.id).state == "done"
        assert not psutil.pid_exists(orphan.pid)
    finally:
        orphan.kill()


def test_a_process_whose_number_was_never_written_is_ended(tmp_path: Path) -> None:
    """The server died between the two; what others do in that folder is theirs."""
    errand = left_behind(tmp_path, state="waiting", code=FOREVER)
    command, folder = errand.command, tmp_path / errand.id
    lost, other = (subprocess.Popen(words, cwd=folder) for words in (command, [*command, "other"]))
    elsewhere = subprocess.Popen(command, cwd=tmp_path)
    try:
        until(lambda: all(psutil.Process(p.pid).cmdline()[1:2] == ["-c"] for p in (lost, other, elsewhere)))
        assert queue_in(tmp_path).find(errand.id).state == "interrupted"
        assert not psutil.pid_exists(lost.pid)
        assert other.poll() is elsewhere.poll() is None
    finally:
        for process in (lost, other, elsewhere):
            process.kill()
            process.wait()


def test_what_finishes_while_it_is_cancelled_is_done(works: WorkQueue[Errand]) -> None:
    errand = start(works, AT_TERM.format("open('result', 'w').close()"))
    begun(works, errand)
    works.cancel(errand.id)
    until(lambda: works.find(errand.id).state == "done")
    assert queue_in(works.folder).find(errand.id).state == "done"


def test_what_has_ended_is_not_cancelled(works: WorkQueue[Errand], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if it ends between the question and the answer."""
    errand = start(works, NOTHING)
    running = wait_for(works, errand.id, 300)
    monkeypatch.setattr(works, "find", lambda _id: replace(running, state="running"))
    assert works.cancel(errand.id).state == "done"


def test_a_process_whose_server_was_killed_may_write_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "orphan").mkdir()
    code = AT_TERM.format("open('kept', 'w').close()")
    orphan = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path / "orphan")
    try:
        until((tmp_path / "orphan" / "begun").exists)
        began = psutil.Process(orphan.pid).create_time()
        errand = left_behind(tmp_path, state="running", pid=orphan.pid, pid_began=began)
        assert queue_in(tmp_path).find(errand.id).state == "interrupted"
        assert (tmp_path / "orphan" / "kept").exists()
    finally:
        orphan.kill()


def test_a_process_that_was_to_be_cancelled_when_the_server_died_is_ended(tmp_path: Path) -> None:
    orphan = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        began = psutil.Process(orphan.pid).create_time()
        errand = left_behind(tmp_path, state="cancelled", pid=orphan.pid, pid_began=began)
        assert queue_in(tmp_path).find(errand.id).state == "cancelled"
        assert not psutil.pid_exists(orphan.pid)
    finally:
        orphan.kill()


@pytest.mark.parametrize(
    "end", ["import os; os.kill(os.getpid(), 9)", "import sys; sys.exit('Error: as it ended')"]
)
def test_a_process_that_dies_after_its_result_is_done(works: WorkQueue[Errand], end: str) -> None:
    ended = wait_for(works, start(works, f"{FINISH}; {end}").id, 300)
    assert (ended.state, ended.error) == ("done", "")


def test_a_process_that_is_killed_before_its_result_has_failed(works: WorkQueue[Errand]) -> None:
    ended = wait_for(works, start(works, "import os; os.kill(os.getpid(), 9)").id, 300)
    assert (ended.state, ended.error) == ("failed", "it ended with status -9")


def test_a_server_closed_between_the_result_and_the_end_of_the_process(tmp_path: Path) -> None:
    works = queue_in(tmp_path)
    errand, waiting = start(works, f"{FINISH}; {FOREVER}"), start(works, NOTHING)
    begun(works, errand)
    works.close()
    assert [works.find(work.id).state for work in (errand, waiting)] == ["done", "interrupted"]
    after = queue_in(tmp_path)
    assert [after.find(work.id).state for work in (errand, waiting)] == ["done", "interrupted"]


@pytest.mark.parametrize(("files", "state"), [([], "interrupted"), (["result"], "done")])
def test_a_second_server_sees_that_the_first_has_died(tmp_path: Path, files: list[str], state: str) -> None:
    first = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        server = {"server": first.pid, "server_began": psutil.Process(first.pid).create_time()}
        errands = [left_behind(tmp_path, *files, state=was, **server) for was in ("running", "waiting")]
        second = queue_in(tmp_path)
        assert {second.find(errand.id).state for errand in errands} == {"running", "waiting"}
        first.kill()
        first.wait()
        assert {queued.state for queued in second.all()} == {state}
        assert {second.find(errand.id).state for errand in errands} == {state}
    finally:
        first.kill()


def test_what_another_server_cancels_is_cancelled_and_not_failed(works: WorkQueue[Errand]) -> None:
    errand = start(works, FOREVER)
    until(lambda: works.find(errand.id).state == "running")
    second = queue_in(works.folder)
    second.cancel(errand.id)
    assert wait_for(works, errand.id, 300).state == "cancelled"


@pytest.mark.skipif(sys.platform == "win32", reason="no groups of this kind")
def test_ctrl_c_in_the_servers_terminal_is_for_the_server_alone(works: WorkQueue[Errand]) -> None:
    errand = start(works, FOREVER)
    until(lambda: works.find(errand.id).state == "running")
    assert os.getpgid(works.find(errand.id).pid or 0) != os.getpgid(0)


def test_a_process_that_only_has_the_number_is_left_alone(tmp_path: Path) -> None:
    errand = Errand(new_id(), NOTHING)
    (tmp_path / errand.id).mkdir()
    record = {**vars(errand), "state": "running", "pid": os.getpid(), "pid_began": 1.0}
    (tmp_path / errand.id / "errand.json").write_text(json.dumps(record))
    assert queue_in(tmp_path).find(errand.id).state == "interrupted"


@pytest.mark.parametrize(
    "state",
    [
        {"pid": "7"},
        {"pid": -1},
        {"pid": 1e9},
        {"pid": 10**30},
        {"pid_began": "x"},
        {"server": [1]},
        {"server": {}},
    ],
)
def test_odd_numbers_in_a_record_stop_no_server(tmp_path: Path, state: dict[str, object]) -> None:
    numbers = {"pid": 2**22 + 2, "pid_began": 1.0, "server": 2**22 + 3, "server_began": 1.0}
    errand = left_behind(tmp_path, **{"state": "running", **numbers, **state})
    assert queue_in(tmp_path).find(errand.id).state == "interrupted"


@pytest.mark.parametrize("state", [{"state": "odd"}, {"state": None}, {"error": 7}, {"code": 7}])
def test_records_with_odd_values_are_left_alone(tmp_path: Path, state: dict[str, object]) -> None:
    errand = left_behind(tmp_path, **{"state": "running", **state})
    good = left_behind(tmp_path, "result", state="running")
    assert [queued.id for queued in queue_in(tmp_path).all()] == [good.id] != [errand.id]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": "../../x", "code": ""}'])
def test_broken_records_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "20260101-000000-abcdef").mkdir()
    (tmp_path / "20260101-000000-abcdef" / "errand.json").write_text(text)
    assert queue_in(tmp_path).all() == []


def test_unknown_work(works: WorkQueue[Errand]) -> None:
    for ask in (works.find, works.cancel, works.resume, works.remove, works.folder_of):
        with pytest.raises(UnknownWorkError):
            ask("20260101-000000-abcdef")
