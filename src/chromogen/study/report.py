"""A study as one page, a figure grid, tables and JSON: what was claimed, what was measured, what holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chromogen.evaluation.agreement import mean_of
from chromogen.evaluation.fields import Crop
from chromogen.evaluation.metrics import Value
from chromogen.evaluation.report import shown, titled
from chromogen.files import write_json, write_table, write_text
from chromogen.image import Image, read_image
from chromogen.page import render
from chromogen.plots import loss_plot, pareto_plot, picture_grid, save_plot, svg
from chromogen.study.cells import GIVEN, StudyCell
from chromogen.study.experiments import FAILS, HOLDS, UNDECIDED, Experiment, Finding, Found
from chromogen.style.recipes import Recipe, as_record

CROPS_SHOWN = 4
FRONT = {
    "style_error": "style error (less is closer to the stain)",
    "edge_r": "edges kept (more is closer to the H&E)",
}
LABELS = {"he": "H&E", "ihc": "IHC", "colors": "colours alone"}
VERDICTS = {HOLDS: "as claimed", FAILS: "the other way round", UNDECIDED: "undecided"}
NEXT = {
    "One place decides little. With more crops, and pairs of your own (NAME_he.png with NAME_ihc.png):": (
        "chromogen study --pairs pairs/ --crops 3 -o more/"
    ),
    "One setting at a time:": (
        "chromogen study --grid content.weight=1e-4,1e-3,1e-2 --preset paper --init noise -o sweep/"
    ),
    "The report's first example, a photo in the style of a painting:": (
        "chromogen study --painting painting.jpg -o study/"
    ),
}
PHOTO_TITLES = ("Fig. 1: content, a photo", "Fig. 2: style, a painting", "Fig. 3: the photo in that style")


@dataclass(frozen=True)
class Study:
    """What was run on what, and what came of it; `photo` is content, painting and result of figures 1 to 3."""

    crops: Sequence[Crop]
    experiments: Sequence[Experiment]
    cells: Sequence[StudyCell]
    findings: Sequence[Finding]
    values: Mapping[str, Value]
    photo: tuple[Image, Image, Image] | None
    warnings: Sequence[str]

    @property
    def titles(self) -> dict[str, str]:
        """What every picture of a crop is, in order, by name."""
        made = {experiment.name: experiment.title for experiment in self.experiments}
        return {"he": GIVEN["he"], "ihc": GIVEN["ihc"], **made, "colors": GIVEN["colors"]}

    @cached_property
    def means(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By picture and metric: the mean with its interval over slides and its count, or why there is none."""
        return {name: self._means_of(name) for name in self.titles}

    def _means_of(self, name: str) -> dict[str, dict[str, Any]]:
        cells = [cell for cell in self.cells if cell.name == name]
        metrics = [metric for metric in self.values if any(metric in cell.scores for cell in cells)]
        return {
            metric: mean_of([(cell.slide, cell.scores.get(metric, "not measured")) for cell in cells])
            for metric in metrics
        }

    @property
    def shown(self) -> list[tuple[Crop, list[StudyCell]]]:
        """Some crops, of as many slides as can be, with their cells in the order of titles."""
        firsts = {crop.slide: crop.name for crop in reversed(self.crops)}.values()
        chosen = sorted(self.crops, key=lambda crop: crop.name not in firsts)[:CROPS_SHOWN]
        by_place = {(cell.crop, cell.name): cell for cell in self.cells}
        return [(crop, [by_place[crop.name, name] for name in self.titles]) for crop in chosen]


def write_study(study: Study, folder: Path, facts: Mapping[str, Any]) -> dict[str, Path]:
    """Write page, figure grid, Pareto plot, table and JSON (with `facts`) into the folder; their paths by kind."""
    names = {"page": "index.html", "figures": "figures.png", "csv": "metrics.csv", "json": "study.json"}
    files = {kind: folder / name for kind, name in names.items()}
    write_json(files["json"], {**as_record_of(study), **facts})
    write_table(files["csv"], [_table_row(study, cell) for cell in study.cells])
    grid = [[read_image(cell.picture) for cell in cells] for _, cells in study.shown]
    save_plot(picture_grid(grid, list(study.titles.values())), files["figures"], dpi=100)
    if points := front_points(study):
        files["pareto"] = folder / "pareto.png"
        save_plot(pareto_plot(points, *FRONT.values()), files["pareto"])
    write_text(files["page"], study_page(study))
    return files


def as_record_of(study: Study) -> dict[str, Any]:
    """The study as plain data."""
    return {
        "experiments": {e.name: {"title": e.title, "recipe": as_record(e.recipe)} for e in study.experiments},
        "findings": [
            {"claim": f.claim.text, "source": f.claim.source, "verdict": f.verdict}
            | {"comparisons": [_found_record(found) for found in f.found]}
            for f in study.findings
        ],
        "metrics": study.means,
        "cells": [_cell_record(cell) | {"scores": cell.scores} for cell in study.cells],
        "warnings": list(study.warnings),
    }


def _cell_record(cell: StudyCell) -> dict[str, Any]:
    where = {"crop": cell.crop, "place": cell.place, "slide": cell.slide, "experiment": cell.name}
    return {**where, "seconds": cell.seconds, "content_weight": cell.content_weight}


