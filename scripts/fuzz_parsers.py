"""Guided fuzzing, by atheris, of the parsers that are ours: they may raise what they say, and nothing else.

    python scripts/fuzz_parsers.py [-max_total_time=60] [-runs=N] [CORPUS]

Needs `pip install atheris`; the options are libFuzzer's. It stops at the first exception that is none of ours.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["chromogen"]):
    from chromogen.app.arguments import byte_count
    from chromogen.app.unmix import parse_vectors
    from chromogen.app.view.guard import _name_of, is_loopback, tokens_in
    from chromogen.formats.ome_metadata import ome_facts
    from chromogen.formats.tiff_pages import check_chain
    from chromogen.regions.masks import read_geojson
    from chromogen.slides.facts import read_facts
    from chromogen.style.recipes import numbers, parse_layers

FOLDER = Path(tempfile.mkdtemp())


def _in_a_file(suffix: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        file = FOLDER / f"input{suffix}"
        file.write_bytes(data)
        return read(file)

    return parse


def _chain(data: bytes) -> None:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as tiff:
        check_chain(tiff)


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "replace"))


PARSERS: tuple[tuple[Callable[[bytes], object], tuple[type[Exception], ...]], ...] = (
    (_in_a_file(".geojson", lambda file: read_geojson(file, (40, 30))), (ValueError,)),
    (_in_a_file(".tif", read_facts), (OSError,)),
    (_text(ome_facts), ()),
    (_text(lambda text: parse_layers("layers", text)), (ValueError,)),
    (_text(lambda text: numbers("n", text, kind=float)), (ValueError,)),
    (_text(lambda text: byte_count("n", text)), (ValueError,)),
    (_text(parse_vectors), (ValueError,)),
    (_text(lambda text: tokens_in([text.encode()], text)), ()),
    (_text(_name_of), ()),
    (_text(is_loopback), ()),
    (_chain, (Exception,)),  # of tifffile too, before and in it: here only time and memory count
)


def one(data: bytes) -> None:
    """The first byte says which parser."""
    if not data:
        return
    parse, expected = PARSERS[data[0] % len(PARSERS)]
    with suppress(*expected):
        parse(data[1:])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
