from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from chromogen.plots import (
    PLOT_SUFFIXES,
    bland_altman_plot,
    loss_plot,
    pareto_front,
    pareto_plot,
    picture_grid,
    save_plot,
    svg,
)


def test_every_curve_is_drawn_against_its_steps() -> None:
    axes = loss_plot({"total": [4.0, 2.0, 1.0], "style": [3.0, 1.0]}).axes[0]
    assert [line.get_label() for line in axes.lines] == ["total", "style"]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    assert axes.get_yscale() == "log"


def test_zeros_do_not_break_a_logarithmic_axis() -> None:
    assert loss_plot({"content": [0.0, 0.0]}).axes[0].get_yscale() == "linear"
    assert svg(loss_plot({"content": [0.0, 1.0]})).startswith("<svg")


@pytest.mark.parametrize("suffix", PLOT_SUFFIXES)
def test_plots_are_written_whole(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"loss{suffix}"
    save_plot(loss_plot({"total": [2.0, 1.0]}), file)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert file.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [file]


def test_a_png_plot_has_a_line_in_it(tmp_path: Path) -> None:
    save_plot(loss_plot({"total": [2.0, 1.0]}), tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10


def test_bland_altman_lines_are_the_mean_difference_and_its_limits() -> None:
    """By hand: differences 1, 3, 2; their mean 2, standard deviation 1."""
    axes = bland_altman_plot([2.0, 6.0, 9.0], [1.0, 3.0, 7.0], "%").axes[0]
    levels = [line.get_ydata()[0] for line in axes.get_lines()]
    assert levels == pytest.approx([2, 2 - 1.96, 2 + 1.96])
    points = axes.collections[0].get_offsets()
    assert points.tolist() == [[1.5, 1.0], [4.5, 3.0], [8.0, 2.0]]
    assert len(bland_altman_plot([2.0], [1.0], "%").axes[0].get_lines()) == 3


def test_the_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    points = {str(i): (x, y) for i, (x, y) in enumerate(rng.random((40, 2)))}
    wanted = {
        name
        for name, (x, y) in points.items()
        if not any(a <= x and b >= y and other != name for other, (a, b) in points.items())
    }
    assert set(pareto_front(points)) == wanted
    axes = pareto_plot(points, "style", "tissue").axes[0]
    assert len(axes.texts) == 40
    assert axes.get_xscale() == "log"


def test_names_of_points_at_one_place_can_be_read() -> None:
    points = {f"fig. {i}": (0.2 + i / 1e4, 0.1) for i in range(6)}
    axes = pareto_plot(points | {"colours": (0.7, 1.0)}, "style", "tissue").axes[0]
    assert axes.get_xscale() == "linear", "within a decade, plain numbers"
    axes.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(name) for name in axes.texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_grid_shows_every_picture_under_its_title() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    figure = picture_grid([[picture, picture + 9], [picture, picture]], ["a", "b"])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "", ""]
    assert figure.axes[1].images[0].get_array().max() == 9
