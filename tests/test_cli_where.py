"""`chromogen stain --where`: sources of *where* from the command line, and what the outputs say of them."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from chromogen.app.staining import WhereOption, levels_by_class
from chromogen.image import read_image, read_provenance, write_image
from chromogen.slides.facts import read_facts
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from synthetic import tissue_like
from synthetic_slides import write_pyramid
from test_cli import refused, run
from test_where import box, file_of, geojson, paired_of

pytestmark = pytest.mark.filterwarnings("always:.* (looks like|shows hardly|is black|pixel):UserWarning")


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    write_image(tmp_path / "tile.png", tissue_like(160, 200, seed=2), mpp=0.5)
    return tmp_path / "tile.png"


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    return geojson(tmp_path / "r.geojson", box("Tumor", 0, 0, 100, 160), box("Stroma", 100, 0, 200, 160))


def test_regions_and_what_the_output_says(
    capsys: pytest.CaptureFixture[str], tile: Path, regions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    options = ("--where", regions, "--level", "Tumor=0.9", "--level", "Stroma=0", "-o", out, "--json")
    status, said, err = run(capsys, "stain", tile, *options)
    assert status == 0, err
    wanted = {"Stroma": 0.0, "Tumor": 0.9, "elsewhere": 0.0}
    assert json.loads(said)["where"]["levels"] == wanted
    record = read_provenance(out)
    assert record
    assert record["where"]["levels"] == wanted
    assert record["where"]["sha256"] in record["stainer_hash"]
    assert "r.geojson" not in json.dumps(record)
    brown = separate_stains_od10(read_image(out), H_DAB)[..., 1]
    assert brown[20:140, 10:80].mean() > brown[20:140, 120:190].mean() + 0.1
    status, said, _ = run(capsys, "info", out)
    assert status == 0
    assert "where      regions: as a person drew it" in said
    assert "virtual stain, research use only" in said
    shown = json.loads(run(capsys, "info", out, "--json")[1])["results"][0]["virtual"]
    assert shown["where"] == record["where"]
    assert json.loads(run(capsys, "info", tile, "--json")[1])["results"][0]["virtual"] is None


def test_a_slide_knows_its_source_and_is_made_anew_for_another(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Regions are in level-0 pixels of a slide at half the stainer's pixel size."""
    picture = np.full((320, 480, 3), 243, np.uint8)
    picture[:, :400] = np.repeat(np.repeat(tissue_like(160, 200, seed=3), 2, 0), 2, 1)
    slide = write_pyramid(tmp_path / "slide.tif", picture, (2,))
    drawn = geojson(tmp_path / "r.geojson", box("Tumor", 0, 0, 200, 320))
    out = tmp_path / "out.ome.tif"

    def stained(level: str) -> dict[str, object]:
        options = ("--mpp", "0.25", "--where", drawn, "--level", f"Tumor={level}", "--json")
        status, said, err = run(capsys, "stain", slide, "-o", out, *options)
        assert status == 0, err
        result: dict[str, object] = json.loads(said)
        return result

    assert "already_done" not in stained("1")
    facts = read_facts(out)
    assert facts
    assert facts.where
    assert (facts.where["source"], facts.where["levels"]) == ("regions", {"Tumor": 1.0, "elsewhere": 0.0})
    assert stained("1")["already_done"] is True
    assert "already_done" not in stained("0.5")
    brown = separate_stains_od10(np.asarray(PIL.Image.open(out)), H_DAB)[..., 1]
    assert brown[20:140, 10:80].mean() > brown[20:140, 120:190].mean() + 0.03


def test_a_model_of_pairs_and_its_figures(capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path) -> None:
    model = file_of(paired_of(tmp_path))
    out = tmp_path / "out.png"
    status, _, err = run(capsys, "stain", tile, "--stainer", "nuclear", "--where", model, "-o", out)
    assert status == 0, err
    record = read_provenance(out)
    assert record
    assert record["where"]["validation"] == {"dab_r_4um": 0.4}
    assert record["where"]["claim"].startswith("where the marker lies")


def test_tissue_is_the_default_and_is_said(capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path) -> None:
    made = []
    for options in ((), ("--where", "tissue")):
        assert run(capsys, "stain", tile, *options, "-o", tmp_path / "out.png")[0] == 0
        made.append(read_image(tmp_path / "out.png"))
    assert np.array_equal(*made)
    record = read_provenance(tmp_path / "out.png")
    assert record
    assert record["where"]["source"] == "tissue"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--where", "tisue"), "one of tissue, style, got 'tisue'; did you mean tissue"),
        (("--where", "a.bmp3"), "tissue, style or a file ending in .geojson"),
        (("--where", "none.geojson"), "`where` to be an existing file"),
        (("--where", "{regions}", "--level", "Tumor"), "`level` to be CLASS=VALUE"),
        (("--where", "{regions}", "--level", "Tumor=1"), "got Tumor; add --level Stroma=VALUE"),
        (("--where", "{regions}", "--level", "Tumor=1", "--level", "Tumor=0"), "given once for each class"),
        (("--level", "Tumor=1"), "given with regions, in GeoJSON or a label image, got tissue"),
        (("--where", "{regions}", "--stainer", "nuclear", "--share", "0.2"), "the map of `where`, regions, gives"),
        (("--where", "style", "--stainer", "nuclear"), "as nuclear comes without its picture"),
        (("--where", "{regions}", "--stainer", "normalize"), "`where` to be given with a look"),
    ],
)
def test_what_does_not_go_together(
    capsys: pytest.CaptureFixture[str],
    tile: Path,
    regions: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    said: str,
) -> None:
    given = [option.format(regions=regions) for option in options]
    assert said in refused(capsys, "stain", tile, *given, "-o", tmp_path / "out.png")


def test_style_is_for_tiles_and_a_file_for_its_slide(
    capsys: pytest.CaptureFixture[str], tile: Path, regions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.ome.tif"
    said = refused(capsys, "stain", tile, "--where", "style", "-o", out)
    assert "another source than style, which optimizes tiles alone" in said
    write_image(tmp_path / "other.png", tissue_like(160, 200, seed=4), mpp=0.5)
    both = (tile, tmp_path / "other.png", "--where", regions, "-o", tmp_path / "out")
    assert "of the slide that is stained, got one file for 2 inputs" in refused(capsys, "stain", *both)


def test_levels_and_options() -> None:
    assert levels_by_class(["a=b=0.5", "elsewhere=0"]) == {"a=b": 0.5, "elsewhere": 0.0}
    assert WhereOption("x.GeoJSON").of_one_slide
    assert not WhereOption("model.onnx").of_one_slide
