import json
import shutil
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from chromogen.evaluation.fields import Crop, with_seeds
from chromogen.evaluation.scores import Measures
from chromogen.image import read_image, read_provenance
from chromogen.study import cells as study
from chromogen.study.cells import (
    ELSEWHERE,
    GIVEN,
    NO_REAL,
    StudyCell,
    cautions,
    content_pull,
    crop_scores,
    judged_claims,
    run_photo,
    run_study,
    with_equal_pull,
)
from chromogen.study.experiments import CLAIMS, Experiment
from chromogen.study.report import NEXT, Study, front_points, short_name, study_page, write_study
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import Recipe, content_term, style_term
from synthetic import tissue_like

SIDE = 64
SHALLOW = style_term(layers=("relu1_1", "relu2_1"))
MSE = Recipe((content_term(), SHALLOW), loss_scale="paper", steps=(2,))
MAE = Recipe((content_term(distance="mae"), SHALLOW), loss_scale="paper", steps=(2,))
EXPERIMENTS = (
    Experiment("mse", "Square error", "relu2_2", MSE),
    Experiment("mae", "Absolute error", "relu2_2", MAE, like=MSE),
)
HE, IHC = tissue_like(SIDE, SIDE, seed=1), tissue_like(SIDE, SIDE, seed=2)[..., ::-1].copy()
CROP = Crop("a-1", "a-1", "a", HE, IHC, paired=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("study")
    run_study([CROP], EXPERIMENTS, folder, encoder)
    return folder


@pytest.fixture
def cells(finished: Path, tmp_path: Path, encoder: Encoder) -> list[StudyCell]:
    """Of a copy of a finished study, whose cells are read."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return run_study([CROP], EXPERIMENTS, tmp_path, encoder)


def test_a_cell_is_a_picture_with_scores_curves_and_provenance(cells: list[StudyCell]) -> None:
    assert [cell.name for cell in cells] == [*GIVEN, "mse", "mae"]
    made = cells[-2]
    assert read_image(made.picture).shape == HE.shape
    assert len(made.curves["total"]) == 2
    assert isinstance(made.scores["style_error"], float)
    record = read_provenance(made.picture)
    assert record["recipe"]["steps"] == [2]
    assert "not for diagnosis" in record["notice"]
    assert (read_image(cells[0].picture) == HE).all()
    assert cells[0].scores["edge_r"] == pytest.approx(1)


def test_finished_cells_are_read_and_others_made(
    cells: list[StudyCell], tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_given: object, **_named: object) -> None:
        raise AssertionError("made again")

    with monkeypatch.context() as patch:
        patch.setattr(study, "stylized", never)
        assert run_study([CROP], EXPERIMENTS, tmp_path, encoder) == cells
        with pytest.raises(AssertionError, match="made again"):
            run_study([CROP], [replace(EXPERIMENTS[0], recipe=replace(MSE, steps=(3,)))], tmp_path, encoder)
    cells[-1].picture.unlink()
    cells[-2].picture.with_suffix(".json").write_text('{"key": ')
    assert [c.scores for c in run_study([CROP], EXPERIMENTS, tmp_path, encoder)] == [c.scores for c in cells]


def test_a_stopped_study_goes_on_where_it_was(tmp_path: Path, encoder: Encoder) -> None:
    seen: list[str] = []

    def stop(done: int, of: int, name: str) -> None:
        seen.append(f"{done}/{of} {name}")
        if name.endswith("mae"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study([CROP], EXPERIMENTS, tmp_path, encoder, on_cell=stop)
    assert seen[0] == "0/5 a-1 he"
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "a-1").iterdir()}
    assert len(kept) == 8
    run_study([CROP], EXPERIMENTS, tmp_path, encoder)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


def test_matched_content_pulls_as_hard(encoder: Encoder) -> None:
    wanted = content_pull(MSE, CROP, encoder)
    assert wanted > 0
    recipe = with_equal_pull(MAE, MSE, CROP, encoder)
    assert content_pull(recipe, CROP, encoder) == pytest.approx(wanted, rel=1e-3)
    assert recipe.objective[0].weight != MAE.objective[0].weight
    blank = np.full_like(HE, 255)
    nothing = Crop("b", "b", "b", blank, blank, paired=True)
    assert with_equal_pull(MAE, MSE, nothing, encoder) == MAE, "without any pull the weight stays"


def test_content_pull_is_the_slope_of_the_content_loss(encoder: Encoder) -> None:
    """Against finite differences of 1/2 w sum (F - P)^2 along the gradient's direction."""
    import torch

    from chromogen.image import to_tensor
    from chromogen.stains.appearance import color_moments, match_colors

    he, there = (to_tensor(i).double() for i in (HE, match_colors(HE, color_moments(IHC))))
    exact = encoder.exact

    def loss(picture: torch.Tensor) -> torch.Tensor:
        f, p = (exact(x.float(), ["relu2_2"])["relu2_2"].double() for x in (picture, he))
        return 1e-3 * (f - p).square().sum() / 2

    picture = there.float().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(picture), picture)
    assert content_pull(MSE, CROP, encoder) == pytest.approx(gradient.norm().item(), rel=1e-3)
    step = 1e-3 * gradient.double() / gradient.norm()
    slope = (loss(there + step) - loss(there - step)).item() / 2e-3
    assert slope == pytest.approx(gradient.norm().item(), rel=0.02)


