"""What is found of nuclei, in files: tables (CSV, Parquet), GeoJSON for QuPath, pictures and label images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import numpy as np
import PIL.Image
import PIL.ImageDraw
import tifffile
from numpy.typing import NDArray
from shapely import make_valid, polygons
from shapely.geometry import Polygon

from chromogen.compute.tiles import Window, whole
from chromogen.files import write_whole, written_beside
from chromogen.image import Image
from chromogen.nuclei.outlines import NETWORK_MPP, Nuclei, joined, labels_of
from chromogen.nuclei.positivity import NOT_GRADED, Threshold, fixed_threshold, grades_of, positive_threshold
from chromogen.pixel_size import is_same_mpp
from chromogen.regions.geojson import polygons_in
from chromogen.slides.slide import Slide
from chromogen.stains.tissue import densest_window
from chromogen.whole_slide.nuclei import NucleiPart, SlideNuclei
from chromogen.whole_slide.view import View, read_around_damage

# Tables (CSV, Parquet) and GeoJSON for QuPath, written part by part.

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


# Nuclei drawn: thin outlines over the picture they were found in, and the label image.

Parts: TypeAlias = Callable[[], Iterator[Judged]]  # all of a slide, from the first on

TILE_PX = 4096  # both sides of a tile are at most as long: it is drawn whole, and has a label image
FIELD_PX = 2048  # of a slide, the field that is drawn
BIN_PX = 128  # in which nuclei are counted, to find the densest field
LINE_PX = 1.6
FINER = 4  # lines are drawn so many times larger and then averaged
BLOCK_PX = 512


def is_tile(slide: Slide) -> bool:
    """Whether a picture is small enough to be drawn whole."""
    return max(slide.size) <= TILE_PX


def drawn(slide: Slide, parts: Parts) -> tuple[Image, float, tuple[int, int, int, int]]:
    """A picture with outlines, its um per pixel, and where it lies: (x, y, w, h) in level-0 pixels.

    A tile is drawn whole, of a slide the field of FIELD_PX with the most nuclei, at NETWORK_MPP.
    """
    own = slide.need_mpp()
    view = View(slide, None if is_tile(slide) or is_same_mpp(own, NETWORK_MPP) else NETWORK_MPP)
    scale = np.asarray(view.size) / slide.size
    window = whole(view.size) if is_tile(slide) else _densest(view, parts(), scale)
    image, _ = read_around_damage(view, window)
    corner = np.array([window.left, window.top])
    for part in parts():
        outlines = part.part.nuclei.outlines_px * scale - corner
        colors = [tuple(CLASSES[positive]["color"]) for positive in part.columns["positive"]]
        image = outlined(image, outlines, colors)
    place = np.rint(np.array([corner, window.size]) / scale).astype(int).ravel()
    x, y, width, height = (int(side) for side in place)
    return image, view.mpp or own, (x, y, width, height)


def _densest(view: View, parts: Iterable[Judged], scale: NDArray[np.float64]) -> Window:
    """The field with the most nuclei."""
    size = [min(FIELD_PX, side) for side in view.size]
    shape = [-(-side // BIN_PX) for side in view.size]
    counts = np.zeros(shape[::-1])
    for part in parts:
        column, row = (part.part.nuclei.centres_px * scale / BIN_PX).astype(int).T
        np.add.at(counts, (row.clip(0, shape[1] - 1), column.clip(0, shape[0] - 1)), 1)
    bins = [max(1, min(side // BIN_PX, count)) for side, count in zip(size, shape, strict=True)]
    found = densest_window(counts, (bins[0], bins[1]))
    left, top = (min(at * BIN_PX, whole - side) for at, whole, side in zip(found, view.size, size, strict=True))
    return Window(left, top, left + size[0], top + size[1])


def outlined(
    image: Image, outlines_px: NDArray[np.floating], colors: Sequence[tuple[int, ...]], line_px: float = LINE_PX
) -> Image:
    """A copy of an image, uint8 (H, W, 3), with closed outlines (N, points, 2) of (x, y), antialiased.

    Lines are drawn block by block, larger than they come out.
    """
    made = image.copy()
    if not len(outlines_px):
        return made
    low, high = outlines_px.min(axis=1) - 2 * line_px, outlines_px.max(axis=1) + 2 * line_px
    for top in range(0, image.shape[0], BLOCK_PX):
        for left in range(0, image.shape[1], BLOCK_PX):
            inside = ((high >= (left, top)) & (low <= (left + BLOCK_PX, top + BLOCK_PX))).all(axis=1)
            if inside.any():
                block = made[top : top + BLOCK_PX, left : left + BLOCK_PX]
                here = outlines_px[inside] - (left, top)
                block[:] = _lined(block, here, [colors[i] for i in np.flatnonzero(inside).tolist()], line_px)
    return made


def _lined(
    block: Image, outlines_px: NDArray[np.floating], colors: Sequence[tuple[int, ...]], line_px: float
) -> Image:
    height, width = block.shape[:2]
    large = PIL.Image.fromarray(block).resize((FINER * width, FINER * height), PIL.Image.Resampling.NEAREST)
    pen = PIL.ImageDraw.Draw(large)
    for outline, color in zip(outlines_px, colors, strict=True):
        closed = [tuple(point) for point in (np.vstack([outline, outline[:2]]) * FINER).tolist()]
        pen.line(closed, fill=color, width=round(FINER * line_px), joint="curve")
    return np.asarray(large.reduce(FINER))


def label_image(slide: Slide, parts: Iterable[Judged]) -> NDArray[np.uint32]:
    """A label image (H, W): pixels of a nucleus hold its label in the table, others 0."""
    nuclei = joined((part.part.nuclei for part in parts), slide.need_mpp())
    return labels_of(nuclei, slide.size[::-1]).astype(np.uint32)


def write_numbers(path: Path, planes: NDArray[Any], mpp: float | None, channels: Sequence[str] = ()) -> None:
    """Write numbers (H, W), or (C, H, W) with a name for each channel, as OME-TIFF.

    `mpp` is um per pixel, None where it is not known.
    """
    metadata: dict[str, Any] = {"axes": "CYX" if channels else "YX"}
    metadata |= {"Channel": {"Name": list(channels)}} if channels else {}
    metadata |= {f"PhysicalSize{axis}": mpp for axis in "XY" if mpp}
    data = io.BytesIO()
    tifffile.imwrite(data, planes, ome=True, compression="zlib", photometric="minisblack", metadata=metadata)
    write_whole(path, data.getvalue())
