"""What is found of nuclei, in files: tables (CSV, Parquet) and GeoJSON for QuPath, written part by part."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from shapely import make_valid, polygons
from shapely.geometry import Polygon

from chromogen.files import written_beside
from chromogen.nuclei.outlines import Nuclei
from chromogen.nuclei.positivity import NOT_GRADED, Threshold, fixed_threshold, grades_of, positive_threshold
from chromogen.regions.geojson import polygons_in
from chromogen.whole_slide.nuclei import NucleiPart, SlideNuclei

NAMESPACE = UUID("6d1f0c44-5f0e-5b6c-9a39-5c2f3a6b7e11")
# Column, and how many decimals it has; None for what is no decimal number.
COLUMNS: dict[str, int | None] = {
    "id": None,
    "label": None,
    "x_um": 3,
    "y_um": 3,
    "area_um2": 3,
    "confidence": 4,
    "hematoxylin_od10": 4,
    "dab_od10": 4,
    "ring_hematoxylin_od10": 4,
    "ring_dab_od10": 4,
    "grade": None,
    "positive": None,
    "threshold_od10": 4,
}
NO_PARQUET = "pyarrow is not installed, so Chromogen wrote no Parquet files (pip install 'chromogen[tables]')"

Columns: TypeAlias = Mapping[str, list[Any]]
# QuPath counts the classes of exactly these names in its positive percentages.
BLUE, BROWN_RED, GREEN = (38, 84, 188), (186, 58, 24), (24, 140, 72)
CLASSES: dict[bool | None, dict[str, Any]] = {
    False: {"name": "Negative", "color": list(BLUE)},
    True: {"name": "Positive", "color": list(BROWN_RED)},
    None: {"name": "Nucleus", "color": list(GREEN)},
}
# As QuPath shows them, and by which column.
MEASUREMENTS = {
    "Area um^2": "area_um2",
    "Confidence": "confidence",
    "Nucleus: Hematoxylin OD mean": "hematoxylin_od10",
    "Nucleus: DAB OD mean": "dab_od10",
    "Ring: Hematoxylin OD mean": "ring_hematoxylin_od10",
    "Ring: DAB OD mean": "ring_dab_od10",
    "Threshold: DAB OD": "threshold_od10",
}
DECIMALS = 2  # of a pixel of level 0
SPECK = np.array([(0, 0), (0.01, 0), (0.01, 0.01), (0, 0.01)])


@dataclass(frozen=True)
class Judged:
    """The nuclei of a part with what the table says of each: equal names are equal lengths, None is empty."""

    part: NucleiPart
    columns: Columns


def threshold_for(found: SlideNuclei, thresholds_od10: Sequence[float] = ()) -> Threshold:
    """The threshold between blue and brown: as given, or found from the slide's own nuclei; none of an H&E."""
    if thresholds_od10 and found.stains.has_dab:
        return fixed_threshold(*thresholds_od10)
    return positive_threshold(found.measured, found.stains.name)


def judged(part: NucleiPart, slide: str, threshold: Threshold) -> Judged:
    """The part's rows. `slide` is the hash that ids begin from. Without grades there is no DAB."""
    nuclei, measured = part.nuclei, part.measured
    centres = nuclei.centres_px.astype(np.float64)
    values: dict[str, NDArray[Any]] = {
        "x_um": centres[:, 0] * nuclei.mpp,
        "y_um": centres[:, 1] * nuclei.mpp,
        "area_um2": nuclei.areas_um2,
        "confidence": nuclei.confidence,
        "hematoxylin_od10": measured.hematoxylin_od10,
        "ring_hematoxylin_od10": measured.ring_hematoxylin_od10,
    }
    grades: list[Any] = [None] * len(nuclei)
    if threshold.positive_od10 is not None:
        values["dab_od10"], values["ring_dab_od10"] = measured.second_od10, measured.ring_second_od10
        values["threshold_od10"] = np.full(len(nuclei), threshold.positive_od10)
        grades = [None if grade == NOT_GRADED else grade for grade in grades_of(measured, threshold).tolist()]
    columns: dict[str, list[Any]] = {
        "id": [str(nucleus_id(slide, x, y)) for x, y in centres],
        "label": list(range(part.first + 1, part.first + 1 + len(nuclei))),
        "grade": grades,
        "positive": [None if grade is None else grade > 0 for grade in grades],
    }
    for name, decimals in COLUMNS.items():
        if name not in columns:
            columns[name] = _plain(values.get(name), decimals, len(nuclei))
    return Judged(part, {name: columns[name] for name in COLUMNS})


