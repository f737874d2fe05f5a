"""Run experiments on fields: every cell is a picture with its scores, kept on disk and never made twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromogen.evaluation.fields import Crop
from chromogen.evaluation.metrics import HEMATOXYLIN, REAL_MEASURES, Value
from chromogen.evaluation.scores import Measures, Scores, score, score_pictures, tiles
from chromogen.files import write_whole
from chromogen.image import Image, to_tensor, write_image
from chromogen.provenance import NOTICE, versions
from chromogen.stains.appearance import color_moments, match_colors
from chromogen.study.experiments import Claim, Experiment, Finding, ScoredField, findings
from chromogen.style.loss import LossFunction, add_gradient, picture_windows, targets_of, tiles_of, with_reference
from chromogen.style.measured_style import Style
from chromogen.style.recipes import Recipe, as_record, with_term
from chromogen.style.stylize import OnStep, Stylized, first_picture, stylized, weighted_curves

if TYPE_CHECKING:
    from chromogen.style.encoder import Encoder

GIVEN = {
    "he": "Fig. 4: the H&E itself",
    "ihc": "Fig. 5: the IHC that lends its style",
    "colors": "Only the colours of the IHC",
}
NO_REAL = "no real IHC of this tissue"
ELSEWHERE = "the real IHC shows another place"
REGISTERED_R = 0.1  # of haematoxylin in H&E and real IHC: below, their nuclei do not lie in the same places
FEW_SLIDES = 5
ENOUGH_STEPS = 100  # from noise (docs/explanation/report.md): before, all figures and verdicts are of noise
# What compares place by place, in contrast to amounts of DAB.
PLACED = [v.name for measure in REAL_MEASURES for v in measure.values if not v.name.startswith("real_")]


@dataclass(frozen=True)
class StudyCell:
    """One experiment on one crop, as it lies on disk: the picture, its scores, its loss curves by term."""

    crop: str
    place: str
    slide: str
    name: str
    picture: Path
    scores: Scores
    curves: Mapping[str, Sequence[float]]
    content_weight: float | None
    seconds: float


OnCell = Callable[[int, int, str], None]  # done, of, what comes next


def run_study(
    crops: Sequence[Crop],
    experiments: Sequence[Experiment],
    folder: Path,
    encoder: Encoder,
    on_cell: OnCell | None = None,
    on_step: OnStep | None = None,
) -> list[StudyCell]:
    """Every experiment on every crop, and what is given beside them (`GIVEN`); finished cells are read again.

    Pictures go to FOLDER/CROP/EXPERIMENT.png. Raises what `stylize` does, and OSError; what is finished stays.
    """
    measures = Measures(encoder.exact)
    cells: list[StudyCell] = []
    of = len(crops) * (len(GIVEN) + len(experiments))
    for crop in crops:
        jobs: list[Given | Experiment] = [*_given(crop), *experiments]
        for job in jobs:
            if on_cell:
                on_cell(len(cells), of, f"{crop.name} {job.name}")
            cells.append(_cell(crop, job, folder / crop.name, encoder, measures, on_step))
    if on_cell:
        on_cell(of, of, "")
    return cells


@dataclass(frozen=True)
class Given:
    """A picture that needs no making."""

    name: str
    image: Image


def _given(crop: Crop) -> tuple[Given, ...]:
    colors = match_colors(crop.he, color_moments(crop.ihc))
    return Given("he", crop.he), Given("ihc", crop.ihc), Given("colors", colors)


def _cell(
    crop: Crop,
    job: Experiment | Given,
    folder: Path,
    encoder: Encoder,
    measures: Measures,
    on_step: OnStep | None,
) -> StudyCell:
    recipes = [recipe for recipe in (job.recipe, job.like) if recipe] if isinstance(job, Experiment) else []
    key = _key((crop.he, crop.ihc), recipes, encoder, crop.paired, crop.mpp, crop.seed)

    def make(picture: Path) -> dict[str, Any]:
        image, facts = _made(crop, job, encoder, on_step)
        write_image(picture, image, facts["provenance"])
        return {**facts, "scores": crop_scores(crop, image, measures)}

    found = _kept(folder / f"{job.name}.png", key, make)
    values = (found[field] for field in ("scores", "curves", "content_weight", "seconds"))
    return StudyCell(crop.name, crop.place, crop.slide, job.name, folder / f"{job.name}.png", *values)


def run_photo(
    photo: Image, painting: Image, recipe: Recipe, folder: Path, encoder: Encoder, on_step: OnStep | None = None
) -> Path:
    """Figure 3: the photo in the style of the painting, uint8 (H, W, 3), as FOLDER/fig03.png, made once."""

    def make(picture: Path) -> dict[str, Any]:
        result = stylized(photo, painting, recipe, encoder=encoder, on_step=on_step)
        write_image(picture, result.image, _provenance(result, recipe, encoder))
        return {}

    _kept(folder / "fig03.png", _key((photo, painting), [recipe], encoder), make)
    return folder / "fig03.png"


def _kept(picture: Path, key: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """What a finished record beside the picture says; where there is none of this key, made first."""
    record = picture.with_suffix(".json")
    found = _finished(record, picture, key)
    if found is None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        found = {**make(picture), "seconds": time.perf_counter() - began, "key": key}
        write_whole(record, json.dumps(found).encode())
    return found


def _finished(record: Path, picture: Path, key: str) -> dict[str, Any] | None:
    """What a record says, where it is whole and of this very key."""
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key and picture.is_file() else None


def _key(images: Sequence[Image], recipes: Sequence[Recipe], encoder: Encoder, *more: object) -> str:
    """A hash of all that decides a picture and its scores."""
    pixels = [(image.shape, hashlib.sha256(image.tobytes()).hexdigest()) for image in images]
    facts = [pixels, [as_record(recipe) for recipe in recipes], encoder.record(), versions(), more]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _made(
    crop: Crop, job: Experiment | Given, encoder: Encoder, on_step: OnStep | None
) -> tuple[Image, dict[str, Any]]:
    """The picture, and what is to be remembered of its making."""
    if not isinstance(job, Experiment):
        return job.image, {
            "curves": {},
            "content_weight": None,
            "provenance": {"made": GIVEN[job.name], "notice": NOTICE},
        }
    recipe = _recipe(job, crop, encoder)
    result = stylized(crop.he, crop.ihc, recipe, encoder=encoder, on_step=on_step)
    provenance = _provenance(result, recipe, encoder)
    weight = next((term.weight for term in recipe.objective if term.name == "content"), None)
    curves = weighted_curves(result.trace, recipe)
    return result.image, {"curves": curves, "content_weight": weight, "provenance": provenance}


def _provenance(result: Stylized, recipe: Recipe, encoder: Encoder) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "recipe": as_record(recipe),
        "encoder": encoder.record(),
        "precision": result.precision,
        "initial": asdict(result.initial),
        "final": asdict(result.final),
        "versions": versions(),
    }


def _recipe(job: Experiment, crop: Crop, encoder: Encoder) -> Recipe:
    """The experiment's, from the crop's seed, its content weight matched if it is to be."""
    recipe = replace(job.recipe, seed=job.recipe.seed + crop.seed)
    return with_equal_pull(recipe, replace(job.like, seed=recipe.seed), crop, encoder) if job.like else recipe


def judged_claims(
    cells: Sequence[StudyCell], claims: Sequence[Claim], values: Mapping[str, Value]
) -> list[Finding]:
    """Every claim against what the cells scored."""
    by_crop: dict[str, list[StudyCell]] = {}
    for cell in cells:
        by_crop.setdefault(cell.crop, []).append(cell)
    fields = [
        ScoredField(group[0].place, group[0].slide, {cell.name: cell.scores for cell in group})
        for group in by_crop.values()
    ]
    return findings(claims, fields, {name: 1 if v.better == "higher" else -1 for name, v in values.items()})


def cautions(
    crops: Sequence[Crop], experiments: Sequence[Experiment], cells: Sequence[StudyCell]
) -> Iterator[str]:
    """Where a finding does not mean much."""
    steps = [sum(experiment.recipe.steps) for experiment in experiments if experiment.recipe.init == "noise"]
    if steps and min(steps) < ENOUGH_STEPS:
        yield f"steps: {min(steps)} from noise leave pictures unfinished; take {ENOUGH_STEPS} or more"
    slides, places = {crop.slide for crop in crops}, {crop.place for crop in crops}
    if len(places) == 1:
        yield "places: 1, so that nothing can be decided; take --crops 3, or --pairs of more slides"
    elif len(slides) < FEW_SLIDES:
        yield f"slides: {len(slides)}, too few to say much of others; intervals are wide for that"
    if not any(crop.paired for crop in crops):
        yield f"{NO_REAL}: what is claimed of it is undecided"
    for cell in cells:
        if cell.scores.get("psnr") == ELSEWHERE and cell.name == "ihc":
            yield f"{cell.crop}: {ELSEWHERE}, and is not compared place by place"


def crop_scores(crop: Crop, picture: Image, measures: Measures) -> Scores:
    """All scores of a picture of this crop, uint8 (H, W, 3); against a real IHC where it is of this tissue."""
    if crop.paired:
        found = score_pictures(measures.prediction, picture, crop.he, crop.ihc, crop.mpp)
        return found if is_registered(crop) else found | dict.fromkeys(PLACED, ELSEWHERE)
    alone = score_pictures(measures.prediction, picture, crop.he, None, crop.mpp)
    refused = {value.name: NO_REAL for measure in (*measures.nuclei, *measures.real) for value in measure.values}
    return alone | refused | score_pictures(measures.anywhere, picture, crop.he, crop.ihc, crop.mpp)


def is_registered(crop: Crop) -> bool:
    """Whether the haematoxylin of the real IHC lies where the H&E's does."""
    found = score([HEMATOXYLIN], tiles(crop.ihc, crop.he, None, crop.mpp))
    return all(isinstance(r, float) and r >= REGISTERED_R for r in found.values())


