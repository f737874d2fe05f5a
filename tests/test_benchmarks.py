"""The benchmarks compare like with like: our words for pastiche's objective give pastiche's numbers."""

import json
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import confidence
import efficiency
import gpu
import growth_figure
import looks
import measuring
import slides
import tiles
from chromogen.image import read_image, write_image
from chromogen.style.encoder import Encoder
from pastiche_objective import fast_recipe, judged, pair_from
from scheduler import Load, Piece, simulated
from synthetic import tissue_like
from time_to_quality import EnoughError, Judge, Watch

ROOT = Path(__file__).resolve().parents[1]


def pair(folder: Path, height: int, width: int) -> tuple[Path, Path]:
    files = folder / "he.png", folder / "ihc.png"
    for seed, file in enumerate(files):
        write_image(file, tissue_like(height, width, seed=seed))
    return pair_from(*files, folder)


@pytest.mark.filterwarnings("ignore:.*getdata:DeprecationWarning")  # of Pillow, by pastiche
@pytest.mark.parametrize(
    "size", [(65, 50), *(pytest.param(s, marks=pytest.mark.slow) for s in [(40, 48), (128, 71)])]
)
def test_our_words_for_pastiches_objective_are_right(size: tuple[int, int], tmp_path: Path) -> None:
    files = pair(tmp_path, *size)
    content, style = (read_image(file) for file in files)
    write_image(tmp_path / "picture.png", tissue_like(*size, seed=7))
    judge = Judge(content, style)
    theirs = judged(tmp_path / "picture.png", *files)
    assert judge(read_image(tmp_path / "picture.png")) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(
    ("size", "plan"),
    [((500, 500), {0.25: 12, 0.5: 10, 1.0: 300}), ((200, 900), {0.5: 10, 1.0: 300}), ((100, 100), {1.0: 300})],
)
def test_coarse_scales_only_where_there_is_room(size: tuple[int, int], plan: dict[float, int]) -> None:
    recipe = fast_recipe(*size, 300)
    assert dict(zip(recipe.scales, recipe.steps, strict=True)) == plan


def test_pairs_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", tissue_like(40, 48, seed=1))
    write_image(tmp_path / "b.png", tissue_like(40, 47, seed=1))
    with pytest.raises(ValueError, match="one size, got 48 x 40 px and 47 x 40 px"):
        pair_from(tmp_path / "a.png", tmp_path / "b.png", tmp_path)


def test_operations_are_those_of_the_layers(encoder: Encoder) -> None:
    """VGG19 at 224 px is known for 19.6 G multiply-adds, of which ours stop before the last three convolutions."""
    forward = efficiency.counted_gflop(encoder, 224)[0] / 2
    last_three = 3 * 2 * 9 * 512**2 * 14**2 / 1e9
    fully_connected = 2 * (25088 * 4096 + 4096 * 4096 + 4096 * 1000) / 1e9
    assert forward + last_three + fully_connected == pytest.approx(2 * 19.6, rel=0.01)


def test_works_take_turns() -> None:
    order: list[str] = []
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = measuring.in_turn(works, rounds=3, warm_up=2)
    assert order == ["a", "a", "b", "b", *["a", "b"] * 3]
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_spread_is_median_and_quartiles() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0]
    found = measuring.spread(values)
    assert (found["median"], found["n"]) == (statistics.median(values), 7)
    assert found["quartile_1"] < found["median"] < found["quartile_3"]
    assert measuring.spread([2.0]) == {"median": 2.0, "quartile_1": 2.0, "quartile_3": 2.0, "n": 1}


def test_a_watch_notes_every_target_and_judges_only_when_near() -> None:
    from chromogen.style.optimize import Losses
    from chromogen.style.stylize import Step

    values = iter([30.0, 9.0, 4.0])
    judged_pictures: list[int] = []

    def judge(picture: np.ndarray) -> float:
        judged_pictures.append(int(picture[0, 0, 0]))
        return next(values)

    watch = Watch([5.0, 10.0, 20.0], 5.0, judge)  # type: ignore[arg-type]
    for index, (scale, loss) in enumerate([(0.5, 1.0), (1.0, 99.0), (1.0, 35.0), (1.0, 30.0)]):
        step = Step(index, 9, scale, (1, 1), 0.0, Losses(loss, {}))
        watch(step, lambda index=index: np.full((1, 1, 3), index, np.uint8))  # type: ignore[misc]
    with pytest.raises(EnoughError):
        watch(Step(4, 9, 1.0, (1, 1), 0.0, Losses(8.0, {})), lambda: np.full((1, 1, 3), 4, np.uint8))
    assert judged_pictures == [2, 3, 4]
    assert {target: int(picture[0, 0, 0]) for target, (_, picture) in watch.found.items()} == {20: 3, 10: 3, 5: 4}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*getdata:DeprecationWarning")