def test_places_are_compared_only_where_the_ihc_shows_them(encoder: Encoder) -> None:
    measures = Measures(encoder)
    elsewhere = crop_scores(CROP, HE, measures)
    assert elsewhere["ssim"] == ELSEWHERE
    assert isinstance(elsewhere["real_dab_od10"], float), "amounts are compared all the same"
    here = crop_scores(replace(CROP, ihc=HE), HE, measures)
    assert here["ssim"] == pytest.approx(1)
    other = crop_scores(replace(CROP, paired=False), HE, measures)
    assert other["ssim"] == NO_REAL
    assert isinstance(other["style_error"], float)


def test_a_blank_crop_has_reasons_and_no_numbers(tmp_path: Path, encoder: Encoder) -> None:
    blank = np.full_like(HE, 255)
    cells = run_study([Crop("b", "b", "b", blank, IHC, paired=True)], EXPERIMENTS[:1], tmp_path, encoder)
    assert isinstance(cells[-1].scores["hematoxylin_r"], str)
    assert "NaN" not in json.dumps([cell.scores for cell in cells])


def test_another_seed_is_another_run_at_the_same_place(tmp_path: Path, encoder: Encoder) -> None:
    noisy = Experiment("noisy", "From noise", "", replace(MSE, init="noise"))
    crops = with_seeds([CROP], 2)
    assert [(c.name, c.place) for c in crops] == [("a-1", "a-1"), ("a-1-seed1", "a-1")]
    first, second = (c for c in run_study(crops, [noisy], tmp_path, encoder) if c.name == "noisy")
    assert read_provenance(second.picture)["recipe"]["seed"] == 1
    assert (read_image(first.picture) != read_image(second.picture)).any()


def test_cautions_say_what_is_thin(cells: list[StudyCell]) -> None:
    said = list(cautions([CROP], EXPERIMENTS, cells))
    assert said == [
        "places: 1, so that nothing can be decided; take --crops 3, or --pairs of more slides",
        f"a-1: {ELSEWHERE}, and is not compared place by place",
    ]
    two = [CROP, replace(CROP, name="a-2", place="a-2")]
    assert next(cautions(two, EXPERIMENTS, cells)).startswith("slides: 1, too few to say much of others")
    noisy = [replace(EXPERIMENTS[0], recipe=replace(MSE, init="noise"))]
    assert next(cautions(two, noisy, cells)).startswith("steps: 2 from noise leave pictures unfinished")
    assert any(NO_REAL in text for text in cautions([replace(CROP, paired=False)], EXPERIMENTS, cells))


def test_figure_3_is_made_once(tmp_path: Path, encoder: Encoder) -> None:
    made = run_photo(HE, IHC, MSE, tmp_path, encoder)
    before = made.stat().st_mtime_ns
    assert run_photo(HE, IHC, MSE, tmp_path, encoder).stat().st_mtime_ns == before
    assert read_image(made).shape == HE.shape


# --- the page ---


@pytest.fixture
def found(cells: list[StudyCell], encoder: Encoder) -> Study:
    values = Measures(encoder).values
    claims = judged_claims(cells, CLAIMS, values)
    return Study([CROP], EXPERIMENTS, cells, claims, values, (HE, IHC, HE), ["careful"])


def test_a_study_is_written_as_page_pictures_table_and_json(found: Study, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    files = write_study(found, folder, {"seconds": 1.0})
    assert {file.name for file in folder.iterdir()} == {file.name for file in files.values()}
    record = json.loads(files["json"].read_text())
    assert record["metrics"]["mse"]["edge_r"]["n"] == 1
    assert {finding["verdict"] for finding in record["findings"]} == {"undecided"}
    rows = files["csv"].read_text().splitlines()
    assert len(rows) == 1 + len(found.cells)
    assert read_image(files["figures"]).shape[1] > 5 * 250


def test_the_page_shows_findings_figures_and_curves(found: Study) -> None:
    text = study_page(found)
    for words in (
        "Findings",
        "Square error (relu2_2)",
        "Fig. 3",
        "Loss curves",
        "careful",
        "undecided",
        "Style against tissue",
        "2 recipes on 1 crop of 1 slide, 64 px a side; 2 steps from content",
        "undecided: not run",
        "edge_r (higher)",
        *(escape(line) for line in NEXT.values()),
    ):
        assert words in text
    assert text.index("careful") < text.index("Figures")
    assert ">nan" not in text
    sweep = study_page(replace(found, findings=(), photo=None))
    assert "A sweep of recipes" in sweep
    assert "Findings" not in sweep


def test_the_front_leaves_out_what_was_not_made(found: Study) -> None:
    assert set(front_points(found)) == {"mse", "mae", "colours alone"}
    assert short_name("fig11_middle") == "fig. 11 middle"


def test_what_no_picture_has_is_one_line_and_no_rows(found: Study) -> None:
    scores = {"psnr": NO_REAL, "ssim": NO_REAL, "edge_r": 0.5}
    text = study_page(replace(found, cells=[replace(cell, scores=scores) for cell in found.cells]))
    assert f"Not measured, {NO_REAL}: psnr, ssim." in text
    assert text.count(NO_REAL) == 1
    mixed = [replace(cell, scores={"psnr": 20.0 if i else NO_REAL}) for i, cell in enumerate(found.cells)]
    assert "Not measured" not in study_page(replace(found, cells=mixed))


def test_crops_of_different_slides_are_shown_first(found: Study) -> None:
    crops = [replace(CROP, name=f"c{i}", slide=slide) for i, slide in enumerate("aaaabc")]
    cells = [replace(cell, crop=crop.name, slide=crop.slide) for crop in crops for cell in found.cells]
    shown = [crop.name for crop, _ in replace(found, crops=crops, cells=cells).shown]
    assert shown == ["c0", "c4", "c5", "c1"]
