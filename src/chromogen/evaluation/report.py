"""An evaluation as JSON, CSV and one page: numbers beside baselines, worst and best cases, where the brown is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chromogen import page
from chromogen.evaluation.agreement import THRESHOLDS_OD10
from chromogen.evaluation.credibility import CREDIBILITY, SHIFTED
from chromogen.evaluation.evaluate import SIDES, Evaluation, Row
from chromogen.evaluation.metrics import Value
from chromogen.evaluation.tile import CALLED
from chromogen.files import write_text
from chromogen.image import Image
from chromogen.plots import bland_altman_plot, svg
from chromogen.slides.slide import open_slide
from chromogen.stains.deconvolution import H_DAB, separate_stains, stain_alone

NOT_THIS_SIDE = "not measured for this side"
GIVEN_WITH = {f"no {CALLED['he']}": "--content", f"no {CALLED['real']}": "--real"}  # the command's options
SHOWN_PX = 360
CASES_SHOWN = 3
# What cases are ranked by: the first of these that has values for two images or more.
RANKED_BY = ("hematoxylin_r", f"dab_pearson_8um{SHIFTED}", "style_error", "foreign_color")
TITLES = {
    "prediction": "prediction",
    "he": "the H&E itself",
    "color_transfer": "H&E in the real IHC's colours",
    "real": "real against real",
}


def write_report(evaluation: Evaluation, folder: Path, facts: Mapping[str, Any]) -> dict[str, Path]:
    """Write evaluation.json (with `facts` of the run), evaluation.csv and index.html; their paths by kind."""
    files = {kind: folder / name for kind, name in (("json", "evaluation.json"), ("csv", "evaluation.csv"))}
    files["page"] = folder / "index.html"
    write_text(files["json"], to_text({**report_json(evaluation), **facts}))
    write_text(files["csv"], as_csv(evaluation))
    write_text(files["page"], report_page(evaluation))
    return files


def report_json(evaluation: Evaluation) -> dict[str, Any]:
    """Plain data: `metrics` of the prediction, the same of every other side, a row per image."""
    rows = [
        {"name": row.case.name, "group": row.case.group, "shift_px": row.shift_px, **row.sides}
        for row in evaluation.rows
    ]
    others = {side: scores for side, scores in evaluation.summary.items() if side != "prediction"}
    return {
        "metrics": evaluation.summary["prediction"],
        "baselines": others,
        "rows": rows,
        "definitions": {name: _definition(evaluation.values[name]) for name in evaluation.summary["prediction"]},
        "warnings": list(evaluation.warnings),
        "settings": dict(evaluation.settings),
    }


def _definition(value: Value) -> dict[str, str]:
    return {"says": value.says, "range": value.extent, "unit": value.unit, "better": value.better}


def as_csv(evaluation: Evaluation) -> str:
    """A line per image and side; an empty cell says in words why it is empty."""
    text = io.StringIO()
    names = [name for name in evaluation.values if any(name in row.sides["prediction"] for row in evaluation.rows)]
    writer = csv.writer(text)
    writer.writerow(["name", "group", "side", "shift_x_px", "shift_y_px", *names])
    for row in evaluation.rows:
        for side, scores in row.sides.items():
            shift = row.shift_px if side == "prediction" and row.shift_px else ("", "")
            writer.writerow(
                [row.case.name, row.case.group, side, *shift, *(scores.get(n, NOT_THIS_SIDE) for n in names)]
            )
    return text.getvalue()


def to_text(data: Mapping[str, Any]) -> str:
    """JSON that refuses what is not a number."""
    return json.dumps(data, indent=1, allow_nan=False)


def report_page(evaluation: Evaluation) -> str:
    """The page."""
    measured = [v for name, v in evaluation.values.items() if name in evaluation.summary["prediction"]]
    seen = [value for value in measured if value.name in CREDIBILITY]
    others = [value for value in measured if value.name not in CREDIBILITY]
    settings = page.paragraph(_settings_text(evaluation))
    sections = [page.section("Means", _means_table(evaluation, others), settings)]
    sections.append(page.section("Measured as people see it", _means_table(evaluation, seen)))
    if evaluation.warnings:
        sections.append(page.section("Be careful", page.bullets(evaluation.warnings)))
    sections += [page.section(heading, *map(_case_row, rows)) for heading, rows in _extremes(evaluation)]
    shares = {
        f"positive_{THRESHOLDS_OD10[0]}": f"% of tissue with DAB above {THRESHOLDS_OD10[0]}",
        "positive_nuclei": "% of nuclei that are positive",
    }
    if plots := [plot for name, label in shares.items() if (plot := _bland_altman(evaluation, name, label))]:
        sections.append(page.section("How much is brown", page.row(*plots)))
    sections.append(page.section("What the metrics say", definitions(measured)))
    return page.page("Evaluation of virtual stains", *sections)


def _means_table(evaluation: Evaluation, values: Sequence[Value]) -> str:
    sides, images = [side for side in SIDES if side in evaluation.summary], len(evaluation.rows)
    rows = [[titled(v), *(shown(evaluation.summary[s].get(v.name), images) for s in sides)] for v in values]
    return page.table(["metric (better)", *(TITLES[side] for side in sides)], rows)


def titled(value: Value) -> str:
    """A metric's name with its unit, and in brackets which way is better."""
    unit = f", {value.unit}" if value.unit else ""
    return f"{value.name}{unit}" + ("" if value.better == "neither" else f" ({value.better})")


