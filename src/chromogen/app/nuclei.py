"""Nuclei of files: found, measured, judged, and written as GeoJSON, tables, label images and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chromogen.files import by_stem, check_apart, named_beside, stem_of, write_json, write_table, write_text
from chromogen.image import read_image, shrunk, write_image
from chromogen.nuclei.scores import Scores, scores
from chromogen.page import Section, as_cell, render
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import NOTICE, versions
from chromogen.slides.slide import Slide, open_slide
from chromogen.whole_slide import nuclei_files
from chromogen.whole_slide.nuclei import NamedNetwork, SlideNuclei, named_built_in, slide_nuclei
from chromogen.whole_slide.nuclei_files import drawn, is_tile, label_image, write_numbers

SHOWN_PX = 900
OF_EACH = (".geojson", ".csv", ".parquet", "_labels.tif", "_nuclei.jpg")  # endings of an input's outputs
OF_ALL = ("nuclei.json", "nuclei.csv", "index.html")
WORK = ".nuclei"  # the ending of the folder that an unfinished input has beside its outputs
# Median area of nuclei in sections of human tissue. Beyond it the pixel size is rather wrong by about 2.
USUAL_UM2 = (24.0, 125.0)
MIN_NUCLEI = 15  # whose median area says something

InputFacts: TypeAlias = dict[str, Any]  # of what was found in one input, as in JSON
OnWindow: TypeAlias = Callable[[int, int], None]


def named_network(file: Path | None) -> NamedNetwork:
    """The network of an ONNX file, or Chromogen's.

    Raises: FileNotFoundError; ValueError for what is no such model.
    """
    if file is None:
        return named_built_in()
    from chromogen.staining.onnx_file import whole_model
    from chromogen.staining.onnx_generator import ARGUMENT, nucleus_network

    return NamedNetwork(nucleus_network(file), file.name, whole_model(file, ARGUMENT)[2])


@dataclass(frozen=True)
class Settings:
    """What is wanted of each input.

    `thresholds_od10` are one DAB density, from which nuclei are positive, or three, for 1+, 2+ and 3+; none: found
    from the slide's own nuclei.
    """

    network: NamedNetwork
    stains: str = "auto"
    thresholds_od10: tuple[float, ...] = ()
    mpp: float | None = None

    def facts(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "network": {"name": self.network.name, "sha256": self.network.sha256}}


def check_outputs(files: Sequence[Path], folder: Path) -> None:
    """Raises: ValueError where an output would overwrite an input or another output; where inputs share a name."""
    of_all = [folder / name for name in OF_ALL]
    of_each = [named_beside(folder / name, ending) for name in by_stem("content", files) for ending in OF_EACH]
    check_apart([*of_all, *of_each], files)
    check_apart(of_each, of_all)


def nuclei_of_file(file: Path, folder: Path, settings: Settings, on_window: OnWindow | None = None) -> InputFacts:
    """Find the nuclei of an image or slide, and write NAME.geojson, .csv, ... into the folder.

    Returns its facts. The folder NAME.nuclei keeps finished windows until all files are written; the same call
    resumes from it.
    Raises: ValueError or OSError.
    """
    name = stem_of(file)
    with (
        open_slide(file, mpp=settings.mpp, assumed_mpp=ASSUMED_MPP) as slide,
        slide_nuclei(
            slide, named_beside(folder / name, WORK), settings.network, settings.stains, on_window
        ) as found,
    ):
        return _written(file, folder / name, slide, found, settings)


def _written(file: Path, beside: Path, slide: Slide, found: SlideNuclei, settings: Settings) -> InputFacts:
    """Write the outputs, whose names begin as `beside`, part by part; the facts."""
    threshold = nuclei_files.threshold_for(found, settings.thresholds_od10)
    scored = scores(found.places, found.measured, threshold, found.pixels)

    def parts() -> Iterator[nuclei_files.Judged]:
        return (nuclei_files.judged(part, slide.quickhash, threshold) for part in found.parts())

    outputs = [named_beside(beside, ".geojson"), named_beside(beside, ".csv")]
    nuclei_files.write_geojson(outputs[0], parts())
    nuclei_files.write_csv(outputs[1], parts())
    if nuclei_files.has_parquet():
        outputs.append(named_beside(beside, ".parquet"))
        nuclei_files.write_parquet(outputs[-1], parts())
    known_mpp = None if slide.mpp_from == "assumed" else slide.mpp
    image, drawn_mpp, place = drawn(slide, parts)
    if is_tile(slide):
        outputs.append(named_beside(beside, "_labels.tif"))
        write_numbers(outputs[-1], label_image(slide, parts()), known_mpp)
    outputs.append(named_beside(beside, "_nuclei.jpg"))
    facts = _facts(file, slide, found, scored, place, [output.name for output in outputs])
    provenance = {**facts, "settings": settings.facts(), "versions": versions(), "notice": NOTICE}
    write_image(outputs[-1], image, provenance, drawn_mpp if known_mpp else None)
    return facts


def _facts(
    file: Path, slide: Slide, found: SlideNuclei, scored: Scores, place: Sequence[int], outputs: list[str]
) -> InputFacts:
    """What DAB would say is None in an H&E, and what no nucleus says without any.

    `mpp` is um per pixel, `mpp_from` "option", "file" or "assumed". `shown_px` is where the picture with outlines
    lies, (x, y, w, h) in level-0 pixels. `notes` are sentences for the user.
    """
    count, has_dab = len(found.measured), found.stains.has_dab
    areas = found.measured.area_um2
    median = float(np.median(areas)) if count else None
    threshold = scored.threshold
    share = scored.positive_percent
    return {
        "name": file.name,
        "stains": found.stains.name,
        "nuclei": count,
        "positive": sum(scored.grades[1:]) if has_dab else None,
        "positive_percent": share.value if share else None,
        "threshold_od10": threshold.positive_od10,
        "threshold_from": threshold.source,
        "nuclei_per_mm2": count / found.tissue_mm2 if found.tissue_mm2 else None,
        "tissue_mm2": found.tissue_mm2,
        "median_area_um2": median,
        "scores": scored.as_dict() if has_dab else None,
        "mpp": slide.need_mpp(),
        "mpp_from": str(slide.mpp_from),
        "white": found.stains.white.tolist(),
        "vectors": np.round(found.stains.matrix[:2], 5).tolist(),
        "windows": found.windows,
        "windows_without_tissue": found.skipped,
        "damaged_mm2": found.damaged_mm2,
        "shown_px": list(place),
        "outputs": outputs,
        "notes": [*scored.doubts, *_doubts(count, median, slide, found)],
    }


def _doubts(count: int, median_um2: float | None, slide: Slide, found: SlideNuclei) -> Iterator[str]:
    """What a user should know of an input before believing its numbers."""
    low, high = USUAL_UM2
    if not count:
        yield "it shows no nuclei"
    elif count >= MIN_NUCLEI and median_um2 and not low <= median_um2 <= high:
        size = "small" if median_um2 < low else "large"
        yield f"its nuclei are {size} (median {median_um2:.0f} um2) at {slide.mpp:g} um/px; check --mpp"
    if found.damaged_mm2:
        yield f"{found.damaged_mm2:.3g} mm2 of it cannot be read, and counts as glass"


def write_found(folder: Path, done: Sequence[InputFacts], facts: Mapping[str, Any]) -> None:
    """Write nuclei.json (the facts), and of what is done nuclei.csv and index.html."""
    write_json(folder / "nuclei.json", facts)
    if done:
        rows = [_row(found) for found in done]
        write_table(folder / "nuclei.csv", rows)
        write_text(folder / "index.html", nuclei_page(folder, done, rows))


def _row(found: InputFacts) -> dict[str, Any]:
    columns = ("stains", "nuclei", "positive", "positive_percent", "threshold_od10", "threshold_from")
    more = ("nuclei_per_mm2", "tissue_mm2", "median_area_um2")
    scored = found["scores"] or {}
    names = ("positive_percent", "h_score", "allred", "pixel_percent")
    of_scores = {f"{name}_{part}": value for name in names for part, value in _parts(scored.get(name)).items()}
    mpp = found["mpp"] if found["mpp_from"] != "assumed" else f"not known, taken as {found['mpp']:g}"
    values = {name: found[name] for name in (*columns, *more)}
    del of_scores["positive_percent_value"]
    return {"image": found["name"], **values, **of_scores, "mpp": mpp, "notes": "; ".join(found["notes"])}


def _parts(score: Mapping[str, Any] | None) -> dict[str, float | None]:
    """A score and the ends of its interval, None where there is none."""
    low, high = (score or {}).get("interval") or (None, None)
    return {"value": (score or {}).get("value"), "low": low, "high": high}


def nuclei_page(folder: Path, results: Sequence[InputFacts], rows: Sequence[Mapping[str, Any]]) -> str:
    """Every input with its outlines, and the numbers."""
    header = [name for name in rows[0] if name != "notes"]
    numbers = [[as_cell(row[name]) for name in header] for row in rows]
    sections = [*(_section(folder, found) for found in results), Section("Numbers", header=header, rows=numbers)]
    return render("sections.html", "Nuclei", sections=sections)


def _section(folder: Path, found: InputFacts) -> Section:
    """An input's picture, and what was found in it."""
    picture = next(name for name in found["outputs"] if name.endswith("_nuclei.jpg"))
    x, y, width, height = found["shown_px"]
    said = "blue: negative, brown-red: positive" if found["threshold_od10"] is not None else "all nuclei"
    caption = f"{said}; {width} x {height} px at ({x}, {y})"
    figure = shrunk(read_image(folder / picture), SHOWN_PX), caption
    notes = [note[0].upper() + note[1:] + "." for note in found["notes"]]
    return Section(found["name"], [f"{said_of(found)}."], [figure], notes)


def said_of(found: InputFacts) -> str:
    """What was found, in one line."""
    per_mm2 = f", {found['nuclei_per_mm2']:,.0f} per mm2 of tissue" if found["nuclei_per_mm2"] else ""
    counted = f"{found['nuclei']:,} {'nucleus' if found['nuclei'] == 1 else 'nuclei'}{per_mm2}"
    if found["threshold_od10"] is None or found["positive_percent"] is None:
        return counted
    whence = {"fixed": "fixed", "found": "found from its nuclei"}[found["threshold_from"]]
    share = f"{found['positive_percent']:.1f} %{_interval(found, 'positive_percent')} positive"
    scored = found["scores"] or {}
    others = f"H-score {scored['h_score']['value']:.0f}, Allred {scored['allred']['value']:.0f}"
    return f"{counted}; {share} (DAB above {found['threshold_od10']:.2f}, {whence}), {others}"


def _interval(found: InputFacts, score: str) -> str:
    """The interval of 95 % as people write it, nothing where there is none."""
    interval = (found["scores"] or {})[score]["interval"]
    return f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else ""
