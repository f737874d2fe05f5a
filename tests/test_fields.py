from pathlib import Path

import numpy as np
import pytest

from chromogen.evaluation.fields import crops_of, crops_of_pairs, find_pairs
from chromogen.image import Image, write_image
from synthetic import tissue_like

SIDE = 64


def put(folder: Path, *names: str, side: int = SIDE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        write_image(folder / name, tissue_like(side, side, seed=seed))


def test_pairs_are_found_by_ending_by_folder_and_by_alignment(tmp_path: Path) -> None:
    put(tmp_path / "mist", "ER_he.png", "ER_ihc.jpg", "notes.png")
    put(tmp_path / "lab/he", "one.png", "two.png")
    put(tmp_path / "lab/ihc", "one.png", "two.tif")
    put(tmp_path / "lung", "he.jpg", "CD31_aligned.png", "CD31.jpg", "Ki67_aligned.png")
    found = find_pairs(tmp_path)
    assert [(p.name, p.slide) for p in found] == [
        ("one", "one"),
        ("two", "two"),
        ("lung_CD31", "lung"),
        ("lung_Ki67", "lung"),
        ("ER", "ER"),
    ]
    assert found[-1].ihc.name == "ER_ihc.jpg"


def test_pairs_are_found_whatever_the_format_and_the_unicode_form(tmp_path: Path) -> None:
    def touch(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    touch("a/he/one.svs", "a/ihc/one.ome.tif", "a/he/e\u0301.png", "a/ihc/\u00e9.TIF")
    touch("b/x_he.ndpi", "b/x_ihc.ome.tif", "b/notes.png", "b/notes.jpg")
    for name in ("y_he.ome.zarr", "y_ihc.ome.zarr"):
        touch(f"b/{name}/zarr.json", f"b/{name}/he/0.png")
    found = [(pair.name, pair.he.name, pair.ihc.name) for pair in find_pairs(tmp_path)]
    assert found == [
        ("\u00e9", "e\u0301.png", "\u00e9.TIF"),
        ("one", "one.svs", "one.ome.tif"),
        ("x", "x_he.ndpi", "x_ihc.ome.tif"),
        ("y", "y_he.ome.zarr", "y_ihc.ome.zarr"),
    ]
    touch("b/x_ihc.png")
    with pytest.raises(ValueError, match=r"x_ihc\.ome\.tif and .*x_ihc\.png, both called x_ihc"):
        find_pairs(tmp_path)


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="existing folder"):
        find_pairs(tmp_path / "none")
    with pytest.raises(ValueError, match="NAME_he.png and NAME_ihc.png"):
        find_pairs(tmp_path)
    put(tmp_path, "ER_he.png")
    with pytest.raises(ValueError, match="ER_he.png has a ER_ihc"):
        find_pairs(tmp_path)


def test_names_must_match_in_folders_and_differ_between_them(tmp_path: Path) -> None:
    put(tmp_path / "a/he", "one.png")
    put(tmp_path / "a/ihc", "other.png")
    with pytest.raises(ValueError, match="the same names in he/ and ihc/"):
        find_pairs(tmp_path)
    put(tmp_path / "b", "x_he.png", "x_ihc.png")
    put(tmp_path / "c", "x_he.png", "x_ihc.png")
    pairs = [*find_pairs(tmp_path / "b"), *find_pairs(tmp_path / "c")]
    with pytest.raises(ValueError, match="two called x"):
        crops_of_pairs(pairs, SIDE, 1, None)


def coordinates(height: int, width: int) -> Image:
    """Every pixel says where it is, in dark colours that count as tissue."""
    y, x = np.indices((height, width))
    return np.stack([y, x, np.zeros_like(x)], axis=2).astype(np.uint8)


def test_crops_are_of_one_place_in_both() -> None:
    image = coordinates(200, 136)
    found = crops_of("a", "a", image, image, 64, 9)
    assert [crop.name for crop in found] == [f"a-{n}" for n in range(1, 7)]
    corners = [tuple(crop.he[0, 0, :2]) for crop in found]
    assert corners == [(0, 0), (0, 72), (68, 0), (68, 72), (136, 0), (136, 72)]
    assert all((crop.he == crop.ihc).all() and crop.paired for crop in found)


def test_the_squares_with_most_tissue_come_first() -> None:
    image = coordinates(64, 192)
    image[:, :64] = 255
    assert [int(c.he[0, 0, 1]) for c in crops_of("a", "a", image, image, 64, 2)] == [64, 128]


def test_images_of_different_sizes_are_not_paired_and_small_ones_give_what_they_have() -> None:
    (crop,) = crops_of("a", "a", coordinates(90, 90), coordinates(80, 200), 256, 1)
    assert not crop.paired
    assert crop.he.shape == crop.ihc.shape == (80, 80, 3)
    with pytest.raises(ValueError, match="at least 64 px"):
        crops_of("a", "a", coordinates(63, 90), coordinates(90, 90), 256, 1)


def test_real_pairs_are_found(data: Path) -> None:
    names = {pair.name for pair in find_pairs(data / "pairs")}
    assert {"ER", "PR", "Ki67", "HER2", "lung-lesion_CD31"} <= names
