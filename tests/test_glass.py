"""The colour of glass in views of any light, size and scanner."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from chromogen.image import Image, read_image
from chromogen.stains.appearance import appearance
from chromogen.stains.glass import highest, lowest, white_level
from chromogen.stains.tissue import tissue_mask
from synthetic import tissue_like


@pytest.mark.parametrize("white", [(255, 255, 255), (240, 243, 235), (208, 205, 211)])
@pytest.mark.parametrize("lumen_px", [40, 200])
def test_glass_between_tissue(white: tuple[int, int, int], lumen_px: int) -> None:
    view = (tissue_like(400, 400, seed=4) * (np.array(white) / 255)).astype(np.uint8)
    y, x = np.mgrid[:400, :400]
    view[(x - 200) ** 2 + (y - 200) ** 2 < (lumen_px / 2) ** 2] = white
    view[(x - 60) ** 2 + (y - 90) ** 2 < (lumen_px / 2) ** 2] = white
    assert np.abs(white_level(view, 0.5) - white).max() <= 2


def brightest_patch(image: Image, side_px: int = 15) -> Image:
    """The square in which the darkest channel is brightest on average."""
    level = ndimage.uniform_filter(image.min(axis=2).astype(float), side_px, mode="constant")
    y, x = np.unravel_index(level.argmax(), level.shape)
    return image[y - side_px // 2 : y + side_px // 2 + 1, x - side_px // 2 : x + side_px // 2 + 1]


@pytest.mark.parametrize(
    "name",
    ["pairs/mist/ER_he.png", "pairs/mist/PR_he.png", "pairs/mist/ER_ihc.png", "pairs/mist/PR_ihc.png"],
)
def test_glass_of_real_pictures_is_their_brightest_patch(data: Path, name: str) -> None:
    image = read_image(data / name)
    expected = np.median(brightest_patch(image).reshape(-1, 3), axis=0)
    assert np.abs(white_level(image, 0.5) - expected).max() <= 4


@pytest.mark.parametrize("name", ["pairs/mist/Ki67_he.png", "he/torchstain_source.png"])
def test_pictures_without_glass(data: Path, name: str) -> None:
    assert white_level(read_image(data / name), 0.5).tolist() == [255] * 3


@pytest.mark.parametrize("color", [(120, 40, 130), (60, 60, 60), (230, 190, 215)])
def test_what_is_no_glass(color: tuple[int, int, int]) -> None:
    view: Image = np.full((50, 50, 3), color, np.uint8)
    assert white_level(view).tolist() == [255] * 3


WARM, COOL = (1.0, 0.9, 0.8), (0.85, 0.95, 1.0)


def under_a_lamp(image: Image, lamp: tuple[float, float, float]) -> Image:
    return (image * np.array(lamp)).astype(np.uint8)


@pytest.mark.parametrize("lamp", [WARM, COOL])
@pytest.mark.parametrize(("name", "mpp"), [("pairs/lung-lesion/he.jpg", 3.48), ("nuclei_ihc/22_2.png", 0.25)])
def test_a_tinted_lamp_leaves_the_tissue_as_it_is(
    data: Path, name: str, mpp: float, lamp: tuple[float, float, float]
) -> None:
    image = read_image(data / name)
    share = tissue_mask(under_a_lamp(image, lamp), mpp).mean()
    assert share == pytest.approx(tissue_mask(image, mpp).mean(), abs=0.02)


def test_an_he_under_a_warm_lamp_is_one(data: Path) -> None:
    assert appearance(under_a_lamp(read_image(data / "pairs/lung-lesion/he.jpg"), WARM), 3.48).kind == "H&E"


def test_empty_glass_under_a_warm_lamp_is_empty() -> None:
    noise = np.random.default_rng(1).normal(0, 2, (300, 300, 3))
    stored = io.BytesIO()
    PIL.Image.fromarray((np.array((245, 235, 215)) + noise).astype(np.uint8)).save(stored, "JPEG", quality=50)
    view = np.array(PIL.Image.open(stored))
    assert not tissue_mask(view, 0.5).any()
    assert appearance(view, 0.5).kind == "nothing"


def test_grey_that_is_darker_than_the_rest_is_no_glass() -> None:
    """A pale section in which grey dust lies, and no glass."""
    view: Image = np.full((200, 200, 3), (250, 205, 225), np.uint8)
    view[80:120, 80:120] = 150
    assert white_level(view, 0.5).tolist() == [255] * 3


def test_a_picture_of_a_hundred_flat_levels_has_a_white() -> None:
    """No level is a good part of it."""
    blocks = np.repeat(np.repeat(np.arange(100).reshape(10, 10) * 2 + 40, 40, 0), 40, 1).astype(np.uint8)
    white = white_level(np.dstack([blocks] * 3))
    assert ((white >= 40) & (white <= 238)).all()


@pytest.mark.parametrize("reach_px", [0, 1, 2, 3, 7, 40])
@pytest.mark.parametrize("shape", [(50, 70), (1, 1), (3, 90)])
def test_extremes_of_squares_are_those_of_a_plain_filter(shape: tuple[int, int], reach_px: int) -> None:
    rng = np.random.default_rng(0)
    for values in (rng.integers(0, 255, shape, np.uint8), rng.random(shape) > 0.9, rng.integers(0, 2**24, shape)):
        side = 2 * reach_px + 1
        np.testing.assert_array_equal(
            highest(values, reach_px), ndimage.maximum_filter(values, side, mode="nearest")
        )
        np.testing.assert_array_equal(
            lowest(values, reach_px), ndimage.minimum_filter(values, side, mode="nearest")
        )
