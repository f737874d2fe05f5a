"""What of a reference IHC may make a poor look: its kind, pixel size, focus, and how much it shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.staining.exemplar import Exemplar, ReferenceTissue
from chromogen.staining.maps import Array, smooth
from chromogen.staining.tissue import MPP
from chromogen.stains.appearance import appearance
from chromogen.stains.chromogens import angle_deg
from chromogen.stains.deconvolution import HEMATOXYLIN

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
