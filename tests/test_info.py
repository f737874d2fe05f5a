"""What is said of slides, from Python and by the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from chromogen.app.cli import main
from chromogen.app.info import STAIN_S_A_MPX, STAIN_START_S, describe
from chromogen.image import Image, write_image
from chromogen.slides.pyramid import processors
from chromogen.slides.slide import list_slides, slide_files
from chromogen.slides.source import SlideError
from synthetic_slides import (
    MPP,
    paint_tissue,
    synthetic_slide,
    write_ome_tiff,
    write_ome_zarr,
    write_pyramid,
    write_svs,
)


def half_tissue(width: int = 800, height: int = 600) -> Image:
    image = np.full((height, width, 3), 245, np.uint8)
    image[:, : width // 2] = (200, 120, 170)
    return image


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["info", *map(str, arguments)])
    streams = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, streams.out, streams.err


def test_facts_of_a_slide(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path / "slide.ome.tif", half_tissue(), (2, 4))
    found = describe(path)
    assert (found["format"], found["size"], found["mpp"], found["mpp_from"]) == (
        "OME-TIFF",
        (800, 600),
        MPP,
        "file",
    )
    assert found["level_sizes"] == ((800, 600), (400, 300), (200, 150))
    assert found["tissue_percent"] == pytest.approx(50, abs=1)
    assert found["tissue_mm2"] == pytest.approx(0.4 * 0.3 / 2, rel=0.02)
    assert found["stain"]
    assert found["stain"]["mpx"] == pytest.approx(0.48)
    painting_s = found["stain"]["tissue_mpx"] * STAIN_S_A_MPX / processors()
    assert found["stain"]["seconds"] == pytest.approx(STAIN_START_S + painting_s, abs=0.06)


def test_staining_is_reckoned_at_its_own_mpp(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", half_tissue())
    stain = describe(path, mpp=0.25, stain_mpp=1.0)["stain"]
    assert stain
    assert stain["mpx"] == pytest.approx(0.03)


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "slide.tif", half_tissue(), mpp=(1000.0, 1000.0))
    found = describe(path)
    assert (found["mpp"], found["mpp_from"], found["tissue_mm2"], found["stain"], found["icc"]) == (
        None,
        None,
        None,
        None,
        None,
    )
    assert found["stated_mpp"] == pytest.approx((1000, 1000))
    given = describe(path, mpp=0.5)
    assert (given["mpp"], given["mpp_from"]) == (0.5, "option")


def test_a_folder_is_the_slides_in_it(tmp_path: Path) -> None:
    for name in ("s10.svs", "s2.tif", ".hidden.png", "notes.txt", "Macro.NDPI"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    write_ome_zarr(tmp_path / "s3.zarr", half_tissue(64, 64))
    names = [path.name for path in list_slides(tmp_path)]
    assert names == ["Macro.NDPI", "s2.tif", "s3.zarr", "s10.svs"]
    assert slide_files([tmp_path / "s3.zarr", tmp_path])[0] == tmp_path / "s3.zarr"
    with pytest.raises(SlideError, match="the folder '.*below' without any"):
        slide_files([tmp_path / "below"])


def test_the_command_says_what_a_person_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_svs(tmp_path / "slide.svs", half_tissue())
    status, out, err = run(capsys, path)
    assert (status, err) == (0, "")
    for said in ("Aperio SVS", "800 x 600 px (0.40 x 0.30 mm), one level", "0.499 um/px, by the file", "20x"):
        assert said in out
    for said in ("no ICC profile", "0.06 mm2, 50", "0.5 Mpx, 0.2 of them tissue", "by a built-in look"):
        assert said in out


def test_the_command_names_the_option_that_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "tile.png", half_tissue())
    assert "unknown (not in the file); give it with --mpp" in run(capsys, tmp_path / "tile.png")[1]
    assert "0.25 um/px, as given" in run(capsys, tmp_path / "tile.png", "--mpp", 0.25)[1]


def test_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_pyramid(tmp_path / "a.tif", half_tissue()), write_ome_zarr(tmp_path / "b.zarr", half_tissue())]
    status, out, _ = run(capsys, *paths, "--json")
    found = json.loads(out)
    assert status == 0
    assert [result["format"] for result in found["results"]] == ["tiled TIFF", "OME-Zarr 0.5"]
    assert found["errors"] == {}
    assert found["peak_rss_mb"] > 0


def test_one_broken_among_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pyramid(tmp_path / "good.tif", half_tissue())
    (tmp_path / "text.svs").write_text("no slide")
    status, out, err = run(capsys, tmp_path / "text.svs", tmp_path / "good.tif", "--json")
    found = json.loads(out)
    assert status == 1
    assert [Path(result["path"]).name for result in found["results"]] == ["good.tif"]
    assert [Path(name).name for name in found["errors"]] == ["text.svs"]
    assert "text.svs" in err


@pytest.mark.parametrize("arguments", [["missing.svs"], ["text.svs"], ["good.tif", "--mpp", "0"], ["empty"]])
def test_a_wrong_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pyramid(tmp_path / "good.tif", half_tissue())
    (tmp_path / "text.svs").write_text("no slide")
    (tmp_path / "empty").mkdir()
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("Error: Expected `")
    assert err.count("\n") == 1


def test_the_synthetic_slide_is_half_tissue() -> None:
    """What jobs on it are measured by."""
    image, _ = synthetic_slide((40_000, 20_000), paint_tissue).overview(500)
    assert np.mean(image.min(axis=2) < 240) == pytest.approx(math.pi * 0.45**2, abs=0.01)


def test_real_slides(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, data / "slides", "--json")
    found = {Path(result["path"]).name: result for result in json.loads(out)["results"]}
    assert status == 0
    assert found["crc_ihc_pyramid.tif"]["stated_mpp"] == [1000, 1000]
    assert found["crc_ihc_pyramid.tif"]["mpp"] is None
    assert "IHC" in found["crc_ihc_pyramid.tif"]["doubt"]
    assert found["small.svs"]["associated"] == ["thumbnail"]
    assert found["boxes_0.dcm"]["format"] == "DICOM"
