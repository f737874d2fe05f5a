"""Which DICOM files are of one slide: those of one series in one folder, all of which OpenSlide opens by any."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".dcm"
MAGIC, BEGINS = b"DICM", 128  # before the first element lie a preamble and the magic
LOOKED_AT = 1 << 18  # bytes; a slide's series stands within the first few thousand
SERIES_INSTANCE_UID = (0x0020, 0x000E)
DELIMITERS, SEQUENCE_ENDS = 0xFFFE, 0xE0DD  # group of what is around items, and the element that ends them
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
UNDEFINED = 0xFFFFFFFF


def one_file_each(paths: Iterable[Path]) -> list[Path]:
    """The paths, but of the DICOM files of one slide the first alone."""
    found: dict[object, Path] = {}
    for path in paths:
        series = series_of(path) if path.suffix.lower() == SUFFIX else None
        found.setdefault((path.parent, series) if series else path, path)
    return list(found.values())


def series_of(path: Path) -> str | None:
    """SeriesInstanceUID of a DICOM file; None where it says none, is none, or cannot be read.

    Slides are in explicit VR, little endian (DICOM PS3.5, 7.1): of other encodings none is found.
    """
    try:
        with path.open("rb") as file:
            head = file.read(LOOKED_AT)
    except OSError:
        return None
    try:
        return _series(head)
    except (struct.error, UnicodeDecodeError):
        return None


def _series(head: bytes) -> str | None:
    """Elements one after the other; into sequences of no stated length we go, past others."""
    if head[BEGINS : BEGINS + 4] != MAGIC:
        return None
    at, depth = BEGINS + 4, 0
    while at < len(head):
        group, element, kind, length = struct.unpack_from("<HH2sH", head, at)
        at += 8
        if group == DELIMITERS:
            depth -= element == SEQUENCE_ENDS
            continue
        if kind in LONG:
            (length,) = struct.unpack_from("<I", head, at)
            at += 4
        if length == UNDEFINED:
            depth += 1
            continue
        value = head[at : at + length]
        if depth == 0 and (group, element) == SERIES_INSTANCE_UID and len(value) == length:
            return value.decode("ascii").rstrip("\0 ") or None
        at += length
    return None
