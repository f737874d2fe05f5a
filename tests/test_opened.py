"""Slides as the web app reads them."""

from pathlib import Path

import pytest

from chromogen.app.view.opened import NOMINAL_MPP, new_pool, opened, reading
from chromogen.app.view.shelf import Shelf
from chromogen.slides.slide import SlideError, open_slide
from test_shelf import picture


def test_a_slide_is_shared_until_its_file_changes(tmp_path: Path) -> None:
    pool, shelf = new_pool(), Shelf([picture(tmp_path / "a.png")])
    (entry,) = shelf.entries()
    with reading(pool, entry) as one, reading(pool, entry) as other:
        assert one.slide is other.slide
        assert one.size == (4, 4)
        picture(tmp_path / "a.png", (5, 4))
        with reading(pool, shelf.find(entry.id)) as fresh:
            assert fresh.size == (5, 4)
    pool.close()


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
