"""Slides and virtual stains as dask arrays, against what is read and written at once."""

from __future__ import annotations

import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from skimage.filters import gaussian

import chromogen
from chromogen.slides.facts import Facts
from chromogen.slides.slide import open_slide
from chromogen.slides.writer import write_ome_tiff
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide import lazy
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.lazy import lazy_slide, lazy_stain
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from synthetic import WherePixels, drawn
from synthetic_slides import write_he

SIZE = (700, 520)
MPP = 0.25


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An H&E of two levels at half the stainers' pixel size."""
    return write_he(tmp_path_factory.mktemp("lazy") / "slide.ome.tif", SIZE, MPP)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "BLOCK_PX", 128)
    monkeypatch.setattr(lazy, "READ_PX", 200)


def written(slide: Path, out: Path, name: str, region: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """What `stain_slide` writes."""
    stain_slide(SlideJob(SlideFile(slide), Stainer.from_pretrained(name), region), Output(out, "deflate"))
    with open_slide(out) as made:
        return made.read_region((0, 0), made.size)


def test_every_level_and_pixel_of_a_slide(tmp_path: Path) -> None:
    """Their values are their places."""
    file = tmp_path / "where.ome.tif"
    write_ome_tiff(file, WherePixels((1300, 1100)), Facts(0.5, "identity"), compression="deflate")
    picture = lazy_slide(file)
    assert [level.shape for level in picture.levels] == [(1100, 1300, 3), (550, 650, 3), (275, 325, 3)]
    assert picture.mpps == pytest.approx((0.5, 1.0, 2.0))
    assert picture.levels[0].dtype == np.uint8
    with open_slide(file) as slide:
        for number, level in enumerate(picture.levels):
            size = level.shape[1], level.shape[0]
            assert np.array_equal(level.compute(), slide.read_level(number, (0, 0), size))
    x, y = 777, 401
    assert picture.levels[0][y, x].compute().tolist() == [x & 255, y & 255, (x >> 8 & 15) | (y >> 8 & 15) << 4]


@pytest.mark.parametrize("name", ["nuclear", "normalize"])
@pytest.mark.parametrize("region", [None, (101, 60, 520, 410)])
def test_blocks_are_those_that_are_written(
    slide: Path, name: str, region: tuple[int, int, int, int] | None, tmp_path: Path
) -> None:
    expected = written(slide, tmp_path / "out.ome.tif", name, region)
    picture = lazy_stain(slide, name, region=region)
    assert picture.notice.startswith("virtual stain, research use only")
    assert np.array_equal(picture.levels[0].compute(scheduler="synchronous"), expected)
    corner = picture.levels[0][200:260, 100:130].compute()
    assert np.array_equal(corner, expected[200:260, 100:130])
    kept = lazy_slide(tmp_path / "out.ome.tif")
    assert kept.notice == picture.notice
    assert kept.mpps[0] == pytest.approx(picture.mpps[0])
    assert kept.origin_um == pytest.approx(picture.origin_um, abs=MPP)


def test_only_what_is_asked_for_is_stained(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[object] = []
    original = lazy.painted_block

    def counted(*given: object) -> object:
        painted.append(given)
        return original(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(lazy, "painted_block", counted)
    array = lazy_stain(slide, "normalize").levels[0]
    assert not painted
    array[130:140, 10:20].compute()
    assert len(painted) == 1


def test_scikit_image_takes_it(slide: Path) -> None:
    array = lazy_stain(slide, "normalize").levels[0]
    blurred = da.map_overlap(lambda part: gaussian(part, 2, channel_axis=2), array, depth=(8, 8, 0), dtype=float)
    whole = gaussian(array.compute(), 2, channel_axis=2)
    np.testing.assert_allclose(blurred.compute()[20:-20, 20:-20], whole[20:-20, 20:-20], atol=1e-6)


def test_another_process_stains_it(slide: Path) -> None:
    corner = lazy_stain(slide, "normalize").levels[0][:50, :50]
    assert np.array_equal(corner.compute(scheduler="processes", num_workers=1), corner.compute())


def test_a_slide_without_pixel_size(tmp_path: Path) -> None:
    file = tmp_path / "tile.png"
    chromogen.write_image(file, drawn(64, 2))
    assert lazy_slide(file).mpps == (None,)
    assert lazy_slide(file, mpp=0.5).mpps == (0.5,)
    with pytest.raises(ValueError, match="Expected `mpp` to be known"):
        lazy_stain(file)


def test_errors_come_at_once(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lazy_slide(tmp_path / "missing.svs")
    with pytest.raises(ValueError, match="Expected `region` to be X,Y,W,H inside"):
        lazy_stain(slide, region=(0, 0, 9999, 10))
    with open_slide(slide) as opened, pytest.raises(ValueError, match="Expected `region` to be inside"):
        opened.read_level(0, (600, 0), (200, 10))


def test_without_the_extra(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(ValueError, match=r"pip install 'chromogen\[arrays\]'"):
        lazy_slide(slide)
