"""Only what lies under the named paths is on the shelf, whatever links and names say."""

import os
from pathlib import Path

import numpy as np
import pytest

from chromogen.app.view.slide_catalog import SlideCatalog, UnknownSlideError
from chromogen.image import write_image
from test_dicom_series import OTHER, OURS, dicom


def picture(path: Path, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((*size[::-1], 3), np.uint8))
    return path


def names(shelf: SlideCatalog) -> list[str]:
    return [entry.name for entry in shelf.entries()]


def test_slides_of_folders_and_files_in_order(tmp_path: Path) -> None:
    for name in ("in/b.png", "in/deep/c.png", "in/a.png", "in/.hidden/d.png", "in/.e.png", "out/f.png"):
        picture(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no slide")
    shelf = SlideCatalog([tmp_path / "in", tmp_path / "out" / "f.png"])
    assert names(shelf) == ["a.png", "b.png", "deep/c.png", "f.png"]
    assert len({entry.id for entry in shelf.entries()}) == 4


def test_of_the_dicom_files_of_a_slide_the_first(tmp_path: Path) -> None:
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nothing.dcm")
    for name, series in (("a/1.dcm", OURS), ("a/2.dcm", OURS), ("a/3.dcm", OTHER), ("b/1.dcm", OURS)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(dicom(series))
    assert names(SlideCatalog([tmp_path])) == ["a/1.dcm", "a/3.dcm", "b/1.dcm"]


def test_ids_tell_no_path_and_last(tmp_path: Path) -> None:
    picture(tmp_path / "patient.png")
    entry = SlideCatalog([tmp_path]).entries()[0]
    assert len(entry.id) == 16
    assert int(entry.id, 16) >= 0
    assert SlideCatalog([tmp_path]).find(entry.id) == entry


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    shelf = SlideCatalog([tmp_path])
    entry = shelf.entries()[0]
    os.utime(path, ns=(1, 1))
    assert shelf.find(entry.id).version != entry.version


def test_links_out_of_the_roots_are_not_followed(tmp_path: Path) -> None:
    secret = picture(tmp_path / "secret" / "s.png")
    root = tmp_path / "root"
    picture(root / "a.png")
    (root / "out.png").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "inside.png").symlink_to(root / "a.png")
    (root / "gone.png").symlink_to(root / "nothing.png")
    assert names(SlideCatalog([root])) == ["a.png", "inside.png"]


def test_a_file_that_becomes_a_link_out_is_not_found_any_more(tmp_path: Path) -> None:
    secret, path = picture(tmp_path / "secret.png"), picture(tmp_path / "root" / "a.png")
    shelf = SlideCatalog([tmp_path / "root"])
    entry = shelf.entries()[0]
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(UnknownSlideError):
        shelf.find(entry.id)


@pytest.mark.parametrize("slide_id", ["", "..", "../secret.png", "0" * 16, "%2e%2e"])
def test_what_is_no_id_finds_nothing(tmp_path: Path, slide_id: str) -> None:
    picture(tmp_path / "root" / "a.png")
    picture(tmp_path / "secret.png")
    with pytest.raises(UnknownSlideError):
        SlideCatalog([tmp_path / "root"]).find(slide_id)


def test_new_files_appear(tmp_path: Path) -> None:
    shelf = SlideCatalog([tmp_path])
    assert shelf.entries() == []
    picture(tmp_path / "a.png")
    shelf.add(tmp_path / "later")
    picture(tmp_path / "later" / "b.png")
    assert "a.png" in names(shelf)


def test_missing_roots_are_refused_and_empty_ones_are_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="existing slide or folder"):
        SlideCatalog([tmp_path / "nothing"])
    assert SlideCatalog([tmp_path]).entries() == [], "the page says that there are none"
