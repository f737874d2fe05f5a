"""Disks that are really full, as small as these tests need them: nothing is lost, and with room it goes on."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from chromogen.app.server import create_app
from chromogen.app.view import work_queue
from chromogen.app.view.work_queue import WorkQueue, new_id
from chromogen.files import write_whole
from chromogen.image import read_image, write_image
from chromogen.slides.slide import open_slide
from chromogen.staining.where_network import read_model
from chromogen.whole_slide import stain as stain_module
from synthetic import drawn_pair
from synthetic_slides import SyntheticSource, write_pyramid
from test_cli import QUICK, run
from test_cli_paired import command, drawn_ones, folder  # noqa: F401 - fixtures
from test_stains import write_slide
from test_work_queue import Errand
from waiting import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:The stainer", "ignore:The style", "ignore:No ch")
ROOMY_KB = 20_000
FULL = "Error: The disk is full ("


@dataclass(frozen=True)
class Disk:
    """A file system in memory."""

    folder: Path

    def resize(self, kb: int) -> None:
        """Make it so large."""
        subprocess.run(["mount", "-o", f"remount,size={kb}k", self.folder], check=True)  # noqa: S607

    def names(self) -> set[str]:
        """What lies there."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small one of 64 kB, where mounting is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "chromogen-test", place]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("mounting a small disk takes Linux")
    if done.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", place], check=True)  # noqa: S607


def told_once(err: str) -> bool:
    """Whether the one line of an error says that the disk is full."""
    lines = [line for line in err.splitlines() if not line.startswith("Warning: ")]
    return len(lines) == 1 and lines[0].startswith(FULL) and "Traceback" not in err


def test_a_file_stays_what_it_was(disk: Disk) -> None:
    write_whole(disk.folder / "file", b"old")
    with pytest.raises(OSError, match="No space left") as raised:
        write_whole(disk.folder / "file", bytes(100_000))
    assert raised.value.errno == errno.ENOSPC
    assert disk.names() == {"file"}
    assert (disk.folder / "file").read_bytes() == b"old"


def test_stain_goes_on_with_its_blocks(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stain_module, "BLOCK_PX", 128)
    monkeypatch.setattr(stain_module, "_check_space", lambda _making: None)  # another may fill the disk meanwhile
    tissue = SyntheticSource((600, 400)).read(0, (0, 0), (600, 400))
    slide, out = write_pyramid(tmp_path / "slide.tif", tissue, (4,)), disk.folder / "out.ome.tif"
    asked = ["stain", slide, "--stainer", "color-transfer", "--no-tissue-mask", "-o"]
    disk.resize(160)
    out.write_bytes(b"old")
    status, _, err = run(capsys, *asked, out)
    assert status == 1
    assert told_once(err), err
    assert out.read_bytes() == b"old"
    assert disk.names() == {"out.ome.tif", "out.ome.tif.chromogen"}
    disk.resize(ROOMY_KB)
    made: list[int] = []
    really = stain_module.BlockStore.write
    monkeypatch.setattr(stain_module.BlockStore, "write", lambda self, *a: (made.append(a[0]), really(self, *a)))
    status, _, err = run(capsys, *asked, out)
    assert status == 0, err
    assert disk.names() == {"out.ome.tif"}
    assert len(made) < 5 * 4, "what was finished is not made again"
    assert run(capsys, *asked, tmp_path / "whole.ome.tif")[0] == 0
    with open_slide(out) as ours, open_slide(tmp_path / "whole.ome.tif") as whole:
        assert np.array_equal(ours.read_region((0, 0), ours.size), whole.read_region((0, 0), whole.size))


