"""Labels as GeoJSON features for QuPath: squares as tiles, regions as annotations, nuclei as detections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon, box, mapping

from chromogen.labels.squares import (
    SIDE_UM,
    LabelRegion,
    Maps,
    Matched,
    Square,
    in_squares,
    is_sure,
    matched_nuclei,
)
from chromogen.nuclei.positivity import (
    NOT_GRADED,
    Threshold,
    fixed_threshold,
    grades_of,
    nothing_measured,
    positive_threshold,
)
from chromogen.registration.transfer import RESIDUAL
from chromogen.registration.transform import Transform
from chromogen.slides.slide import Slide
from chromogen.stains.deconvolution import Array
from chromogen.whole_slide.nuclei import SlideNuclei, StainVectors, stain_vectors
from chromogen.whole_slide.nuclei_files import CLASSES, DECIMALS, geojson_features, judged, threshold_for
from chromogen.whole_slide.survey import survey
from chromogen.whole_slide.view import View

POINTS_AT_ONCE = 100_000
NOWHERE = np.zeros((0, 2))

Classes: TypeAlias = list[bool | None]  # of nuclei: positive, negative, not known
Feature = dict[str, Any]
DAB_AREA, NUCLEI, POSITIVE = "IHC: DAB area %", "IHC: Nuclei", "IHC: Positive nuclei %"
DISTANCE = "Distance to IHC nucleus um"
MIN_TISSUE = 0.25  # of a square
NO_THRESHOLD = Threshold(None, "none")


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


@dataclass(frozen=True, eq=False)
class LabelledTissue:
    """Regions, the map of their numbers, and what they were made of."""

    regions: Sequence[LabelRegion]
    numbers: NDArray[np.int32]
    maps: Maps

    def area_um2(self, number: int) -> float:
        """The area of a region."""
        return float(self.cells[number] * self.maps.cell_um**2)

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """How many cells each region has, by its number; first those outside."""
        return self._counted(self.numbers)

    @cached_property
    def brown_cells(self) -> NDArray[np.int64]:
        """How many of them are brown."""
        return self._counted(self.numbers[self.maps.brown])

    def nuclei(self, points_px: Array) -> NDArray[np.int64]:
        """How many of the points (N, 2), in px of the H&E, lie in each region."""
        cells = np.floor(points_px / self.maps.cell_px).astype(int)
        height, width = self.numbers.shape
        cells = cells[((cells >= 0) & (cells < (width, height))).all(1)]
        return self._counted(self.numbers[cells[:, 1], cells[:, 0]])

    def _counted(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.bincount(numbers.ravel(), minlength=len(self.regions) + 1)


def region_features(tissue: LabelledTissue, ihc: IhcNuclei, transform: Transform) -> Iterator[Feature]:
    """One annotation a region: its area, its share of brown, and the IHC's nuclei in it."""
    on_he_px = ihc.on_he_um / transform.source.mpp
    nuclei, stained = tissue.nuclei(on_he_px), tissue.nuclei(on_he_px[ihc.positive])
    for region in tissue.regions:
        n = region.number
        polygon = shapely.transform(region.polygon, lambda points: points * tissue.maps.cell_px)
        middle = np.array(polygon.representative_point().coords) * transform.source.mpp
        measured = {
            "Area um^2": tissue.area_um2(n),
            DAB_AREA: percent(tissue.brown_cells[n], tissue.cells[n]),
            NUCLEI: float(nuclei[n]),
            POSITIVE: percent(stained[n], nuclei[n]),
            RESIDUAL: transform.residual_um_at(middle)[0],
        }
        yield _feature(polygon, measured, objectType="annotation", classification=CLASSES[region.positive])


def square_features(squares: Sequence[Square], maps: Maps, transform: Transform) -> Iterator[Feature]:
    """One tile a square that shows enough tissue: what the IHC has in it, and whether nuclei can be compared."""
    columns, rows = (max(square.place[axis] for square in squares) + 1 for axis in (0, 1))
    tissue, brown = (in_squares(mask, maps.cell_um, columns, rows) for mask in (maps.tissue, maps.brown))
    for square, there, dab in zip(squares, tissue, brown, strict=True):
        if there < MIN_TISSUE * SIDE_UM**2:
            continue
        same = square.shift_um is not None
        measured = {
            DAB_AREA: percent(dab, there),
            NUCLEI: float(square.nuclei),
            POSITIVE: percent(square.positive, square.nuclei),
            "H&E: Nuclei": float(square.he_nuclei),
            "H&E: Nuclei also on IHC %": percent(square.matched, square.he_nuclei) if same else None,
            "H&E: Nuclei also on IHC by chance %": percent(square.by_chance, square.he_nuclei) if same else None,
            RESIDUAL: transform.residual_um_at(np.array([square.center_um]))[0],
        }
        yield _feature(_box_px(square, transform), measured, objectType="tile")


def _box_px(square: Square, transform: Transform) -> Polygon:
    """The square within the H&E."""
    low = np.array(square.place) * SIDE_UM / transform.source.mpp
    high = np.minimum(low + SIDE_UM / transform.source.mpp, transform.source.size_px)
    return box(*low, *high)


def nucleus_features(
    found: SlideNuclei, both: Matched, classes: Classes, ihc: IhcNuclei, transform: Transform
) -> Iterator[Feature]:
    """One detection an H&E nucleus, with the class of its partner, the partner's DAB, and how far it lies away."""
    for part in found.parts():
        at = slice(part.first, part.first + len(part.nuclei))
        plain = judged(part, transform.source.quickhash, NO_THRESHOLD)
        known = np.array([one is not None for one in classes[at]], bool)
        dab = (
            np.where(known, ihc.dab_od10[both.partner[at]], np.nan) if known.any() else np.full(len(known), np.nan)
        )
        columns = {
            **plain.columns,
            "positive": classes[at],
            "dab_od10": [_rounded(value, 4) for value in dab],
            "threshold_od10": [_rounded(ihc.threshold_od10, 4) if has else None for has in known],
        }
        away = [_rounded(value, 2) for value in both.distance_um[at]]
        for feature, has, um in zip(geojson_features(replace(plain, columns=columns)), known, away, strict=True):
            if has:
                feature["properties"]["measurements"][DISTANCE] = um
            yield feature


def _rounded(value: float, decimals: int) -> float | None:
    return round(float(value), decimals) if np.isfinite(value) else None


def _feature(polygon: Polygon, measured: Mapping[str, float | None], **properties: Any) -> Feature:
    """An object of QuPath with what of its measurements is known."""
    corners = shapely.transform(polygon, lambda points: np.round(points, DECIMALS))
    rounded = {name: None if value is None else _rounded(value, 3) for name, value in measured.items()}
    known = {name: value for name, value in rounded.items() if value is not None}
    return {
        "type": "Feature",
        "geometry": mapping(corners),
        "properties": {**properties, "measurements": known},
    }


def percent(part: float, of: float) -> float | None:
    """So much of 100; None of nothing."""
    return 100 * float(part) / float(of) if of else None
