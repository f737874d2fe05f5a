"""The script for QuPath, run by Groovy against stand-ins for QuPath's classes (`make qupath`).

The stand-ins have the signatures of QuPath 0.5; JavaFX and its progress dialog are the real ones. QuPath itself is
not run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.slides.slide import open_slide
from synthetic_slides import write_he

HERE = Path(__file__).parent / "qupath"
SCRIPT = Path(__file__).parents[1] / "examples" / "qupath" / "chromogen.groovy"
GROOVY = Path(os.environ.get("CHROMOGEN_GROOVY", "nowhere")).absolute()
JAVAFX = [Path("/usr/share/openjfx/lib"), Path("/usr/share/java/controlsfx.jar")]
MPP = 0.25
REGION = (101, 60, 620, 500)  # of the annotation: x, y, width, height in level-0 px

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not GROOVY.is_dir(), reason="no Groovy: `make qupath`"),
    pytest.mark.skipif(not all(path.exists() for path in JAVAFX), reason="no openjfx and libcontrolsfx-java"),
    pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="no xvfb"),
]

Run = Callable[..., dict[str, Any]]


def classpath(*more: Path) -> str:
    return os.pathsep.join([*map(str, more), f"{GROOVY}/*", f"{JAVAFX[0]}/*", str(JAVAFX[1])])


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, the stand-ins and the driver, compiled."""
    folder = tmp_path_factory.mktemp("classes")
    sources = [*sorted((HERE / "stubs").glob("*.groovy")), SCRIPT, HERE / "Drive.groovy"]
    compiler = "org.codehaus.groovy.tools.FileSystemCompiler"
    command = ["java", "-cp", classpath(), compiler, "-d", folder, *sources]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H&E of 900 x 700 px at 0.25 um/px, in a folder whose name has a space and an umlaut."""
    return write_he(tmp_path_factory.mktemp("H&E für QuPath") / "my slide.ome.tif", (900, 700), MPP)


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A rectangle of class Tumor, which the driver selects, and one of class Immune cells."""
    x, y, width, height = REGION
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    other = [[10, 10], [60, 10], [60, 60], [10, 60], [10, 10]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [outline]},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
        }
        for name, outline in [("Tumor", corners), ("Immune cells", other)]
    ]
    file = tmp_path / "annotations.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return file


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Chromogen as a program that also writes down the words it was given, one a line, a blank line after each."""
    file = tmp_path / "chromogen"
    file.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" '' >> '{tmp_path}/words'\nexec '{sys.executable}' -m chromogen \"$@\"\n"
    )
    file.chmod(0o755)
    return file


@pytest.fixture
def run(classes: Path, tmp_path: Path) -> Run:
    """Runs the script as QuPath would, and returns what became of it."""

    def drive(slide: Path | None, annotations: Path | None, mode: str, *args: str) -> dict[str, Any]:
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        facts = [f"-Dpython={sys.executable}", f"-Dfacts={HERE / 'facts.py'}"]
        where = "-" if mode == "no project" else project
        drive = [SCRIPT, slide or "-", where, annotations or "-", mode, *args]
        command = ["xvfb-run", "-a", "java", "-cp", classpath(classes), *facts, "Drive", *drive]
        done = subprocess.run(command, check=False, timeout=300, capture_output=True, text=True)
        result = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), done.stderr)
        return json.loads(result.removeprefix("RESULT "))

    return drive


def words(tmp_path: Path) -> list[list[str]]:
    """The words of every command that was run."""
    return [command.split("\n") for command in (tmp_path / "words").read_text().strip("\n").split("\n\n")]


def test_a_region_by_annotations(run: Run, slide: Path, annotations: Path, program: Path, tmp_path: Path) -> None:
    given = ["stainer=nuclear", "intensity=0.9", "where=annotations", "level=Tumor=0.9; Immune cells=0"]
    result = run(slide, annotations, "select", f"program={program}", *given)
    assert result["error"] is None
    out = tmp_path / "project" / "chromogen" / "my slide_nuclear_101_60_620_500.ome.tif"
    regions = out.parent / "my slide_nuclear_101_60_620_500_regions.geojson"
    stain, nuclei = words(tmp_path)
    expected = ["stain", slide, "-o", out, "--stainer", "nuclear", "--intensity", "0.9", "--where", regions]
    expected += ["--level", "Tumor=0.9", "--level", "Immune cells=0", "--mpp", MPP, "--region", "101,60,620,500"]
    assert stain == list(map(str, expected))
    assert nuclei == ["nuclei", str(out), "-o", f"{str(out).removesuffix('.ome.tif')}_nuclei", "--stains", "h-dab"]
    with open_slide(out) as stained:
        ratio = 620 / stained.size[0]
        assert stained.mpp == pytest.approx(MPP * ratio, rel=0.01)

    (entry,) = result["entries"]
    assert (entry["name"], entry["type"]) == ("my slide.ome.tif nuclear (virtual)", "BRIGHTFIELD_H_DAB")
    assert entry["thumbnail"]
    assert result["synced"]
    tumor = next(found for found in entry["objects"] if found["class"] == "Tumor")
    assert np.allclose(tumor["points"][2], stained.size, atol=0.6)  # the annotation is the whole region
    in_entry = [found for found in entry["objects"] if found["kind"] == "detection"]
    in_he = [found for found in result["he"] if found["kind"] == "detection"]
    assert len(in_entry) == len(in_he) > 10
    assert {found["class"] for found in in_he} == {"Positive", "Negative"}
    assert in_he[0]["measurements"] == in_entry[0]["measurements"]
    assert np.allclose(np.array(in_entry[0]["points"]) * ratio + REGION[:2], in_he[0]["points"], atol=1)


def test_the_whole_image_with_a_dialog(run: Run, slide: Path, program: Path, tmp_path: Path) -> None:
    typed = {"program": str(program), "stainer": "normalize", "nuclei": False}
    result = run(slide, None, "window", json.dumps(typed))
    assert (result["error"], result["shown"]) == (None, [])
    assert result["refreshed"]
    (stain,) = words(tmp_path)
    out = tmp_path / "project" / "chromogen" / "my slide_normalize.ome.tif"
    assert stain == ["stain", str(slide), "-o", str(out), "--stainer", "normalize", "--mpp", str(MPP)]
    (entry,) = result["entries"]
    assert (entry["file"], entry["objects"]) == (str(out), [])


def test_an_earlier_image_stays(run: Run, slide: Path, program: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "project" / "chromogen" / "my slide_normalize.ome.tif"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"earlier")
    result = run(slide, None, "", f"program={program}", "stainer=normalize", "nuclei=false")
    assert result["entries"][0]["file"].endswith("my slide_normalize_2.ome.tif")
    assert earlier.read_bytes() == b"earlier"


def test_cancelled_work_is_kept(run: Run, slide: Path, program: Path, tmp_path: Path) -> None:
    typed = {"program": str(program), "stainer": "nuclear", "nuclei": False}
    result = run(slide, None, "window cancel", json.dumps(typed))
    assert result["shown"] == ["Cancelled. The same choices continue where it stopped."]
    assert result["entries"] == []
    assert not (tmp_path / "project" / "chromogen" / "my slide_nuclear.ome.tif").exists()


def test_nothing_happens_when_the_dialog_is_cancelled(run: Run, slide: Path, tmp_path: Path) -> None:
    result = run(slide, None, "window")
    assert (result["shown"], result["entries"]) == ([], [])


@pytest.mark.parametrize(
    ("mode", "given", "message"),
    [
        ("no image", [], "No image is open. Open an H&E, then run the script again."),
        ("no project", [], "No project is open. Make a project with the H&E, then run the script again."),
        ("", ["where=annotations"], "No annotation has a class."),
        ("", ["stain=nuclear"], "No option is called stain; names are program, stainer"),
        ("", ["nuclear"], "Expected name=value, got nuclear; names are program, stainer"),
        ("", ["program=no-such-program"], "Cannot run no-such-program. Install Chromogen (pip install chromogen)"),
        ("", ["stainer=nonsense"], "Expected `stainer` to be "),
        ("", ["intensity=strong"], "Invalid value for '--intensity'"),
    ],
)
def test_errors_are_one_sentence(
    run: Run, slide: Path, program: Path, mode: str, given: list[str], message: str
) -> None:
    named = [] if any(word.startswith("program=") for word in given) else [f"program={program}"]
    result = run(None if mode == "no image" else slide, None, mode, *named, *given)
    assert result["error"].startswith(message)
    assert not result["entries"]
