"""SpatialData of slides, virtual stains and nuclei: `make napari` installs it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import write_image
from chromogen.slides.facts import Facts
from chromogen.slides.writer import write_ome_tiff
from chromogen.whole_slide.lazy import lazy_slide
from chromogen.whole_slide.spatial import spatial_data
from synthetic import ArrayPixels, drawn

needs_spatialdata = pytest.mark.skipif(find_spec("spatialdata") is None, reason="no spatialdata: `make napari`")


def square(x: float, y: float, side: float, name: str, dab_od10: float) -> dict[str, Any]:
    outline = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    properties = {"objectType": "detection", "classification": {"name": name}}
    properties["measurements"] = {"Area um^2": side**2, "Nucleus: DAB OD mean": dab_od10}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [outline]}, "properties": properties}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """An H&E at 0.25 um, its virtual stain in a region at 0.5 um, and two nuclei of that."""
    he, stained = tmp_path / "he.png", tmp_path / "stained.ome.tif"
    write_image(he, drawn(300, 1), mpp=0.25)
    facts = Facts(0.5, "nuclear", source_mpp=0.25, settings={"region": [100, 40, 200, 160]})
    write_ome_tiff(stained, ArrayPixels(drawn(100, 2)[:80]), facts, compression="deflate")
    nuclei = tmp_path / "nuclei.geojson"
    features = [square(2, 4, 10, "Positive", 0.5), square(30, 50, 6, "Negative", 0.1)]
    nuclei.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {"he": he, "stained": stained, "nuclei": nuclei}


@needs_spatialdata
@pytest.mark.filterwarnings("default")
def test_all_lies_in_um_of_the_he(files: dict[str, Path], tmp_path: Path) -> None:
    from spatialdata import get_extent, read_zarr

    made = spatial_data({"he": files["he"], "stained": files["stained"]}, {"stained": files["nuclei"]})
    made.write(tmp_path / "made.zarr")
    back = read_zarr(tmp_path / "made.zarr")

    def extent(name: str) -> list[float]:
        found = get_extent(back[name], coordinate_system="um")
        return [float(value) for axis in "xy" for value in found[axis]]

    assert extent("he") == pytest.approx([0, 75, 0, 75])
    assert extent("stained") == pytest.approx([25, 75, 10, 50])
    assert extent("stained_nuclei") == pytest.approx([25 + 1, 25 + 18, 10 + 2, 10 + 28])
    pixels = back["stained"].transpose("y", "x", "c").to_numpy()
    assert np.array_equal(pixels, lazy_slide(files["stained"]).levels[0].compute())
    assert back.attrs["chromogen"]["notices"].keys() == {"stained"}

    table = back["stained_nuclei_table"]
    assert list(table.obs["class"]) == ["Positive", "Negative"]
    assert list(table.var_names) == ["Area um^2", "Nucleus: DAB OD mean"]
    assert table.X.tolist() == [[100, 0.5], [36, 0.1]]
    (annotated,) = {str(region) for region in table.obs["region"]}
    assert annotated == "stained_nuclei"


@needs_spatialdata
@pytest.mark.filterwarnings("default")
def test_errors_name_what_to_do(files: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.geojson"
    other.write_text('{"features": [{}]}')
    with pytest.raises(ValueError, match=r"Expected `nuclei` to be of one of the images \(he\), got stained"):
        spatial_data({"he": files["he"]}, {"stained": files["nuclei"]})
    with pytest.raises(ValueError, match="give the file that `chromogen nuclei` wrote"):
        spatial_data({"he": files["he"]}, {"he": other})
    with pytest.raises(FileNotFoundError):
        spatial_data({"he": files["he"]}, {"he": tmp_path / "missing.geojson"})


def test_without_the_extra(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(ValueError, match=r"pip install 'chromogen\[spatialdata\]'"):
        spatial_data({"he": files["he"]})
