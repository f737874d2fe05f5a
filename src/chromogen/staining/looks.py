"""Looks: what is measured of an exemplar, kept in a file, and what is doubtful of it."""

from __future__ import annotations

import json
import math
import zlib
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.files import write_text
from chromogen.image import Image
from chromogen.staining.atlas import MAX_NUCLEI, PATCH_BYTES, Atlas
from chromogen.staining.confidence import BETWEEN_LABS, SHARES, KnownTissue
from chromogen.staining.exemplar import QUANTILES, SITES, Exemplar, ReferenceTissue
from chromogen.staining.maps import Array, smooth
from chromogen.staining.tissue import MPP, Detail
from chromogen.stains.appearance import appearance
from chromogen.stains.deconvolution import HEMATOXYLIN, angle_deg

# What of a reference IHC may make a poor look: its kind, pixel size, focus, and how much it shows.

USUAL_UM2 = 20.0, 95.0  # median area of a field's nuclei: 23 to 65 in real IHC of seven slides
MIN_NUCLEI = 20  # fewer say little of how nuclei vary
FINE_UM, BROAD_UM = 0.5, 2.0
MIN_SHARP = 0.19  # contrast of fine over broad detail: 0.35 to 0.73 in focus, 0.12 to 0.17 blurred by 1 um
FEW_POSITIVE, NEARLY_ALL = 0.01, 0.97  # of nuclei or tissue that are stained
MIN_APART_DEG = 18.0  # between the two stains: 39 and more in real IHC, 15 where there is hardly any DAB
MAX_OFF_DEG = 25.0  # of haematoxylin from its known colour: up to 21 by scanner, 30 where DAB covers everything
MAX_BACKGROUND = 0.25  # of the stained tissue's density: up to 0.11 in real IHC, 0.15 to 0.6 in H&E


def doubts_of(ihc: Image, reference: ReferenceTissue, exemplar: Exemplar) -> tuple[str, ...]:
    """Why a reference IHC, uint8 (H, W, 3) at MPP, may make a poor look: each after "The exemplar ...".

    `reference` is what it shows, and `exemplar` what was measured of that.
    """
    found = (
        _kind(ihc),
        _stains(reference.why, exemplar),
        _nuclei(reference),
        _focus(reference),
        _share(exemplar),
        _background(exemplar),
    )
    return tuple(doubt for doubt in found if doubt)


def _kind(ihc: Image) -> str:
    seen = appearance(ihc, MPP)
    if seen.kind == "H&E":
        return "looks like an H&E, pink without brown; that is right only of a red or pink chromogen"
    return seen.doubt_as("style") or ""


def _stains(why: str, exemplar: Exemplar) -> str:
    """Stains whose colours are a guess, or can hardly be those of two stains."""
    if why:
        return f"does not show its two stains apart ({why}), so Chromogen took the colours of haematoxylin and DAB"
    hematoxylin, second = np.array(exemplar.matrix[:2])
    apart_deg = angle_deg(hematoxylin, second)
    if apart_deg < MIN_APART_DEG:
        return f"shows two stains of nearly one colour ({apart_deg:.0f} degrees apart); it may have only one"
    if angle_deg(hematoxylin, np.array(HEMATOXYLIN)) > MAX_OFF_DEG:
        return "shows no haematoxylin of its usual colour: all of it is stained, or its counterstain is another"
    return ""


def _nuclei(reference: ReferenceTissue) -> str:
    """Few nuclei, or nuclei of a size that speaks for another size of pixels."""
    nuclei = reference.tissue.nuclei
    if len(nuclei) < MIN_NUCLEI:
        return f"shows only {len(nuclei)} nuclei; take a field of at least 0.2 mm"
    median_um2 = float(np.median(nuclei.areas_um2))
    least, most = (2 * np.sqrt(area / np.pi) for area in USUAL_UM2)
    if USUAL_UM2[0] <= median_um2 <= USUAL_UM2[1]:
        return ""
    across_um = 2 * np.sqrt(median_um2 / np.pi)
    kind = "small" if median_um2 < USUAL_UM2[0] else "large"
    usual = f"{least:.0f} to {most:.0f} um are usual"
    return f"has {kind} nuclei, typically {across_um:.1f} um across where {usual}; check its pixel size"