def test_time_to_quality_on_any_pair(tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", tissue_like(70, 64, seed=1))
    write_image(tmp_path / "ihc.png", tissue_like(70, 64, seed=2)[..., ::-1].copy())
    command = [sys.executable, str(ROOT / "benchmarks/time_to_quality.py"), "--peer-steps", "4", "--json"]
    given = ["--content", str(tmp_path / "he.png"), "--style", str(tmp_path / "ihc.png"), "--out", str(tmp_path)]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["chromogen_objective"] <= figures["peer_objective"]
    assert figures["ratio"] == pytest.approx(figures["peer_s"] / figures["chromogen_s"])
    for name in ("peer", "chromogen"):
        assert judged(tmp_path / f"{name}.png", tmp_path / "content.png", tmp_path / "style.png") == pytest.approx(
            figures[f"{name}_objective"]
        )


def test_tissue_is_enlarged_by_its_mirror_image() -> None:
    small = tissue_like(20, 24, seed=1)
    large = tiles.enlarged(small, 48)
    assert large.shape == (48, 48, 3)
    assert np.array_equal(large[:20, :24], small)
    assert np.array_equal(large[20:40, :24], small[::-1])
    assert np.array_equal(tiles.enlarged(small, 16), small[:16, :16])


def test_tiles_are_compared_pixel_by_pixel() -> None:
    case = {"tile_px": 0, "step_s": 3.0, "step_processor_s": 2.0, "other_s": 1.0, "peak_rss_mb": 1500.0}
    found = [{**case, "side_px": 1000}, {**case, "side_px": 2000, "tile_px": 512, "step_processor_s": 16.0}]
    rows = [line.split(" | ") for line in tiles.table(found).splitlines()[2:]]
    assert [row[1] for row in rows] == ["one piece", "512"]
    assert [row[-1].strip(" |") for row in rows] == ["1.00", "2.00"]


@pytest.mark.parametrize("level", [0, 1])
def test_the_mosaic_of_slides_is_the_texture_side_by_side_in_an_ellipse(level: int) -> None:
    mosaic = slides.Mosaic(1200)
    factor, middle = mosaic.factors[level], mosaic.sizes[level][0] / 2
    left, top, width, height = 10, 20, 40, 60
    seen = mosaic.read(level, (left, top), (width, height))
    for row in range(0, height, 7):
        for column in range(0, width, 5):
            x, y = left + column, top + row
            inside = (x - middle) ** 2 + (y - middle) ** 2 <= (0.9 * middle) ** 2
            stone = slides.texture()[y * factor % slides.TEXTURE_PX, x * factor % slides.TEXTURE_PX]
            np.testing.assert_array_equal(seen[row, column], stone if inside else slides.GLASS)


def test_misplaced_dab_is_what_the_other_has_not_there() -> None:
    here, there = np.array([1.0, 0, 0, 1]), np.array([0, 2.0, 0, 0])
    assert confidence.misplaced(here, here) == 0
    assert confidence.misplaced(here, there) == 1
    assert confidence.misplaced(here, 3 * here) == pytest.approx(0.5)


def test_fifths_go_from_sure_to_unsure_and_leave_glass_out() -> None:
    sure = np.append(np.linspace(0, 1, 50), np.nan)
    real = np.append(np.linspace(0, 1, 50), 9)
    virtual = real + np.append(np.linspace(0.2, 0, 50), 0)  # errs where it is unsure
    fifths = list(confidence.by_fifths(virtual, real, sure))
    assert len(fifths) == 5
    sureness, errors = ([fifth[column] for fifth in fifths] for column in (0, 2))
    assert sureness == sorted(sureness, reverse=True)
    assert errors == sorted(errors)
    assert fifths[0][2] == pytest.approx(0.2 * 4.5 / 49)


def test_a_reference_is_brought_to_the_size_of_a_picture() -> None:
    reference = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    assert np.array_equal(looks.placed(reference, 2, 4), reference[2:4])
    grown = looks.placed(reference, 6, 7)
    assert grown.shape == (6, 7, 3)
    assert np.array_equal(grown[:, 4:], reference[:, :0:-1])


def test_means_are_of_images_that_have_a_number() -> None:
    numbers = dict.fromkeys(looks.SHOWN, 1.0)
    (line,) = looks.means({"way": [numbers, {**numbers, "chromatin_r": float("nan"), "patch_precision": 0.0}]})
    assert dict(zip(looks.SHOWN, line[1:], strict=True)) == dict.fromkeys(looks.SHOWN, "1.00") | {
        "patch_precision": "0.50"
    }


def load(seconds: list[float], **more: float) -> Load:
    """Blocks in a row that take these seconds."""
    pieces = [Piece((0, column), own_s) for column, own_s in enumerate(seconds)]
    return Load(pieces, [piece.index for piece in pieces], **more)  # type: ignore[arg-type]


def test_a_simulated_slide_is_as_reckoned_by_hand() -> None:
    """Survey until 1. The first worker works until 5, the second until 3 and 5. Written at 5.5, 6 and 6.5."""
    found = simulated(load([4, 2, 2], before_s=1, write_s=0.5, after_s=1), 2)
    assert (found.seconds, found.busy_s) == (7.5, 8)


def test_handing_out_keeps_workers_waiting() -> None:
    """Blocks are handed out at 3, 6, 9 and 12, each to a worker that has long been free."""
    assert simulated(load([1] * 4, hand_s=3), 2).seconds == 13


def test_the_writer_waits_for_the_order_of_the_pyramid() -> None:
    late = load([9, 1, 1, 1], write_s=2)
    assert simulated(late, 4).seconds == 9 + 4 * 2
    assert simulated(replace(late, writing=late.writing[::-1]), 4).seconds == 9 + 2


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=40), st.floats(0, 3), st.floats(0, 3))
def test_simulated_workers_share_the_work_and_no_more(
    seconds: list[float], before_s: float, after_s: float
) -> None:
    slide = load(seconds, before_s=before_s, after_s=after_s)
    found = {count: simulated(slide, count) for count in (1, 2, 4, 64)}
    assert found[1].seconds == pytest.approx(before_s + sum(seconds) + after_s)
    for count, by in found.items():
        assert by.busy_s == pytest.approx(sum(seconds))
        least_s = max(sum(seconds) / count, max(seconds))
        assert before_s + least_s + after_s <= by.seconds + 1e-9
        assert by.seconds <= found[1].seconds + 1e-9


