import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from chromogen import files
from chromogen.files import (
    folder_written_beside,
    keep_newest,
    scratch_folder,
    write_json,
    write_table,
    write_whole,
)

HAS_LOCKS = pytest.mark.skipif(sys.platform == "win32", reason="what is killed stays there")


def test_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for data in (b"old", b"new and longer", b""):
        write_whole(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_whatever_stops_it_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, step: str
) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(failure)):
        write_whole(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "file", b"")


def test_a_new_folder_is_whole(tmp_path: Path) -> None:
    with folder_written_beside(tmp_path / "new") as folder:
        (folder / "in").mkdir()
        (folder / "in" / "file").write_bytes(b"data")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "in" / "file").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_fails_is_not_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "file").write_bytes(b"data")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), folder_written_beside(tmp_path / "new") as folder:
        fail(folder)
    assert not list(tmp_path.iterdir())


def test_a_folder_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="not empty"), folder_written_beside(tmp_path / "old") as folder:
        (folder / "file").write_bytes(b"new")
    assert (tmp_path / "old" / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


# --- what killed processes leave ---

WRITER = """
import sys
from pathlib import Path
from chromogen import files

with getattr(files, sys.argv[1])(*map(Path, sys.argv[2:])) as temporary:
    (temporary / "part" if temporary.is_dir() else temporary).write_bytes(b"half")
    print(temporary, flush=True)
    sys.stdin.read()
"""


@contextmanager
def writing(how: str, *to: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has written half, and where."""
    command = [sys.executable, "-c", WRITER, how, *map(str, to)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


@HAS_LOCKS
@pytest.mark.parametrize("how", ["written_beside", "folder_written_beside"])
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path, how: str) -> None:
    with writing(how, tmp_path / "file") as (process, half):
        write_whole(tmp_path / "another", b"while it lives")
        assert half.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = {path.name for path in tmp_path.iterdir()} - {"another"}
        assert len(left) == 2, "each kill leaves the same two names"
        write_whole(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "file": b"new",
        "another": b"while it lives",
    }


@HAS_LOCKS
def test_a_second_writer_of_a_path_waits(tmp_path: Path) -> None:
    with writing("written_beside", tmp_path / "file") as (process, half):
        beside = files._beside(tmp_path / "file", wait_s=0)
        with pytest.raises(filelock.Timeout), beside:
            pass
        assert half.read_bytes() == b"half"
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        write_whole(tmp_path / "file", b"later")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"later"}


@HAS_LOCKS
def test_scratch_folders_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with writing("scratch_folder") as (process, left):
        with scratch_folder() as beside:
            assert beside != left
            assert (left / "part").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert left.exists()
        with scratch_folder() as folder:
            assert folder == left
            assert not list(folder.iterdir())
            assert folder.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.iterdir())


@HAS_LOCKS
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".chromogen-file.tmp").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "out" / "file", b"")
    assert (tmp_path / "precious" / "file").read_bytes() == b"data"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_only_the_files_used_last_are_kept(tmp_path: Path) -> None:
    for age, name in enumerate(("c.json", "a.json", "b.json", "other.txt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    keep_newest(tmp_path, "*.json", 2)
    assert {file.name for file in tmp_path.iterdir()} == {"c.json", "a.json", "other.txt"}


def test_tables_have_all_columns_of_all_rows(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"name": 'a "b"', "x": 1}, {"name": "c", "y": None, "x": 0.5}])
    lines = (tmp_path / "t.csv").read_bytes().decode().split("\r\n")
    assert lines == ["name,x,y", '"a ""b""",1,', "c,0.5,", ""]


def test_json_refuses_what_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n "x": 1.5\n}'
