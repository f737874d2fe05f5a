"""Outlines over pictures, and which field of a slide is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from chromogen.nuclei.positivity import fixed_threshold
from chromogen.whole_slide import nuclei_files
from chromogen.whole_slide.nuclei_files import BLOCK_PX, BLUE, BROWN_RED, drawn, judged, outlined
from synthetic_slides import synthetic_slide
from test_nuclei_geojson import part_of

WHITE = np.full((100, 1100, 3), 255, np.uint8)


def test_outlines_are_thin_closed_and_antialiased() -> None:
    part = part_of(np.array([[50, 50]]), np.full((1, 32), 30.0), np.array([1.0]))
    made = outlined(WHITE, part.nuclei.outlines_px, [BLUE])
    y, x = np.mgrid[:100, :1100] + 0.5
    distance = abs(np.hypot(x - 50, y - 50) - 30)
    changed = (made != 255).any(axis=2)
    assert not changed[distance > 2.5].any()
    assert changed[distance < 0.3].all(), "closed"
    assert len(np.unique(made[changed], axis=0)) > 5, "antialiased"
    assert (made[changed] >= np.array(BLUE) - 1).all()
    assert (WHITE == 255).all(), "the picture that is given stays"


@pytest.mark.parametrize("at", [BLOCK_PX - 3, BLOCK_PX + 20])
def test_blocks_do_not_show(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    part = part_of(np.array([[at, 60], [at + 8, 40]]), np.full((2, 32), 25.0), np.array([1.0, 0.0]))
    by_blocks = outlined(WHITE, part.nuclei.outlines_px, [BLUE, BROWN_RED])
    monkeypatch.setattr(nuclei_files, "BLOCK_PX", 2048)
    at_once = outlined(WHITE, part.nuclei.outlines_px, [BLUE, BROWN_RED])
    np.testing.assert_allclose(by_blocks.astype(int), at_once.astype(int), atol=40)


def test_of_a_slide_the_densest_field_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei_files, "TILE_PX", 1000)
    monkeypatch.setattr(nuclei_files, "FIELD_PX", 512)
    slide = synthetic_slide((6000, 4000), mpp=0.25)
    centres = np.array([[100, 100], *((4000 + 30 * i, 3100 + 20 * i) for i in range(10))])
    part = judged(part_of(centres, np.full((11, 32), 20.0), np.ones(11)), "slide", fixed_threshold(0.5))
    image, mpp, (x, y, width, height) = drawn(slide, lambda: iter([part]))
    assert (image.shape, mpp) == ((512, 512, 3), 0.5)
    assert (width, height) == (1024, 1024)
    assert x <= 4000 <= 4270 <= x + width
    assert y <= 3100 <= 3280 <= y + height
    column, row = (4000 - x) // 2 + 10, (3100 - y) // 2
    assert abs(image[row, column - 1 : column + 2].astype(int) - BROWN_RED).sum(axis=1).min() < 60


def test_a_slide_without_nuclei_and_a_long_strip_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei_files, "TILE_PX", 1000)
    image, _, place = drawn(synthetic_slide((5000, 100), mpp=0.5), lambda: iter([]))
    assert image.shape == (100, 2048, 3)
    assert place == (0, 0, 2048, 100)
