"""Transforms: both ways, inverse, composition and the file, against closed forms."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import BSpline
from shapely.geometry import box

from chromogen.app.pair_commands import facts_of
from chromogen.registration.fitting import Spline, fitted_spline, least_jacobian, zero_spline
from chromogen.registration.transform import (
    DisplacementBlock,
    Piece,
    Quality,
    SlideFrame,
    Transform,
    composition,
    inverse,
    read_transform,
    write_transform,
)

SIDE_UM = 2000.0
POINTS_UM = np.random.default_rng(0).uniform(100, SIDE_UM - 100, (300, 2))
AFFINE = np.array([[0.1, -0.98, 2100.0], [1.02, 0.05, -30.0]])


def wavy(amplitude_um: float = 25.0) -> Spline:
    grid = zero_spline(np.zeros(2), np.full(2, SIDE_UM), 100.0)
    return fitted_spline(grid, lambda p: amplitude_um * np.sin(p[:, ::-1] / 250))


def transform(*pieces: Piece) -> Transform:
    he, ihc = (SlideFrame((4000, 4000), 0.5, "file", name) for name in ("he", "ihc"))
    quality = Quality(
        3.0,
        0.5,
        0.2,
        0.4,
        (DisplacementBlock((500.0, 500.0), 2.0, 0.4), DisplacementBlock((1500.0, 1500.0), 9.0, 0.1)),
    )
    return Transform(he, ihc, pieces or (Piece(box(0, 0, SIDE_UM, SIDE_UM), AFFINE, wavy()),), quality)


def test_a_spline_is_scipys() -> None:
    """The sum of cubic B-splines, as `scipy.interpolate.BSpline` has it."""
    values = np.random.default_rng(1).normal(size=(9, 2))
    spline = Spline(np.repeat(values[None], 6, 0), (0.0, 0.0), 10.0)
    reference = BSpline(np.arange(-2, 11) * 10.0, values, 3)
    at = np.linspace(10, 70, 13)
    np.testing.assert_allclose(spline(np.column_stack([at, np.full(13, 25.0)])), reference(at), atol=1e-9)


def test_points_go_both_ways() -> None:
    found = transform()
    there = found.forward_px(POINTS_UM)
    np.testing.assert_allclose(found.backward_px(there), POINTS_UM, atol=0.01)
    straight = POINTS_UM @ AFFINE[:, :2].T + AFFINE[:, 2]
    assert np.abs(found.forward_um(POINTS_UM) - straight).max() > 20


def test_the_inverse_agrees_within_a_pixel() -> None:
    found = transform()
    back = inverse(found)
    assert back.source == found.target
    off = back.forward_um(found.forward_um(POINTS_UM)) - POINTS_UM
    assert np.hypot(*off.T).max() < 0.5  # um: one pixel


def test_a_composition_is_one_after_the_other() -> None:
    first, second = transform(), inverse(transform())
    once = composition(first, second)
    assert np.hypot(*(once.forward_um(POINTS_UM) - POINTS_UM).T).max() < 0.5


def test_points_belong_to_the_nearest_piece() -> None:
    shift = np.array([[1.0, 0.0, 1000.0], [0.0, 1.0, 0.0]])
    left, right = Piece(box(0, 0, 900, 2000), np.eye(2, 3)), Piece(box(1100, 0, 2000, 2000), shift)
    found = transform(left, right)
    points = np.array([[100.0, 50.0], [950.0, 50.0], [1500.0, 50.0]])
    moved = found.forward_um(points)
    np.testing.assert_allclose(moved, [[100, 50], [950, 50], [2500, 50]])
    np.testing.assert_allclose(found.backward_um(moved), points)


def test_folding_is_seen() -> None:
    assert least_jacobian(np.eye(2, 3), wavy(5.0)) > 0.9
    assert least_jacobian(np.eye(2, 3), wavy(400.0)) < 0


@pytest.mark.parametrize("name", [Path, str])
def test_a_file_brings_it_back(tmp_path: Path, name: type[Path] | type[str]) -> None:
    file, kept = tmp_path / "t.json", transform()
    write_transform(name(file), kept)
    found = read_transform(name(file))
    assert (found.source, found.target, found.quality) == (kept.source, kept.target, kept.quality)
    np.testing.assert_allclose(found.forward_um(POINTS_UM), kept.forward_um(POINTS_UM), atol=2e-3)
    assert found.residual_um_at(np.array([[400.0, 400.0]])).tolist() == [2.0]


@pytest.mark.parametrize("change", ["{", "[]", '{"format": "other"}', "null"])
def test_what_is_no_transform_is_refused(tmp_path: Path, change: str) -> None:
    file = tmp_path / "t.json"
    file.write_text(change)
    with pytest.raises(ValueError, match="Expected `transform` to be a JSON file by `chromogen register`"):
        read_transform(file)


@pytest.mark.parametrize(
    ("key", "value"), [("affine", [[1, 0, 0], [2, 0, 0]]), ("affine", [[1, 0]]), ("spline", 3)]
)
def test_a_broken_piece_is_refused(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "t.json"
    write_transform(file, replace(transform(), quality=None))
    found = json.loads(file.read_text())
    found["pieces"][0][key] = value
    file.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="Expected `transform`"):
        read_transform(file)


def test_a_residual_that_nothing_shows_is_null_in_the_file(tmp_path: Path) -> None:
    unknown = replace(transform(), quality=Quality(float("nan"), 0.5, 0.2, 0.4))
    write_transform(tmp_path / "pair.json", unknown)
    assert json.loads((tmp_path / "pair.json").read_text())["quality"]["residual_um"] is None
    found = read_transform(tmp_path / "pair.json").quality
    assert found is not None
    assert np.isnan(found.residual_um)
    assert facts_of(unknown)["residual_um"] is None