def nucleus_id(slide: str, x_px: float, y_px: float) -> UUID:
    """The id of a nucleus: the same slide and place give the same id, in every file and every run."""
    return uuid5(NAMESPACE, f"{slide} {x_px:.2f} {y_px:.2f}")


def _plain(values: NDArray[Any] | None, decimals: int | None, count: int) -> list[Any]:
    """Numbers of Python, rounded; what is no number is empty."""
    if values is None:
        return [None] * count
    rounded = np.round(values.astype(np.float64), decimals or 0)
    return [value if np.isfinite(value) else None for value in rounded.tolist()]


def write_csv(path: Path, parts: Iterable[Judged]) -> None:
    """One row a nucleus, under the names of `COLUMNS`; an empty cell where there is no value."""
    with written_beside(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for part in parts:
            writer.writerows(zip(*(map(csv_cell, part.columns[name]) for name in COLUMNS), strict=True))


def csv_cell(value: Any) -> Any:
    """A value as the CSV writes it."""
    return str(value).lower() if isinstance(value, bool) else value


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def write_parquet(path: Path, parts: Iterable[Judged]) -> None:
    """The same columns as Parquet, each of one type, null where there is no value. Needs the extra `tables`."""
    import pyarrow as pa

    with written_beside(path) as temporary, _parquet_writer(temporary) as writer:
        for part in parts:
            writer.write_table(pa.table(dict(part.columns), schema=writer.schema))


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"id": pa.string(), "label": pa.int64(), "grade": pa.int8(), "positive": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in COLUMNS])
    with parquet.ParquetWriter(str(path), schema, compression="zstd") as writer:
        yield writer


def write_geojson(path: Path, parts: Iterable[Judged]) -> None:
    """A FeatureCollection of detections: closed polygons of (x, y) in level-0 pixels, class and measurements."""
    write_features(path, (feature for part in parts for feature in geojson_features(part)))


def write_features(
    path: Path, features: Iterable[Mapping[str, Any]], facts: Mapping[str, Any] | None = None
) -> None:
    """A FeatureCollection, feature by feature; `facts` are its member "chromogen", which others ignore."""
    with written_beside(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        known = f'"chromogen":{json.dumps(facts, allow_nan=False)},' if facts else ""
        file.write(f'{{"type":"FeatureCollection",{known}"features":[')
        between = "\n"
        for feature in features:
            file.write(between + json.dumps(feature, allow_nan=False, separators=(",", ":")))
            between = ",\n"
        file.write("\n]}\n")


def geojson_features(part: Judged) -> Iterator[dict[str, Any]]:
    """One feature a nucleus."""
    columns = part.columns
    for index, polygon in enumerate(simple_polygons(part.part.nuclei)):
        measured = {shown: columns[name][index] for shown, name in MEASUREMENTS.items()}
        yield {
            "type": "Feature",
            "id": columns["id"][index],
            "geometry": {"type": "Polygon", "coordinates": [list(map(list, polygon.exterior.coords))]},
            "properties": {
                "objectType": "detection",
                "classification": CLASSES[columns["positive"][index]],
                "measurements": {shown: value for shown, value in measured.items() if value is not None},
            },
        }


def simple_polygons(nuclei: Nuclei) -> list[Polygon]:
    """The outlines, rounded, as polygons that do not cross themselves; of what falls apart the largest piece.

    A nucleus that rounding leaves without an area is the square of a hundredth of a pixel around its centre.
    """
    rounded = np.round(nuclei.outlines_px.astype(np.float64), DECIMALS)
    shapes = make_valid(polygons(rounded)) if len(nuclei) else []
    return [_largest(shape, centre) for shape, centre in zip(shapes, nuclei.centres_px, strict=True)]


def _largest(shape: Any, centre: Any) -> Polygon:
    pieces = polygons_in(shape)
    if not pieces:
        return Polygon(np.round(np.asarray(centre, np.float64), DECIMALS) + SPECK)
    largest = max(pieces, key=lambda piece: float(piece.area))
    return Polygon(largest.exterior)
