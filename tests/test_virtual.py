"""A virtual stain is recognised by what its file says, and pictures of it carry a label that can be read."""

from pathlib import Path

import numpy as np
import pytest

from chromogen.app.view.opened import opened, stainer_of, virtual_facts
from chromogen.app.view.pictures import PAPER, labelled, thumbnail
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.image import read_image, write_image
from chromogen.provenance import NOTICE
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide, stain_tile
from chromogen.whole_slide.view import SlideFile
from synthetic_slides import write_pyramid
from test_densities import IHC

SMALL = IHC[:96, :128]


def made_by(path: Path) -> str | None:
    return stainer_of(virtual_facts(path, "1"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("renamed", ["he.svs", "he.png", "no suffix"])
def test_pictures_are_recognised_whatever_they_are_called(tmp_path: Path, suffix: str, renamed: str) -> None:
    write_image(tmp_path / f"a{suffix}", SMALL, {"notice": NOTICE, "recipe": {}})
    assert made_by((tmp_path / f"a{suffix}").rename(tmp_path / renamed)) == "style transfer"


@pytest.mark.filterwarnings("ignore:he.tif looks like an IHC")
@pytest.mark.parametrize("out", ["out.ome.tif", "out.ome.zarr", "out.png", "out.jpg"])
@pytest.mark.parametrize("anonymous", [False, True])
def test_whatever_stain_writes_is_recognised(tmp_path: Path, out: str, anonymous: bool) -> None:
    he, made = write_pyramid(tmp_path / "he.tif", SMALL), tmp_path / out
    stainer = Stainer.from_pretrained("color-transfer")
    if out.endswith((".tif", ".zarr")):
        stain_slide(SlideJob(SlideFile(he), stainer), Output(made, anonymous=anonymous))
    else:
        stain_tile(he, made, stainer, mpp=None, icc=True)
    assert made_by(made.rename(tmp_path / f"patient{made.suffix}")) == "color-transfer"


def test_other_files_are_no_virtual_stains(tmp_path: Path, data: Path) -> None:
    write_image(tmp_path / "region.png", SMALL, {"mpp": 0.5, "region_of_slide": [0, 0]})
    write_image(tmp_path / "demo.png", SMALL, {"notice": "H&E of a public slide"})
    write_image(tmp_path / "plain.jpg", SMALL)
    broken = {"empty.tif": b"", "cut.tif": b"II*\0\x08", "cut.png": b"\x89PNG\r\n", "a.svs": b"no"}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    files = [*tmp_path.iterdir(), data / "slides" / "small.svs", tmp_path / "gone.tif"]
    assert [made_by(file) for file in files] == [None] * len(files)


@pytest.mark.parametrize("grey", [255, 128, 20])
@pytest.mark.parametrize("size", [(256, 256), (2048, 1500), (64, 64), (300, 40)])
def test_the_label_is_legible_on_any_ground(size: tuple[int, int], grey: int) -> None:
    width, height = size
    image = np.full((height, width, 3), grey, np.uint8)
    label = labelled(image)
    assert label.shape == image.shape
    changed = (label != image).any(axis=2)
    rows = np.flatnonzero(changed.any(axis=1))
    assert changed[rows].all() or grey == 255, "a ground of its own"
    assert rows[-1] == height - 1
    assert 8 <= len(rows) <= max(0.2 * height, 26)
    words = (label[rows] > 160).all(axis=2).mean()
    ground = (np.abs(label[rows].astype(int) - PAPER).max(axis=2) < 20).mean()
    assert 0.01 < words < 0.4
    assert ground > 0.4
    assert not changed[: rows[0]].any()


def test_thumbnails_of_virtual_stains_alone_are_labelled(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", SMALL, {"notice": NOTICE})
    write_image(tmp_path / "b.png", SMALL)
    seen = []
    for entry in SlideCatalog([tmp_path]).entries():
        slide = opened(entry)
        (tmp_path / "small.jpg").write_bytes(thumbnail(slide))
        slide.slide.close()
        seen.append(read_image(tmp_path / "small.jpg")[-3:].astype(int))
    assert np.abs(seen[0] - PAPER).max(axis=2).min() < 40
    assert np.abs(seen[1] - SMALL[-3:]).max() < 60
