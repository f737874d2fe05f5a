"""`chromogen nuclei` from the command line."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from scipy.ndimage import gaussian_filter
from shapely.geometry import shape
from skimage.data import immunohistochemistry

from chromogen.formats.ome_metadata import ome_facts
from chromogen.image import Image, read_image_and_facts, read_provenance, write_image
from chromogen.nuclei import find
from chromogen.nuclei.outlines import Prediction, prediction_of
from chromogen.regions.geojson import read_features
from chromogen.stains.deconvolution import H_DAB, combine_stains, separate_stains_od10, stain_matrix
from chromogen.stains.tissue import tissue_mask
from chromogen.whole_slide import nuclei_files
from chromogen.whole_slide.nuclei_files import COLUMNS
from synthetic_slides import write_svs
from test_cli import refused, run

IHC: Image = np.asarray(immunohistochemistry())[:200, 100:340]
Capture = pytest.CaptureFixture[str]


def discs(dab: list[float], eosin: float = 0.0, side_px: int = 40) -> Image:
    """Nuclei of 8 um side by side at 0.5 um/px, with so much DAB each and some chromatin, on glass."""
    y, x = np.mgrid[:side_px, : side_px * len(dab)]
    parts = np.zeros((*x.shape, 3))
    for index, amount in enumerate(dab):
        inside = (x - (index + 0.5) * side_px) ** 2 + (y - side_px / 2) ** 2 < 64
        parts[inside] = (0.9 * (amount == 0) + 0.2, amount, 0)
    chromatin = gaussian_filter(np.random.default_rng(1).normal(size=x.shape), 1.2)
    parts *= (1 + 0.35 * chromatin / chromatin.std()).clip(0.2)[..., None]
    noise = np.random.default_rng(0).normal(0, 0.02, parts.shape)
    return combine_stains((parts + noise).clip(0), H_DAB)


# 40 nuclei: half of them blue, the others of three strengths of brown.
KI67 = np.concatenate([discs([0.0, 0.6, 0.0, 1.2, 0.0, 2.0, 0.0, 1.2])] * 5)


@pytest.fixture
def ihc(tmp_path: Path) -> Path:
    write_image(tmp_path / "ihc.png", KI67, mpp=0.5)
    return tmp_path / "ihc.png"


def table_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_an_ihc_becomes_tables_outlines_and_pictures(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said, err = run(capsys, "nuclei", ihc, "-o", out)
    assert status == 0, err
    assert f"Open {out / 'index.html'} in a browser." in said
    assert re.search(r"^ihc.png: 40 nuclei, [\d,]+ per mm2 of tissue; 50\.0 % \([\d.]+ to [\d.]+\) positive", said)
    parquet = {"ihc.parquet"} if nuclei_files.has_parquet() else set()
    own = {"ihc.geojson", "ihc.csv", "ihc_labels.tif", "ihc_nuclei.jpg"}
    assert {file.name for file in out.iterdir()} == own | parquet | {"nuclei.json", "nuclei.csv", "index.html"}
    rows = table_of(out / "ihc.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == 40
    assert {row["positive"] for row in rows} == {"true", "false"}
    assert {row["grade"] for row in rows} <= {"0", "1", "2", "3"}
    for row in rows:
        assert (float(row["dab_od10"]) > float(row["threshold_od10"])) == (row["positive"] == "true")
        assert 0 <= float(row["x_um"]) <= 160
        assert 0 <= float(row["y_um"]) <= 100


def test_all_files_hold_the_same_nuclei(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    """Ids join table and GeoJSON, labels join table and label image."""
    said = run(capsys, "nuclei", ihc, "-o", tmp_path, "--json")[1]
    (found,) = json.loads(said)["results"]
    rows = table_of(tmp_path / "ihc.csv")
    features = json.loads((tmp_path / "ihc.geojson").read_text())["features"]
    assert [UUID(feature["id"]) for feature in features] == [UUID(row["id"]) for row in rows]
    assert len({row["id"] for row in rows}) == len(rows) == found["nuclei"]
    assert sum(row["positive"] == "true" for row in rows) == found["positive"]
    assert found["positive_percent"] == pytest.approx(100 * found["positive"] / found["nuclei"])
    with tifffile.TiffFile(tmp_path / "ihc_labels.tif") as file:
        labels, facts = file.asarray(), ome_facts(str(file.ome_metadata))
    assert facts
    assert facts.images[0].mpp == (0.5, 0.5)
    assert labels.shape == KI67.shape[:2]
    assert labels.max() <= len(rows)
    for row in rows[:: len(rows) // 10]:
        x, y = (int(float(row[name]) / 0.5) for name in ("x_um", "y_um"))
        assert labels[y, x] == int(row["label"])
    for row, feature in zip(rows, features, strict=True):
        polygon = shape(feature["geometry"])
        assert polygon.area * 0.25 == pytest.approx(float(row["area_um2"]), rel=0.05, abs=0.5)


def test_geojson_is_read_by_our_own_reader(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    run(capsys, "nuclei", ihc, "-o", tmp_path)
    drawn, left_out = read_features((tmp_path / "ihc.geojson").read_bytes())
    assert left_out == 0
    assert {feature.path_class for feature in drawn} == {"Positive", "Negative"}
    assert len(drawn) == len(table_of(tmp_path / "ihc.csv"))


def test_parquet_has_the_same_columns(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run(capsys, "nuclei", ihc, "-o", tmp_path)[0] == 0
    rows = parquet.read_table(tmp_path / "ihc.parquet").to_pylist()
    as_text = [{name: nuclei_files.csv_cell(value) for name, value in row.items()} for row in rows]
    assert [{name: str(value) for name, value in row.items()} for row in as_text] == table_of(tmp_path / "ihc.csv")


def test_without_pyarrow_there_is_a_note_and_no_failure(
    capsys: Capture, ihc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nuclei_files, "find_spec", lambda _: None)
    status, _, err = run(capsys, "nuclei", ihc, "-o", tmp_path / "out")
    assert status == 0
    assert err.endswith(f"Note: {nuclei_files.NO_PARQUET}.\n")
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_a_threshold_of_your_own(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    counts = []
    for threshold in (0.15, 0.4, 0.7):
        said = run(capsys, "nuclei", ihc, "-o", tmp_path, "--threshold", threshold, "--json")[1]
        (found,) = json.loads(said)["results"]
        assert (found["threshold_od10"], found["threshold_from"]) == (threshold, "fixed")
        counts.append(found["positive"])
    assert counts == [20, 15, 5]


def test_an_he_has_no_positive_nuclei_and_says_so(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    status, said, err = run(capsys, "nuclei", ihc, "-o", tmp_path, "--stains", "h-e", "--json")
    assert status == 0
    assert "an H&E has no DAB, so no nucleus is positive or negative" in err
    (found,) = json.loads(said)["results"]
    assert [found[name] for name in ("positive", "positive_percent", "threshold_od10", "scores")] == [None] * 4
    rows = table_of(tmp_path / "ihc.csv")
    assert {(row["positive"], row["dab_od10"], row["threshold_od10"]) for row in rows} == {("", "", "")}
    features = json.loads((tmp_path / "ihc.geojson").read_text())["features"]
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"Nucleus"}
    assert all("Nucleus: DAB OD mean" not in feature["properties"]["measurements"] for feature in features)


def test_grades_of_your_own_make_the_scores(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    """The H-score and the share of pixels, from the table and from the picture."""
    said = run(capsys, "nuclei", ihc, "-o", tmp_path, "--grades", "0.15,0.4,0.7", "--json")[1]
    (found,) = json.loads(said)["results"]
    rows = table_of(tmp_path / "ihc.csv")
    dab, grades = (np.array([float(row[name]) for row in rows]) for name in ("dab_od10", "grade"))
    np.testing.assert_array_equal(grades, (dab[:, None] > (0.15, 0.4, 0.7)).sum(axis=1))
    assert set(grades) == {0, 1, 2, 3}
    assert found["scores"]["grades"] == [int((grades == grade).sum()) for grade in range(4)]
    assert found["scores"]["h_score"]["value"] == pytest.approx(100 * grades.mean())
    assert found["scores"]["positive_percent"]["value"] == found["positive_percent"]
    second = separate_stains_od10(KI67, stain_matrix(*found["vectors"]), found["white"])[..., 1]
    by_pixel = 100 * (second[tissue_mask(KI67, 0.5)] > 0.15).mean()
    assert found["scores"]["pixel_percent"]["value"] == pytest.approx(by_pixel, abs=0.5)


def test_the_picture_shows_outlines_and_says_how_it_was_made(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    run(capsys, "nuclei", ihc, "-o", tmp_path)
    image, facts = read_image_and_facts(tmp_path / "ihc_nuclei.jpg")
    assert image.shape == KI67.shape
    assert facts.mpp == pytest.approx((0.5, 0.5), rel=1e-3)
    changed = (abs(image.astype(int) - KI67) > 40).any(axis=2).mean()
    assert 0.03 < changed < 0.4
    known = read_provenance(tmp_path / "ihc_nuclei.jpg")
    assert known
    assert known["settings"]["network"]["name"] == "built-in"
    assert "not for diagnosis" in known["notice"]


BLANK = np.full((40, 60, 3), 255, np.uint8)


@pytest.mark.parametrize(
    ("image", "nuclei", "note"),
    [
        (BLANK, 0, "it shows no nuclei"),
        (BLANK[:1, :1], 0, "it shows no nuclei"),
        (discs([0.0]), 1, None),
        (discs([1.5] * 6), 6, None),
        (discs([0.0] * 6), 6, None),
    ],
    ids=["blank", "1 px", "one nucleus", "only brown", "only blue"],
)
def test_pictures_with_little_in_them(
    image: Image, nuclei: int, note: str | None, capsys: Capture, tmp_path: Path
) -> None:
    write_image(tmp_path / "a.png", image, mpp=0.5)
    status, said, err = run(
        capsys, "nuclei", tmp_path / "a.png", "-o", tmp_path / "out", "--json", "--stains", "h-dab"
    )
    assert status == 0, err
    assert "Traceback" not in err
    (found,) = json.loads(said)["results"]
    assert found["nuclei"] == nuclei == len(table_of(tmp_path / "out/a.csv"))
    assert len(json.loads((tmp_path / "out/a.geojson").read_text())["features"]) == nuclei
    assert note is None or f"Note: a.png: {note}." in err


@pytest.mark.parametrize(("mpp", "said"), [(0.25, "small"), (0.5, None), (1.0, "large")])
def test_a_wrong_pixel_size_shows_in_nuclei(
    mpp: float, said: str | None, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By discs of 8 um, which a stand-in for the network sees at every size."""

    def discs_seen(densities: NDArray[np.float32]) -> Prediction:
        labels, count = ndimage.label(densities[0, :, ::2, ::2].mean(axis=0) > 0.15)
        made = np.full((1, 33, *labels.shape), np.sqrt((labels > 0).sum() * 4 / max(count, 1) / np.pi), np.float32)
        made[0, 0] = -9
        for row, column in ndimage.center_of_mass(labels > 0, labels, range(1, count + 1)):
            made[0, 0, round(row), round(column)] = 9
        return prediction_of(made)

    monkeypatch.setattr(find, "built_in", lambda: discs_seen)
    write_image(tmp_path / "a.png", np.concatenate([discs([0.0, 1.0] * 8)] * 2))
    err = run(capsys, "nuclei", tmp_path / "a.png", "-o", tmp_path, "--mpp", mpp)[2]
    assert ("its nuclei are" in err) == (said is not None)
    assert said is None or f"a.png: its nuclei are {said} (median" in err
    assert said is None or f"at {mpp:g} um/px; check --mpp." in err


