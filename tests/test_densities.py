"""What the page paints is what Python measures."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from skimage.data import immunohistochemistry

from chromogen.app.view.opened import Opened, opened
from chromogen.app.view.pictures import (
    Address,
    density_tile,
    difference_tile,
    local_correlation,
    read_tile,
    window_of,
)
from chromogen.app.view.placement import placement_between
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.evaluation.tile import Tile
from chromogen.image import Image, resize, write_image
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10

IHC = np.asarray(immunohistochemistry(), np.uint8)


def shelved(folder: Path, name: str, image: Image) -> Opened:
    folder.mkdir(exist_ok=True)
    write_image(folder / name, image)
    return opened(SlideCatalog([folder / name]).entries()[0])


def pixels(png: bytes) -> Image:
    return np.asarray(PIL.Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("threshold", [0.2, 0.33, 0.6])
def test_thresholds_in_the_browser_are_those_of_python(tmp_path: Path, threshold: float) -> None:
    levels = pixels(density_tile(shelved(tmp_path, "a.png", IHC), Address(0, 0, 0), "h-dab"))
    density = separate_stains_od10(IHC, H_DAB)
    above = density[..., 1] > threshold
    clear = abs(density[..., 1] - threshold) > 1e-9
    np.testing.assert_array_equal((levels[..., 1] > round(100 * threshold))[clear], above[clear])
    np.testing.assert_array_equal(levels[..., 2] > 0, Tile(IHC, mpp=0.5).tissue)


def test_tissue_has_no_seams(tmp_path: Path) -> None:
    wide = np.concatenate([IHC, IHC[:, ::-1]], axis=1)
    slide = shelved(tmp_path, "a.png", wide)
    parts = [pixels(density_tile(slide, Address(1, x, 0), "h-dab")) for x in range(2)]
    whole = Tile(wide, mpp=0.5).tissue
    found = np.concatenate(parts, axis=1)[..., 2] > 0
    assert np.count_nonzero(found != whole) <= 5, "a truncated blur sums in another order"


def test_halos_stay_inside_the_slide(tmp_path: Path) -> None:
    slide = shelved(tmp_path, "a.png", np.tile(IHC, (3, 3, 1))[:1111, :1337])
    for address in (Address(0, 0, 0), Address(1, 0, 0), Address(1, 1, 1), Address(2, 2, 2), Address(2, 1, 1)):
        window, step = window_of(slide.size, address)
        tile = read_tile(slide, window, step)
        core = tile.core(tile.prediction)
        assert abs(core.shape[1] - window.size[0] / step) < 1
        assert abs(core.shape[0] - window.size[1] / step) < 1


def test_equal_slides_do_not_differ(tmp_path: Path) -> None:
    slide = shelved(tmp_path, "a.png", IHC)
    levels = pixels(
        difference_tile(slide, slide, Address(0, 0, 0), ("h-dab", "h-dab"), placement_between(slide, slide))
    )
    assert (levels[..., :2] == 128).all()
    tissue = Tile(IHC, mpp=0.5).tissue
    assert (levels[..., 2][tissue] >= 254).mean() > 0.99
    assert (levels[..., 2][~tissue] == 0).all()


def test_a_difference_is_the_second_less_the_first(tmp_path: Path) -> None:
    one, other = shelved(tmp_path, "a.png", IHC), shelved(tmp_path, "b.png", IHC[::-1].copy())
    levels = pixels(
        difference_tile(one, other, Address(0, 0, 0), ("h-dab", "h-dab"), placement_between(one, other))
    )
    first, second = (separate_stains_od10(image, H_DAB)[..., 1] for image in (IHC, IHC[::-1]))
    np.testing.assert_array_equal(levels[..., 1], np.rint(128 + 100 * (second - first)).clip(0, 255))


def test_a_stained_slide_at_another_size_lies_on_its_he(tmp_path: Path) -> None:
    one, half = shelved(tmp_path, "a.png", IHC), shelved(tmp_path, "b.png", resize(IHC, (256, 256)))
    assert placement_between(one, half).scale == 0.5
    levels = pixels(
        difference_tile(one, half, Address(0, 0, 0), ("h-dab", "h-dab"), placement_between(one, half))
    ).astype(int)
    assert np.abs(levels[..., 1] - 128).mean() < 6
    assert np.median(levels[..., 2][levels[..., 2] > 0]) > 230, "structure is kept"


def test_where_the_other_slide_ends_there_is_glass(tmp_path: Path) -> None:
    one, small = shelved(tmp_path, "a.png", IHC), shelved(tmp_path, "b.png", IHC[:100, :300])
    assert placement_between(one, small).scale == 1
    levels = pixels(
        difference_tile(one, small, Address(0, 0, 0), ("h-dab", "h-dab"), placement_between(one, small))
    )
    assert (levels[:100, :300, :2] == 128).all()
    np.testing.assert_array_equal(
        levels[100:, :, 1], np.rint(128 - 100 * separate_stains_od10(IHC, H_DAB)[100:, :, 1]).clip(0, 255)
    )


def test_local_correlation_is_pearsons_within_a_window() -> None:
    rng = np.random.default_rng(0)
    a, noise = rng.random((80, 80)), rng.random((80, 80))
    assert local_correlation(a, 2 * a + 1, 4).min() > 0.999
    assert local_correlation(a, -a, 4).max() < -0.999
    assert abs(local_correlation(a, noise, 12)[40, 40]) < 0.3
    assert (local_correlation(a, np.ones_like(a), 4) == 0).all()
