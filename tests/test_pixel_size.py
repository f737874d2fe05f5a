"""Units of length as files name them, and which sizes of a pixel can be."""

import math

import pytest

from chromogen.pixel_size import (
    check_mpp,
    first_plausible,
    is_same_mpp,
    plausible_mpp,
    resolution_mpp,
    stated_mpp,
    um_per_unit,
)

# The lengths of the OME schema of 2016-06 in metres, from SI and the international yard (0.9144 m).
SI = {
    "Ym": 1e24,
    "Zm": 1e21,
    "Em": 1e18,
    "Pm": 1e15,
    "Tm": 1e12,
    "Gm": 1e9,
    "Mm": 1e6,
    "km": 1e3,
    "hm": 1e2,
    "dam": 10,
    "m": 1,
    "dm": 0.1,
    "cm": 0.01,
    "mm": 1e-3,
    "µm": 1e-6,
    "nm": 1e-9,
    "pm": 1e-12,
    "fm": 1e-15,
    "am": 1e-18,
    "zm": 1e-21,
    "ym": 1e-24,
    "Å": 1e-10,
}
YARD = {"yd": 1, "ft": 1 / 3, "in": 1 / 36, "li": 1 / 432, "thou": 1 / 36_000, "mi": 1760, "pt": 1 / 2592}
SKY = {"ua": 149_597_870_700, "ly": 9_460_730_472_580_800, "pc": 648_000 / math.pi * 149_597_870_700}
# Those of NGFF, as UDUNITS names them.
NGFF = {
    "angstrom": 1e-10,
    "attometer": 1e-18,
    "centimeter": 1e-2,
    "decimeter": 0.1,
    "exameter": 1e18,
    "femtometer": 1e-15,
    "foot": 0.3048,
    "gigameter": 1e9,
    "hectometer": 100,
    "inch": 0.0254,
    "kilometer": 1e3,
    "megameter": 1e6,
    "meter": 1,
    "micrometer": 1e-6,
    "mile": 1609.344,
    "millimeter": 1e-3,
    "nanometer": 1e-9,
    "parsec": SKY["pc"],
    "petameter": 1e15,
    "picometer": 1e-12,
    "terameter": 1e12,
    "yard": 0.9144,
    "yoctometer": 1e-24,
    "yottameter": 1e24,
    "zeptometer": 1e-21,
    "zettameter": 1e21,
}
WRITTEN = {
    "micron": 1,
    "microns": 1,
    "um": 1,
    "μm": 1,
    "\\u00B5m": 1,
    "Micrometre": 1,
    "inches": 25_400,
    "CM": 1e4,
}


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        *((unit, metres * 1e6) for unit, metres in (SI | SKY | NGFF).items()),
        *((unit, yards * 0.9144e6) for unit, yards in YARD.items()),
        *WRITTEN.items(),
    ],
)
def test_units_of_length(unit: str, um: float) -> None:
    assert um_per_unit(unit) == pytest.approx(um, rel=1e-9)


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "", "s", "second", "dpi"])
def test_units_that_are_no_length(unit: str) -> None:
    assert um_per_unit(unit) is None


def test_what_a_file_states() -> None:
    assert stated_mpp("5e-7", "5e-7", "m") == (pytest.approx(0.5), pytest.approx(0.5))
    assert stated_mpp("0,5", "0.5", "um") is None
    assert resolution_mpp((20_000, 1), (40_000, 2), 10_000.0) == (0.5, 0.5)
    assert resolution_mpp(2.0, 4.0, 1.0) == (0.5, 0.25)
    assert resolution_mpp(2.0, 2.0, None) is None
    assert resolution_mpp(0, 0, 1.0) is None
    assert resolution_mpp(None, None, 1.0) is None


@pytest.mark.parametrize("stated", [(0, 0), (-0.5, -0.5), (math.nan, 0.5), (1000, 1000), (0.5, 0.52), None])
def test_what_cannot_be(stated: tuple[float, float] | None) -> None:
    assert plausible_mpp(stated) is None
    assert first_plausible(stated, (0.25, 0.25)) == (0.25, 0.25)


def test_what_can_be() -> None:
    assert plausible_mpp((0.5, 0.504)) == pytest.approx(0.502)
    assert first_plausible(None, (0, 0)) == (0, 0)
    assert first_plausible(None) is None
    assert is_same_mpp(0.5, 0.509)
    assert not is_same_mpp(0.5, 0.515)


@pytest.mark.parametrize("mpp", [0, -0.5, math.nan, math.inf, 0.04, 21])
def test_options_that_no_microscope_has(mpp: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `slide_mpp` to be from 0.05 to 20 um/px"):
        check_mpp("slide_mpp", mpp)


@pytest.mark.parametrize("mpp", [None, 0.05, 0.25, 20])
def test_options_that_can_be(mpp: float | None) -> None:
    check_mpp("mpp", mpp)
