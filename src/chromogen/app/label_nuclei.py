"""Nuclei of both slides for labels: the IHC's at their place on the H&E, and the class that each gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.app.nuclei import threshold_for
from chromogen.labels.squares import Matched, matched_nuclei
from chromogen.nuclei.positivity import (
    NOT_GRADED,
    Threshold,
    fixed_threshold,
    grades_of,
    nothing_measured,
    positive_threshold,
)
from chromogen.registration.transform import Transform, nearest_piece
from chromogen.slides.slide import Slide
from chromogen.stains.deconvolution import Array
from chromogen.whole_slide.nuclei import SlideNuclei, StainVectors, stain_vectors
from chromogen.whole_slide.survey import survey
from chromogen.whole_slide.view import View

POINTS_AT_ONCE = 100_000
NOWHERE = np.zeros((0, 2))

Classes: TypeAlias = list[bool | None]  # of nuclei: positive, negative, not known


@dataclass(frozen=True, eq=False)
class IhcNuclei:
    """An IHC's stains and threshold, and its nuclei: places (N, 2) in um of the H&E, grades, and DAB densities."""

    stains: StainVectors
    threshold: Threshold
    on_he_um: Array
    grades: NDArray[np.int8]
    dab_od10: Array

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which of them are positive (N,)."""
        return self.grades > 0

    @property
    def threshold_od10(self) -> float:
        """The DAB above which a nucleus, or a pixel, is positive."""
        return float(self.threshold.positive_od10 or np.inf)


def ihc_nuclei(
    ihc: Slide, found: SlideNuclei | None, transform: Transform, thresholds_od10: tuple[float, ...]
) -> IhcNuclei:
    """The nuclei found on an IHC, on its H&E; none and a fixed threshold where nuclei do not show."""
    if found is None:
        stains = stain_vectors(survey(View(ihc, None)), "h-dab")
        nothing = nothing_measured()
        threshold = fixed_threshold(*thresholds_od10) if thresholds_od10 else positive_threshold(nothing)
        return IhcNuclei(stains, threshold, NOWHERE, grades_of(nothing, threshold), nothing.second_od10)
    threshold = threshold_for(found, thresholds_od10)
    places = found.places.centres_px.astype(np.float64) * transform.target.mpp
    parts = [places[at : at + POINTS_AT_ONCE] for at in range(0, len(places), POINTS_AT_ONCE)]
    on_he = np.concatenate([NOWHERE, *(transform.backward_um(part) for part in parts)])
    measured = found.measured
    return IhcNuclei(found.stains, threshold, on_he, grades_of(measured, threshold), measured.second_od10)


def nuclei_matched(
    found: SlideNuclei | None, ihc: IhcNuclei, transform: Transform, within_um: float
) -> tuple[Matched, Classes]:
    """Partners of the nuclei found on an H&E among its IHC's, square by square, and the classes they give."""
    places = NOWHERE if found is None else found.places.centres_px.astype(np.float64) * transform.source.mpp
    both = matched_nuclei(places, ihc.on_he_um, ihc.positive, np.array(transform.source.size_um), within_um)
    known = (both.partner >= 0) & is_sure(places, transform)
    classes: Classes = [None] * len(places)
    for index in np.flatnonzero(known):
        grade = int(ihc.grades[both.partner[index]])
        classes[index] = None if grade == NOT_GRADED else grade > 0
    return both, classes


def is_sure(points_um: Array, transform: Transform) -> NDArray[np.bool_]:
    """Which points (N, 2) of the H&E, in um, lie in a piece whose registration is not in doubt."""
    doubtful = np.array([bool(piece.doubt) for piece in transform.pieces])
    if not doubtful.any() or not len(points_um):
        return np.ones(len(points_um), bool)
    return np.asarray(~doubtful[nearest_piece(transform.pieces, points_um)])
