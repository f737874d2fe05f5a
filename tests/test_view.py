import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest

from chromogen.compute.tiles import Window, whole
from chromogen.slides.slide import open_slide
from chromogen.slides.source import SlideError
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide import view as view_module
from chromogen.whole_slide.view import (
    DamageError,
    SlideFile,
    View,
    held_slide,
    read_around_damage,
    shared_slide,
    view_at,
    warn_of_coarse_pixels,
)
from synthetic_slides import (
    coordinates,
    crop,
    mean_of_blocks,
    paint_coordinates,
    synthetic_slide,
    write_ome_zarr,
    write_pyramid,
    write_svs,
)
from test_pool import is_open


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    view_module._SLIDES.close()


def test_a_view_is_the_slide_at_an_mpp() -> None:
    slide = synthetic_slide((800, 640), paint_coordinates)
    view = view_at(slide, 1.0)
    assert view.size == (400, 320)
    expected = mean_of_blocks(coordinates(800, 640), 2)
    np.testing.assert_array_equal(view.read(Window(30, 50, 71, 80)), crop(expected, (30, 50), (41, 30)))


@pytest.mark.parametrize(("own", "wanted", "same"), [(0.499, 0.5, True), (0.509, 0.5, True), (0.52, 0.5, False)])
def test_nearly_the_same_mpp_is_the_same(own: float, wanted: float, same: bool) -> None:
    view = view_at(synthetic_slide((300, 200), paint_coordinates, mpp=own), wanted)
    assert (view.size == (300, 200)) is same
    if same:
        np.testing.assert_array_equal(view.read(whole(view.size)), coordinates(300, 200))


def test_a_slide_without_mpp_is_refused_with_the_option_that_helps() -> None:
    with pytest.raises(SlideError, match="--mpp"):
        view_at(synthetic_slide((300, 200), paint_coordinates, mpp=None), 0.5)


def test_damage_is_narrowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (300, 260, 100, 90)
    slide = synthetic_slide((1000, 700), paint_coordinates, broken=[broken])
    monkeypatch.setattr(view_module, "open_slide", lambda _path: synthetic_slide((1000, 700), paint_coordinates))
    pixels, damaged = read_around_damage(View(slide, None), Window(10, 20, 910, 620))
    lost = np.zeros((700, 1000), bool)
    for window in damaged:
        lost[window.at] = True
    assert lost[260:350, 300:400].all()
    assert lost.sum() < 9 * view_module.SMALLEST_DAMAGE_PX**2
    seen, kept = coordinates(1000, 700)[20:620, 10:910], ~lost[20:620, 10:910]
    np.testing.assert_array_equal(pixels[kept], seen[kept])
    assert (pixels[~kept] == 255).all()


def test_a_slide_that_is_gone_is_no_damage(tmp_path: Path) -> None:
    slide = synthetic_slide((300, 300), paint_coordinates, broken=[(0, 0, 300, 300)])
    with pytest.raises(DamageError, match="gone"):
        read_around_damage(View(slide, None), Window(0, 0, 300, 300))


def test_one_slide_is_open_for_all_until_no_job_holds_it(tmp_path: Path) -> None:
    file = SlideFile(write_pyramid(tmp_path / "a.tif", coordinates(200, 150)), mpp=0.7)
    with held_slide(file) as slide:
        with held_slide(file) as again:
            assert again is slide
        with shared_slide(file, slide.quickhash) as shared:
            assert shared is slide
        assert slide.mpp == 0.7
        assert slide.read_region((0, 0), (1, 1)).shape == (1, 1, 3)
    with pytest.raises(SlideError, match="close"):
        slide.read_region((0, 0), (1, 1))


def test_a_slide_of_the_same_name_is_opened_anew(tmp_path: Path) -> None:
    """As on a worker that has read the old one for another job."""
    file = SlideFile(write_pyramid(tmp_path / "a.tif", coordinates(200, 150)))
    with shared_slide(file) as slide:
        before = slide.quickhash
    write_pyramid(file.path, coordinates(200, 150) // 2)
    with file.open() as slide:
        now = slide.quickhash
    assert before != now
    with held_slide(file):
        with shared_slide(file, now) as slide:
            assert (slide.read_region((0, 0), (200, 150)) == coordinates(200, 150) // 2).all()
        with pytest.raises(DamageError, match="has changed"), shared_slide(file, before):
            pytest.fail("it is another slide")


def test_of_other_processes_jobs_a_few_slides_stay_open(tmp_path: Path) -> None:
    files = [SlideFile(write_pyramid(tmp_path / f"{n}.tif", coordinates(64, 64))) for n in range(8)]
    slides = []
    for file in files:
        with shared_slide(file) as slide:
            slides.append(slide)
    assert [is_open(slide) for slide in slides] == [False] * 4 + [True] * 4


def test_a_worker_with_more_jobs_than_slides_it_keeps_open_reads_all_of_them(tmp_path: Path) -> None:
    pixels = np.minimum(coordinates(256, 256), 200)
    paths = [write_pyramid(tmp_path / f"{n}.tif", pixels, compression="deflate") for n in range(8)]

    def read(number: int) -> None:
        with shared_slide(SlideFile(paths[number % len(paths)])) as slide:
            made, damaged = read_around_damage(View(slide, None), Window(0, 0, 256, 256))
        assert not damaged
        np.testing.assert_array_equal(made, pixels)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(64)))


