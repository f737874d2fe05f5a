"""Views are what the whole slide becomes there, and what the page tells makes them again."""

import io
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from chromogen.app.view.drawn_regions import ImportedRegion
from chromogen.app.view.pictures import MAX_ALPHA
from chromogen.app.view.stains import (
    CONFIDENCE,
    REGIONS,
    Stain,
    loaded,
    show_where,
    stain_view,
    stainer_mpp,
    with_regions,
)
from chromogen.app.view.work_queue import new_id
from chromogen.image import Image, read_image, read_provenance
from chromogen.slides.slide import open_slide
from chromogen.staining.confidence import levels_in
from chromogen.staining.where_network import write_model
from chromogen.whole_slide import kept_views
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from test_densities import IHC
from test_stains import write_slide
from test_where_file import model

# The slide here is an IHC.
pytestmark = pytest.mark.filterwarnings("ignore:.* looks like an IHC:UserWarning")

PLACE = (40, 60), (220, 180)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A slide whose right half is stained much more weakly than its left half, and a folder for the view."""
    weak = 255 - (255 - IHC.astype(float)) * 0.45
    pixels = np.concatenate([IHC, weak.round().astype(np.uint8), weak.round().astype(np.uint8)], axis=1)
    options = {"photometric": "rgb", "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a slide.tif", pixels, tile=(256, 256), **options)
    (tmp_path / "view").mkdir()
    return tmp_path


def asked(folder: Path, stainer: str = "color-transfer", **more: object) -> Stain:
    source, model = str(folder / "a slide.tif"), str(folder / stainer) if "." in stainer else stainer
    stain = Stain(new_id(), "0" * 16, "a slide.tif", source, stainer, model, location=PLACE[0], size=PLACE[1])
    return replace(stain, **more)  # type: ignore[arg-type]


def lossless(path: Path) -> Image:
    with open_slide(path) as slide:
        return slide.read_region((0, 0), slide.size)


@pytest.mark.parametrize("stainer", ["color-transfer", "nuclear", "my_stain.safetensors"])
def test_a_view_is_what_the_whole_slide_becomes_there(folder: Path, model_file: Path, stainer: str) -> None:
    shutil.copy(model_file, folder)
    stain = asked(folder, stainer)
    stain_view(stain, folder / "view")
    seen, made = read_image(folder / "view" / "region.png"), read_image(folder / "view" / "result.png")
    stain_slide(SlideJob(SlideFile(Path(stain.source)), loaded(stain)), Output(folder / "w.ome.tif", "deflate"))
    (x, y), (width, height) = PLACE
    np.testing.assert_array_equal(made, lossless(folder / "w.ome.tif")[y : y + height, x : x + width])
    np.testing.assert_array_equal(seen, IHC[y : y + height, x : x + width])
    assert np.abs(loaded(stain)(seen).astype(int) - made).mean() > 2, "not by the colours of the view alone"
    said = read_provenance(folder / "view" / "result.png") or {}
    assert (said["stainer"], said["mpp"]) == (Path(stainer).stem, pytest.approx(0.5))


def drawn(name: str, left: int, top: int, side: int) -> ImportedRegion:
    ring = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    return ImportedRegion(name=name, geometry={"type": "Polygon", "coordinates": [ring]})


@pytest.fixture
def heat_map(folder: Path) -> Path:
    """A map of the slide: nothing on the left of PLACE, half on its right."""
    values = np.zeros((64, 192), np.uint8)
    values[:, 20:] = 128
    PIL.Image.fromarray(values).save(folder / "heat.png")
    return folder / "heat.png"


def of_source(folder: Path, source: str) -> Stain:
    if source == "regions":
        levels = {"Tumor": 0.9, "Region 2": 0.2, "elsewhere": 0.0}
        stain = asked(folder, "nuclear", where=REGIONS, levels=levels, fill=True)
        return with_regions(stain, [drawn("Tumor", 0, 0, 140), drawn("Region 2", 150, 20, 90)], folder / "view")
    return asked(folder, "nuclear", where="heat.png", where_file=str(folder / "heat.png"), dials={"seed": 3})


@pytest.mark.slow
@pytest.mark.parametrize("source", ["regions", "map"])
def test_a_view_that_follows_a_source_is_what_the_whole_slide_becomes(
    folder: Path, heat_map: Path, source: str
) -> None:
    stain = of_source(folder, source)
    stain_view(stain, folder / "view")
    stain_slide(SlideJob(SlideFile(Path(stain.source)), loaded(stain)), Output(folder / "w.ome.tif", "deflate"))
    (x, y), (width, height) = PLACE
    made = read_image(folder / "view" / "result.png")
    np.testing.assert_array_equal(made, lossless(folder / "w.ome.tif")[y : y + height, x : x + width])
    said = read_provenance(folder / "view" / "result.png") or {}
    assert said["where"]["source"] == source
    assert 0 <= said["statistics"]["confidence"]["unlike_fraction"] <= 1
    levels = levels_in(read_image(folder / "view" / CONFIDENCE))
    assert levels.shape == (-(-height // 16), -(-width // 16))
    assert levels.any()


def test_where_is_seen_before_it_is_stained(folder: Path, heat_map: Path) -> None:
    picture = PIL.Image.open(io.BytesIO(show_where(of_source(folder, "map"))))
    seen = np.asarray(picture)[..., 3]
    assert seen.shape == (PLACE[1][1] // 2, PLACE[1][0] // 2)
    assert seen[:, :15].max() == 0, "where the map is 0"
    assert 0.3 < np.percentile(seen[:, 40:], 90) / MAX_ALPHA <= 0.51, "where it is a half"
    tissue = np.asarray(PIL.Image.open(io.BytesIO(show_where(asked(folder, "nuclear")))))[..., 3]
    assert np.abs(tissue.astype(int) - seen).mean() > 5


@pytest.mark.parametrize("source", ["regions", "map"])
def test_what_it_tells_follows_the_same_source(folder: Path, heat_map: Path, source: str) -> None:
    stain = of_source(folder, source)
    words = shlex.split(stain.shell_line)
    assert words[words.index("--where") + 1] == stain.where, "no folder of this machine"
    assert ("--fill" in words, "--level=Tumor=0.9" in words) == (source == "regions",) * 2
    assert str(folder) not in stain.python_lines
    assert stain.where_file in stain.command
    program = stain.python_lines.partition("output =")[0].replace(repr(stain.name), repr(stain.source))
    (folder / "again.py").write_text(program.replace(repr(stain.where), repr(stain.where_file)))
    made = runpy.run_path(str(folder / "again.py"))
    assert made["stainer"].identity == loaded(stain).identity


def test_a_slide_is_surveyed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surveyed, real = [], kept_views.survey
    monkeypatch.setattr(kept_views, "survey", lambda view: surveyed.append(view) or real(view))
    for stainer in ("color-transfer", "normalize", "color-transfer"):
        stain_view(asked(folder, stainer), folder / "view")
    assert len(surveyed) == 1
    write_slide(folder / "a slide.tif", times=2)
    stain_view(asked(folder), folder / "view")
    assert len(surveyed) == 2, "a slide that is another by now"


def test_a_view_is_at_the_pixel_size_of_the_stainer(folder: Path) -> None:
    assert stainer_mpp(asked(folder)) == 0.5
    stain_view(asked(folder, "identity", mpp=0.25), folder / "view")
    assert read_image(folder / "view" / "result.png").shape == (90, 110, 3)
    stain_view(asked(folder, "identity", mpp=0.25), folder / "view")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": (20, 200)}, "64 to 2048"),
        ({"location": (1500, 0)}, "inside the slide"),
        ({"model": "nonsense"}, "stainer"),
        ({"value_range": "0..1"}, "range"),
    ],
)
def test_what_cannot_be(folder: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stain_view(asked(folder, **changes), folder / "view")


def made_again(folder: Path, stain: Stain) -> list[Image]:
    """By the command line and by Python that the page tells, in the folder of the slide."""
    pictures = []
    shell = [sys.executable, "-m", *shlex.split(stain.shell_line)]
    for program in (shell, [sys.executable, "-c", stain.python_lines]):
        subprocess.run(program, cwd=folder, check=True, capture_output=True)
        pictures.append(lossless(folder / stain.slide_out))
        (folder / stain.slide_out).unlink()
    return pictures


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["built in", "model of pairs", "dials of a model", "generator", "no pixel size"])
def test_command_line_and_python_make_the_same_pixels(folder: Path, kind: str) -> None:
    stain = asked(folder, "epithelial")
    if kind.endswith(("pairs", "model")):
        write_model(folder / "er.safetensors", model())
        dials = {"intensity": 0.5} if kind.startswith("dials") else {}
        stain = asked(folder, "er.safetensors", dials=dials)
    elif kind == "generator":
        generators = pytest.importorskip("generators", reason="the extra `onnx` is not installed")
        generators.saved(folder / "cut.onnx", generators.normed(64))
        stain = asked(folder, "cut.onnx", trained_mpp=0.5, value_range="-1..1")
    elif kind == "no pixel size":
        stain = asked(folder, "normalize", mpp=0.4)
    stain_view(stain, folder / "view")
    made = read_image(folder / "view" / "result.png")
    for again in made_again(folder, stain):
        np.testing.assert_array_equal(again, made)
