"""Stains of views and slides: what is run, how far it is, and what is said of how to make them again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from chromogen.app.view.stains import (
    Stain,
    progress_in,
    stain_queue,
    stain_region,
    start_slide,
)
from chromogen.app.view.work_queue import new_id, wait_for
from chromogen.image import read_image, write_image
from chromogen.slides.slide import open_slide
from test_densities import IHC

CHROMOGEN = f"{sys.executable} -m chromogen"


def write_slide(path: Path, times: int = 1) -> None:
    """A tiled slide at 0.5 um/px."""
    pixels = np.tile(IHC, (times, times, 1))
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER"
    )


def test_a_region_is_stained_as_the_command_line_and_python_do(tmp_path: Path) -> None:
    stains = stain_queue(tmp_path / "stains")
    region = IHC[:96, :128].copy()
    asked = Stain(
        new_id(), "0" * 16, "a b.tif", "a b.tif", "color-transfer", "color-transfer", 0.5, (0, 0), (128, 96)
    )
    stain = stain_region(stains, asked, region)
    assert stain.state == "done"
    folder = stains.folder_of(stain.id)
    made = read_image(folder / "result.png")
    assert not np.array_equal(made, region)
    assert (read_image(folder / "region.png") == region).all()
    for number, program in enumerate(
        (asked.shell_line.replace("chromogen", CHROMOGEN, 1).split(), [sys.executable, "-c", asked.python_lines])
    ):
        again = tmp_path / str(number)
        again.mkdir()
        write_image(again / "region.png", region)
        subprocess.run(program, cwd=again, check=True, capture_output=True)
        assert (read_image(again / "result.png") == made).all(), program


def test_a_region_that_fails_leaves_nothing(tmp_path: Path) -> None:
    stains = stain_queue(tmp_path)
    asked = Stain(new_id(), "0" * 16, "a.tif", "a.tif", "nonsense", "nonsense", 0.5, (0, 0), (64, 64))
    with pytest.raises(ValueError, match="stainer"):
        stain_region(stains, asked, IHC[:64, :64].copy())
    assert list(tmp_path.iterdir()) == stains.all() == []


@pytest.mark.slow
def test_a_slide_is_stained_and_followed(tmp_path: Path) -> None:
    write_slide(tmp_path / "slide 1.tif", times=3)
    stains = stain_queue(tmp_path / "stains")
    source = str(tmp_path / "slide 1.tif")
    stain = start_slide(stains, Stain(new_id(), "0" * 16, "slide 1.tif", source, "normalize", "normalize"))
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
    progress = progress_in(folder)
    assert (progress.step, progress.of) == (4, 4)
    assert progress.seconds > 0
    subprocess.run([sys.executable, "-c", ended.work.python_lines], cwd=tmp_path, check=True, capture_output=True)
    with open_slide(tmp_path / ended.work.output) as again:
        assert (again.read_region((0, 0), again.size) == pixels).all()


def test_time_left_is_by_the_blocks_of_this_run(tmp_path: Path) -> None:
    assert progress_in(tmp_path).seconds_left is None
    noted = [{"done": done, "of": 100, "seconds": seconds} for done, seconds in ((51, 10.0), (53, 12.0))]
    (tmp_path / "trace.jsonl").write_text("\n".join([*map(json.dumps, noted), '{"done"']))
    progress = progress_in(tmp_path)
    assert (progress.step, progress.of, progress.seconds_left) == (53, 100, pytest.approx(47.0))


def test_names_of_results_are_no_longer_than_files_may_have() -> None:
    name = "x" * 250 + ".svs"
    stain = Stain(new_id(), "0" * 16, f"folder/{name}", f"{os.sep}{name}", "models/dab.safetensors", "x")
    assert len(stain.output) < 200
    assert "/" not in stain.output
    assert stain.output.endswith("_dab.ome.tif")
