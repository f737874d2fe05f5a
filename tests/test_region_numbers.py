"""Numbers of a region against the same measured on the picture in one piece."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.draw import polygon2mask

from chromogen.app.view import drawn_regions as module
from chromogen.app.view.drawn_regions import numbers_of, parse_region, placed_region
from chromogen.app.view.placement import Placement
from chromogen.evaluation.tile import Tile
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from test_densities import IHC, shelved

WHOLE = [(0, 0), (512, 0), (512, 512), (0, 512)]


def polygon(*rings: list[tuple[float, float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}


def test_the_whole_picture(tmp_path: Path) -> None:
    found = numbers_of(shelved(tmp_path, "a.png", IHC), parse_region(polygon(WHOLE)), "h-dab", 0.33)
    tissue = Tile(IHC, mpp=0.5).tissue
    density = separate_stains_od10(IHC, H_DAB)
    dab = density[..., 1][tissue]
    assert found.tissue_percent == pytest.approx(100 * tissue.mean())
    assert found.positive_percent == pytest.approx(100 * (dab > 0.2).mean())
    assert found.above_threshold_percent == pytest.approx(100 * (dab > 0.33).mean())
    assert found.miod_od10 == pytest.approx(dab[dab > 0.2].mean())
    assert found.mean_od10 == pytest.approx(dab.clip(0).mean())
    assert found.pixel_h_score == pytest.approx(sum(100 * (dab > level).mean() for level in (0.2, 0.4, 0.6)))
    assert found.area_um2 is found.tissue_um2 is None, "the picture does not say how large its pixels are"
    assert found.measured_mpp == 0.5


def test_a_polygon_with_a_hole_counts_by_centres(tmp_path: Path) -> None:
    outer, hole = [(50.0, 60.0), (400.0, 90.0), (300.0, 450.0)], [(220.0, 150.0), (300.0, 160.0), (250.0, 260.0)]
    found = numbers_of(shelved(tmp_path, "a.png", IHC), parse_region(polygon(outer, hole)), "h-dab", 0.2)
    masks = [polygon2mask(IHC.shape[:2], np.array(ring)[:, ::-1] - 0.5) for ring in (outer, hole)]
    inside = masks[0] & ~masks[1] & Tile(IHC, mpp=0.5).tissue
    dab = separate_stains_od10(IHC, H_DAB)[..., 1][inside]
    assert found.positive_percent == pytest.approx(100 * (dab > 0.2).mean(), abs=0.01)


def test_many_tiles_are_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = shelved(tmp_path, "a.png", IHC)
    region = parse_region(polygon([(20, 30), (490, 40), (300, 500)]))
    whole = numbers_of(slide, region, "h-dab", 0.2)
    monkeypatch.setattr(module, "CORE_PX", 128)
    parts = numbers_of(slide, region, "h-dab", 0.2)
    assert parts.positive_percent == pytest.approx(whole.positive_percent, abs=0.01)
    assert parts.pixel_h_score == pytest.approx(whole.pixel_h_score, abs=0.05)


def test_a_large_region_is_measured_coarser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = shelved(tmp_path, "a.png", IHC)
    fine = numbers_of(slide, parse_region(polygon(WHOLE)), "h-dab", 0.2)
    monkeypatch.setattr(module, "MAX_PIXELS", 512 * 512 // 16)
    coarse = numbers_of(slide, parse_region(polygon(WHOLE)), "h-dab", 0.2)
    assert coarse.measured_mpp == 2
    assert coarse.positive_percent == pytest.approx(fine.positive_percent, abs=6)


def test_an_he_has_no_dab(tmp_path: Path) -> None:
    found = numbers_of(shelved(tmp_path, "a.png", IHC), parse_region(polygon(WHOLE)), "h-e", 0.2)
    assert found.positive_percent is found.pixel_h_score is found.miod_od10 is None
    assert found.why == "no DAB in an H&E"


def test_glass_has_no_numbers(tmp_path: Path) -> None:
    glass = np.full((200, 200, 3), 245, np.uint8)
    found = numbers_of(
        shelved(tmp_path, "a.png", glass), parse_region(polygon([(0, 0), (90, 0), (90, 90)])), "h-dab", 0
    )
    assert found.positive_percent is found.above_threshold_percent is None
    assert found.tissue_percent == 0
    assert found.why == "no tissue in the region"


def test_regions_follow_to_a_slide_of_another_scale() -> None:
    half = placed_region(
        parse_region(polygon([(0, 0), (100, 0), (100, 40)])),
        Placement(lambda points: 0.5 * points + (-10.0, 3.0), ""),
    )
    assert half.bounds == (-10, 3, 40, 23)


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": "x"},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, "y"], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [float("nan"), 5], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [0, 0], [0, 0], [0, 0]]]},
        {"type": "GeometryCollection", "geometries": []},
    ],
)
def test_what_is_no_region_is_refused(geometry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="geometry"):
        parse_region(geometry)


def test_regions_outside_and_too_detailed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = shelved(tmp_path, "a.png", IHC)
    with pytest.raises(ValueError, match="on the slide of 512 x 512"):
        numbers_of(slide, parse_region(polygon([(600, 600), (700, 600), (700, 700)])), "h-dab", 0.2)
    monkeypatch.setattr(module, "MAX_POINTS", 3)
    with pytest.raises(ValueError, match="at most 3 points"):
        parse_region(polygon(WHOLE))


@pytest.mark.parametrize(("shift", "covered"), [(0, None), (256, "only 50 %"), (461, "only 10 %")])
def test_a_region_that_leaves_the_slide_says_so(tmp_path: Path, shift: int, covered: str | None) -> None:
    region = parse_region(polygon([(x + shift, y) for x, y in WHOLE]))
    why = numbers_of(shelved(tmp_path, "a.png", IHC), region, "h-dab", 0.2).why
    assert why == "" if covered is None else why.startswith(f"{covered} of the region lies on this slide")
