"""How many bits of a sample are used, by what a file says and what its samples are."""

import warnings
from pathlib import Path

import pytest

from chromogen.formats.tiff_pages import bits_used

PATH = Path("a.tif")


@pytest.mark.parametrize(
    ("bits", "stated", "brightest", "used"),
    [
        (8, None, 10, 8),
        (12, None, 900, 12),
        (16, 12, 4095, 12),
        (16, 14, 10, 14),
        (16, 16, 900, 16),
        (16, 8, 9, 8),
    ],
)
def test_as_the_file_says(bits: int, stated: int | None, brightest: int, used: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bits_used(PATH, bits, stated, brightest) == used


@pytest.mark.parametrize("stated", [0, -1, 7, 17, 300])
def test_statements_that_cannot_be(stated: int) -> None:
    assert bits_used(PATH, 16, stated, 60_000) == 16


@pytest.mark.parametrize(("brightest", "used"), [(255, 8), (1023, 10), (1024, 12), (4095, 12), (16_383, 14)])
def test_by_the_brightest_sample(brightest: int, used: int) -> None:
    with pytest.warns(UserWarning, match=f"none above {brightest:,}; Chromogen reads them as {used} bits"):
        assert bits_used(PATH, 16, None, brightest) == used


@pytest.mark.parametrize("brightest", [0, 16_384, 65_535])
def test_samples_that_use_all_bits_or_none(brightest: int) -> None:
    assert bits_used(PATH, 16, None, brightest) == 16


def test_a_statement_that_samples_belie() -> None:
    with pytest.warns(UserWarning, match="states 12 significant bits and has samples up to 4,096"):
        assert bits_used(PATH, 16, 12, 4096) == 16
