"""The size of a pixel in um: units of length as files name them, and which sizes a microscope can have."""

from __future__ import annotations

import math
import re

from chromogen.errors import expected

MPP_RANGE = (0.05, 20.0)  # um/px; files that state other values mean something else, or nothing
MAX_ANISOTROPY = 0.02
SAME_MPP = 0.02  # sizes that differ by less are one size: resampling would blur more than it would bring
ASSUMED_MPP = 0.5  # where nothing states it
# Cameras, printers and web pages write dpi as well: 3 um/px are 8,467 dpi, beyond what they mean by it.
MAX_DPI_MPP = 3.0

INCH_UM = 25_400.0
_PREFIXES = {
    "yotta Y": 24, "zetta Z": 21, "exa E": 18, "peta P": 15, "tera T": 12, "giga G": 9, "mega M": 6, "kilo k": 3,
    "hecto h": 2, "deca da": 1, "": 0, "deci d": -1, "centi c": -2, "milli m": -3, "micro µ": -6, "nano n": -9,
    "pico p": -12, "femto f": -15, "atto a": -18, "zepto z": -21, "yocto y": -24,
}  # fmt: skip
_SYMBOLS = {f"{prefix.partition(' ')[2]}m": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()}
_NAMES = {f"{prefix.partition(' ')[0]}meter": 10.0 ** (power + 6) for prefix, power in _PREFIXES.items()} | {
    "um": 1.0, "mc": 1.0, "âµm": 1.0, "?m": 1.0, "micron": 1.0,
    "å": 1e-4, "angstrom": 1e-4, "ångström": 1e-4, "ångstrom": 1e-4,
    "thou": INCH_UM / 1000, "li": INCH_UM / 12, "line": INCH_UM / 12, "pt": INCH_UM / 72, "point": INCH_UM / 72,
    "in": INCH_UM, "inch": INCH_UM, "inche": INCH_UM, '"': INCH_UM, "ft": 12 * INCH_UM, "foot": 12 * INCH_UM,
    "feet": 12 * INCH_UM, "yd": 36 * INCH_UM, "yard": 36 * INCH_UM, "mi": 63_360 * INCH_UM,
    "mile": 63_360 * INCH_UM, "ua": 149_597_870_700e6, "ly": 9_460_730_472_580_800e6, "pc": 3.0856775814913673e22,
    "parsec": 3.0856775814913673e22,
}  # fmt: skip


def um_per_unit(unit: str) -> float | None:
    r"""A unit of length in um, by its symbol or name; None for what is no length, as "pixel".

    Knows all lengths of the OME schema (2016-06), of NGFF (UDUNITS names) and of ImageJ.

    >>> um_per_unit("nm"), um_per_unit("micrometre"), um_per_unit("\\u00B5m"), um_per_unit("pixel")
    (0.001, 1.0, 1.0, None)
    """
    plain = unit.replace("\\u00B5", "µ").replace("μ", "µ").replace("\u212b", "Å").strip()
    if plain in _SYMBOLS:
        return _SYMBOLS[plain]
    name = plain.casefold().replace("metre", "meter").replace("μ", "µ")
    known = _NAMES | {symbol: _SYMBOLS[symbol] for symbol in ("µm", "nm", "mm", "cm")}
    return known.get(name) or known.get(name.removesuffix("s"))


def stated_mpp(x: object, y: object, unit: str) -> tuple[float, float] | None:
    """The pair in um of what a file states of a pixel's width and height; None where that is no length.

    >>> stated_mpp("250", 250.0, "nm"), stated_mpp("wide", 1, "um"), stated_mpp(1, 1, "reference frame")
    ((0.25, 0.25), None, None)
    """
    unit_um = um_per_unit(unit)
    try:
        sides = (float(x), float(y))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if unit_um is None else (sides[0] * unit_um, sides[1] * unit_um)


def resolution_mpp(x: object, y: object, unit_um: float | None) -> tuple[float, float] | None:
    """The same of a resolution, in pixels for each unit: numbers, or numerators with their denominators."""
    try:
        sides = [a / b if b else math.nan for a, b in map(_fraction, (x, y))]
        return None if unit_um is None else (unit_um / sides[0], unit_um / sides[1])
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _fraction(value: object) -> tuple[float, float]:
    if isinstance(value, tuple):
        return float(value[0]), float(value[1])
    return float(value), 1.0  # type: ignore[arg-type]


def mpp_in_words(text: str) -> tuple[float, float] | None:
    """What a description says as scanners do: "MPP = 0.25", `"mpp": 0.25`, or Akoya's PixelSizeMicrons.

    >>> mpp_in_words("Aperio Image Library v11|AppMag = 40|MPP = 0.2520"), mpp_in_words("mpp: 5e-1")
    ((0.252, 0.252), (0.5, 0.5))
    """
    found = _IN_WORDS.search(text)
    return (float(found[1].replace(",", ".")),) * 2 if found else None


_IN_WORDS = re.compile(
    r"\b(?:mpp(?:-x)?|PixelSizeMicrons)[\"']?\s*[=:>]\s*([0-9]*[.,]?[0-9]+(?:e[+-]?[0-9]+)?)", re.IGNORECASE
)


def plausible_mpp(mpp: tuple[float, float] | None, largest: float = MPP_RANGE[1]) -> float | None:
    """The mpp that a file states, (x, y), as one number; None where it states none, or what cannot be."""
    low, high = sorted(mpp or (0, 0))
    if MPP_RANGE[0] <= low <= high <= largest and high <= low * (1 + MAX_ANISOTROPY):
        return (low + high) / 2
    return None


def first_plausible(*stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """Of what several places of a file state, (x, y), the first that can be, else the first."""
    known = [mpp for mpp in stated if mpp]
    return next((mpp for mpp in known if plausible_mpp(mpp)), known[0] if known else None)


def is_same_mpp(one: float, other: float) -> bool:
    """Whether two sizes of a pixel are one within `SAME_MPP`."""
    return abs(one / other - 1) <= SAME_MPP


def check_mpp(option: str, mpp: float | None) -> None:
    """Raises: ValueError, which names the option, for a size in um that no pixel of a microscope has."""
    if mpp is not None and not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise expected(option, f"from {MPP_RANGE[0]} to {MPP_RANGE[1]:g} um/px", f"{mpp:g}", "check its unit")
