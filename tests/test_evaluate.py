import json
from pathlib import Path

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.evaluation.evaluate import Evaluation, _real_precision, evaluate_files
from chromogen.evaluation.feature_distances import patch_precision
from chromogen.evaluation.report import (
    dab_alone,
    ranking,
    report_json,
    report_page,
    table_rows,
    write_report,
)
from chromogen.image import Image, write_image
from chromogen.stains.appearance import color_moments, match_colors
from chromogen.style.encoder import Encoder
from synthetic import tissue_like

IHC = np.asarray(immunohistochemistry())
NAMES = ("s1_a", "s1_b", "s2_a")


def piece(y: int, x: int, side: int = 192) -> Image:
    return np.ascontiguousarray(IHC[y : y + side, x : x + side])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("study")
    made = {name: root / name for name in ("prediction", "he", "real")}
    for path in made.values():
        path.mkdir()
    for i, name in enumerate(NAMES):
        real = piece(60 * i, 100 * i)
        he = tissue_like(192, 192, seed=i)
        pictures = {"prediction": match_colors(he, color_moments(real)), "he": he, "real": real}
        for kind, picture in pictures.items():
            write_image(made[kind] / f"{name}.png", picture)
    return made


@pytest.fixture(scope="module")
def found(folders: dict[str, Path], encoder: Encoder) -> Evaluation:
    return evaluate_files(**folders, encoder=encoder, mpp=0.5, group="^(s[0-9])")


def test_every_side_is_there_and_every_number_has_its_count(found: Evaluation) -> None:
    assert list(found.summary) == ["prediction", "he", "color_transfer", "real"]
    for side in found.summary.values():
        for name, mean in side.items():
            assert name in found.values
            assert mean["n"] > 0 or mean["why"]
    psnr = found.summary["prediction"]["psnr"]
    assert psnr["n"] == 3
    assert psnr["ci95"][0] <= psnr["mean"] <= psnr["ci95"][1]


@pytest.mark.parametrize("counts", [[40, 0, 30], [70]])
def test_real_patches_are_compared_with_those_of_other_images(counts: list[int]) -> None:
    patches = np.random.default_rng(0).normal(size=(70, 3))
    half = counts[0] if len(counts) > 1 else 35
    shares = [patch_precision(patches[:half], patches[half:]), patch_precision(patches[half:], patches[:half])]
    wanted = (half * shares[0] + (70 - half) * shares[1]) / 70
    assert _real_precision(patches, counts) == pytest.approx(wanted)
    assert 0.3 < wanted < 1


def test_the_colour_transfer_is_the_baseline_it_says(found: Evaluation) -> None:
    """The predictions of this test are colour transfers: both rows must be the same."""
    for row in found.rows:
        for name, value in row.sides["color_transfer"].items():
            assert row.sides["prediction"][name] == value, name


def test_means_are_those_of_the_rows(found: Evaluation) -> None:
    values = [row.sides["prediction"]["hematoxylin_r"] for row in found.rows]
    assert found.summary["prediction"]["hematoxylin_r"]["mean"] == pytest.approx(np.mean(values))
    assert found.summary["he"]["hematoxylin_r"]["mean"] > found.summary["prediction"]["hematoxylin_r"]["mean"]


def test_json_is_strict_and_the_csv_has_a_line_a_side(found: Evaluation) -> None:
    data = json.loads(json.dumps(report_json(found), allow_nan=False))
    assert set(data["metrics"]["psnr"]) == {"mean", "ci95", "n"}
    assert data["settings"]["dab_thresholds_od10"] == [0.2, 0.4, 0.6]
    assert set(data["definitions"]) == set(data["metrics"])
    assert data["definitions"]["nuclei_kept"]["better"] == "higher"
    assert [row["name"] for row in data["rows"]] == list(NAMES)
    lines = list(table_rows(found))
    assert len(lines) == 3 * 4
    assert float(lines[0]["psnr"]) == pytest.approx(data["rows"][0]["prediction"]["psnr"])
    assert "nan" not in str(list(table_rows(found))).lower()


