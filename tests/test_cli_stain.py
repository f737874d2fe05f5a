"""`chromogen stain` from the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.app.staining import plan_stains
from chromogen.image import read_image, read_provenance, write_image
from chromogen.provenance import NOTICE
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import Stainer
from synthetic import tissue_like
from synthetic_slides import SyntheticSource, coordinates, write_ome_zarr, write_pyramid
from test_cli import refused, run

# Real slides of all kinds are stained here, and what is no H&E is doubted.
pytestmark = pytest.mark.filterwarnings("always:.* (looks like|shows hardly|is black):UserWarning")

TISSUE = SyntheticSource((600, 400)).read(0, (0, 0), (600, 400))
KEYS = {
    "seconds",
    "model_load_s",
    "mpx_per_s",
    "tiles",
    "tissue_fraction",
    "mpp",
    "seam_score",
    "peak_rss_mb",
    "output",
}


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_pyramid(tmp_path / "slide.tif", TISSUE, (4,))


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    write_image(tmp_path / "tile.png", tissue_like(90, 120, seed=2))
    return tmp_path / "tile.png"


def test_a_slide_becomes_a_slide(capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.tif"
    status, said, err = run(capsys, "stain", slide, "-o", out)
    assert status == 0, err
    assert "600 x 400 px at 0.5 um/px" in said
    assert "skipped as glass" in said
    assert NOTICE.capitalize() in said
    status, said, _ = run(capsys, "stain", slide, "-o", out)
    assert status == 0
    assert "is there already" in said
    facts = read_facts(out)
    assert facts is not None
    assert facts.stainer == "epithelial"
    assert facts.notice == NOTICE


def test_json_has_everything(capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path) -> None:
    options = ("--stainer", "identity", "--no-tissue-mask", "--compression", "deflate", "--anonymous", "--json")
    status, said, err = run(capsys, "stain", slide, "-o", tmp_path / "out.ome.tif", *options)
    assert status == 0, err
    facts = json.loads(said)
    assert facts.keys() >= KEYS
    with open_slide(tmp_path / "out.ome.tif") as made:
        np.testing.assert_array_equal(made.read_region((0, 0), made.size), TISSUE)


def test_a_region(capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.ome.zarr"
    given = ("--stainer", "identity", "--region", "100,50,200,100", "--no-tissue-mask")
    assert run(capsys, "stain", slide, "-o", out, *given)[0] == 0
    with open_slide(out) as made:
        np.testing.assert_array_equal(made.read_region((0, 0), made.size), TISSUE[50:150, 100:300])


def test_a_tile_becomes_an_image_with_provenance(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    status, said, err = run(capsys, "stain", tile, "-o", tmp_path / "out.png", "--stainer", "normalize", "--json")
    assert status == 0
    assert "Chromogen took 0.5 um/px" in err
    assert json.loads(said).keys() >= KEYS
    np.testing.assert_array_equal(
        read_image(tmp_path / "out.png"), Stainer.from_pretrained("normalize")(read_image(tile))
    )
    provenance = read_provenance(tmp_path / "out.png") or {}
    assert provenance["notice"] == NOTICE
    assert provenance["stainer"] == "normalize"
    assert "tile.png" not in str(provenance)


def test_a_tile_of_known_mpp_is_brought_to_the_stainers(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    status, _, err = run(capsys, "stain", tile, "-o", tmp_path / "out.png", "--mpp", "0.25")
    assert (status, err) == (0, "")
    assert read_image(tmp_path / "out.png").shape == (45, 60, 3)


def test_a_folder_of_all_kinds(
    capsys: pytest.CaptureFixture[str], slide: Path, tile: Path, tmp_path: Path
) -> None:
    """Those that can be read are done; those that cannot are listed."""
    (tmp_path / "broken.svs").write_text("not a slide")
    write_ome_zarr(tmp_path / "other.zarr", coordinates(300, 200))
    write_image(tmp_path / "small.tif", tissue_like(50, 60, seed=1))
    out = tmp_path / "out"
    status, said, err = run(capsys, "stain", tmp_path, "-o", out, "--stainer", "identity", "--json")
    assert status == 1
    facts = json.loads(said)
    assert list(facts["errors"]) == [str(tmp_path / "broken.svs")]
    assert "broken.svs" in err
    assert {Path(result["output"]).name for result in facts["results"]} == {
        "other.ome.tif",
        "slide.ome.tif",
        "small.png",
        "tile.png",
    }
    assert {path.name for path in out.iterdir()} == {"other.ome.tif", "slide.ome.tif", "small.png", "tile.png"}
    assert slide.exists()
    assert tile.exists()


def test_a_slide_without_mpp_needs_the_option(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    slide = write_pyramid(tmp_path / "slide.tif", TISSUE, (4,), mpp=None)
    assert "--mpp" in refused(capsys, "stain", slide, "-o", tmp_path / "out.ome.tif")
    assert not (tmp_path / "out.ome.tif.chromogen").exists()
    assert (
        run(capsys, "stain", slide, "-o", tmp_path / "out.ome.tif", "--mpp", "1", "--stainer", "identity")[0] == 0
    )
    facts = read_facts(tmp_path / "out.ome.tif")
    assert facts is not None
    assert (facts.source_mpp, facts.mpp) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stainer", "normalise"), "did you mean normalize"),
        (("--region", "1,2,3"), "X,Y,W,H"),
        (("--region", "0,0,601,10"), "inside the slide's 600 x 400 px"),
        (("--compression", "jpg"), "did you mean jpeg"),
        (("--mpp", "0"), "mpp"),
        (("--mpp", "-1"), "mpp"),
        (("--workers", "2", "--scheduler", "x"), "left out"),
        (("--workers", "0"), "workers"),
    ],
)
def test_wrong_requests(
    capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, "stain", slide, "-o", tmp_path / "out.ome.tif", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["slide.tif"]


def test_wrong_files(capsys: pytest.CaptureFixture[str], slide: Path, tile: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "check the spelling" in refused(capsys, "stain", tmp_path / "no.svs", "-o", tmp_path / "out.ome.tif")
    assert "name a file" in refused(capsys, "stain", empty, "-o", tmp_path / "out")
    assert "ending in" in refused(capsys, "stain", slide, "-o", tmp_path / "out.svs")
    assert "another file" in refused(capsys, "stain", tile, "-o", tile)
    assert "folder" in refused(capsys, "stain", slide, "-o", tmp_path / "no" / "out.ome.tif")
    assert "one slide" in refused(capsys, "stain", tile, "-o", tmp_path / "o.png", "--region", "0,0,1,1")


def test_outputs_are_named_in_one_form(slide: Path, tile: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("Dr\u0075\u0308se.1.tif", "A.OME.TIF"):
        shutil.copy(slide, folder / name)
    shutil.copy(tile, folder / "tile.1.PNG")
    outs = {task.out.name for task in plan_stains([folder], tmp_path / "out")}
    assert outs == {"Drüse.1.ome.tif", "A.ome.tif", "tile.1.png"}
    shutil.copy(slide, folder / "Drüse.1.tiff")
    with pytest.raises(ValueError, match="which both become Drüse.1.ome.tif"):
        plan_stains([folder], tmp_path / "out")


def test_two_inputs_of_one_name_are_refused(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = write_pyramid(tmp_path / "b" / "slide.tif", TISSUE, (4,))
    with pytest.raises(ValueError, match=r"slide\.tif and .*b.slide\.tif, which both become slide\.ome\.tif"):
        plan_stains([slide, other], tmp_path / "out")


def test_an_unfinished_job_with_other_settings(
    capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.ome.tif"
    with monkeypatch.context() as full:
        full.setattr(
            "chromogen.slides.writer._write_tiff", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        status, _, err = run(capsys, "stain", slide, "-o", out)
    assert status == 1
    assert "No space left" in err
    assert "--restart" in refused(capsys, "stain", slide, "-o", out, "--stainer", "identity")
    assert run(capsys, "stain", slide, "-o", out, "--stainer", "identity", "--restart")[0] == 0


@pytest.mark.slow
def test_workers_give_the_same(capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    for name, options in (("here", ()), ("there", ("--workers", "2"))):
        out = tmp_path / f"{name}.ome.tif"
        status, _, err = run(capsys, "stain", slide, "-o", out, "--anonymous", *options)
        assert status == 0, err
    assert (tmp_path / "here.ome.tif").read_bytes() == (tmp_path / "there.ome.tif").read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:crc_ihc_pyramid.tif has 8 um/px")
def test_real_slides(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    trap = data / "slides" / "crc_ihc_pyramid.tif"
    assert "--mpp" in refused(capsys, "stain", trap, "-o", tmp_path / "trap.ome.tif")
    for name, options in (
        ("crc_ihc_pyramid.tif", ("--mpp", "8")),
        ("boxes.tiff", ("--mpp", "0.5")),
        ("boxes_0.dcm", ("--mpp", "0.5")),
        ("small.svs", ("--mpp", "0.5")),
    ):
        out = tmp_path / f"{name}.ome.tif"
        region = ("--region", "1000,2000,100,150") if name.startswith("crc") else ()
        status, _, err = run(capsys, "stain", data / "slides" / name, "-o", out, *options, *region)
        assert status == 0, err
        assert read_facts(out) is not None


def test_a_folder_of_dicom_files(data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two slides of two files each become two slides."""
    (tmp_path / "in").mkdir()
    for number in (0, 1):
        content = (data / "slides" / f"boxes_{number}.dcm").read_bytes()
        for slide, series in (("a", b"9825649.4.0"), ("b", b"9825649.4.9")):
            (tmp_path / "in" / f"{slide}{number}.dcm").write_bytes(content.replace(b"9825649.4.0", series))
    status, _, err = run(capsys, "stain", tmp_path / "in", "-o", tmp_path / "out", "--mpp", "0.5")
    assert status == 0, err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a0.ome.tif", "b0.ome.tif"]


