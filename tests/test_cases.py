from pathlib import Path

import pytest

from chromogen.evaluation.agreement import match_cases


def folder(root: Path, name: str, files: list[str]) -> Path:
    made = root / name
    made.mkdir()
    for file in files:
        (made / file).touch()
    return made


def test_names_match_whatever_the_format(tmp_path: Path) -> None:
    prediction = folder(tmp_path, "p", ["a1.png", "a2.tif", "notes.txt"])
    he, real = folder(tmp_path, "h", ["a1.jpg", "a2.png"]), folder(tmp_path, "r", ["a2.bmp", "b.png"])
    cases, warnings = match_cases(prediction, he, real)
    assert [(c.name, c.he and c.he.name, c.real and c.real.name) for c in cases] == [
        ("a1", "a1.jpg", None),
        ("a2", "a2.png", "a2.bmp"),
    ]
    assert warnings == ["no real is called a1", "no prediction is called b: this real is left out"]


def zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").touch()
    (path / "0").mkdir()


@pytest.mark.parametrize(
    ("predicted", "original"),
    [
        ("s1.ome.tif", "s1.tif"),
        ("s1.ome.tif", "s1.svs"),
        ("s1.ome.tif", "s1.NDPI"),
        ("s1.ome.tif", "s1.dcm"),
        ("s1.OME.TIFF", "s1.ome.tif"),
        ("s1.png", "s1.ome.tif"),
        ("a.b.ome.tif", "a.b.mrxs"),
        ("a.b.png", "a.b.TIF"),
        ("Dr\u00fcse.ome.tif", "Dru\u0308se.svs"),
    ],
)
def test_what_stain_and_stylize_write_matches_what_they_read(
    tmp_path: Path, predicted: str, original: str
) -> None:
    prediction, he = folder(tmp_path, "p", [predicted]), folder(tmp_path, "h", [original, "other.png"])
    ((case,), warnings) = match_cases(prediction, he)
    assert case.he == he / original
    assert warnings == ["no prediction is called other: this he is left out"]


def test_zarr_folders_are_slides(tmp_path: Path) -> None:
    prediction, he = folder(tmp_path, "p", []), folder(tmp_path, "h", ["s1.svs"])
    zarr(prediction / "s1.ome.zarr")
    zarr(he / "s2.zarr")
    (case,), warnings = match_cases(prediction, he)
    assert (case.name, case.prediction, case.he) == ("s1", prediction / "s1.ome.zarr", he / "s1.svs")
    assert warnings == ["no prediction is called s2: this he is left out"]
    assert match_cases(prediction / "s1.ome.zarr", he)[0] == [case]


def test_unfinished_slides_are_no_predictions(tmp_path: Path) -> None:
    prediction = folder(tmp_path, "p", ["s1.ome.tif"])
    (prediction / "s2.ome.tif.chromogen").mkdir()
    zarr(prediction / "s2.ome.tif.chromogen" / "blocks")
    assert [case.name for case in match_cases(prediction)[0]] == ["s1"]


def test_single_files_match_whatever_their_names(tmp_path: Path) -> None:
    root = folder(tmp_path, "x", ["virtual.png", "he.png", "ihc.png"])
    cases, warnings = match_cases(root / "virtual.png", root / "he.png", root / "ihc.png")
    assert (cases[0].name, cases[0].he, cases[0].real) == ("virtual", root / "he.png", root / "ihc.png")
    assert warnings == []
    assert match_cases(str(root / "virtual.png"), str(root / "he.png"), str(root / "ihc.png"))[0] == cases


def test_groups_are_found_in_names(tmp_path: Path) -> None:
    prediction = folder(tmp_path, "p", ["s1_tile3.png", "s2_tile1.png"])
    assert [c.group for c in match_cases(prediction, group="^(s[0-9]+)_")[0]] == ["s1", "s2"]
    assert [c.group for c in match_cases(prediction, group="tile[0-9]")[0]] == ["tile3", "tile1"]
    assert [c.group for c in match_cases(prediction)[0]] == ["s1_tile3", "s2_tile1"]
    named = folder(tmp_path, "n", ["e\u0301_1.png"])
    assert [c.group for c in match_cases(named, group="^(\u00e9|x)_")[0]] == ["\u00e9"]
    assert [c.group for c in match_cases(named, group="^(e\u0301|x)_")[0]] == ["\u00e9"]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("(", "a regular expression"),
        ("z+", "found in every name, got z\\+, which is not in a"),
        ("(z)|a", "found in every name"),
    ],
)
def test_groups_that_cannot_be(tmp_path: Path, group: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_cases(folder(tmp_path, "p", ["a.png"]), group=group)


def test_names_that_do_not_match_at_all(tmp_path: Path) -> None:
    prediction, he = folder(tmp_path, "p", ["a.png", "b.png"]), folder(tmp_path, "h", ["a_he.png", "b_he.png"])
    with pytest.raises(ValueError, match=r"named like the predictions \(a, ...\), got a_he"):
        match_cases(prediction, he)


def test_twins_and_missing_paths(tmp_path: Path) -> None:
    for number, twins in enumerate((["a.png", "a.jpg"], ["a.ome.tif", "a.tif"], ["\u00e9.png", "e\u0301.svs"])):
        with pytest.raises(ValueError, match="both called") as error:
            match_cases(folder(tmp_path, f"p{number}", twins))
        assert all(name in str(error.value) for name in twins)
    with pytest.raises(FileNotFoundError, match="existing image or folder"):
        match_cases(tmp_path / "nowhere")
