"""Area means and cubic interpolation against plain sums, and that a pixel depends on its own place alone."""

from fractions import Fraction

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.image import Image
from chromogen.slides.resampling import Span, resample


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def area_mean(row: np.ndarray, start: float, stop: float) -> float:
    """The integral of a row of even pixels, by its definition."""
    covered = [max(0.0, min(stop, i + 1) - max(start, i)) for i in range(len(row))]
    return float(np.dot(covered, row) / sum(covered))


@given(st.floats(1.0, 9.0), st.floats(0.0, 5.0), st.integers(0, 3))
def test_area_means(step: float, offset: float, first: int) -> None:
    pixels, span = noise(1, 80), Span(offset, step, first, 4)
    found = resample(pixels, (0, 0), span, Span(0.0, 1.0, 0, 1))
    for index in range(4):
        start = offset + step * (first + index)
        expected = area_mean(pixels[0, :, 0].astype(float), start, start + step)
        assert abs(found[0, index, 0] - expected) <= 0.501


@given(st.integers(2, 20), st.integers(1, 20), st.integers(0, 3), st.integers(0, 6))
def test_means_of_whole_pixels_are_exact(width: int, height: int, first: int, origin: int) -> None:
    pixels, offset = noise(4 * height, 70)[::-1], 6
    x, y = Span(float(offset), float(width), first, 3), Span(0.0, float(height), 0, 4)
    at = np.clip(np.arange(offset + width * first, offset + width * (first + 3)), origin, 69)
    blocks = pixels[:, at].astype(int).reshape(4, height, 3, width, 3)
    expected = [[round(Fraction(int(s), width * height)) for s in row.ravel()] for row in blocks.sum((1, 3))]
    found = resample(pixels[:, origin:], (origin, 0), x, y)
    assert found.reshape(4, -1).tolist() == expected, "halves to even"
    nearly = resample(pixels[:, origin:], (origin, 0), x._replace(offset=offset + 1e-9), y)
    assert np.array_equal(found, nearly), "as by weights"


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.7, 0.99])
def test_finer_is_what_pillow_makes(scale: float) -> None:
    pixels, count = noise(40, 40) // 3 + 80, int(20 / scale)  # Pillow clips after each of its two passes
    span = Span(10.0, 20 / count, 0, count)
    box = (10, 10, 30, 30)
    expected = PIL.Image.fromarray(pixels).resize((count, count), PIL.Image.Resampling.BICUBIC, box)
    assert np.abs(resample(pixels, (0, 0), span, span).astype(int) - np.asarray(expected)).max() <= 2


@given(st.floats(0.3, 7.0) | st.integers(1, 7).map(float), st.integers(2, 30), st.data())
def test_a_part_is_a_crop_of_the_whole_in_every_bit(step: float, count: int, data: st.DataObject) -> None:
    offset = 3.0 if step.is_integer() else 0.3
    whole, cut = Span(offset, step, 0, count), data.draw(st.integers(1, count - 1))
    pixels = noise(8, int(whole.stop) + 2)
    y = Span(0.0, 1.0, 0, 8)
    part = whole._replace(first=cut, length=count - cut)
    left, right = part.cover(pixels.shape[1])
    found = resample(pixels[:, left:right], (left, 0), part, y)
    assert np.array_equal(found, resample(pixels, (0, 0), whole, y)[:, cut:])


@given(st.floats(0.1, 50.0), st.integers(1, 500), st.integers(1, 300))
def test_parts_follow_each_other(step: float, count: int, longest: int) -> None:
    parts = Span(0.0, step, 7, count).parts(longest)
    assert parts[0].first == 7
    assert [part.first + part.length for part in parts[:-1]] == [part.first for part in parts[1:]]
    assert sum(part.length for part in parts) == count
    assert all(part.length == 1 or part.length * step <= longest + step for part in parts)


def test_beyond_the_edge_lies_more_of_it() -> None:
    pixels = np.full((3, 3, 3), 7, np.uint8)
    span = Span(0.0, 2.0, 0, 2)
    assert (resample(pixels, (0, 0), span, span) == 7).all()


@pytest.mark.parametrize(
    ("span", "is_crop"),
    [
        (Span(3.0, 1.0, 0, 5), True),
        (Span(0.0, 1.0, 5, 5), True),
        (Span(0.0, 1.0, 6, 5), False),
        (Span(0.5, 1.0, 0, 5), False),
        (Span(0.0, 2.0, 0, 5), False),
    ],
)
def test_what_is_a_crop(span: Span, is_crop: bool) -> None:
    assert span.is_crop_of(10) == is_crop
