"""Evaluate virtual stains: metrics of every image beside two baselines and a floor, and means with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chromogen.errors import FAILURES, expected
from chromogen.evaluation.agreement import (
    RESAMPLES,
    THRESHOLDS_OD10,
    Case,
    best_shift,
    match_cases,
    mean_of,
    overlapping,
)
from chromogen.evaluation.feature_distances import (
    patch_features,
    patch_precision,
    patch_statistics,
    too_few,
    vgg19_fid,
    vgg19_kid,
)
from chromogen.evaluation.metrics import PATCH_PRECISION, Measure, Value
from chromogen.evaluation.scores import SHIFTED, Measures, Scores, score_pictures
from chromogen.evaluation.tile import CALLED, Array, Tile, UndefinedError
from chromogen.image import Image, PathLike, resize
from chromogen.nuclei.positivity import FIXED_OD10
from chromogen.pixel_size import ASSUMED_MPP, check_mpp, is_same_mpp
from chromogen.slides.slide import Picture, read_picture
from chromogen.stains.appearance import color_moments, doubts, match_colors

if TYPE_CHECKING:
    from torch import Tensor

    from chromogen.style.encoder import Encoder

SHIFT_UM = 25.0
NO_REAL = "no real IHC"
OTHER_SIZE = "the real IHC has another size"
ROUNDED_PX = 2  # by which sides may differ once both pictures have pixels of one size
MISREGISTERED_UM = 8.0
HARDLY_PERCENT = 1.0
FEW_GROUPS = 5
SIDES = ("prediction", "he", "color_transfer", "real")


@dataclass(frozen=True)
class Row:
    """One case: scores by side, best shift (x, y) of the real IHC in px, and doubts.

    `features` and `patches` are what sets of patches are compared by, by side.

    `mpp` is the size of a pixel in um, None where no file states it. Sides are the prediction, the baselines `he`
    (the H&E itself) and `color_transfer` (in the real IHC's colours), and `real`, the floor: another real IHC, or
    where there is one only, one half of it against the other.
    """

    case: Case
    sides: Mapping[str, Scores]
    shift_px: tuple[int, int] | None
    features: Mapping[str, Tensor]
    patches: Mapping[str, Array]
    mpp: float | None
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """Rows, means with 95 % intervals by side and metric, what to be careful of, and the settings behind it."""

    rows: tuple[Row, ...]
    summary: Mapping[str, Mapping[str, Mapping[str, Any]]]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    values: Mapping[str, Value]

    def _repr_html_(self) -> str:
        """Means of every side and metric, for notebooks."""
        sides = [side for side in SIDES if side in self.summary]
        head = "".join(f"<th>{escape(cell)}</th>" for cell in ("", *sides))
        names = dict.fromkeys(name for side in sides for name in self.summary[side])
        rows = ([name, *(_mean_in_words(self.summary[side].get(name)) for side in sides)] for name in names)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        notes = "".join(f"<li>{escape(warning)}</li>" for warning in self.warnings)
        return f"<table><tr>{head}</tr>{body}</table><ul>{notes}</ul>"


def _mean_in_words(found: Mapping[str, Any] | None) -> str:
    return "" if found is None or found["mean"] is None else f"{found['mean']:.3g}"


def evaluate_files(
    prediction: PathLike,
    he: PathLike | None = None,
    real: PathLike | None = None,
    *,
    encoder: Encoder | None = None,
    mpp: float | None = None,
    group: str | None = None,
    shift_um: float = SHIFT_UM,
    on_case: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Score every prediction, against the H&E it came from and a real IHC as far as they are given.

    Paths are images, slides or folders of them, matched by name (`match_cases`). `mpp` is um per pixel of all;
    without it the size that files state counts, and H&E and real IHC of another size are resampled to the
    prediction's. Intervals come from a bootstrap over groups.
    `on_case(done, of, name)` is called after every image. Raises: ValueError or FileNotFoundError for what cannot
    be evaluated at all; an image that cannot be read, or has another size than its H&E, ends as a warning.
    """
    if not 0 <= shift_um <= 500:
        raise expected("shift_um", "from 0 to 500 um", shift_um)
    check_mpp("mpp", mpp)
    cases, warnings = match_cases(prediction, he, real, group)
    measures = Measures(encoder or _exact_encoder())
    rows: list[Row] = []
    for done, case in enumerate(cases, 1):
        try:
            rows.append(_row(case, _other_reals(cases, case), measures, mpp, shift_um))
            warnings += rows[-1].doubts
        except FAILURES as error:
            warnings.append(f"{case.name} is left out: {error or 'out of memory'}")
        if on_case:
            on_case(done, len(cases), case.name)
    if not rows:
        raise ValueError(f"None of {len(cases)} predictions could be evaluated: {'; '.join(warnings)[:400]}")
    return Evaluation(
        tuple(rows),
        _summary(rows, measures.values),
        (*warnings, *_cautions(rows, shift_um, group)),
        _settings(rows, shift_um, group),
        measures.values,
    )


def _exact_encoder() -> Encoder:
    from chromogen.style.encoder import Encoder

    return Encoder(precision="fp32")


def _settings(rows: Sequence[Row], shift_um: float, group: str | None) -> dict[str, Any]:
    known = [row.mpp for row in rows if row.mpp]
    unknown = f"px, taken as {ASSUMED_MPP} um each"
    return {
        "images": len(rows),
        "mpp": known[0] if known and all(is_same_mpp(mpp, known[0]) for mpp in known) else None,
        "lengths": unknown if not known else "um" if len(known) == len(rows) else f"um, where not known {unknown}",
        "dab_thresholds_od10": list(THRESHOLDS_OD10),
        "vectors": "QuPath's defaults for H&E and H-DAB",
        "shift_um": shift_um,
        "group": group,
        "intervals": f"95 %, bootstrap over {'groups' if group else 'images'}, {RESAMPLES} resamples",
    }


def _other_reals(cases: Sequence[Case], case: Case) -> list[Path]:
    """The real IHCs of the other cases, the next one first."""
    at = cases.index(case)
    return [c.real for c in (*cases[at + 1 :], *cases[:at]) if c.real is not None and c.real != case.real]


def _row(case: Case, other_reals: Sequence[Path], measures: Measures, mpp: float | None, shift_um: float) -> Row:
    """Read, compare, and forget the pictures."""
    prediction, he, real, mpp = _read(case, mpp)
    Tile(prediction, he)  # says what is wrong with their sizes
    doubted = tuple(_doubts(case, prediction, he, real, mpp))
    pictures = {"prediction": prediction}
    if he is not None:
        pictures["he"] = he
    if he is not None and real is not None:
        pictures["color_transfer"] = match_colors(he, color_moments(real))
    sides = {side: _scores_of(measures, picture, he, real, mpp) for side, picture in pictures.items()}
    seen = pictures if real is None else pictures | {"real": real}
    # The H&E says where the tissue of its stained copies is: a virtual stain may be too grey to show that itself.
    tissue = {side: Tile(image, None if side == "real" else he, mpp=mpp).tissue for side, image in seen.items()}
    features = {side: patch_features(measures.encoder, image, tissue[side]) for side, image in seen.items()}
    patches = {side: patch_statistics(measures.encoder, image, tissue[side]) for side, image in seen.items()}
    if real is None:
        return Row(case, sides, None, features, patches, mpp, doubted)
    sides["real"] = _floor(measures, real, other_reals, mpp)
    if real.shape != prediction.shape:
        return Row(case, sides, None, features, patches, mpp, doubted)
    shift = best_shift(prediction, real, round(Tile(real, mpp=mpp).px(shift_um)))
    for side, picture in pictures.items():
        sides[side] |= _shifted(measures.real, picture, real, shift, mpp)
    return Row(case, sides, shift, features, patches, mpp, doubted)


def _doubts(
    case: Case, prediction: Image, he: Image | None, real: Image | None, mpp: float | None
) -> Iterator[str]:
    """Why a picture may not be what it is measured as."""
    pictures = (
        (prediction, "prediction", "style"),
        (he, CALLED["he"], "content"),
        (real, CALLED["real"], "style"),
    )
    for image, name, role in pictures:
        doubt = None if image is None else doubts(image, role, mpp or ASSUMED_MPP)
        if doubt:
            yield f"The {name} of {case.name} {doubt}."


def _read(case: Case, mpp: float | None) -> tuple[Image, Image | None, Image | None, float | None]:
    """Prediction, H&E and real IHC at one pixel size, and that size: the prediction's, else the H&E's."""
    prediction = read_picture(case.prediction, mpp)
    he, real = (
        None if path is None else read_picture(path, mpp, at_mpp=prediction.mpp) for path in (case.he, case.real)
    )
    known = prediction.mpp or (he and he.mpp) or (real and real.mpp) or None
    return prediction.pixels, _rounded_as(he, prediction), _rounded_as(real, prediction), known


def _rounded_as(picture: Picture | None, prediction: Picture) -> Image | None:
    """A picture as large as the prediction, where resampling has rounded its sides otherwise."""
    if picture is None:
        return None
    height, width = prediction.pixels.shape[:2]
    apart = max(abs(picture.pixels.shape[0] - height), abs(picture.pixels.shape[1] - width))
    if prediction.mpp is None or apart > ROUNDED_PX:
        return picture.pixels
    return resize(picture.pixels, (width, height))


def _scores_of(
    measures: Measures, picture: Image, he: Image | None, real: Image | None, mpp: float | None
) -> Scores:
    """All scores of a picture; where the real IHC has another size, only its style can be compared."""
    if real is None or real.shape == picture.shape:
        return score_pictures(measures.prediction, picture, he, real, mpp)
    alone = score_pictures(measures.prediction, picture, he, None, mpp)
    refused = {
        value.name: OTHER_SIZE for measure in (*measures.nuclei, *measures.real) for value in measure.values
    }
    height, width = (min(sides) for sides in zip(picture.shape[:2], real.shape[:2], strict=True))
    ours, he_there, theirs = (None if i is None else i[:height, :width] for i in (picture, he, real))
    assert ours is not None  # noqa: S101 - a picture is there
    return alone | refused | score_pictures(measures.anywhere, ours, he_there, theirs, mpp)


def _shifted(
    measures: Sequence[Measure], picture: Image, real: Image, shift: tuple[int, int], mpp: float | None
) -> Scores:
    ours, theirs = overlapping(picture, real, shift)
    found = score_pictures(measures, ours, None, theirs, mpp)
    return {f"{name}{SHIFTED}": value for name, value in found.items() if not name.startswith("real_")}


def _floor(measures: Measures, real: Image, others: Sequence[Path], mpp: float | None) -> Scores:
    """A real IHC against another one, or its upper half against its lower: how far apart the real thing is."""
    half = real.shape[0] // 2
    other = _first_readable(others, mpp)
    ours, theirs = (real[:half], real[half : 2 * half]) if other is None else (other, real)
    height, width = (min(sides) for sides in zip(ours.shape[:2], theirs.shape[:2], strict=True))
    return score_pictures(
        (*measures.anywhere, *measures.nuclei, *measures.real),
        ours[:height, :width],
        None,
        theirs[:height, :width],
        mpp,
    )


def _first_readable(paths: Sequence[Path], mpp: float | None) -> Image | None:
    for path in paths:
        with suppress(ValueError, OSError):
            return read_picture(path, at_mpp=mpp).pixels
    return None


Summary: TypeAlias = dict[
    str, dict[str, dict[str, Any]]
]  # by side and metric: mean, ci95, n, or why there is none


def _summary(rows: Sequence[Row], values: Mapping[str, Value]) -> Summary:
    """Means of every side over the images that have a value, and the distances between sets."""
    means = {side: _means([row for row in rows if side in row.sides], side, values) for side in SIDES}
    sets = _set_distances(rows)
    return {side: found | sets.get(side, {}) for side, found in means.items() if found}


def _means(rows: Sequence[Row], side: str, values: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    names = [name for name in values if any(name in row.sides[side] for row in rows)]
    return {
        name: mean_of([(row.case.group, row.sides[side].get(name, NO_REAL)) for row in rows]) for name in names
    }


def _set_distances(rows: Sequence[Row]) -> Summary:
    """Distances of all predictions, and of each baseline, from all real IHCs; and which patches look real."""
    import torch

    sets = {side: [row.features[side] for row in rows if side in row.features] for side in SIDES}
    patches = {side: [row.patches[side] for row in rows if side in row.patches] for side in SIDES}
    if not sets["real"]:
        return {}
    real, real_patches = torch.cat(sets["real"]), np.concatenate(patches["real"])
    among_real = {"real": {PATCH_PRECISION: _of_set(_real_precision, real_patches, [*map(len, patches["real"])])}}
    return among_real | {
        side: {
            "vgg19_fid": _of_set(vgg19_fid, torch.cat(sets[side]), real),
            "vgg19_kid": _of_set(vgg19_kid, torch.cat(sets[side]), real),
            PATCH_PRECISION: _of_set(patch_precision, np.concatenate(patches[side]), real_patches),
        }
        for side in SIDES[:3]
        if sets[side]
    }


def _of_set(compute: Callable[..., float], ours: Any, *real: Any) -> dict[str, Any]:
    try:
        return {"mean": compute(ours, *real), "ci95": None, "n": len(ours)}
    except UndefinedError as why:
        return {"mean": None, "ci95": None, "n": 0, "why": str(why)}


def _real_precision(patches: Array, counts: Sequence[int]) -> float:
    """The precision of each real IHC's patches among the others', by how many each has; of one, of its halves."""
    ends = np.cumsum([count for count in counts if count])[:-1]
    parts = np.split(patches, ends) if len(ends) else np.array_split(patches, 2)
    others = [np.concatenate([*parts[:i], *parts[i + 1 :]]) for i in range(len(parts))]
    shares = [patch_precision(part, other) for part, other in zip(parts, others, strict=True)]
    return float(np.average(shares, weights=[len(part) for part in parts]))


def _cautions(rows: Sequence[Row], shift_um: float, group: str | None) -> Iterator[str]:
    """Where a number does not mean much."""
    groups = {row.case.group for row in rows}
    if len(groups) < FEW_GROUPS:
        yield f"{'groups' if group else 'images'}: {len(groups)}, too few for an interval to mean much"
    patches = [sum(len(row.features.get(side, ())) for row in rows) for side in ("prediction", "real")]
    if min(patches) > 1 and (few := too_few(min(patches))):
        yield few
    if unknown := sum(row.mpp is None for row in rows):
        images = "1 image" if unknown == 1 else f"{unknown} images"
        yield f"pixel size: {images} without; Chromogen took {ASSUMED_MPP} um/px (set it with --mpp)"
    yield from _fixed_thresholds(rows)
    for row in rows:
        yield from _row_cautions(row, shift_um)


def _fixed_thresholds(rows: Sequence[Row]) -> Iterator[str]:
    """Where the nuclei of a picture do not say themselves which are brown."""
    for side, name in (("predicted", "predictions"), ("real", "real IHCs")):
        borders = [row.sides["prediction"].get(f"{side}_nuclei_threshold_od10") for row in rows]
        if fixed := borders.count(FIXED_OD10[0]):
            yield (
                f"nuclei: in {fixed} of {len(rows)} {name} they do not fall into blue and brown by their DAB, "
                f"or are too few to show it; Chromogen counts those above {FIXED_OD10[0]} as positive"
            )


def _row_cautions(row: Row, shift_um: float) -> Iterator[str]:
    name = row.case.name
    if "real" in row.sides and row.shift_px is None:
        yield f"{name}: {OTHER_SIZE}, so that only its style is compared"
    if row.shift_px is not None:
        away_um = float(np.hypot(*row.shift_px)) * (row.mpp or ASSUMED_MPP)
        if away_um > 0.9 * shift_um > 0:
            yield f"{name}: the real IHC is {away_um:.0f} um off or more; compare amounts of DAB, not places"
        elif away_um > MISREGISTERED_UM:
            yield f"{name}: the real IHC is {away_um:.0f} um off; read the *{SHIFTED} metrics"
    real = row.sides["prediction"].get(f"real_positive_{THRESHOLDS_OD10[0]}")
    if isinstance(real, float) and real < HARDLY_PERCENT:
        yield f"{name}: hardly any DAB in the real IHC ({real:.2g} %): Dice and Pearson mean little"
    predicted = row.sides["prediction"].get(f"predicted_positive_{THRESHOLDS_OD10[0]}")
    if isinstance(predicted, float) and not HARDLY_PERCENT <= predicted <= 100 - HARDLY_PERCENT:
        yield f"{name}: {predicted:.2g} % of the prediction is brown: dab_determined means little"