def test_stylize_leaves_the_old_picture_and_goes_on(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, style, out = tmp_path / "content.png", tmp_path / "style.png", disk.folder / "out.png"
    for path, image in zip((content, style), drawn_pair(160), strict=True):
        write_image(path, image)
    disk.resize(24)  # a drawn picture takes less than 64 kB
    out.write_bytes(b"old")
    trace = disk.folder / "trace.jsonl"
    trace.write_bytes(b'{"content": 0, "index": 1}\n{"content": 0, "ind')
    asked = ["stylize", content, style, "-o", out, *QUICK, "--trace", trace]
    status, _, err = run(capsys, *asked)
    assert status == 1
    assert told_once(err), err
    assert out.read_bytes() == b"old"
    assert disk.names() <= {"out.png", "trace.jsonl", "out.png.checkpoint"}
    disk.resize(ROOMY_KB)
    status, _, err = run(capsys, *asked)
    assert status == 0, err
    assert read_image(out).shape == (160, 160, 3)
    assert disk.names() == {"out.png", "trace.jsonl"}
    assert all(json.loads(line)["index"] for line in trace.read_text().splitlines()), "no half line"


@pytest.mark.parametrize("kb", [4, 24])
def test_train_goes_on(disk: Disk, folder: Path, capsys: pytest.CaptureFixture[str], kb: int) -> None:  # noqa: F811
    out = disk.folder / "m.safetensors"
    given = command(folder, "--mpp", "0.5")
    asked = [out if word == str(folder / "m.safetensors") else word for word in given]
    disk.resize(kb)
    status, _, err = run(capsys, *asked)
    assert status == 1
    assert told_once(err), err
    assert not out.exists()
    assert not [name for name in disk.names() if name.startswith(".")]
    disk.resize(ROOMY_KB)
    status, _, err = run(capsys, *asked)
    assert status == 0, err
    assert read_model(out).name == "m"
    assert [json.loads(line)["index"] for line in (disk.folder / "m.train.jsonl").read_text().splitlines()] == [
        1,
        2,
    ]
    assert disk.names() == {"m.safetensors", "m.train.jsonl", "m.loss.png", "m.preview.png"}


def fill(disk: Disk) -> None:
    """No byte is left."""
    disk.resize(32)
    with (disk.folder / "filling").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_queue_outlives_it_and_goes_on(disk: Disk, tmp_path: Path) -> None:
    works = WorkQueue(disk.folder / "works", Errand)
    waits = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'is full')!r}): time.sleep(0.02)\n"
    errand = Errand(new_id(), waits + "import pathlib; pathlib.Path('x').write_text('x')")
    (works.folder / errand.id).mkdir(parents=True)
    works.start(errand)
    fill(disk)
    (tmp_path / "is full").touch()
    ended = wait_for(works, errand.id, 300)
    assert (ended.state, ended.error) == ("failed", "it ended with status 1; the disk is full")
    with pytest.raises(OSError, match="No space left"):
        works.resume(errand.id)
    assert works.find(errand.id).state == "failed", "not one that waits for ever"
    disk.resize(ROOMY_KB)
    works.resume(errand.id)
    assert wait_for(works, errand.id, 300).state == "done"
    works.close()
    assert WorkQueue(works.folder, Errand).find(errand.id).state == "done"


@pytest.mark.slow
def test_a_slide_of_the_server_goes_on(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_slide(tmp_path / "slides" / "a.tif")
    app = create_app([tmp_path / "slides"], disk.folder, page=tmp_path)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        (slide,) = client.get("/api/slides").json()
        asked = {"slide": slide["id"], "stainer": "color-transfer"}
        begun = client.post("/api/stains", json=asked).json()
        state = ended(client, begun["id"])
        assert state["state"] == "failed"
        assert "to be on a disk with" in state["status"], state
        fill(disk)
        refused = client.post("/api/stains", json=asked)
        assert (refused.status_code, refused.json()["detail"]) == (500, "No space left on device")
        assert client.get("/api/slides").status_code == 200
        assert [work["id"] for work in client.get("/api/jobs").json()] == [begun["id"]]
        disk.resize(ROOMY_KB)
        assert client.post(f"/api/jobs/{begun['id']}/resume", json={}).status_code == 200
        state = ended(client, begun["id"])
        assert state["state"] == "done", state["status"]


def ended(client: TestClient, work_id: str) -> dict[str, str]:
    """The work when it has ended."""
    while True:
        found: dict[str, str] = client.get(f"/api/jobs/{work_id}").json()
        if found["state"] not in work_queue.UNDER_WAY:
            return found