def test_without_a_pixel_size_it_is_assumed_and_said(capsys: Capture, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", IHC)
    err = run(capsys, "nuclei", tmp_path / "a.png", "-o", tmp_path / "out")[2]
    assert "Note: 1 image states no pixel size; Chromogen took 0.5 um/px (set it with --mpp)." in err
    assert read_image_and_facts(tmp_path / "out/a_nuclei.jpg")[1].mpp is None
    assert "not known, taken as 0.5" in (tmp_path / "out/nuclei.csv").read_text()


def test_a_folder_with_a_bad_file(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in/a.png", discs([0.0, 1.0]), mpp=0.5)
    write_svs(tmp_path / "in/b.svs", IHC)
    (tmp_path / "in/c.png").write_bytes(b"not an image")
    status, said, err = run(capsys, "nuclei", tmp_path / "in", "-o", tmp_path / "out")
    assert status == 1
    assert "c.png" in err
    assert [line.split(":")[0] for line in said.splitlines()[:2]] == ["a.png", "b.svs"]
    rows = table_of(tmp_path / "out/nuclei.csv")
    assert [(row["image"], row["mpp"]) for row in rows] == [("a.png", "0.5"), ("b.svs", "0.499")]
    assert set(json.loads((tmp_path / "out/nuclei.json").read_text())["errors"]) == {str(tmp_path / "in/c.png")}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--grades", "0.4,0.2,0.6"], "one density above 0, or three that rise, got (0.4, 0.2, 0.6)"),
        (["--grades", "0.4,0.6"], "one density above 0, or three that rise, got (0.4, 0.6)"),
        (["--grades", "nan,0.4,0.6"], "densities above 0 and below 5, got nan,0.4,0.6"),
        (["--grades", "0.2,0.4,inf"], "densities above 0 and below 5, got 0.2,0.4,inf"),
        (["--threshold", "-1"], "densities above 0 and below 5, got -1"),
        (["--threshold", "nan"], "densities above 0 and below 5, got nan"),
        (["--threshold", "0.2", "--grades", "0.2,0.4,0.6"], "to be left out beside grades"),
        (["--stains", "dab"], "did you mean h-dab?"),
        (["--mpp", "3"], "Expected `mpp` to be at most 2 um/px, where nuclei show, got 3"),
        (["--network", "no.onnx"], "Expected `network` to be an existing file"),
    ],
)
def test_wrong_options(given: list[str], said: str, capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    assert said in refused(capsys, "nuclei", ihc, "-o", tmp_path / "out", *given)


@pytest.mark.parametrize("names", [["nuclei.png"], ["a.png", "a_nuclei.jpg"], ["a.png", "a_labels.tif"]])
def test_no_output_takes_the_place_of_another_file(names: list[str], capsys: Capture, tmp_path: Path) -> None:
    """Of the overall table, or of an input: a folder that has outputs of the same command among its images."""
    files = [tmp_path / name for name in names]
    for file in files:
        write_image(file, IHC, mpp=0.5)
    before = [file.read_bytes() for file in files]
    said = refused(capsys, "nuclei", *files, "-o", tmp_path)
    assert "another file than the inputs and the other outputs" in said
    assert [file.read_bytes() for file in files] == before
    assert len(list(tmp_path.iterdir())) == len(files)


def test_the_same_command_twice_writes_the_same_bytes(capsys: Capture, ihc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("ihc.geojson", "ihc.csv", "ihc_labels.tif")
    run(capsys, "nuclei", ihc, "-o", out)
    before = {name: (out / name).read_bytes() for name in names[:2]}
    (out / "ihc.csv").write_text("old")
    run(capsys, "nuclei", ihc, "-o", out)
    assert {name: (out / name).read_bytes() for name in names[:2]} == before
