from itertools import pairwise

from chromogen.evaluation.metrics import HEMATOXYLIN, REAL_MEASURES, TISSUE_MEASURES
from chromogen.study.experiments import BEST, CLAIMS, painting_recipe, report_experiments
from chromogen.style.objective import Term
from chromogen.style.recipes import PRESETS, build_recipe, numbers
from documentation import BLOCKS

EXPERIMENTS = {experiment.name: experiment for experiment in report_experiments(steps=7, init="noise")}


def term(name: str, which: str) -> Term:
    return next(t for t in EXPERIMENTS[name].recipe.objective if t.name == which)


def test_every_figure_is_there_in_the_reports_order() -> None:
    assert list(EXPERIMENTS) == [
        "fig06",
        "fig06_high",
        "fig07",
        "fig08",
        "fig09",
        "fig10",
        "fig11",
        "fig11_middle",
    ]
    assert all(e.recipe.steps == (7,) and e.recipe.init == "noise" for e in EXPERIMENTS.values())
    assert all(e.recipe.loss_scale == "paper" for e in EXPERIMENTS.values())


def test_figure_11_is_the_paper_preset() -> None:
    (best,) = (e for e in report_experiments(200, "content") if e.name == BEST)
    assert best.recipe == PRESETS["paper"]


def test_a_figure_differs_from_figure_11_in_what_it_is_about() -> None:
    ratio = {name: term(name, "content").weight / term(name, "style").weight for name in EXPERIMENTS}
    assert ratio["fig07"] < ratio["fig06"] < ratio[BEST] < ratio["fig06_high"]
    assert term("fig08", "content").distance == "mae"
    assert list(term("fig09", "content").layers) == ["relu5_2"]
    assert list(term("fig11_middle", "content").layers) == ["relu4_2"]
    layers = term("fig10", "style").layers
    assert sum(layers.values()) == 1
    assert layers["relu5_1"] == layers["relu4_1"] > 10 * layers["relu3_1"] > 0
    assert {name for name, e in EXPERIMENTS.items() if e.like} == {"fig08", "fig09", "fig11_middle"}


def test_claims_compare_what_is_run_by_metrics_that_are_there() -> None:
    metrics = {v.name: v for m in (HEMATOXYLIN, *TISSUE_MEASURES, *REAL_MEASURES) for v in m.values}
    for claim in CLAIMS:
        assert claim.comparisons
        for comparison in claim.comparisons:
            assert {comparison.better, comparison.worse} <= set(EXPERIMENTS)
            assert comparison.metric == "style_error" or metrics[comparison.metric].better == "higher"


def test_the_paintings_recipe_is_that_of_the_documented_command() -> None:
    """`stylize` as docs/explanation/report.md has it."""
    commands = [words for block in BLOCKS if block.page.name == "report.md" for words in block.commands]
    (words,) = [words for words in commands if "figure_3.png" in words]
    given = dict(pairwise(words))
    settings = [value for option, value in pairwise(words) if option == "--set"]
    assert build_recipe(given["--preset"], {"steps": numbers("steps", given["--steps"], int)}, settings) == (
        painting_recipe()
    )