def test_efficiency_falls_with_the_number_of_workers() -> None:
    slide = load([1.0] * 64, before_s=2, hand_s=0.01, write_s=0.02, after_s=2)
    alone_s = simulated(slide, 1).seconds
    efficiencies = [alone_s / simulated(slide, count).seconds / count for count in (1, 2, 4, 8, 16, 32, 64)]
    assert efficiencies == sorted(efficiencies, reverse=True)


@pytest.mark.parametrize(("workers", "kept", "painted"), [(1, 9, 5), (1, 1, 8), (2, 9, 8)])
def test_a_window_is_painted_once_by_each_worker_that_still_keeps_it(
    workers: int, kept: int, painted: int
) -> None:
    """Four blocks in a row, each of which shows two windows; by turns the blocks go to both workers."""
    pieces = [Piece((0, column), 0, (column + 1, column)) for column in range(4)]
    slide = Load(pieces, [piece.index for piece in pieces], dict.fromkeys(range(5), 1.0), kept)
    found = simulated(slide, workers)
    assert (found.painted, found.busy_s) == (painted, painted)


def test_slopes_are_those_of_powers() -> None:
    sizes = [1, 10, 100, 1000]
    assert growth_figure.slopes(sizes, [5 * size**0.5 for size in sizes]) == "0.50, largest 3: 0.50"
    assert growth_figure.slopes(sizes[:2], [3, 30]) == "1.00"
    assert growth_figure.slopes([7], [1]) == "one size"


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    figure = tmp_path / "growth.jpg"
    command = [sys.executable, str(ROOT / "benchmarks/growth.py"), "--quick", "--threads", "1"]
    given = ["--out", str(tmp_path), "--figure", str(figure)]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
    assert done.stdout.count("Slopes: ") == 4
    panels = json.loads((tmp_path / "growth.json").read_text())["panels"]
    assert [len(panels[name]) for name in ("tile", "slide", "batch")] == [2, 4, 2]
    measured = growth_figure.of_kind(panels["workers"], kind="measured")
    assert [row["workers"] for row in measured] == [1, 2]
    assert figure.stat().st_size < 300_000


@pytest.mark.slow
def test_a_device_is_checked_against_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor against itself, on a small picture."""
    monkeypatch.setattr(gpu, "CHECKED_PX", 64)
    monkeypatch.setattr(gpu, "CHECKED_STEPS", 2)
    monkeypatch.setattr(gpu, "CHECKED_PRESETS", ("paper",))
    found = list(gpu.checks(torch.device("cpu")))
    assert {re.split(r"[:,]", check.name)[0] for check in found} == {"activations", "paper", "training"}
    exact = [check for check in found if check.limit == gpu.EXACT and "tiles" not in check.name]
    assert all(check.holds for check in exact)


def test_a_check_without_a_number_does_not_hold() -> None:
    assert gpu.Check("same", 0.0, 0.1).holds
    assert not gpu.Check("no number", float("nan"), 0.1).holds
