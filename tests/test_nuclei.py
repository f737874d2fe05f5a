from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chromogen.image import read_image
from chromogen.stains.deconvolution import H_E, separate_stains_od10
from chromogen.stains.nuclei import count_nuclei, nuclei_mask

MPP = 0.5


def discs(centres: list[tuple[int, int]], radius_px: float, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    y, x = np.indices(shape)
    return np.any([np.hypot(y - cy, x - cx) <= radius_px for cy, cx in centres], axis=0)


CENTRES = [(30, 30), (30, 80), (80, 50), (90, 120), (60, 140)]


def test_discs_of_haematoxylin_are_found_and_counted() -> None:
    drawn = discs(CENTRES, 6)
    density = 0.1 + 0.6 * ndimage.gaussian_filter(drawn.astype(float), 1)
    found = nuclei_mask(density, MPP)
    overlap = 2 * (found & drawn).sum() / (found.sum() + drawn.sum())
    assert overlap > 0.9
    assert count_nuclei(found, MPP) == len(CENTRES)


def test_touching_nuclei_count_apart() -> None:
    assert count_nuclei(discs([(40, 40), (40, 51)], 6), MPP) == 2


def test_the_size_of_a_pixel_decides_what_is_a_speck() -> None:
    density = 0.1 + 0.6 * discs(CENTRES, 2).astype(float)
    assert nuclei_mask(density, 0.25).sum() == 0
    assert nuclei_mask(density, 1.0).any()


@pytest.mark.parametrize("density", [np.zeros((40, 50)), np.full((40, 50), 0.7), np.zeros((1, 1))])
def test_a_picture_without_nuclei_has_none(density: np.ndarray) -> None:
    found = nuclei_mask(density, MPP)
    assert not found.any()
    assert count_nuclei(found, MPP) == 0


def test_nuclei_of_a_real_carcinoma(data: Path) -> None:
    """1294 nuclei were drawn by others; most of our mask is theirs, and the count is of the same order."""
    image = read_image(data / "he" / "hgsc_nest.jpg")
    drawn = np.load(data / "he" / "hgsc_nest_inst_mask.npz")["nuc_raster"]
    found = nuclei_mask(separate_stains_od10(image, H_E)[..., 0], MPP)
    overlap = 2 * (found & (drawn > 0)).sum() / (found.sum() + (drawn > 0).sum())
    assert overlap > 0.6
    assert 0.6 < count_nuclei(found, MPP) / 1294 < 1.6
