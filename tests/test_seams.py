import numpy as np
import pytest

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.whole_slide.survey import seam_score

SIZE = (600, 500)
CORES = [Window(x, y, x + 128, y + 128) for y in (0, 128, 256) for x in (0, 128, 256, 384)]
NOISE = np.random.default_rng(0).integers(0, 40, (500, 600, 3), dtype=np.uint8)


def score(picture: Image) -> float | None:
    return seam_score(lambda window: picture[window.at], CORES, SIZE)


def test_without_seams_it_is_one() -> None:
    assert score(NOISE) == pytest.approx(1, abs=0.02)


def test_a_step_at_every_border_shows() -> None:
    checkered = (np.indices(SIZE[::-1]) // 128).sum(axis=0) % 2
    seen = score(NOISE + (20 * checkered[..., None]).astype(np.uint8))
    assert seen is not None
    assert seen > 1.5


def test_a_step_elsewhere_does_not() -> None:
    checkered = ((np.indices(SIZE[::-1]) + 64) // 128).sum(axis=0) % 2
    assert score(NOISE + (20 * checkered[..., None]).astype(np.uint8)) == pytest.approx(1, abs=0.05)


def test_one_seam_is_measured_by_its_step() -> None:
    """A ramp of 1 a pixel with a step of 5 more at x = 128: 6 where 1 is usual."""
    ramp = np.arange(600) // 4 * 4 // 4 + 5 * (np.arange(600) >= 128)
    picture = np.broadcast_to(ramp[None, :, None], (500, 600, 3)).astype(np.uint8)
    read = lambda window: picture[window.at]  # noqa: E731
    assert seam_score(read, [Window(128, 128, 256, 256)], SIZE) == pytest.approx(6)


def test_no_border_or_nothing_to_see_is_no_score() -> None:
    assert seam_score(lambda window: NOISE[window.at], CORES[:1], SIZE) is None
    assert score(np.full((500, 600, 3), 7, np.uint8)) is None