def test_blocks_are_noted_for_others(capsys: pytest.CaptureFixture[str], slide: Path, tile: Path) -> None:
    trace = slide.with_name("trace.jsonl")
    trace.write_text("of an earlier run\n")
    status, _, err = run(capsys, "stain", slide, "-o", slide.with_name("out.ome.tif"), "--trace", trace)
    assert status == 0, err
    (noted,) = map(json.loads, trace.read_text().splitlines())
    assert (noted["file"], noted["done"], noted["of"]) == ("slide.tif", 1, 1)
    assert noted["seconds"] > 0
    refused(capsys, "stain", slide, "-o", slide.with_name("out.ome.tif"), "--trace", slide)
    assert slide.stat().st_size > 1000, "the slide is no place for a trace"


BROWN = np.ascontiguousarray(immunohistochemistry()[:200, :300])
DOUBTED = {
    "brown": (BROWN, "looks like an IHC"),
    "black": (np.zeros_like(BROWN), "looks like fluorescence"),
    "glass": (np.full_like(BROWN, 240), "shows hardly any tissue"),
    "grey": (np.repeat(BROWN[..., 1:2], 3, 2), "is black and white"),
}


@pytest.mark.parametrize("name", DOUBTED)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_is_no_he_is_doubted_and_stained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, suffix: str
) -> None:
    """One line that names the file; a tile and a slide alike."""
    image, words = DOUBTED[name]
    file = tmp_path / f"{name}{suffix}"
    if suffix == ".tif":
        write_pyramid(file, image, (2,))
    else:
        write_image(file, image)
    status, said, err = run(
        capsys,
        "stain",
        file,
        "-o",
        tmp_path / f"out{suffix if suffix == '.png' else '.ome.tif'}",
        "--stainer",
        "color-transfer",
        "--json",
    )
    assert status == 0, err
    assert [line for line in err.splitlines() if words in line] == [
        line for line in err.splitlines() if name in line
    ]
    assert f"{name}{suffix} {words}" in err
    assert words in json.loads(said)["doubt"]


def test_an_he_is_not_doubted_nor_what_is_only_copied(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "brown.png", BROWN)
    for file, stainer in ((tile, "color-transfer"), (tmp_path / "brown.png", "identity")):
        _, said, err = run(
            capsys, "stain", file, "-o", tmp_path / f"{stainer}.png", "--stainer", stainer, "--json"
        )
        assert "looks like" not in err
    assert json.loads(said)["doubt"]
