from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.data import immunohistochemistry

from chromogen.image import Image, read_image
from chromogen.stains.deconvolution import (
    H_DAB,
    H_E,
    VECTORS,
    StainLook,
    combine_stains,
    estimate_stains,
    normalize_stains,
    optical_density,
    stain_look,
    stain_matrix,
)
from chromogen.stains.glass import white_level

OWN = stain_matrix((0.60, 0.72, 0.35), (0.15, 0.90, 0.40))  # a lab's own H&E


def concentrations(side: int = 160) -> np.ndarray:
    """Smooth fields of two stains, with places where each is nearly alone."""
    rng = np.random.default_rng(0)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(side, side)), 5) for _ in range(2))
    a, b = ((x - x.min()) / np.ptp(x) for x in (a, b))
    return np.stack([1.6 * a * (b < 0.6), 1.2 * b * (a < 0.6), np.zeros_like(a)], axis=2)


def angles_deg(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((found[:2] * wanted[:2]).sum(axis=1), -1, 1)))


@pytest.mark.parametrize("matrix", [OWN, *VECTORS.values()], ids=["own", *VECTORS])
def test_vectors_of_a_rendered_picture_are_found(matrix: np.ndarray) -> None:
    estimate = estimate_stains(combine_stains(concentrations(), matrix))
    assert estimate.why == ""
    assert angles_deg(estimate.matrix, matrix).max() < 4
    assert np.linalg.norm(estimate.matrix, axis=1) == pytest.approx([1, 1, 1])


def test_the_estimate_is_macenkos_by_a_loop() -> None:
    """The same by singular vectors and an angle a pixel at a time."""
    image = combine_stains(concentrations(48), OWN)
    density = (optical_density(image) / np.log(10)).reshape(-1, 3)
    density = density[(density > 0.15).any(axis=1) & (density.min(axis=1) > 0)]
    _, _, rows = np.linalg.svd(density, full_matrices=False)
    plane = rows[:2] * np.sign(rows[:2].sum(axis=1))[:, None]
    angles = [np.arctan2(d @ plane[1], d @ plane[0]) for d in density]
    ends = [np.cos(a) * plane[0] + np.sin(a) * plane[1] for a in np.percentile(angles, [1, 99])]
    wanted = sorted(ends, key=lambda v: -v[0])
    assert angles_deg(estimate_stains(image).matrix, np.array(wanted)).max() < 0.01


def blank(side: int) -> Image:
    return np.full((side, side, 3), 250, np.uint8)


def one_stain(index: int) -> Image:
    parts = concentrations(64)
    parts[..., 1 - index] = 0
    return combine_stains(parts, H_E)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (blank(64), "fewer than"),
        (np.zeros((1, 1, 3), np.uint8), "fewer than"),
        (np.zeros((64, 64, 3), np.uint8), "a single stain"),
        (np.full((64, 64, 3), (120, 60, 140), np.uint8), "a single stain"),
        (one_stain(0), "a single stain"),
        (one_stain(1), "a single stain"),
        (combine_stains(concentrations(6)), "fewer than"),
        (np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), ""),
    ],
    ids=["blank", "one pixel", "black", "one colour", "hematoxylin", "eosin", "tiny", "noise"],
)
def test_what_cannot_tell_gets_the_fallback_and_a_reason(image: Image, why: str) -> None:
    estimate = estimate_stains(image, fallback=H_DAB)
    assert np.isfinite(estimate.matrix).all()
    assert estimate.why.startswith(why)
    if estimate.why:
        assert (estimate.matrix == H_DAB).all()


def test_real_pictures_give_stains_near_the_known(data: Path) -> None:
    ihc = estimate_stains(np.asarray(immunohistochemistry()), H_DAB)
    assert ihc.why == ""
    assert angles_deg(ihc.matrix, H_DAB).max() < 25
    for name in ("torchstain_source.png", "hgsc_nest.jpg"):
        estimate = estimate_stains(read_image(data / "he" / name))
        assert estimate.why == ""
        assert min(angles_deg(estimate.matrix, VECTORS[known]).max() for known in ("h-e", "h-e-ruifrok")) < 25


def test_white_is_the_colour_of_the_glass() -> None:
    picture = combine_stains(concentrations(), H_E, white=(240, 243, 235))
    picture[:40] = (240, 243, 235)
    assert white_level(picture).tolist() == [240, 243, 235]
    assert white_level(np.full((50, 50, 3), (120, 40, 130), np.uint8)).tolist() == [255] * 3


def test_normalizing_gives_the_references_look() -> None:
    source = combine_stains(concentrations(), OWN)
    reference = combine_stains(1.4 * concentrations()[::-1], H_E)
    looks = [stain_look(image) for image in (source, reference)]
    found = normalize_stains(source, *looks)
    wanted = combine_stains(1.4 * concentrations(), H_E)
    assert np.abs(found.astype(int) - wanted).mean() < 6
    assert np.abs(source.astype(int) - wanted).mean() > 12


def test_a_look_on_itself_changes_nothing() -> None:
    source = combine_stains(concentrations(), OWN)
    look = stain_look(source)
    assert np.abs(normalize_stains(source, look, look).astype(int) - source).max() <= 1


def test_a_blank_look_normalizes_nothing_away() -> None:
    look = stain_look(blank(64))
    assert look.why
    assert look.strength.tolist() == [0, 0]
    reference = StainLook(H_E, np.ones(2), np.full(3, 255.0))
    assert normalize_stains(blank(64), look, reference).min() >= 250


def test_a_lab_takes_anothers_look(data: Path) -> None:
    source, target = (read_image(data / "he" / f"torchstain_{name}.png") for name in ("source", "target"))
    before, wanted = stain_look(source), stain_look(target)
    after = stain_look(normalize_stains(source, before, wanted))
    assert angles_deg(before.matrix, wanted.matrix).max() > 20
    assert angles_deg(after.matrix, wanted.matrix).max() < 8
    assert after.strength == pytest.approx(wanted.strength, rel=0.15)