def shown(mean: Mapping[str, Any] | None, images: int) -> str:
    """A mean with its interval, and its count where that is not the number of images; or why there is none.

    >>> shown({"mean": 0.5, "ci95": [0.4, 0.6], "n": 3}, images=4)
    '0.500 (0.400 to 0.600), n 3'
    >>> shown({"mean": None, "ci95": None, "n": 0, "why": "no DAB"}, images=4)
    'no DAB'
    """
    if mean is None:
        return "-"
    if mean["mean"] is None:
        return str(mean["why"])
    interval = f" ({_rounded(mean['ci95'][0])} to {_rounded(mean['ci95'][1])})" if mean["ci95"] else ""
    count = f", n {mean['n']}" if mean["n"] != images else ""
    return f"{_rounded(mean['mean'])}{interval}{count}"


def _rounded(number: float) -> str:
    return f"{number:.1f}" if abs(number) >= 100 else f"{number:.3g}" if abs(number) >= 1 else f"{number:.3f}"


def mean_lines(evaluation: Evaluation) -> list[str]:
    """The prediction's means, a line each; in one line how many there would be with other pictures given."""
    means = evaluation.summary["prediction"]
    lacking = {name: str(mean.get("why")).split(" and ") for name, mean in means.items()}
    left_out = {name: whys for name, whys in lacking.items() if GIVEN_WITH.keys() >= set(whys)}
    options = sorted({GIVEN_WITH[why] for whys in left_out.values() for why in whys})
    images = len(evaluation.rows)
    lines = [_mean_line(evaluation.values[name], means[name], images) for name in means if name not in left_out]
    return [*lines, f"{len(left_out)} more with {' and '.join(options)}."] if left_out else lines


def _mean_line(value: Value, mean: Mapping[str, Any], images: int) -> str:
    line = f"{value.name:28} {shown(mean, images)}"
    if mean["mean"] is None:
        return line
    return f"{line} {value.unit}".rstrip() + ("" if value.better == "neither" else f", {value.better} is better")


def _settings_text(evaluation: Evaluation) -> str:
    said = evaluation.settings
    thresholds = ", ".join(map(str, said["dab_thresholds_od10"]))
    return (
        f"Images: {said['images']}. Lengths in {said['lengths']}. DAB by {said['vectors']}, above {thresholds} "
        f"(base-10 optical density). Best shift within {said['shift_um']:g} um. Intervals: {said['intervals']}."
    )


def ranking(evaluation: Evaluation) -> tuple[str, list[Row]]:
    """The metric that ranks the cases, and the rows that have it, worst first; no name for less than two."""
    for name in RANKED_BY:
        rows = [row for row in evaluation.rows if isinstance(row.sides["prediction"].get(name), float)]
        if len(rows) > 1:
            sign = 1 if evaluation.values[name].better == "higher" else -1
            return name, sorted(rows, key=lambda row: sign * float(row.sides["prediction"][name]))
    return "", list(evaluation.rows)


def _extremes(evaluation: Evaluation) -> list[tuple[str, Sequence[Row]]]:
    name, rows = ranking(evaluation)
    if not name:
        return [("Pictures", rows[:1])]
    count = min(CASES_SHOWN, len(rows) // 2)
    return [(f"Worst by {name}", rows[:count]), (f"Best by {name}", rows[: -count - 1 : -1])]


def _case_row(row: Row) -> str:
    pictures = {"H&E": row.case.he, "prediction": row.case.prediction, "real IHC": row.case.real}
    images = {what: _from_afar(path) for what, path in pictures.items() if path is not None}
    figures = [page.picture(image, f"{row.case.name}: {what}") for what, image in images.items()]
    stained = {what: image for what, image in images.items() if what != "H&E"}
    figures += [page.picture(dab_alone(image), f"DAB of the {what}") for what, image in stained.items()]
    return page.row(*figures)


def _from_afar(path: Path) -> Image:
    with open_slide(path) as slide:
        return slide.overview(SHOWN_PX)[0]


def dab_alone(image: Image) -> Image:
    """What the picture would be with its DAB and nothing else, uint8 (H, W, 3)."""
    return stain_alone(separate_stains(image, H_DAB), 1, H_DAB)


def _bland_altman(evaluation: Evaluation, share: str, label: str) -> str:
    names = [f"{side}_{share}" for side in ("predicted", "real")]
    scores = [row.sides["prediction"] for row in evaluation.rows]
    pairs = [tuple(s.get(name) for name in names) for s in scores]
    numbers = [(a, b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
    if not numbers:
        return ""
    predicted, real = zip(*numbers, strict=True)
    figure = bland_altman_plot(predicted, real, label)
    return page.plot(
        svg(figure), "Each point is an image; lines: mean difference and 95 % limits (Bland & Altman 1986)"
    )


def definitions(values: Sequence[Value]) -> str:
    """A table of what metrics say, with their ranges and units."""
    return page.table(["metric", "says", "range", "unit"], [[v.name, v.says, v.extent, v.unit] for v in values])