def test_the_page_has_pictures_numbers_and_warnings(found: Evaluation, tmp_path: Path) -> None:
    files = write_report(found, tmp_path, {"seconds": 1.0})
    text = files["page"].read_text()
    assert text.count("<img") >= 2 * 5
    assert "Worst by hematoxylin_r" in text
    assert "too few for an interval" in text
    assert "predicted_positive_nuclei" in text
    means, seen = text.split("<h2>Measured as people see it</h2>")
    table = seen.partition("<h2>")[0]
    for name in ("patch_precision", "chromatin_kept", "dab_distance_rings_od10", "real_dab_far"):
        assert f"<td>{name}" in table
        assert f"<td>{name}" not in means
    assert "http" not in text.replace("http://www.w3.org", "").replace("https://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "").replace("https://matplotlib.org", "")
    assert json.loads(files["json"].read_text())["seconds"] == 1.0


def test_cases_are_ranked_worst_first(found: Evaluation) -> None:
    name, rows = ranking(found)
    values = [row.sides["prediction"][name] for row in rows]
    assert values == sorted(values)


def test_dab_alone_has_no_blue() -> None:
    alone = dab_alone(IHC)
    assert alone.shape == IHC.shape
    assert (alone[..., 2].astype(int) <= alone[..., 0].astype(int) + 1).all()


def test_one_image_alone(folders: dict[str, Path], encoder: Encoder) -> None:
    seen: list[tuple[int, int, str]] = []
    one = folders["prediction"] / "s1_a.png"
    found = evaluate_files(one, encoder=encoder, on_case=lambda *at: seen.append(at))
    assert seen == [(1, 1, "s1_a")]
    assert list(found.summary) == ["prediction"]
    assert found.summary["prediction"]["foreign_color"]["ci95"] is None
    assert found.summary["prediction"]["psnr"] == {"mean": None, "ci95": None, "n": 0, "why": "no real IHC"}
    assert any("--mpp" in warning for warning in found.warnings)
    assert "Pictures" in report_page(found)


def test_real_against_its_own_half_where_there_is_one(folders: dict[str, Path], encoder: Encoder) -> None:
    files = {kind: path / "s1_a.png" for kind, path in folders.items()}
    found = evaluate_files(**files, encoder=encoder)
    assert found.summary["real"]["style_error"]["mean"] > 0


def test_a_real_ihc_of_another_size_is_compared_by_style_alone(
    folders: dict[str, Path], encoder: Encoder, tmp_path: Path
) -> None:
    write_image(tmp_path / "any.png", piece(100, 50, 230))
    files = {kind: folders[kind] / "s1_a.png" for kind in ("prediction", "he")}
    found = evaluate_files(**files, real=tmp_path / "any.png", encoder=encoder)
    scores = found.summary["prediction"]
    assert scores["style_error"]["mean"] > 0
    assert scores["hematoxylin_r"]["mean"] > 0
    assert scores["psnr"]["why"] == "the real IHC has another size"
    assert any("only its style is compared" in warning for warning in found.warnings)
    assert "another size" in report_page(found)


def test_an_image_that_does_not_fit_is_left_out(
    folders: dict[str, Path], encoder: Encoder, tmp_path: Path
) -> None:
    write_image(tmp_path / "s1_a.png", piece(0, 0))
    (tmp_path / "s1_b.png").write_bytes(b"broken")
    write_image(tmp_path / "s2_a.png", piece(0, 0, 100))
    found = evaluate_files(**{**folders, "he": tmp_path}, encoder=encoder)
    assert [row.case.name for row in found.rows] == ["s1_a"]
    assert any("s1_b is left out" in w for w in found.warnings)
    assert any("s2_a is left out" in w and "100 x 100 px" in w for w in found.warnings)


def test_nothing_that_can_be_evaluated(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="None of 1 predictions"):
        evaluate_files(tmp_path, encoder=encoder)
    with pytest.raises(ValueError, match="shift_um"):
        evaluate_files(tmp_path, encoder=encoder, shift_um=-1)


def test_white_tiles_and_an_ihc_without_dab_say_so(encoder: Encoder, tmp_path: Path) -> None:
    white = np.full((192, 192, 3), 255, np.uint8)
    blue = np.full((192, 192, 3), (120, 130, 190), np.uint8)
    for kind, picture in (("p", white), ("r", blue)):
        (tmp_path / kind).mkdir()
        write_image(tmp_path / kind / "a.png", picture)
    found = evaluate_files(tmp_path / "p", real=tmp_path / "r", encoder=encoder)
    assert found.summary["prediction"]["style_error"]["why"] == "no tissue"
    assert any("hardly any DAB" in warning for warning in found.warnings)
    assert "nan" not in str(list(table_rows(found))).lower()
    json.loads(json.dumps(report_json(found), allow_nan=False))


def test_a_line_of_pixels_has_no_distances(encoder: Encoder, tmp_path: Path) -> None:
    write_image(tmp_path / "line.png", piece(0, 0)[:1])
    found = evaluate_files(tmp_path / "line.png", real=tmp_path / "line.png", encoder=encoder)
    assert found.summary["real"]["style_error"]["why"] == "no pixels to compare"
    json.loads(json.dumps(report_json(found), allow_nan=False))


@pytest.mark.parametrize("mpp", [0, -1, 1000, float("nan")])
def test_pixels_of_no_microscope(mpp: float, folders: dict[str, Path], encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"`mpp` to be from 0.05 to 20"):
        evaluate_files(**folders, encoder=encoder, mpp=mpp)


def test_pictures_of_another_stain_are_doubted(encoder: Encoder, tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", tissue_like(96, 96, seed=1))
    found = evaluate_files(tmp_path / "he.png", he=tmp_path / "he.png", encoder=encoder)
    assert [w for w in found.warnings if "looks like" in w] == [
        "The prediction of he looks like an H&E, pink without brown; an IHC is expected."
    ]
