"""Fields of a slide's tissue: the whole where it is small, else squares that lie on tissue."""

import numpy as np
import pytest

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.slides.slide import Slide
from chromogen.whole_slide import survey
from chromogen.whole_slide.survey import Region, tissue_fields
from synthetic_slides import Box, SyntheticSource, mean_of_blocks, synthetic_slide

TISSUE = Window(256, 128, 768, 640)


def two_colors(source: SyntheticSource, level: int, box: Box) -> Image:
    """A square of tissue whose red says its column and green its row, on glass."""
    factor = source.factors[level]
    x, y, w, h = (factor * side for side in box)
    rows, columns = np.mgrid[y : y + h, x : x + w]
    pixels = np.full((h, w, 3), 245, np.uint8)
    inside = (columns >= TISSUE.left) & (columns < TISSUE.right) & (rows >= TISSUE.top) & (rows < TISSUE.bottom)
    grey = np.stack([60 + columns // 8, 60 + rows // 8, np.full_like(rows, 200)], axis=2)
    pixels[inside] = grey[inside]
    return mean_of_blocks(pixels, factor)


@pytest.fixture
def slide(monkeypatch: pytest.MonkeyPatch) -> Slide:
    """A slide that is large for fields of a quarter of their usual size."""
    monkeypatch.setattr(survey, "WHOLE_PX", 512)
    monkeypatch.setattr(survey, "FIELD_PX", 128)
    return synthetic_slide((1024, 1024), two_colors, factors=(1, 4))


def fields_of(slide: Slide, mpp: float | None, region: Region | None = None) -> list[Image]:
    overview, step = slide.overview(128)
    return tissue_fields(slide, overview, step, mpp, region)


def test_a_small_slide_or_region_is_one_field(slide: Slide) -> None:
    (whole,) = fields_of(slide, 1.0)
    assert whole.shape == (512, 512, 3)
    (part,) = fields_of(slide, None, (300, 100, 300, 200))
    np.testing.assert_array_equal(part, slide.read_region((300, 100), (300, 200)))
    (halved,) = fields_of(slide, 1.0, (256, 128, 400, 200))
    assert halved.shape == (100, 200, 3)


def test_fields_of_a_large_slide_lie_on_its_tissue(slide: Slide) -> None:
    found = fields_of(slide, None)
    assert 8 <= len(found) <= survey.FIELDS
    assert {field.shape for field in found} == {(survey.FIELD_PX, survey.FIELD_PX, 3)}
    assert np.mean([(field[..., 2] == 200).mean() for field in found]) > 0.9


def test_fields_of_a_region_stay_inside_it(slide: Slide) -> None:
    found = fields_of(slide, None, (256, 0, 264, 1000))
    assert found
    for field in found:
        tissue = field[field[..., 2] == 200]
        assert tissue[:, 0].max() <= 60 + (256 + 263) // 8


def test_a_region_without_tissue_has_no_fields(slide: Slide) -> None:
    assert fields_of(slide, None, (0, 700, 1000, 300)) == []


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 1025, 5), (1000, 1000, 25, 5)])
def test_a_region_lies_inside_the_slide(slide: Slide, region: Region) -> None:
    with pytest.raises(ValueError, match="inside the 1024 x 1024 px"):
        fields_of(slide, None, region)
