from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chromogen.image import read_image, resize
from chromogen.nuclei import find
from chromogen.nuclei.find import nuclei_of_image, nuclei_windows
from chromogen.nuclei.outlines import Nuclei, labels_of
from chromogen.slides.slide import read_picture
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains

LN10 = np.log(10)


def painted(labels: np.ndarray, amounts: dict[int, tuple[float, float]], stains: np.ndarray = H_DAB) -> np.ndarray:
    """A picture of discs with densities (base 10) of haematoxylin and the other stain, over pale matter."""
    made = np.zeros((*labels.shape, 3))
    made[..., 0] = 0.03
    for value, density in amounts.items():
        made[labels == value, :2] = density
    soft = ndimage.gaussian_filter(made, (0.8, 0.8, 0))
    grain = np.random.default_rng(0).normal(0, 0.01, soft.shape)
    return combine_stains((soft + grain).clip(0) * LN10, stains)


def discs(size: int = 192, step: int = 32, radius: float = 7.5) -> np.ndarray:
    """A grid of discs, each with a label of its own."""
    y, x = np.indices((size, size))
    at = (y // step) * (size // step) + x // step + 1
    inside = np.hypot(y % step - step / 2, x % step - step / 2) <= radius
    return np.where(inside, at, 0)


def matched(found: Nuclei, drawn: np.ndarray) -> tuple[int, int, int]:
    """How many nuclei match a drawn one at IoU over 0.5; how many are found, and drawn."""
    labels = labels_of(found, drawn.shape)
    shared = np.zeros((labels.max() + 1, drawn.max() + 1))
    np.add.at(shared, (labels.ravel(), drawn.ravel()), 1)
    areas, wanted = shared.sum(1), shared.sum(0)
    iou = shared / np.maximum(areas[:, None] + wanted - shared, 1)
    return int((iou[1:, 1:] > 0.5).sum()), int((areas[1:] > 0).sum()), int((wanted[1:] > 0).sum())


def f1(found: Nuclei, drawn: np.ndarray) -> float:
    right, many, wanted = matched(found, drawn)
    return 2 * right / max(1, many + wanted)


def test_blue_and_brown_nuclei_are_found_alike() -> None:
    labels = discs()
    amounts = {v: (0.3, 0.02) if v % 3 else (0.3, 0.6) for v in range(1, labels.max() + 1)}
    found = nuclei_of_image(painted(labels, amounts), 0.5)
    assert f1(found, labels) > 0.95


@pytest.mark.parametrize("amount", [(0.25, 0.5), (0.35, 0.0)])
def test_all_brown_and_all_blue(amount: tuple[float, float]) -> None:
    labels = discs()
    found = nuclei_of_image(painted(labels, dict.fromkeys(range(1, labels.max() + 1), amount)), 0.5)
    assert f1(found, labels) > 0.9


def test_one_nucleus() -> None:
    labels = (discs() == 8).astype(int)
    assert matched(nuclei_of_image(painted(labels, {1: (0.4, 0.0)}), 0.5), labels) == (1, 1, 1)


def test_outlines_are_in_pixels_of_the_picture_whatever_their_size() -> None:
    labels = discs()
    image = painted(labels, dict.fromkeys(range(1, labels.max() + 1), (0.35, 0.0)))
    fine = nuclei_of_image(resize(image, (401, 384)), 0.25)
    assert fine.mpp == 0.25
    coarse = nuclei_of_image(image, 0.5)
    assert len(fine) == len(coarse)
    assert np.median(fine.areas_um2) == pytest.approx(np.median(coarse.areas_um2), rel=0.1)
    assert fine.centres_px.max() > 1.9 * coarse.centres_px.max()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (17, 15), (200, 1)])
def test_a_picture_smaller_than_the_network_sees(shape: tuple[int, int]) -> None:
    assert len(nuclei_of_image(np.full((*shape, 3), 230, np.uint8), 0.5)) == 0


