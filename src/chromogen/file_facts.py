"""What a file says of its pixels besides them, and how many of their bits are used."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_BITS = 16
CAMERA_BITS = (8, 10, 12, 14)  # of which cameras write samples of 16


@dataclass(frozen=True)
class FileFacts:
    """`mpp` is um per pixel, (x, y), as stated, whether it can be or not; `associated` names label and macro.

    `significant_bits` is how many bits of a sample are said to be used.
    """

    mpp: tuple[float, float] | None = None
    icc_profile: bytes | None = None
    significant_bits: int | None = None
    objective: float | None = None
    vendor: str | None = None
    associated: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def bits_used(path: Path, bits: int, stated: int | None, brightest: int) -> int:
    """How many of the bits of samples are used: as stated, unless a sample is brighter; else by the brightest.

    A brightfield image is white where there is no tissue. Warns of what Chromogen assumes.
    """
    if bits < SAMPLE_BITS or stated == SAMPLE_BITS:
        return bits
    if stated is not None and CAMERA_BITS[0] <= stated < SAMPLE_BITS:
        if brightest < 2**stated:
            return stated
        said, used = f"states {stated} significant bits and has samples up to {brightest:,}", bits
    else:
        said = f"has samples of {bits} bits and none above {brightest:,}"
        used = next((fewer for fewer in CAMERA_BITS if 0 < brightest < 2**fewer), bits)
        if used == bits:
            return bits
    warnings.warn(f"{path.name} {said}; Chromogen reads them as {used} bits.", stacklevel=5)
    return used
