"""Stains of views and slides: what is run, how far it is, and what is said of how to make them again."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from chromogen.app.view.stains import Stain
from chromogen.app.view.state import job_queue
from chromogen.app.view.work_queue import new_id
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from test_densities import IHC
from test_work_queue import until
from waiting import wait_for


def write_slide(path: Path, times: int = 1) -> None:
    """A tiled slide at 0.5 um/px."""
    pixels = np.tile(IHC, (times, times, 1))
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER"
    )


def test_what_is_told_of_a_view_with_all_that_can_be_given() -> None:
    stain = Stain("i", "0" * 16, "a b.tif", "x", "m/k.safetensors", "y.safetensors", 0.25, (3, 4), (99, 88))
    assert stain.shell_line == (
        "chromogen stain 'a b.tif' --stainer m/k.safetensors --mpp 0.25 "
        "--region 3,4,99,88 --compression deflate -o 'a b_k_3-4.ome.tif'"
    )
    assert "Stainer.from_pretrained('m/k.safetensors')" in stain.python_lines
    assert (stain.output, stain.region) == ("result.png", (3, 4, 99, 88))
    generator = replace(stain, stainer="c.onnx", model="c.onnx", trained_mpp=0.5, value_range="-1..1")
    assert "--model-mpp 0.5 --mpp 0.25" in generator.shell_line
    assert "--range=-1..1" in generator.shell_line
    assert "Stainer.from_pretrained('c.onnx', model_mpp=0.5, value_range='-1..1')" in generator.python_lines
    large = replace(stain, queued=True)
    assert (large.output, large.shell_line) == (large.slide_out, stain.shell_line), "a slide, by the same command"


def test_what_is_told_of_a_look_has_the_dials_that_were_moved() -> None:
    stain = Stain("i", "0" * 16, "a.tif", "x", "nuclear", "nuclear", dials={"share": 0.25, "counter_stain": 1.5})
    assert "--share 0.25 --counter-stain 1.5" in stain.shell_line
    for line in (
        "from chromogen.staining.stainer import load_look, stainer_of_look",
        "stainer = stainer_of_look(load_look('nuclear'), share=0.25, counter_stain=1.5)",
    ):
        assert line in stain.python_lines.splitlines()
    assert "Stainer.from_pretrained" in replace(stain, dials={}).python_lines


@pytest.mark.slow
def test_a_slide_is_stained_and_followed(tmp_path: Path) -> None:
    write_slide(tmp_path / "slide 1.tif", times=3)
    stains = job_queue(tmp_path / "stains")
    source = str(tmp_path / "slide 1.tif")
    asked = Stain(new_id(), "0" * 16, "slide 1.tif", source, "normalize", "normalize")
    (stains.folder / asked.id).mkdir(parents=True)
    stain = stains.start(asked)
    ended = wait_for(stains, stain.id, 300)
    stains.close()
    assert ended.state == "done", ended.error
    assert ended.work.shell_line == (
        "chromogen stain 'slide 1.tif' --stainer normalize -o 'slide 1_normalize.ome.tif'"
    )
    folder = stains.folder_of(stain.id)
    with open_slide(folder / ended.work.output) as made:
        assert (made.size, made.mpp) == ((1536, 1536), pytest.approx(0.5))
        pixels = made.read_region((0, 0), made.size)
    progress = ended.work.progress(folder)
    assert (progress.step, progress.of) == (4, 4)
    assert progress.seconds > 0
    subprocess.run([sys.executable, "-c", ended.work.python_lines], cwd=tmp_path, check=True, capture_output=True)
    with open_slide(tmp_path / ended.work.output) as again:
        assert (again.read_region((0, 0), again.size) == pixels).all()


def test_a_slide_is_finished_when_it_is_there_and_whole(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif")
    stain = Stain(new_id(), "0" * 16, "a.tif", str(tmp_path / "a.tif"), "identity", "identity")
    out = tmp_path / stain.slide_out
    assert not stain.is_finished(tmp_path)
    shutil.copy(tmp_path / "a.tif", out)
    assert not stain.is_finished(tmp_path), "another file of the name"
    stain_slide(
        SlideJob(SlideFile(Path(stain.source)), Stainer.from_pretrained("identity")), Output(out, "deflate")
    )
    assert stain.is_finished(tmp_path)
    assert set(stain.leftovers) < set(stain.files)
    os.truncate(out, out.stat().st_size // 2)
    assert not stain.is_finished(tmp_path)


SERVER = """
import os, sys, time
from pathlib import Path
from chromogen.app.view.state import job_queue
from chromogen.app.view.stains import Stain
stains = job_queue(Path(sys.argv[1]))
stain = Stain("20260101-000000-abcdef", "0" * 16, "a.tif", sys.argv[2], "identity", "identity")
(stains.folder / stain.id).mkdir(parents=True)
stains.start(stain)
while stains.find(stain.id).state != "running":
    time.sleep(0.01)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no signals of this kind")
def test_a_slide_that_was_finished_after_its_server_was_killed_is_done(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", times=2)
    ended = subprocess.run([sys.executable, "-c", SERVER, tmp_path / "stains", tmp_path / "a.tif"], check=False)
    assert ended.returncode == -9
    folder = tmp_path / "stains" / "20260101-000000-abcdef"
    record = json.loads((folder / "stain.json").read_text())
    assert record["state"] == "running"
    until(lambda: not psutil.pid_exists(record["pid"]) or psutil.Process(record["pid"]).status() == "zombie")
    stains = job_queue(tmp_path / "stains")
    assert stains.find(folder.name).state == "done"
    assert json.loads((folder / "stain.json").read_text())["state"] == "done"


def test_time_left_is_by_the_blocks_of_this_run(tmp_path: Path) -> None:
    assert Stain("i", "0" * 16, "a.tif", "x", "nuclear", "nuclear").progress(tmp_path).left_s is None
    noted = [{"done": done, "of": 100, "seconds": seconds} for done, seconds in ((51, 10.0), (53, 12.0))]
    (tmp_path / "trace.jsonl").write_text("\n".join([*map(json.dumps, noted), '{"done"']))
    progress = Stain("i", "0" * 16, "a.tif", "x", "nuclear", "nuclear").progress(tmp_path)
    assert (progress.step, progress.of, progress.left_s) == (53, 100, pytest.approx(47.0))


def test_names_of_results_are_no_longer_than_files_may_have() -> None:
    name = "x" * 250 + ".svs"
    stain = Stain(new_id(), "0" * 16, f"folder/{name}", f"{os.sep}{name}", "models/dab.safetensors", "x")
    assert len(stain.output) < 200
    assert "/" not in stain.output
    assert stain.output.endswith("_dab.ome.tif")