def _focus(reference: ReferenceTissue) -> str:
    tissue = reference.tissue
    there = tissue.there > 0.5
    if not there.any() or sharpness(tissue.total, there) >= MIN_SHARP:
        return ""
    return "looks blurred, or enlarged; take a field in focus, scanned at 0.5 um/px or finer"


def sharpness(total: Array, there: NDArray[np.bool_]) -> float:
    """The contrast of detail finer than about 1 um over that of detail up to 4 um, in a mask of a density map."""
    fine, broad = smooth(total, FINE_UM / MPP), smooth(total, BROAD_UM / MPP)
    return float((total - fine)[there].std() / max(float((fine - broad)[there].std()), 1e-6))


def _share(exemplar: Exemplar) -> str:
    what = "nuclei" if exemplar.site == "nuclear" else "tissue"
    if exemplar.share < FEW_POSITIVE:
        return f"has hardly any stained {what} ({exemplar.share:.1%})"
    if exemplar.share > NEARLY_ALL:
        return f"has hardly any unstained {what} ({1 - exemplar.share:.1%})"
    return ""


def _background(exemplar: Exemplar) -> str:
    share = exemplar.background_od10 / max(float(np.median(exemplar.stained_od10)), 1e-6)
    if share <= MAX_BACKGROUND:
        return ""
    return f"has hardly any clean background: tissue that passes for unstained has {share:.0%} of the stain"


# Measured exemplars in files: JSON that people can read.

FORMAT = "chromogen look 2"
SUFFIX = ".json"
MAX_BYTES = 1_000_000
MIN_VARIANCE = 1e-4  # of features: rounding may lose less
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error)
LENGTHS = {
    "white": 3,
    "blue_od10": len(QUANTILES),
    "stained_od10": len(QUANTILES),
    "unstained_od10": len(QUANTILES),
}


@dataclass(frozen=True)
class Look:
    """An exemplar under a name, with the source and licence of the picture that it was measured on.

    `doubts` says what of the picture may make a poor look. `sha256` is the hash of all that decides pixels.
    """

    name: str
    target_stain: str
    source: str
    licence: str
    exemplar: Exemplar
    doubts: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The hash of the exemplar's numbers."""
        return sha256_of_exemplar(self.exemplar)


@lru_cache(maxsize=32)
def sha256_of_exemplar(exemplar: Exemplar) -> str:
    """The hash of all that decides pixels."""
    return sha256(json.dumps(record_of(exemplar), sort_keys=True).encode()).hexdigest()


def write_look(path: Path, look: Look) -> None:
    """Write a look as JSON. Raises: OSError."""
    write_text(path, json.dumps(record_of_look(look), indent=1) + "\n")


def record_of_look(look: Look) -> dict[str, Any]:
    """A look as JSON has it."""
    told = {field.name: getattr(look, field.name) for field in fields(Look)}
    return {"format": FORMAT, **told, "exemplar": record_of(look.exemplar)}


def look_of_record(told: dict[str, Any]) -> Look:
    """The look of what a file says, which is used up. Raises: one of UNREADABLE where that cannot be one."""
    if told.pop("format") != FORMAT:
        raise ValueError("another format")
    exemplar = exemplar_of_record(told.pop("exemplar"))
    doubts = tuple(map(str, told.get("doubts", ())))
    said = {name: str(told[name]) for name in ("name", "target_stain", "source", "licence")}
    return Look(**said, exemplar=exemplar, doubts=doubts)