# --- what is no damage is never left white ---

WINDOW = Window(0, 0, 300, 300)


def test_a_slide_that_is_closed_is_no_damage(tmp_path: Path) -> None:
    with open_slide(write_pyramid(tmp_path / "a.tif", coordinates(300, 300))) as slide:
        pass
    with pytest.raises(SlideError, match="after close"):
        read_around_damage(View(slide, None), WINDOW)


def test_a_file_closed_under_its_reader_is_no_damage(tmp_path: Path) -> None:
    with open_slide(write_pyramid(tmp_path / "a.tif", coordinates(300, 300))) as slide:
        slide._source._tiff.close()  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="out of reach"):
            read_around_damage(View(slide, None), WINDOW)


@pytest.mark.parametrize(
    ("place", "trouble"),
    [
        ("tifffile.FileHandle.read", OSError(5, "Input/output error")),
        ("tifffile.FileHandle.read", MemoryError()),
        ("chromogen.slides.tiff_reader._Segments.decode", MemoryError()),
    ],
)
def test_what_the_system_cannot_do_is_no_damage(
    place: str, trouble: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object, **_more: object) -> None:
        raise trouble

    with open_slide(write_pyramid(tmp_path / "a.tif", coordinates(300, 300))) as slide:
        monkeypatch.setattr(place, fail)
        with pytest.raises((OSError, MemoryError)):
            read_around_damage(View(slide, None), WINDOW)


def test_a_file_cut_short_while_it_is_read_is_no_damage(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", coordinates(300, 300))
    with open_slide(path) as slide:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(DamageError, match="is gone"):
            read_around_damage(View(slide, None), WINDOW)


def test_another_file_in_its_place_is_no_damage(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", coordinates(300, 300), compression="deflate")
    with open_slide(path) as slide:
        assert slide.quickhash
        path.write_bytes(write_pyramid(tmp_path / "b.tif", coordinates(300, 300)).read_bytes())
        with pytest.raises(DamageError, match="has changed"):
            read_around_damage(View(slide, None), WINDOW)


def test_a_zarr_folder_that_is_gone_is_no_white_slide(tmp_path: Path) -> None:
    """Zarr takes chunks that are not there for empty ones."""
    path = write_ome_zarr(tmp_path / "a.ome.zarr", coordinates(300, 300))
    with open_slide(path) as slide:
        path.rename(tmp_path / "away")
        with pytest.raises(OSError, match="folder is gone"):
            read_around_damage(View(slide, None), WINDOW)


@pytest.mark.parametrize(
    ("said", "is_damage"),
    [
        ("Couldn't open slide.svs: Too many open files", False),
        ("I/O error reading file slide.svs", False),
        ("Couldn't open Data0003.dat: No such file or directory", False),
        ("Cannot read raw tile", True),
        ("Short read of file slide.svs: 10 < 20", True),
    ],
)
def test_openslides_words_tell_damage_from_trouble(
    said: str, is_damage: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> None:
        raise openslide.OpenSlideError(said)

    with (
        open_slide(write_svs(tmp_path / "a.svs", coordinates(300, 300))) as slide,
        monkeypatch.context() as broken,
    ):
        broken.setattr(openslide.OpenSlide, "read_region", fail)
        if is_damage:
            assert read_around_damage(View(slide, None), WINDOW)[1]
        else:
            with pytest.raises(OSError, match="out of reach"):
                read_around_damage(View(slide, None), WINDOW)
        broken.undo()
        assert not read_around_damage(View(slide, None), WINDOW)[1], "the next read is by a new handle"


@pytest.mark.parametrize(("own", "warned"), [(0.25, False), (1.0, False), (1.01, True), (4.0, True)])
def test_a_slide_far_coarser_than_the_stainer_is_warned_of(own: float, warned: bool) -> None:
    """Where the stainer looks at the tissue; a finer slide is simply resampled."""
    slide = synthetic_slide((300, 200), paint_coordinates, mpp=own)
    knows_tissue = Stainer("net", "DAB", lambda image, *_: image, "0", mpp=0.5, halo_px=80)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_coarse_pixels(slide, knows_tissue)
        warn_of_coarse_pixels(slide, replace(knows_tissue, halo_px=0))
    assert ["expect a poor stain" in str(warning.message) for warning in caught] == [True] * warned
