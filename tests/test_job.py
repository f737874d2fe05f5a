import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.staining.stainer import identity, normalize
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.view import SlideFile, View, view_at
from synthetic_slides import synthetic_slide

FILE = SlideFile("slide.svs")  # type: ignore[arg-type]
SLIDE = synthetic_slide((1000, 801))


def job(region: tuple[int, int, int, int] | None = None) -> SlideJob:
    return SlideJob(FILE, identity(), region)


def test_a_region_of_level_0_is_the_same_window_of_the_slides_own_pixels() -> None:
    window = job((10, 20, 300, 400)).window(View(SLIDE, None))
    assert (window.left, window.top, window.size) == (10, 20, (300, 400))


@given(st.data())
def test_a_region_is_inside_the_view_and_not_empty(data: st.DataObject) -> None:
    view = view_at(SLIDE, data.draw(st.sampled_from([0.25, 0.7, 1.0, 8.0])))
    x, y = data.draw(st.integers(0, 999)), data.draw(st.integers(0, 800))
    size = data.draw(st.integers(1, 1000 - x)), data.draw(st.integers(1, 801 - y))
    window = job((x, y, *size)).window(view)
    assert 0 <= window.left < window.right <= view.size[0]
    assert 0 <= window.top < window.bottom <= view.size[1]
    assert abs(window.size[0] - size[0] * view.size[0] / 1000) <= 2


def test_the_whole_region_is_the_whole() -> None:
    view = view_at(SLIDE, 0.7)
    assert job((0, 0, 1000, 801)).window(view) == job().window(view)


@pytest.mark.parametrize(
    "region", [(-1, 0, 5, 5), (0, 0, 1001, 5), (0, 0, 0, 5), (999, 800, 2, 1), (0, 801, 1, 1)]
)
def test_a_region_elsewhere_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="inside the slide's 1000 x 801 px"):
        job(region).window(View(SLIDE, None))


def test_what_decides_the_pixels_is_in_the_plan() -> None:
    view = view_at(SLIDE, 0.5)
    plans = [
        job().plan(view),
        job((0, 0, 9, 9)).plan(view),
        SlideJob(FILE, normalize()).plan(view),
        SlideJob(FILE, identity(), mask_tissue=False).plan(view),
        SlideJob(FILE._replace(icc=False), identity()).plan(view),
        job().plan(view_at(SLIDE, 1.0)),
        job().plan(view_at(synthetic_slide((1000, 802)), 0.5)),
    ]
    assert len({str(plan) for plan in plans}) == len(plans)
    assert "slide.svs" not in str(plans)
