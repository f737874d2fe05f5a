import os
from pathlib import Path

import pytest

from chromogen.files import folder_written_beside, write_whole


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
