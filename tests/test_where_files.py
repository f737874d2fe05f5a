"""Which files the page offers as sources of *where*."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from chromogen.app.view.shelf import Shelf
from chromogen.app.view.stainer_list import MODEL_SUFFIXES
from chromogen.app.view.where_files import where_lines
from chromogen.staining.where_file import write_model
from test_where_file import model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
SIZE = (640, 320)


def offered(folder: Path) -> dict[str, str]:
    """The claims of the files that are offered, by their names."""
    images, models = Shelf([folder]).entries(), Shelf([folder], MODEL_SUFFIXES).entries()
    tissue, regions, *files = where_lines(images, models, SIZE)
    assert (tissue.id, regions.id) == ("tissue", "regions")
    return {line.name: line.claim for line in files}


def test_grey_images_of_the_slides_aspect_may_be_maps(tmp_path: Path) -> None:
    grey = np.full((32, 64), 90, np.uint8)
    PIL.Image.fromarray(grey).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", grey.astype(np.uint16))
    tifffile.imwrite(tmp_path / "c.tif", (grey / 255).astype(np.float32))
    PIL.Image.fromarray(grey[:, :32]).save(tmp_path / "square.png")
    PIL.Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "colours.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "slide.svs").write_bytes(b"no slide")
    assert sorted(offered(tmp_path)) == ["a.png", "b.tif", "c.tif"]
    PIL.Image.fromarray(grey[:, :32]).save(tmp_path / "a.png")
    assert sorted(offered(tmp_path)) == ["b.tif", "c.tif"], "a file that has changed"


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
