"""`chromogen unmix` from the command line."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.color import separate_stains
from skimage.data import immunohistochemistry
from skimage.segmentation import expand_labels

from chromogen.app.unmix import parse_vectors, unmix_file
from chromogen.image import read_image, read_provenance, write_image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.outlines import labels_of
from chromogen.stains import deconvolution as ours
from chromogen.stains.deconvolution import H_DAB, VECTORS, combine_stains
from synthetic import tissue_like
from test_cli import refused, run

IHC = np.asarray(immunohistochemistry())[:128, 300:460]


@pytest.fixture
def ihc(tmp_path: Path) -> Path:
    write_image(tmp_path / "ihc.png", IHC)
    return tmp_path / "ihc.png"


def test_an_ihc_comes_apart(capsys: pytest.CaptureFixture[str], ihc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said, err = run(capsys, "unmix", ihc, "-o", out)
    assert status == 0, err
    assert "DAB above 0.2 in" in said
    assert f"Open {out / 'index.html'} in a browser." in said
    names = {"ihc_first.png", "ihc_second.png", "ihc_residual.png", "ihc_od10.tif"}
    assert {file.name for file in out.iterdir()} == names | {"unmix.csv", "unmix.json", "index.html"}
    brown = read_image(out / "ihc_second.png").reshape(-1, 3)
    assert (brown[:, 2] <= brown[:, 0]).mean() > 0.99, "DAB on its own is brown"
    assert read_provenance(out / "ihc_second.png")["vectors"][1] == pytest.approx(H_DAB[1], abs=1e-5)


def test_the_map_is_scikit_images(capsys: pytest.CaptureFixture[str], ihc: Path, tmp_path: Path) -> None:
    """By its own matrix, in its unit: densities over ln(1e6), clipped at 0."""
    assert run(capsys, "unmix", ihc, "-o", tmp_path / "out", "--stains", "h-dab-ruifrok")[0] == 0
    with tifffile.TiffFile(tmp_path / "out/ihc_od10.tif") as file:
        assert file.series[0].axes == "CYX"
        planes = file.asarray()
    theirs = separate_stains((IHC + 1.0) / 256, np.linalg.inv(VECTORS["h-dab-ruifrok"])) * -np.log10(1e-6)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(np.moveaxis(planes, 0, 2).clip(0), theirs, atol=1e-5)


def test_percent_positive_is_counted_over_tissue(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    parts = np.full((100, 200, 3), [0.4, 0.0, 0.0])
    parts[:, 100:150, 1] = np.log(10) * 0.5
    parts[:, 150:] = 0
    write_image(tmp_path / "a.png", combine_stains(parts))
    status, said, _ = run(capsys, "unmix", tmp_path / "a.png", "-o", tmp_path / "out", "--json")
    assert status == 0
    (found,) = json.loads(said)["results"]
    assert found["tissue_percent"] == pytest.approx(75, abs=2)
    assert found["positive_percent"]["0.2"] == pytest.approx(100 / 3, abs=2)
    assert found["positive_percent"]["0.6"] == 0


def test_a_folder_with_a_bad_file_a_blank_and_own_vectors(
    capsys: pytest.CaptureFixture[str], ihc: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    write_image(folder / "blank.png", np.full((64, 64, 3), 255, np.uint8))
    write_image(folder / "ihc.png", IHC)
    (folder / "broken.png").write_bytes(b"not an image")
    command = [
        "unmix",
        folder,
        "-o",
        tmp_path / "out",
        "--estimate",
        "--white",
        "auto",
        "--thresholds",
        "0.15,0.3",
    ]
    status, said, err = run(capsys, *command)
    assert status == 1
    assert "broken.png" in err
    assert "blank.png: no tissue" in said
    assert "fewer than 100 stained pixels" in said
    rows = list(csv.DictReader((tmp_path / "out/unmix.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["blank.png", "ihc.png"]
    assert rows[0]["mean_od10_second"] == "no tissue"
    assert float(rows[1]["positive_percent_0.15"]) > float(rows[1]["positive_percent_0.3"]) > 0
    assert "nan" not in (tmp_path / "out/unmix.json").read_text().lower()


def test_wrong_requests(capsys: pytest.CaptureFixture[str], ihc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "did you mean h-e" in refused(capsys, "unmix", ihc, "-o", out, "--stains", "he")
    assert "r,g,b;r,g,b" in refused(capsys, "unmix", ihc, "-o", out, "--stains", "1,2,3;4")
    assert "r,g,b;r,g,b" in refused(capsys, "unmix", ihc, "-o", out, "--stains", "0,0,0;1,2,3")
    assert "another colour" in refused(capsys, "unmix", ihc, "-o", out, "--stains", "1,2,3;1,2,3")
    assert "255, auto" in refused(capsys, "unmix", ihc, "-o", out, "--white", "250")
    assert "numbers with commas" in refused(capsys, "unmix", ihc, "-o", out, "--thresholds", "x")
    assert "existing image" in refused(capsys, "unmix", tmp_path / "none.png", "-o", out)
    assert not out.exists()


def test_vectors_by_name_and_by_number() -> None:
    assert (parse_vectors("h-dab") == H_DAB).all()
    assert parse_vectors("1,0,0;0,2,0")[1].tolist() == [0, 1, 0]


def test_another_stain_than_the_vectors_is_doubted(ihc: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", tissue_like(128, 160, seed=1))
    for file, own, other in ((ihc, "h-dab", "h-e"), (tmp_path / "he.png", "h-e", "h-dab")):
        given = {"estimate": False, "find_white": False, "mpp": 0.5}
        unmix_file(file, tmp_path, VECTORS[own], [0.2], **given)
        with pytest.warns(UserWarning, match=f"{file.name} looks like .*; give --stains {own}"):
            unmix_file(file, tmp_path, VECTORS[other], [0.2], **given)


def unmixed(capsys: pytest.CaptureFixture[str], *given: object) -> dict[str, Any]:
    status, said, err = run(capsys, "unmix", *given, "--json")
    assert status == 0, err
    (found,) = json.loads(said)["results"]
    return dict(found)


def test_nuclei_are_counted_as_find_nuclei_counts_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = np.asarray(immunohistochemistry())[:256, :256]
    write_image(tmp_path / "a.png", image, mpp=0.5)
    found = unmixed(capsys, tmp_path / "a.png", "-o", tmp_path / "out")
    nuclei = nuclei_of_image(image, 0.5)
    assert found["nuclei"] == len(nuclei) > 20
    mm2 = found["tissue_percent"] / 100 * 0.128**2
    assert found["nuclei_per_mm2"] == pytest.approx(len(nuclei) / mm2)
    labels, dab = labels_of(nuclei, image.shape[:2]), ours.separate_stains_od10(image, H_DAB)[..., 1]
    around = np.where(labels == 0, expand_labels(labels, 6), 0)  # 3 um
    means, rings = (ndimage.mean(dab, where, np.arange(len(nuclei)) + 1) for where in (labels, around))
    means = np.where(rings >= means, -1, means)  # brown cytoplasm makes no nucleus positive
    for level, share in found["positive_nuclei_percent"].items():
        assert share == pytest.approx(100 * (means > float(level)).mean())
    own = found["nuclei_threshold_od10"]
    assert found["own_positive_nuclei_percent"] == pytest.approx(100 * (means > own).mean())
    (row,) = csv.DictReader((tmp_path / "out/unmix.csv").read_text().splitlines())
    assert (int(row["nuclei"]), float(row["nuclei_threshold_od10"])) == (len(nuclei), own)
    assert "positive_nuclei_percent_0.2" in (tmp_path / "out/index.html").read_text()
    said = run(capsys, "unmix", tmp_path / "a.png", "-o", tmp_path / "out")[1]
    assert f"; {len(nuclei)} nuclei (" in said
    assert f"% positive (DAB above {own:.2f}, " in said


def test_an_he_has_nuclei_and_none_is_positive(ihc: Path, tmp_path: Path) -> None:
    given = {"estimate": False, "find_white": False, "mpp": None}
    with pytest.warns(UserWarning, match="looks like H-DAB"):
        found = unmix_file(ihc, tmp_path, VECTORS["h-e"], [0.2], **given)
    assert found["nuclei"] is not None
    assert found["nuclei"] > 10
    assert (
        found["positive_nuclei_percent"]
        is found["nuclei_threshold_od10"]
        is found["own_positive_nuclei_percent"]
        is None
    )
    assert found["nuclei_per_mm2"] is None, "the image states no pixel size"


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (64, 64)])
def test_glass_has_no_nuclei(capsys: pytest.CaptureFixture[str], size: tuple[int, int], tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((*size, 3), 245, np.uint8))
    found = unmixed(capsys, tmp_path / "a.png", "-o", tmp_path / "out")
    assert (found["nuclei"], found["nuclei_per_mm2"], found["own_positive_nuclei_percent"]) == (0, None, None)


def test_large_pixels_show_no_nuclei(capsys: pytest.CaptureFixture[str], ihc: Path, tmp_path: Path) -> None:
    status, said, _ = run(capsys, "unmix", ihc, "-o", tmp_path / "out", "--mpp", "2.5")
    assert status == 0
    assert "; pixels of 2.5 um are too large to show nuclei" in said
    (row,) = csv.DictReader((tmp_path / "out/unmix.csv").read_text().splitlines())
    assert (row["nuclei"], row["nuclei_doubt"]) == ("", "pixels of 2.5 um are too large to show nuclei")
