"""An evaluation as JSON, CSV and one page: numbers beside baselines, worst and best cases, where the brown is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chromogen.evaluation.agreement import THRESHOLDS_OD10
from chromogen.evaluation.evaluate import SIDES, Evaluation, Row
from chromogen.evaluation.metrics import CREDIBILITY, Value
from chromogen.evaluation.scores import SHIFTED
from chromogen.evaluation.tile import CALLED
from chromogen.files import write_json, write_table, write_text
from chromogen.image import Image
from chromogen.page import Figure, render
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

SHARES = {
    f"positive_{THRESHOLDS_OD10[0]}": f"% of tissue with DAB above {THRESHOLDS_OD10[0]}",
    "positive_nuclei": "% of nuclei that are positive",
}


def write_report(evaluation: Evaluation, folder: Path, facts: Mapping[str, Any]) -> dict[str, Path]:
    """Write evaluation.json (with `facts` of the run), evaluation.csv and index.html; their paths by kind."""
    files = {kind: folder / name for kind, name in (("json", "evaluation.json"), ("csv", "evaluation.csv"))}
    files["page"] = folder / "index.html"
    write_json(files["json"], {**report_json(evaluation), **facts})
    write_table(files["csv"], list(table_rows(evaluation)))
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


def table_rows(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    """A row per image and side; a cell without a number says in words why."""
    names = [name for name in evaluation.values if any(name in row.sides["prediction"] for row in evaluation.rows)]
    for row in evaluation.rows:
        for side, scores in row.sides.items():
            x, y = row.shift_px if side == "prediction" and row.shift_px else ("", "")
            of = {"name": row.case.name, "group": row.case.group, "side": side, "shift_x_px": x, "shift_y_px": y}
            yield of | {name: scores.get(name, NOT_THIS_SIDE) for name in names}


def report_page(evaluation: Evaluation) -> str:
    """The page."""
    measured = [v for name, v in evaluation.values.items() if name in evaluation.summary["prediction"]]
    plots = [plot for name, label in SHARES.items() if (plot := _bland_altman(evaluation, name, label))]
    return render(
        "evaluation.html",
        "Evaluation of virtual stains",
        header=["metric (better)", *(TITLES[side] for side in _sides(evaluation))],
        means=_means_rows(evaluation, [value for value in measured if value.name not in CREDIBILITY]),
        seen=_means_rows(evaluation, [value for value in measured if value.name in CREDIBILITY]),
        settings=evaluation.settings,
        warnings=evaluation.warnings,
        cases=[(heading, map(_case_pictures, rows)) for heading, rows in _extremes(evaluation)],
        plots=plots,
        measured=measured,
    )


def _sides(evaluation: Evaluation) -> list[str]:
    return [side for side in SIDES if side in evaluation.summary]


def _means_rows(evaluation: Evaluation, values: Sequence[Value]) -> list[list[str]]:
    images, means = len(evaluation.rows), [evaluation.summary[side] for side in _sides(evaluation)]
    return [[titled(value), *(shown(mean.get(value.name), images) for mean in means)] for value in values]


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


def _case_pictures(row: Row) -> Iterator[Figure]:
    pictures = {"H&E": row.case.he, "prediction": row.case.prediction, "real IHC": row.case.real}
    images = {what: _from_afar(path) for what, path in pictures.items() if path is not None}
    yield from ((image, f"{row.case.name}: {what}") for what, image in images.items())
    yield from ((dab_alone(image), f"DAB of the {what}") for what, image in images.items() if what != "H&E")


def _from_afar(path: Path) -> Image:
    with open_slide(path) as slide:
        return slide.overview(SHOWN_PX)[0]


def dab_alone(image: Image) -> Image:
    """What the picture would be with its DAB and nothing else, uint8 (H, W, 3)."""
    return stain_alone(separate_stains(image, H_DAB), 1, H_DAB)


def _bland_altman(evaluation: Evaluation, share: str, label: str) -> tuple[str, str] | None:
    """The plot of a share of what is positive, and its caption; None without two numbers of any image."""
    names = [f"{side}_{share}" for side in ("predicted", "real")]
    pairs = [[row.sides["prediction"].get(name) for name in names] for row in evaluation.rows]
    numbers = [(a, b) for a, b in pairs if isinstance(a, float) and isinstance(b, float)]
    if not numbers:
        return None
    predicted, real = zip(*numbers, strict=True)
    caption = "Each point is an image; lines: mean difference and 95 % limits (Bland & Altman 1986)"
    return svg(bland_altman_plot(predicted, real, label)), caption