def record_of(exemplar: Exemplar) -> dict[str, Any]:
    """An exemplar as JSON has it: patches are bytes, packed by zlib and written in base 64."""
    told = asdict(exemplar)
    if exemplar.atlas is not None:
        told["atlas"]["patches"] = b64encode(zlib.compress(exemplar.atlas.patches, 9)).decode()
    return told


def read_look(path: Path) -> Look:
    """A look from its file. Raises: FileNotFoundError; ValueError for what is no look, or damaged."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        return look_of_record(json.loads(path.read_text("utf-8")))
    except UNREADABLE as error:
        wanted = "a look that `write_look` wrote"
        raise expected("stainer", wanted, f"{str(path)!r} ({error})", "measure the exemplar again") from error


def exemplar_of_record(told: dict[str, Any]) -> Exemplar:
    """The exemplar of what a file says, `asdict` in JSON.

    Raises: ValueError, KeyError or TypeError where that cannot be one.
    """
    if told["site"] not in SITES:
        raise ValueError(f"site {told['site']!r}")
    apart = {"site": told["site"], "detail": Detail(*_value(told["detail"])), "atlas": _atlas(told["atlas"])}
    apart["known"] = tuple(map(_known, told["known"]))
    if not apart["known"]:
        raise ValueError("no tissue")
    values = {field.name: _value(told[field.name]) for field in fields(Exemplar) if field.name not in apart}
    for name, length in LENGTHS.items():
        if len(values[name]) != length:
            raise ValueError(f"{name} has {len(values[name])} numbers")
    if (
        np.shape(values["matrix"]) != (3, 3)
        or len({len(values[name]) for name in ("levels_od10", "hidden_od10", "hue_od10")}) > 1
        or not values["levels_od10"]
    ):
        raise ValueError("a matrix or levels of another size")
    if not (0 <= values["share"] <= 1 and all(0 <= level <= 255 for level in values["white"])):
        raise ValueError("a share or white that cannot be")
    for name in ("blue_od10", "stained_od10", "unstained_od10", "levels_od10"):
        if not _rises(values[name]):
            raise ValueError(f"{name} falls")
    return Exemplar(**apart, **values)


def _atlas(told: Any) -> Atlas | None:
    """Raises: ValueError, KeyError or TypeError for what is no atlas, before more is unpacked than one has."""
    if told is None:
        return None
    numbers = [_value(told[name]) for name in ("levels_od10", "areas_um2", "elongations")]
    count = len(numbers[0])
    if {len(values) for values in numbers} != {count} or not 0 < count <= MAX_NUCLEI:
        raise ValueError("nuclei of several numbers")
    if min(min(values) for values in numbers) <= 0:
        raise ValueError("a nucleus of no size or density")
    patches = zlib.decompressobj().decompress(b64decode(told["patches"], validate=True), count * PATCH_BYTES + 1)
    if len(patches) != count * PATCH_BYTES:
        raise ValueError("patches of another size")
    level, area, elongation = numbers
    return Atlas(level, area, elongation, patches)


def _known(told: dict[str, Any]) -> KnownTissue:
    """What a file says of an exemplar's tissue. Raises: as `exemplar_of_record`."""
    known = KnownTissue(**{field.name: _value(told[field.name]) for field in fields(KnownTissue)})
    count = len(BETWEEN_LABS)
    if (len(known.means), np.shape(known.covariance)) != (count, (count, count)):
        raise ValueError("tissue of another size")
    if not np.allclose(known.covariance, np.transpose(known.covariance)):
        raise ValueError("a covariance that is not symmetric")
    if np.linalg.eigvalsh(known.covariance).min() < -MIN_VARIANCE:
        raise ValueError("a covariance below 0")
    if len(known.distances) != len(SHARES) or min(known.distances) < 0 or not _rises(known.distances):
        raise ValueError("distances that cannot be")
    return known


def _rises(values: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in pairwise(values))


def _value(told: Any) -> Any:
    """A number, or tuples of numbers. Raises: ValueError or TypeError for all else."""
    if isinstance(told, list):
        return tuple(_value(part) for part in told)
    number = float(told)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
