"""Pairs of an H&E and a real IHC of the same block: which can teach where the brown goes, and how finely.

A pair is two neighbouring sections at best: its IHC is brought to where its H&E fits it best, what is left of the
displacement decides how fine a difference may count, and what does not fit at all is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np

from chromogen.errors import expected
from chromogen.image import Image, resize
from chromogen.stains.appearance import doubts
from chromogen.stains.deconvolution import Array, optical_density_od10
from chromogen.stains.registration import FARTHEST_UM, Displacement, displacement

BLURS_PX = (2.0, 8.0, 24.0)  # from nuclei to nests: the coarse ones outlive a displacement that the fine do not
MIN_CONFIDENCE = 0.1  # wrong pairs reach 0.1 by chance
SURE = 0.3  # from which a pair counts in full
THUMBNAIL_PX = 32
NEAR_IDENTICAL = 0.97  # correlation of thumbnails
SMALLEST_PX = 64


@dataclass(frozen=True)
class TissuePair:
    """An H&E and an IHC, uint8 (H, W, 3) of one size at the model's mpp, and the slide they are from."""

    name: str
    slide: str
    he: Image
    ihc: Image


@dataclass(frozen=True)
class CheckedPair:
    """A pair, how far apart it is, and why it is left out, if it is."""

    pair: TissuePair
    found: Displacement
    problem: str | None = None

    def row(self, mpp: float) -> dict[str, Any]:
        """As data for tables and records; distances in px at `mpp` and in um."""
        distance, left = float(np.hypot(*self.found.shift_px)), self.found.residual_px
        return {
            "pair": self.pair.name,
            "slide": self.pair.slide,
            "shift_px": [round(x, 1) for x in self.found.shift_px],
            "displacement_px": round(distance, 1),
            "displacement_um": round(distance * mpp, 1),
            "residual_px": round(left, 1),
            "residual_um": round(left * mpp, 1),
            "confidence": round(self.found.confidence, 2),
            "left_out": self.problem,
        }


def check_pair(pair: TissuePair, mpp: float) -> CheckedPair:
    """How far a pair at `mpp` um/px is apart, and what is wrong with it. Raises: ValueError for two sizes."""
    if pair.he.shape != pair.ihc.shape:
        sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]} px" for image in (pair.he, pair.ihc))
        raise expected("pairs", "two pictures of one size", f"{pair.name}, {sizes}", "crop or register them")
    if min(pair.he.shape[:2]) < SMALLEST_PX:
        side = min(pair.he.shape[:2])
        raise expected("pairs", f"at least {SMALLEST_PX} px on each side", f"{pair.name}, {side} px")
    found = displacement(pair.he, pair.ihc, mpp)
    return CheckedPair(pair, found, _problem(pair, found))


def _problem(pair: TissuePair, found: Displacement) -> str | None:
    if np.array_equal(pair.he, pair.ihc):
        return "paired with itself"
    for part, image, role in (("H&E", pair.he, "content"), ("IHC", pair.ihc, "style")):
        doubt = doubts(image, role) or ""
        if doubt.startswith("looks like"):  # of another stain; a pale IHC may well be negative
            return f"its {part} {doubt.split(',')[0]}"
    if found.confidence < MIN_CONFIDENCE:
        return f"fits no better than another tissue within {FARTHEST_UM:g} um"
    return None


def trust_of(found: Displacement) -> tuple[float, ...]:
    """How far DAB counts at each of BLURS_PX, by what is left of a displacement; squares add up to 1.

    A blur below the residual compares one cell with another. What does not fit surely counts less.

    >>> trust_of(Displacement((0, 0), 0.0, 1.0, 1.0))[0] > trust_of(Displacement((0, 0), 20.0, 1.0, 1.0))[0]
    True
    """
    levels = [1 / (1 + (found.residual_px / sigma) ** 2) for sigma in BLURS_PX]
    sure = min(1.0, found.confidence / SURE)
    return tuple(float(np.sqrt(sure * level / sum(levels))) for level in levels)


def kept_of(checked: Sequence[CheckedPair]) -> list[CheckedPair]:
    """The pairs that are not left out. Raises: ValueError where none is left."""
    kept = [one for one in checked if one.problem is None]
    if not kept:
        first = f"{checked[0].pair.name} {checked[0].problem}" if checked else "none"
        more = f", and {len(checked) - 1} others that do not" if len(checked) > 1 else ""
        raise expected("pairs", "at least one H&E with an IHC of its tissue", f"{first}{more}")
    return kept


def joined_pairs(pairs: Sequence[TissuePair]) -> tuple[list[TissuePair], list[str]]:
    """The pairs, those with near-identical pictures as of one slide, and what was joined.

    So no picture is on both sides of a split under another name, turned or mirrored.
    """
    slides = [pair.slide for pair in pairs]
    said = []
    for a, b in _near_identical(pairs):
        if slides[a] != slides[b]:
            said.append(f"{pairs[a].name} and {pairs[b].name} are nearly the same picture: kept on one side")
            slides = [slides[a] if slide == slides[b] else slide for slide in slides]
    return [replace(pair, slide=slide) for pair, slide in zip(pairs, slides, strict=True)], said


def _near_identical(pairs: Sequence[TissuePair]) -> Iterator[tuple[int, int]]:
    """Which pairs, by index, have an H&E or an IHC in common."""
    alike = np.zeros((len(pairs), len(pairs)), bool)
    for images in ([pair.he for pair in pairs], [pair.ihc for pair in pairs]):
        thumbnails = np.stack([_thumbnail(image) for image in images])
        upright = _flat(thumbnails)
        for turns, mirrored in product(range(4), (False, True)):
            turned = np.rot90(thumbnails, turns, (1, 2))
            alike |= upright @ _flat(turned[:, :, ::-1] if mirrored else turned).T > NEAR_IDENTICAL
    return ((a, b) for a, b in combinations(range(len(pairs)), 2) if alike[a, b])


def _thumbnail(image: Image) -> Array:
    """Density (32, 32), about its mean, of length 1."""
    density = optical_density_od10(resize(image, (THUMBNAIL_PX, THUMBNAIL_PX))).mean(2)
    density -= density.mean()
    return np.asarray(density / max(float(np.linalg.norm(density)), 1e-9))


def _flat(thumbnails: Array) -> Array:
    return thumbnails.reshape(len(thumbnails), -1)


def alike_names(pairs: Sequence[TissuePair]) -> tuple[str, str] | None:
    """Two names of different slides that differ in their last numbers alone, as tiles of one slide do."""
    first: dict[str, TissuePair] = {}
    for pair in pairs:
        stem = re.sub(r"([-_ ]+[xy]?\d+)+$", "", pair.name)
        other = first.setdefault(stem, pair)
        if stem != pair.name and other.slide != pair.slide:
            return other.name, pair.name
    return None
