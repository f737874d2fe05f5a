"""Registration of drawn tissue with known truth: found at any angle, judged, refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chromogen.image import Image, read_image, write_image
from chromogen.registration.align import is_same_place, pieces_of
from chromogen.registration.fitting import moved
from chromogen.registration.pairs import swapped
from chromogen.registration.register import register
from chromogen.registration.search import DensityView, cropped, search, view_at_mpp, view_of
from chromogen.registration.transform import Transform, read_transform
from chromogen.stains.deconvolution import DAB, EOSIN, H_DAB, HEMATOXYLIN, Array
from chromogen.stains.tissue import background
from synthetic import drawn
from test_cli import refused, run
from test_exports import straight
from test_transform import transform

MPP = 4.0


def smooth(seed: int, side: int, sigma: float) -> Array:
    noise = np.random.default_rng(seed).standard_normal((side, side))
    field = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return np.asarray(field / field.std())


def section(seed: int, side: int, stain: str, section_seed: int = 0) -> Image:
    """Tissue with nests of cells on glass; nuclei differ from section to section, nests do not."""
    y, x = np.indices((side, side)) / side - 0.5
    tissue = np.hypot(x, y) + 0.04 * smooth(seed, side, side / 10) < 0.36
    nests = (smooth(seed + 1, side, side / 30) > 0.4) & tissue
    cells = np.random.default_rng(section_seed).random((side, side)) < 0.03 * tissue + 0.2 * nests
    nuclei = ndimage.gaussian_filter(cells.astype(float), 0.9) * 3
    second, amount = (EOSIN, tissue * 0.3) if stain == "he" else (DAB, nests * 0.25)
    od = nuclei[..., None] * HEMATOXYLIN * np.ones(3) * 0.5 + amount[..., None] * np.array(second)
    glass = np.random.default_rng(9).normal(240, 1.5, (side, side, 3))
    return np.asarray((glass * 10**-od).clip(0, 255), np.uint8)


def turned(image: Image, degrees: float, mirror: bool, zoom: float = 1.0) -> tuple[Image, Array]:
    """An image turned about its middle on glass, and the affine (2, 3) from old to new pixels."""
    side = image.shape[0]
    a = np.deg2rad(degrees)
    linear = (
        zoom * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.diag([-1.0 if mirror else 1.0, 1])
    )
    new = round(side * zoom)
    offset = np.array([new / 2 + 6, new / 2 - 4]) - linear @ np.full(2, side / 2)
    y, x = np.indices((new, new)) + 0.5
    at = (np.stack([x, y], -1) - offset) @ np.linalg.inv(linear).T - 0.5
    planes = [
        ndimage.map_coordinates(image[..., c], (at[..., 1], at[..., 0]), order=1, cval=240) for c in range(3)
    ]
    return np.stack(planes, 2), np.column_stack([linear, offset])


def view(image: Image, mpp: float = MPP) -> DensityView:
    return view_of(image, (image.shape[1] * mpp, image.shape[0] * mpp), background(image, mpp))


@pytest.mark.parametrize(("degrees", "mirror"), [(0, False), (133, False), (-48, True)])
def test_the_search_finds_any_angle(degrees: float, mirror: bool) -> None:
    ihc, affine = turned(section(5, 160, "ihc", 1), degrees, mirror)
    he = view(section(5, 160, "he"))
    best = search(he, view(ihc), [1.0])[0].affine
    truth = np.column_stack([affine[:, :2], affine[:, 2] * MPP])
    assert is_same_place(he, best, truth)


def test_poses_apart_are_not_one() -> None:
    he = view(section(5, 64, "he"))
    upright = np.eye(2, 3)
    assert is_same_place(he, upright, upright + 0.01)
    assert not is_same_place(he, upright, np.array([[-1.0, 0, 256], [0, 1, 0]]))
    assert not is_same_place(he, upright, np.array([[0.0, -1, 256], [1, 0, 0]]))
    assert not is_same_place(he, upright, np.array([[1.0, 0, 200], [0, 1, 0]]))


def test_views_keep_their_rectangle() -> None:
    whole = view(section(5, 150, "he"))
    coarse = view_at_mpp(whole, 4 * MPP)
    assert coarse.extent_um == whole.extent_um
    part = cropped(whole, np.array([101.0, 50.0]), np.array([301.0, 350.0]))
    assert part.origin_um == (100.0, 48.0)
    assert part.maps.shape[1:] == (76, 51)


def test_pieces_are_told_apart_and_specks_go_along() -> None:
    two = np.concatenate([section(5, 128, "he"), section(7, 128, "he")], axis=1)
    two[2:5, 2:5] = 120
    parts = pieces_of(view(two))
    assert len(parts) == 2
    assert {round(part.origin_um[0] / MPP / 128) for part in parts} == {0, 1}
    assert len(pieces_of(view(section(5, 128, "he")))) == 1


def error_px(found: Transform, affine: Array, side: int = 256, zoom: float = 1.0) -> float:
    """How far points in the middle of `side` px lie from where they are, in the median."""
    points = np.random.default_rng(0).uniform(0.35 * side, 0.65 * side, (50, 2))
    off = found.forward_px(points) - moved(affine, points)
    return float(np.median(np.hypot(*off.T)) / zoom)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "he.png", tmp_path / "ihc.png"


def test_the_command_writes_a_transform_and_an_overlay(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = 64
    image, affine = turned(section(5, side, "ihc", 1), 20, mirror=False)
    write_image(pair[0], section(5, side, "he"))
    write_image(pair[1], image)
    out, overlay = tmp_path / "pair.json", tmp_path / "overlay.png"
    exports = ["--affine", tmp_path / "affine.txt", "--field", tmp_path / "field.mha"]
    sizes = ["--he-mpp", MPP, "--ihc-mpp", MPP]
    status, said, err = run(capsys, "register", *pair, "-o", out, "--overlay", overlay, *sizes, *exports, "--json")
    assert status == 0, err
    facts = json.loads(said)
    assert (facts["pieces"], facts["ihc_mpp"], facts["warnings"]) == (1, MPP, [])
    found = read_transform(out)
    assert error_px(found, affine, side) < 1
    assert found.quality is not None
    assert found.quality.residual_um == facts["residual_um"] < MPP
    assert read_image(overlay).shape == (side, 2 * side, 3)
    alone = np.loadtxt(tmp_path / "affine.txt", delimiter=",")
    off = moved(alone, np.array([[32.0, 32.0]])) - found.forward_px([[32, 32]])
    assert np.hypot(*off[0]) * MPP < 3 * facts["affine_off_um"] + 1
    assert (tmp_path / "field.mha").stat().st_size > 1000


@pytest.mark.slow
def test_a_pair_turned_and_mirrored(pair: tuple[Path, Path]) -> None:
    he, ihc = pair
    image, affine = turned(section(5, 256, "ihc", 1), 70, mirror=True)
    write_image(he, section(5, 256, "he"))
    write_image(ihc, image)
    stages: list[str] = []
    found = register(he, ihc, he_mpp=MPP, ihc_mpp=MPP, on_stage=lambda _done, _of, stage: stages.append(stage))
    assert error_px(found, affine) < 1.5
    assert found.quality is not None
    assert found.quality.confidence > 0.1
    assert found.quality.residual_um < 2 * MPP
    assert stages[0] == "reading both slides"


@pytest.mark.slow
def test_the_pixel_size_of_one_side_is_estimated(pair: tuple[Path, Path]) -> None:
    he, ihc = pair
    image, affine = turned(section(5, 256, "ihc", 1), 20, mirror=False, zoom=0.5)
    write_image(he, section(5, 256, "he"))
    write_image(ihc, image)
    found = register(he, ihc, he_mpp=MPP)
    assert found.target.mpp_from == "estimated"
    assert found.target.mpp == pytest.approx(2 * MPP, rel=0.03)
    assert error_px(found, affine, zoom=0.5) < 2
    swapped = register(ihc, he, ihc_mpp=MPP)
    assert swapped.source.mpp == pytest.approx(2 * MPP, rel=0.03)
    assert swapped.target.mpp == MPP


@pytest.mark.slow
def test_other_tissue_is_refused(pair: tuple[Path, Path]) -> None:
    write_image(pair[0], section(5, 256, "he"))
    write_image(pair[1], section(81, 256, "ihc", 1))
    with pytest.raises(ValueError, match="to be two sections of the same tissue, got other tissue"):
        register(*pair, he_mpp=MPP, ihc_mpp=MPP)


def test_a_blank_slide_is_refused(pair: tuple[Path, Path]) -> None:
    write_image(pair[0], section(5, 256, "he"))
    write_image(pair[1], np.full((200, 200, 3), 240, np.uint8))
    with pytest.raises(ValueError, match="Expected `ihc` to be a slide with tissue"):
        register(*pair, he_mpp=MPP, ihc_mpp=MPP)


def test_a_tiny_image_is_refused(pair: tuple[Path, Path]) -> None:
    write_image(pair[0], section(5, 16, "he"))
    write_image(pair[1], section(5, 256, "ihc"))
    with pytest.raises(ValueError, match="Expected `he` to be at least 32 px on each side"):
        register(*pair)


def test_one_file_is_no_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "he.png", section(5, 64, "he"))
    same = str(tmp_path / "he.png")
    assert "another file than the H&E" in refused(capsys, "register", same, same, "-o", str(tmp_path / "t.json"))


def test_a_swapped_pair_is_noticed(tmp_path: Path) -> None:
    he, ihc = tmp_path / "he.png", tmp_path / "ihc.png"
    write_image(he, drawn(128, 1), mpp=0.5)
    write_image(ihc, drawn(128, 1, 0.9, H_DAB), mpp=0.5)
    assert swapped(he, ihc) is None
    assert swapped(ihc, he) == "ihc.png looks like an IHC and he.png like an H&E: name the H&E first."


def test_what_is_all_in_doubt_is_not_written(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in pair:
        write_image(file, section(5, 64, "he"))
    doubtful = transform(replace(straight(), doubt="fits no better than turned or mirrored"))
    monkeypatch.setattr("chromogen.registration.register.register", lambda *_files, **_more: doubtful)
    out = tmp_path / "t.json"
    said = refused(capsys, "register", str(pair[0]), str(pair[1]), "-o", str(out))
    assert "tissue that fits no better than turned or mirrored, in 'ihc.png'" in said
    assert not out.exists()


def test_a_small_pair_on_each_other_is_told_from_the_same_pair_turned(data: Path) -> None:
    """A registered field of 250 um, which the search cannot tell from itself turned; another field is refused."""
    he, ihc = (data / "pairs" / "mist" / f"ER_{kind}.png" for kind in ("he", "ihc"))
    found = register(he, ihc, he_mpp=0.5, ihc_mpp=0.5)
    middle = np.array([[126.5, 126.5]])
    assert np.abs(moved(found.pieces[0].affine, middle) - middle).max() < 4
    with pytest.raises(ValueError, match="other tissue"):
        register(he, data / "pairs" / "mist" / "HER2_ihc.png", he_mpp=0.5, ihc_mpp=0.5)