def foreign(kind: str) -> np.ndarray:
    """What is no nucleus: bare glass, red cells, and lines of a pen."""
    y, x = np.indices((200, 240))
    image = np.full((200, 240, 3), (238, 236, 240), np.uint8)
    if kind == "red cells":
        image[np.hypot(y % 18 - 9, x % 18 - 9) < 6.5] = (205, 60, 70)
    if kind == "pen":
        image[abs(y - 100 - 20 * np.sin(x / 30)) < 25] = (30, 60, 170)
    blurred = ndimage.gaussian_filter(image.astype(float), (1, 1, 0))
    return (blurred + np.random.default_rng(0).normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["glass", "red cells", "pen"])
def test_no_nuclei_where_there_are_none(kind: str) -> None:
    assert len(nuclei_of_image(foreign(kind), 0.5)) <= 1


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), 2.5, 20.0])
def test_pixels_too_large_to_show_nuclei_are_refused(mpp: float) -> None:
    with pytest.raises(ValueError, match="mpp"):
        nuclei_of_image(foreign("glass"), mpp)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image"):
        nuclei_of_image(image, 0.5)


@pytest.mark.parametrize("size", [(1, 1), (1536, 10), (4000, 3100)])
def test_every_pixel_is_in_the_core_of_one_window(size: tuple[int, int]) -> None:
    counted = np.zeros(size[::-1], int)
    for window in nuclei_windows(size):
        (x, y), (w, h) = window.core.location, window.core.size
        counted[y : y + h, x : x + w] += 1
        (sx, sy), (sw, sh) = window.outer.location, window.outer.size
        assert 0 <= sx <= x
        assert 0 <= sy <= y
        assert x + w <= sx + sw <= size[0]
        assert y + h <= sy + sh <= size[1]
    assert (counted == 1).all()


def test_nuclei_are_the_same_whatever_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    labels = discs(448, 32, 8)
    amounts = {v: tuple(rng.uniform(0, 0.5, 2)) for v in range(1, labels.max() + 1)}
    image = np.roll(painted(labels, amounts), (5, 11), (0, 1))
    whole = nuclei_of_image(image, 0.5)
    monkeypatch.setattr(find, "CORE_PX", 128)
    parts = nuclei_of_image(image, 0.5)
    order, other = (np.lexsort(n.centres_px.T) for n in (whole, parts))
    assert len(whole) == len(parts) > 100
    np.testing.assert_allclose(whole.outlines_px[order], parts.outlines_px[other], atol=1e-3)


def test_nuclei_of_a_real_carcinoma(data: Path) -> None:
    """Others drew 1294 nuclei; many pale ones they left out."""
    image = read_image(data / "he" / "hgsc_nest.jpg")[:750, :750]
    drawn = np.load(data / "he" / "hgsc_nest_inst_mask.npz")["nuc_raster"][:750, :750]
    assert f1(nuclei_of_image(image, 0.5), drawn) > 0.68


@pytest.mark.parametrize("name", ["22_2", "34_3"])
def test_nuclei_of_real_ki67(data: Path, name: str) -> None:
    image = read_image(data / "nuclei_ihc" / f"{name}.png")
    drawn = np.load(data / "nuclei_ihc" / f"{name}_lab.npz")["lab"].astype(int)
    right, _, wanted = matched(nuclei_of_image(image, 0.25), drawn)
    assert right / wanted > 0.85


def test_two_scanners_show_the_same_nuclei(data: Path) -> None:
    counts = [
        len(nuclei_of_image(read_picture(data / "exemplars" / f"OS-2-{name}.ome.tif", at_mpp=0.5).pixels, 0.5))
        for name in ("ndpi", "vsi")
    ]
    assert abs(counts[0] - counts[1]) < 0.1 * max(counts)
    assert 0.9 * 1323 < min(counts) <= max(counts) < 1.1 * 1323


def test_an_he_of_another_lab(data: Path) -> None:
    picture = read_picture(data / "exemplars" / "OS-1-detail.ome.tif", at_mpp=0.5).pixels
    assert 0.9 * 319 < len(nuclei_of_image(picture, 0.5)) < 1.1 * 331


def test_stains_of_an_he_are_no_matter() -> None:
    labels = discs()
    amounts = dict.fromkeys(range(1, labels.max() + 1), (0.5, 0.1))
    pink = painted(labels, {0: (0.06, 0.2), **amounts}, H_E)
    assert f1(nuclei_of_image(pink, 0.5), labels) > 0.9