def _found_record(found: Found) -> dict[str, Any]:
    record: dict[str, Any] = asdict(found)
    return {**record.pop("comparison"), **record}


def _table_row(study: Study, cell: StudyCell) -> dict[str, Any]:
    return _cell_record(cell) | {metric: cell.scores.get(metric, "") for metric in study.values}


def study_page(study: Study) -> str:
    """The page."""
    metrics = [metric for metric in study.values if any(metric in found for found in study.means.values())]
    lacking = {metric: why for metric in metrics if (why := _why_nowhere(study, metric))}
    measured = [study.values[metric] for metric in metrics if metric not in lacking]
    captions = study.titles | {e.name: f"{e.title} ({e.caption})" for e in study.experiments}
    points = front_points(study)
    return render(
        "study.html",
        "The report's experiments" if study.findings else "A sweep of recipes",
        ran=ran(study),
        warnings=study.warnings,
        claims=[[f.claim.text, f.claim.source, f.verdict, tally(f)] for f in study.findings],
        comparisons=[[f.claim.text, *said(found)] for f in study.findings for found in f.found],
        crops={
            crop.name: [(read_image(cell.picture), captions[cell.name]) for cell in cells]
            for crop, cells in study.shown
        },
        photo=list(zip(study.photo, PHOTO_TITLES, strict=True)) if study.photo else [],
        front=svg(pareto_plot(points, *FRONT.values())) if points else "",
        header=["metric (better)", *map(short_name, study.means)],
        means=[[titled(v), *(_mean_text(found.get(v.name)) for found in study.means.values())] for v in measured],
        lacking={why: [m for m, of_it in lacking.items() if of_it == why] for why in lacking.values()},
        measured=measured,
        curves=_curves(study),
        next=NEXT,
    )


def ran(study: Study) -> str:
    """What was run on what, in a sentence."""
    slides, sides = len({crop.slide for crop in study.crops}), {max(crop.he.shape[:2]) for crop in study.crops}
    steps, inits = ({of(e.recipe) for e in study.experiments} for of in (_steps, lambda recipe: recipe.init))
    recipes, crops = _counted(len(study.experiments), "recipe"), _counted(len(study.crops), "crop")
    return (
        f"{recipes} on {crops} of {_counted(slides, 'slide')}, "
        f"{_listed(sides)} px a side; {_listed(steps)} steps from {_listed(inits)}."
    )


def _steps(recipe: Recipe) -> int:
    return sum(recipe.steps)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, sorted(values, key=str)))


def tally(finding: Finding) -> str:
    """How its comparisons came out, in words, and why some could not be made."""
    verdicts = [found.verdict for found in finding.found]
    counts = {words: verdicts.count(verdict) for verdict, words in VERDICTS.items()}
    said = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    whys = "; ".join({found.why: None for found in finding.found if found.why})
    return f"{said}: {whys}" if whys else said


def said(found: Found) -> list[str]:
    """A comparison in the words of a table."""
    compared = found.comparison
    sides = [compared.metric, short_name(compared.better), short_name(compared.worse)]
    if found.difference is None:
        return [*sides, "", "", str(found.n), f"undecided: {found.why}"]
    interval = f"{found.ci95[0]:+.2g} to {found.ci95[1]:+.2g}" if found.ci95 else ""
    verdict = f"{VERDICTS[found.verdict]}: {found.why}" if found.why else VERDICTS[found.verdict]
    return [*sides, f"{found.difference:+.2g}", interval, str(found.n), verdict]


def short_name(name: str) -> str:
    """A short name for columns.

    >>> short_name("fig06_high"), short_name("he"), short_name("steps=3")
    ('fig. 6 high', 'H&E', 'steps=3')
    """
    number = name.removeprefix("fig").lstrip("0").replace("_", " ")
    return f"fig. {number}" if name.startswith("fig") else LABELS.get(name, name)


def front_points(study: Study) -> dict[str, tuple[float, float]]:
    """Style error and edges kept of all that was made and has both, by label."""
    means = {name: [found.get(metric, {}).get("mean") for metric in FRONT] for name, found in study.means.items()}
    made = {name: found for name, found in means.items() if name not in ("he", "ihc")}
    return {short_name(name): (x, y) for name, (x, y) in made.items() if x is not None and y is not None}


def _why_nowhere(study: Study, metric: str) -> str:
    """The one reason for which no picture has this metric; empty where one has, or reasons differ."""
    means = [found.get(metric, {}) for found in study.means.values()]
    whys = {mean.get("why", "") for mean in means} if all(mean.get("mean") is None for mean in means) else set()
    return str(whys.pop()) if len(whys) == 1 else ""


def _mean_text(mean: Mapping[str, Any] | None) -> str:
    return shown(mean, 0 if mean is None else mean["n"])


def _curves(study: Study) -> list[tuple[str, str]]:
    """The losses of the first crop's pictures, and their captions."""
    crop, cells = study.shown[0]
    titled_cells = [(cell, study.titles[cell.name]) for cell in cells if cell.curves]
    return [(svg(loss_plot(cell.curves, title)), f"{title}, on {crop.name}") for cell, title in titled_cells]
