import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chromogen.evaluation.blind import COLUMNS, KEY_COLUMNS, SIDE_PX, BlindTest, blind_test, write_blind_test
from chromogen.image import Image, read_image, write_image
from synthetic import tissue_like


def picture(seed: int, width: int = 512, height: int = 512) -> Image:
    return tissue_like(height, width, seed)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Virtual and real IHC, two of each with one name in common, of four squares each."""
    root = tmp_path_factory.mktemp("blind")
    made = root / "virtual", root / "real"
    for kind, (folder, names) in enumerate(zip(made, (("a", "b"), ("a", "c")), strict=True)):
        folder.mkdir()
        for i, name in enumerate(names):
            facts = {"stainer": "secret", "notice": "secret"}
            write_image(folder / f"{name}.png", picture(10 * kind + i), facts, mpp=0.5)
    return made


@pytest.fixture(scope="module")
def laid_out(folders: tuple[Path, Path]) -> BlindTest:
    return blind_test(*folders, count=4)


def places(laid_out: BlindTest, kind: str) -> list[tuple[str, int, int]]:
    return [(crop.source.name, *crop.location) for crop in laid_out.crops if crop.source.kind == kind]


def test_crops_are_balanced_spread_and_without_overlap(laid_out: BlindTest) -> None:
    assert laid_out.mpp == 0.5
    assert laid_out.warnings == ()
    for kind, names in (("virtual", "ab"), ("real", "ac")):
        found = places(laid_out, kind)
        assert sorted(name for name, *_ in found) == sorted(2 * names)
        assert len(set(found)) == 4
        assert all(x % SIDE_PX == y % SIDE_PX == 0 for _, x, y in found)
    assert not set(places(laid_out, "virtual")) & set(places(laid_out, "real"))


def test_crops_are_what_the_key_says(laid_out: BlindTest, folders: tuple[Path, Path]) -> None:
    for crop in laid_out.crops:
        whole = read_image(folders[crop.source.kind == "real"] / f"{crop.source.name}.png")
        x, y = crop.location
        assert np.array_equal(crop.pixels, whole[y : y + SIDE_PX, x : x + SIDE_PX])


def test_a_seed_gives_the_same_test_and_another_another(laid_out: BlindTest, folders: tuple[Path, Path]) -> None:
    again, other = (blind_test(*folders, count=4, seed=seed) for seed in (0, 1))
    assert [crop.name for crop in again.crops] == [crop.name for crop in laid_out.crops]
    assert {crop.name for crop in other.crops}.isdisjoint(crop.name for crop in laid_out.crops)
    orders = {tuple(crop.source.kind for crop in t.crops) for t in (laid_out, other)}
    assert len(orders) == 2


def test_files_give_nothing_away(laid_out: BlindTest, tmp_path: Path) -> None:
    files = write_blind_test(laid_out, tmp_path / ".." / tmp_path.name)
    crops = sorted(tmp_path.glob("*.png"))
    assert len(crops) == 8
    assert {file.name for file in tmp_path.iterdir()} == {
        f.name for f in (*crops, files["page"], files["answers"])
    }
    assert files["key"] == tmp_path.parent / f"{tmp_path.name}-key.csv"
    for file in crops:
        data, chunks, at = file.read_bytes(), [], 8
        while at < len(data):
            chunks.append(data[at + 4 : at + 8].decode())
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        assert set(chunks) == {"IHDR", "IDAT", "IEND"}
        assert set(file.stem) <= set("bcdfghjkmnpqrstvwxz")
    shown = files["page"].read_text() + files["answers"].read_text()
    assert "secret" not in shown
    for file_name in ("a.png", "b.png", "c.png"):
        assert file_name not in shown


def test_sheet_and_key_list_the_crops(laid_out: BlindTest, tmp_path: Path) -> None:
    files = write_blind_test(laid_out, tmp_path)
    with files["answers"].open(newline="") as file:
        header, *sheet = csv.reader(file)
    with files["key"].open(newline="") as file:
        key_header, *key = csv.reader(file)
    names = [crop.name for crop in laid_out.crops]
    assert tuple(header) == COLUMNS
    assert sheet == [[name, ""] for name in names]
    assert tuple(key_header) == KEY_COLUMNS
    assert [(row[0], row[1], row[3]) for row in key] == [
        (crop.name, crop.source.kind, f"{crop.source.name}.png") for crop in laid_out.crops
    ]


def test_the_finer_kind_is_resampled_and_said(tmp_path: Path) -> None:
    write_image(tmp_path / "virtual.png", picture(1), mpp=0.5)
    write_image(tmp_path / "real.png", picture(2, 640, 600), mpp=0.25)
    found = blind_test(tmp_path / "virtual.png", tmp_path / "real.png", count=3)
    assert found.mpp == 0.5
    assert [crop.pixels.shape for crop in found.crops] == [(SIDE_PX, SIDE_PX, 3)] * 2
    assert found.warnings == (
        "crops: there is tissue for 1 of each kind, not for 3",
        "real images are resampled to 0.5 um per pixel, the others are not; sharpness may tell",
    )


def test_glass_and_small_images_are_left_out(tmp_path: Path) -> None:
    half = picture(1)
    half[:, 256:] = 255
    for kind in ("virtual", "real"):
        (tmp_path / kind).mkdir()
    for name, image in (("half", half), ("small", half[:255]), ("glass", np.full_like(half, 250))):
        write_image(tmp_path / "virtual" / f"{name}.png", image)
    write_image(tmp_path / "real" / "x.png", picture(2))
    found = blind_test(tmp_path / "virtual", tmp_path / "real", count=2)
    assert sorted(places(found, "virtual")) == [("half", 0, 0), ("half", 0, 256)]
    assert "virtual small is left out: it is smaller than a crop of 256 px needs" in found.warnings
    assert "virtual glass is left out: it has less tissue than a crop of 256 px needs" in found.warnings
    assert "pixel size: 4 images without; Chromogen took 0.5 um/px (set it with --mpp)" in found.warnings


def test_a_grey_stain_is_no_pens_mark(tmp_path: Path) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(300, 300)), 6)
    levels = (170 + 25 * noise / noise.std()).clip(60, 225).astype(np.uint8)
    grey = np.repeat(levels[..., None], 3, axis=2)
    grey[0, 0] = (150, 120, 130)  # in colour, so that it is no view in black and white
    write_image(tmp_path / "v.png", grey)
    write_image(tmp_path / "r.png", picture(2))
    assert len(blind_test(tmp_path / "v.png", tmp_path / "r.png", count=1, mpp=0.5).crops) == 2


@pytest.mark.parametrize(
    ("virtual", "mpp", "message"),
    [
        (
            np.full((300, 300, 3), 250, np.uint8),
            0.5,
            "`prediction` to be an image with a square of 256 px of which",
        ),
        (tissue_like(200, 300, 1), 0.5, "`prediction` to be an image at least 256 px wide and high at 0.5 um"),
    ],
)
def test_nothing_to_show(tmp_path: Path, virtual: Image, mpp: float, message: str) -> None:
    write_image(tmp_path / "v.png", virtual)
    write_image(tmp_path / "r.png", picture(2))
    with pytest.raises(ValueError, match=message):
        blind_test(tmp_path / "v.png", tmp_path / "r.png", count=2, mpp=mpp)


def test_too_many_or_no_crops(folders: tuple[Path, Path]) -> None:
    for count in (0, 1001):
        with pytest.raises(ValueError, match="`crops` to be from 1 to 1000"):
            blind_test(*folders, count=count)
