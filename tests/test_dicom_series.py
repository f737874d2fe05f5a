"""DICOM files of one slide are one slide."""

from __future__ import annotations

import struct
from pathlib import Path

import openslide
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.slides.openslide_reader import one_file_each, series_of
from chromogen.slides.slide import list_slides, slide_files

SERIES = (0x0020, 0x000E)


def element(tag: tuple[int, int], kind: bytes, value: bytes, *, undefined: bool = False) -> bytes:
    """As PS3.5 7.1.2 lays it out."""
    length = 0xFFFFFFFF if undefined else len(value)
    if kind in (b"SQ", b"OB", b"UT"):
        return struct.pack("<HH2sHI", *tag, kind, 0, length) + value
    return struct.pack("<HH2sH", *tag, kind, length) + value


def item(value: bytes, *, undefined: bool = False) -> bytes:
    if undefined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + value + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def sequence(tag: tuple[int, int], *items: bytes, undefined: bool = False) -> bytes:
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if undefined else b""
    return element(tag, b"SQ", b"".join(items) + end, undefined=undefined)


def dicom(*elements: bytes) -> bytes:
    return bytes(128) + b"DICM" + b"".join(elements)


OTHER = element(SERIES, b"UI", b"9.9.9\0")
OURS = element(SERIES, b"UI", b"1.2.3\0")


@pytest.mark.parametrize("of_sequence", [False, True])
@pytest.mark.parametrize("of_item", [False, True])
def test_a_series_that_is_only_referred_to_is_not_the_files(
    tmp_path: Path, of_sequence: bool, of_item: bool
) -> None:
    """Sequences and items, of stated length and without."""
    inner = sequence((0x0008, 0x1111), item(OTHER, undefined=of_item), undefined=of_item)
    outer = sequence((0x0008, 0x1115), item(OTHER + inner, undefined=of_item), item(b""), undefined=of_sequence)
    said = element((0x0008, 0x0060), b"CS", b"SM"), element((0x0008, 0x0119), b"UT", b"x" * 70_000)
    (tmp_path / "a.dcm").write_bytes(dicom(*said, outer, OURS, element((0x7FE0, 0x0010), b"OB", bytes(9))))
    assert series_of(tmp_path / "a.dcm") == "1.2.3"


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", dicom(), dicom(OURS)[:-4], dicom(OURS)[4:]])
def test_what_says_no_series(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    assert series_of(tmp_path / "a.dcm") is None
    assert one_file_each([tmp_path / "a.dcm"]) == [tmp_path / "a.dcm"]


def test_what_is_not_there(tmp_path: Path) -> None:
    assert series_of(tmp_path / "none.dcm") is None
    assert series_of(tmp_path) is None


@given(st.binary(max_size=300), st.integers(0, 400))
def test_nothing_in_a_file_is_an_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes, cut: int) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.dcm"
    path.write_bytes(dicom(sequence((0x0008, 0x1115), item(noise), undefined=True), noise, OURS)[: 132 + cut])
    assert isinstance(series_of(path), str | None)


def test_one_file_of_each_slide(tmp_path: Path) -> None:
    """The first in natural order; of two folders, each its own; what says nothing and other files stay."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name, series in (("2.dcm", OURS), ("10.DCM", OURS), ("1.dcm", OTHER), ("11.dcm", OTHER)):
            (tmp_path / folder / name).write_bytes(dicom(series))
        (tmp_path / folder / "broken.dcm").write_bytes(b"x")
        (tmp_path / folder / "z.png").write_bytes(b"x")
    wanted = ["1.dcm", "2.dcm", "broken.dcm", "z.png"]
    assert [path.name for path in list_slides(tmp_path / "a")] == wanted
    assert [path.name for path in slide_files([tmp_path / "a", tmp_path / "b"])] == 2 * wanted
    named = [tmp_path / "a" / "2.dcm", tmp_path / "a" / "10.DCM"]
    assert slide_files(named) == named


def test_as_openslide_groups_them(data: Path) -> None:
    parts = [data / "slides" / f"boxes_{number}.dcm" for number in (0, 1)]
    for part in parts:
        with openslide.OpenSlide(part) as slide:
            assert series_of(part) == slide.properties["dicom.SeriesInstanceUID"]
    assert one_file_each(parts) == parts[:1]
