"""Few slides are open at a time, and none is closed while it is read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chromogen.app.view import pool as module
from chromogen.app.view.pool import NOMINAL_MPP, Opened, SlidePool, opened
from chromogen.app.view.shelf import Entry, Shelf
from chromogen.slides.slide import SlideError, open_slide
from test_shelf import picture


def entries(folder: Path, count: int) -> list[Entry]:
    for number in range(count):
        picture(folder / f"{number}.png")
    return Shelf([folder]).entries()


def test_the_longest_unread_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    pool, seen = SlidePool(), []
    for entry in entries(tmp_path, 3):
        with pool.reading(entry) as slide:
            seen.append(slide)
    with pytest.raises(SlideError, match="open"):
        seen[0].slide.overview(4)
    assert seen[2].slide.overview(4)[0].shape == (4, 4, 3)
    pool.close()
    with pytest.raises(SlideError, match="open"):
        seen[2].slide.overview(4)


def test_a_slide_that_is_read_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    pool = SlidePool()
    first, second = entries(tmp_path, 2)
    with pool.reading(first) as slide:
        with pool.reading(second):
            assert slide.slide.overview(4)[0].shape == (4, 4, 3)
        pool.close()
        assert slide.slide.overview(4)[0].shape == (4, 4, 3)
    with pytest.raises(SlideError, match="open"):
        slide.slide.overview(4)


def test_many_threads_open_a_slide_once(tmp_path: Path) -> None:
    times = []

    def opener(entry: Entry) -> Opened:
        times.append(entry)
        return opened(entry)

    pool = SlidePool(opener)
    (entry,) = entries(tmp_path, 1)

    def read(_: int) -> tuple[int, int]:
        with pool.reading(entry) as slide:
            return slide.size

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(read, range(50))) == {(4, 4)}
    assert len(times) == 1


def test_its_own_pixel_size_is_kept(data: Path) -> None:
    path = data / "slides" / "small.svs"
    entry = Shelf([path]).entries()[0]
    slide = opened(entry)
    assert slide.slide.mpp == NOMINAL_MPP
    with open_slide(path) as plain:
        assert slide.mpp == plain.mpp == pytest.approx(0.499)
    slide.slide.close()


def test_what_cannot_be_opened_names_no_folder(tmp_path: Path) -> None:
    broken = tmp_path / "secret folder" / "broken.svs"
    broken.parent.mkdir()
    broken.write_bytes(b"no slide")
    with pytest.raises(SlideError, match=r"broken\.svs") as error:
        opened(Shelf([broken]).entries()[0])
    assert "secret folder" not in str(error.value)
