"""What a system may do: full disks, rights that go, two at once, clocks that jump, names that are no text."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from chromogen.app.cli import main
from chromogen.files import named_beside, write_text, write_whole, written_beside
from chromogen.image import write_image
from synthetic import drawn_pair

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no such limits, rights or names")
NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anyone may write in."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def in_a_child(work: Callable[[], None]) -> int:
    """The exit status of a fork that works: 0, or the number of the OSError it met."""
    child = os.fork()
    if not child:
        status = 99
        try:
            work()
            status = 0
        except OSError as error:
            status = error.errno or 98
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def as_someone() -> None:
    """Not root, who may do all."""
    if os.getuid() == 0:
        os.setuid(NOBODY)


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    import errno
    import resource

    write_whole(tmp_path / "file", b"old")

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        write_whole(tmp_path / "file", bytes(100_000))

    assert in_a_child(work) == errno.EFBIG
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_may_only_be_read(open_folder: Path) -> None:
    import errno

    write_whole(open_folder / "file", b"old")
    open_folder.chmod(0o555)

    def work() -> None:
        as_someone()
        write_whole(open_folder / "file", b"new")

    assert in_a_child(work) == errno.EACCES
    assert [path.read_bytes() for path in open_folder.iterdir()] == [b"old"]


def test_rights_that_go_while_it_is_written(open_folder: Path) -> None:
    import errno

    def work() -> None:
        as_someone()
        mine = open_folder / "mine"
        mine.mkdir()
        write_whole(mine / "file", b"old")
        try:
            with written_beside(mine / "file") as temporary:
                temporary.write_bytes(b"new")
                mine.chmod(0o555)
        finally:
            mine.chmod(0o777)
            assert (mine / "file").read_bytes() == b"old"
            write_whole(mine / "file", b"new")  # takes what had to stay with it, in the same process

    assert in_a_child(work) == errno.EACCES
    assert sorted(path.name for path in (open_folder / "mine").iterdir()) == ["file"]


def test_two_that_write_one_file(tmp_path: Path) -> None:
    def writing(letter: bytes) -> int:
        child = os.fork()
        if not child:
            for _ in range(25):
                write_whole(tmp_path / "file", letter * 50_000)
            os._exit(0)
        return child

    children, seen = [writing(letter) for letter in (b"a", b"b", b"c")], set()
    while children:
        if (tmp_path / "file").exists():
            data = (tmp_path / "file").read_bytes()
            assert (len(data), len(set(data))) == (50_000, 1)
            seen.add(data[:1])
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended in children:
            assert status == 0
            children.remove(ended)
    assert seen
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_with_spaces_and_of_250_letters(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / ("c " * 60)
    folder.mkdir(parents=True)
    name = "x y" + "z" * 243 + ".png"
    write_image(folder / name, np.zeros((4, 4, 3), np.uint8))
    assert [path.name for path in folder.iterdir()] == [name]


def test_what_lies_beside_a_name_of_250_letters(tmp_path: Path) -> None:
    assert named_beside(tmp_path / "out.png", ".checkpoint") == tmp_path / "out.png.checkpoint"
    assert named_beside(tmp_path / ("a" * 244), ".checkpoint").name == "a" * 244 + ".checkpoint"
    for letter in ("a", "\u00e9", "\udcff"):
        first, second = (tmp_path / (letter * (250 // len(os.fsencode(letter)) - 1) + end) for end in "xy")
        made = [named_beside(path, ".checkpoint") for path in (first, second)]
        assert made[0] != made[1]
        for path in made:
            path.touch()
            assert len(os.fsencode(path.name)) <= 255
            assert path.name.endswith(".checkpoint")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("ending", [".png", ".ome.tif"])
def test_commands_with_a_name_of_250_letters(tmp_path: Path, ending: str) -> None:
    out, he, ihc = tmp_path / ("z" * (250 - len(ending)) + ending), tmp_path / "he.png", tmp_path / "ihc.png"
    for picture, image in zip((he, ihc), drawn_pair(64), strict=True):
        write_image(picture, image)
    stylize = "--steps 1 --set scales=1 --set style.layers=relu1_1 --precision fp32"
    asked = {
        ".png": ["stylize", str(he), str(ihc), "-o", str(out), *stylize.split()],
        ".ome.tif": ["stain", str(he), "--stainer", "color-transfer", "--mpp", "0.5", "-o", str(out)],
    }
    with pytest.raises(SystemExit) as ended:
        main(asked[ending])
    assert ended.value.code == 0
    assert {path.name for path in tmp_path.iterdir()} == {he.name, ihc.name, out.name}


def test_processes_by_spawn(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=write_whole, args=(tmp_path / "file", b"data"))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"data"]


@pytest.mark.skipif(sys.platform == "darwin", reason="names are text there")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    odd = tmp_path / os.fsdecode(b"\xff\xe9 .png")
    write_image(odd, np.random.default_rng(0).integers(60, 250, (40, 40, 3)).astype(np.uint8))
    out, said = tmp_path / "out", io.TextIOWrapper(io.BytesIO(), encoding, errors="strict")
    out.mkdir()
    monkeypatch.setattr(sys, "stdout", said)
    monkeypatch.setattr(sys, "stderr", said)
    for arguments in (["info", str(odd)], ["unmix", str(odd), "-o", str(out)]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    said.flush()
    assert rb"\udcff\udce9" in said.buffer.getvalue()  # type: ignore[attr-defined]
    assert {"unmix.json", os.fsdecode(b"\xff\xe9 _first.png")} <= {path.name for path in out.iterdir()}
    write_text(out / "named.txt", odd.name)
    assert (out / "named.txt").read_bytes() == rb"\udcff\udce9 .png"
