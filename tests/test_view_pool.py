"""Slides as the web app reads them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from chromogen.app.view.opened import NOMINAL_MPP, ShelfPool, opened
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.slides.slide import open_slide
from chromogen.slides.source import SlideError
from synthetic_slides import write_pyramid
from test_slide_catalog import picture


def test_a_slide_is_shared_until_its_file_changes(tmp_path: Path) -> None:
    pool, shelf = ShelfPool(), SlideCatalog([picture(tmp_path / "a.png")])
    (entry,) = shelf.entries()
    with pool.reading(entry) as one, pool.reading(entry) as other:
        assert one is other
        assert one.size == (4, 4)
        picture(tmp_path / "a.png", (5, 4))
        with pool.reading(shelf.find(entry.id)) as fresh:
            assert fresh.size == (5, 4)
    pool.close()


def test_its_own_pixel_size_is_kept(data: Path) -> None:
    path = data / "slides" / "small.svs"
    entry = SlideCatalog([path]).entries()[0]
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
        opened(SlideCatalog([broken]).entries()[0])
    assert "secret folder" not in str(error.value)


def test_what_cannot_be_read_names_no_folder(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    path = tmp_path / "secret folder" / "damaged.tif"
    path.parent.mkdir()
    write_pyramid(path, image, compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        where = tiff.pages.first.dataoffsets[0]
    with path.open("rb+") as file:
        file.seek(where)
        file.write(b"no deflate")
    pool, entry = ShelfPool(), SlideCatalog([path]).entries()[0]
    with pytest.raises(SlideError, match=r"damaged\.tif") as error, pool.reading(entry) as opened:
        opened.slide.read_region((0, 0), (50, 50))
    assert "secret folder" not in str(error.value)
    with pool.reading(entry) as opened:
        assert opened.slide.read_region((200, 200), (50, 50)).shape == (50, 50, 3), "the rest can be read"
    pool.close()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tif", b"II*\0"),
        ("b.tif", b"II*\0\x08\0\0\0"),
        ("c.tif", b"MM\0+"),
        ("d.svs", b"II*\0\x08\0\0\0\x01\0"),
        ("e.png", b""),
        ("f.dcm", b"DICM"),
    ],
)
def test_a_broken_file_is_refused_in_words_of_its_owner(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=name) as refused:
        opened(SlideCatalog([tmp_path]).entries()[0])
    assert not any(word in str(refused.value) for word in ("unpack", "buffer", "index", "(0)", "None"))