def with_equal_pull(recipe: Recipe, like: Recipe, crop: Crop, encoder: Encoder) -> Recipe:
    """The recipe with the content weight that makes content pull as hard as in another recipe."""
    ours, theirs = (content_pull(r, crop, encoder) for r in (recipe, like))
    weight = next(term.weight for term in recipe.objective if term.name == "content")
    return with_term(recipe, "content", weight=weight * theirs / ours) if min(ours, theirs) > 0 else recipe


def content_pull(recipe: Recipe, crop: Crop, encoder: Encoder) -> float:
    """The length of the weighted content term's gradient at the first picture.

    At the H&E itself a square error has no gradient: for runs that start there, at the H&E in the IHC's colours,
    the nearest picture that looks like a stain.
    """
    away = replace(recipe, init="color") if recipe.init == "content" else recipe
    terms = tuple(term for term in recipe.objective if term.name == "content")
    he = to_tensor(crop.he).to(encoder.device)
    there = first_picture(crop.he, Style((crop.ihc,), (1.0,), {}), away, 1.0).to(encoder.device)
    loss = LossFunction(terms, recipe.loss_scale, encoder.exact)
    targets = targets_of(loss, tiles_of((he.shape[3], he.shape[2]), terms))
    targets = with_reference(loss, "content", picture_windows(he), targets)
    add_gradient(loss, picture_windows(there.requires_grad_()), targets)
    return 0.0 if there.grad is None else float(there.grad.norm())
