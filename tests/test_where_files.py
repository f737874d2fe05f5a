"""Which files the page offers as sources of *where*."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from chromogen.app.view.choices import MODEL_SUFFIXES, WhereLine, where_lines
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.regions.geojson import SUFFIXES as GEOJSON_SUFFIXES
from chromogen.staining.where_files import MAP_CLAIM
from chromogen.staining.where_network import write_model
from test_where_file import model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
SIZE = (640, 320)


def offered(folder: Path) -> dict[str, str]:
    """The claims of the files that are offered, by their names."""
    return {line.name: line.claim for line in lines(folder)}


def lines(folder: Path) -> list[WhereLine]:
    images = SlideCatalog([folder]).entries()
    others = SlideCatalog([folder], (*MODEL_SUFFIXES, *GEOJSON_SUFFIXES)).entries()
    tissue, regions, *files = where_lines(images, others, SIZE)
    assert (tissue.id, regions.id) == ("tissue", "regions")
    return files


def test_grey_images_of_the_slides_aspect_may_be_maps(tmp_path: Path) -> None:
    grey = np.full((32, 64), 90, np.uint8)
    PIL.Image.fromarray(grey).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", grey.astype(np.uint16))
    tifffile.imwrite(tmp_path / "c.tif", (grey / 255).astype(np.float32))
    PIL.Image.fromarray(grey[:, :32]).save(tmp_path / "square.png")
    PIL.Image.fromarray(np.dstack([grey, grey // 2, grey])).save(tmp_path / "colours.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "slide.svs").write_bytes(b"no slide")
    assert sorted(offered(tmp_path)) == ["a.png", "b.tif", "c.tif"]
    PIL.Image.fromarray(grey[:, :32]).save(tmp_path / "a.png")
    assert sorted(offered(tmp_path)) == ["b.tif", "c.tif"], "a file that has changed"


@pytest.mark.parametrize(
    ("name", "channels"), [("map.png", 3), ("map.png", 4), ("map.tif", 3), ("map.tif", 4), ("map.jpg", 3)]
)
def test_grey_values_stored_in_colour_channels_are_a_map_too(tmp_path: Path, name: str, channels: int) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (32, 1))
    stored = np.dstack([ramp, ramp, ramp, np.full_like(ramp, 255)][:channels])
    PIL.Image.fromarray(stored).save(tmp_path / name)
    assert offered(tmp_path) == {name: MAP_CLAIM}


def test_label_images_and_geojson_are_offered_with_their_classes(tmp_path: Path) -> None:
    labels = np.zeros((32, 64), np.uint8)
    labels[4:20, 4:30], labels[20:30, 30:60] = 1, 2
    PIL.Image.fromarray(labels).save(tmp_path / "labels.png")
    ring = [[10, 10], [300, 10], [300, 200], [10, 10]]

    def feature(name: str, corners: list[list[int]]) -> dict[str, object]:
        geometry = {"type": "Polygon", "coordinates": [corners]}
        properties = {"objectType": "annotation", "classification": {"name": name}}
        return {"type": "Feature", "geometry": geometry, "properties": properties}

    drawn = {"type": "FeatureCollection", "features": [feature("Tumor", ring), feature("Stroma", ring)]}
    (tmp_path / "drawn.geojson").write_text(json.dumps(drawn))
    (tmp_path / "drawn too.json").write_text(json.dumps(drawn))
    elsewhere = [[x + 5000, y] for x, y in ring]
    (tmp_path / "of another.geojson").write_text(json.dumps(feature("Tumor", elsewhere)))
    (tmp_path / "look.json").write_text("{}")
    classes = {line.name: line.classes for line in lines(tmp_path)}
    assert classes == {
        "labels.png": ("1", "2"),
        "drawn.geojson": ("Stroma", "Tumor"),
        "drawn too.json": ("Stroma", "Tumor"),
    }


def test_of_models_only_those_that_say_where(tmp_path: Path) -> None:
    write_model(tmp_path / "pairs.safetensors", model("er"))
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    (tmp_path / "look.json").write_text("{}")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert list(offered(tmp_path)) == ["pairs.safetensors"]
    assert offered(tmp_path)["pairs.safetensors"].startswith("where the marker lies")


def test_onnx_models_that_give_a_map_are_offered(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from test_onnx_where import Blueness, Other, exported

    exported(tmp_path / "where.onnx", Blueness())
    exported(tmp_path / "generator.onnx", Other(channels=3))
    assert list(offered(tmp_path)) == ["where.onnx"]
