"""The napari plug-in, in a viewer without a screen: `make napari` sets up what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import IMAGE_SUFFIXES
from chromogen.slides.facts import Facts
from chromogen.slides.slide import SLIDE_SUFFIXES, open_slide
from chromogen.slides.writer import write_ome_tiff
from chromogen.staining.stainer import Stainer, load_look, stainer_of_look
from chromogen.whole_slide import job as job_module
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from synthetic import WherePixels
from synthetic_slides import write_he

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("napari") is None, reason="no napari: `make napari`"),
    pytest.mark.filterwarnings("default"),
]

MPP = 0.5
VIRTUAL = "(virtual, research use only)"
SIZE = (1024, 768)
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_he(tmp_path_factory.mktemp("napari") / "slide.ome.tif", SIZE, MPP)


@pytest.fixture
def viewer(make_napari_viewer: Callable[[], Any]) -> Any:
    return make_napari_viewer()


@pytest.fixture
def panel(viewer: Any, slide: Path) -> Iterator[Any]:
    """The panel of a viewer that shows a slide."""
    from chromogen.plugins.layers import read_layers

    for levels, kwargs, _ in read_layers(slide):
        viewer.add_image(levels, **{**kwargs, "name": "slide"})
    made = viewer.window.add_plugin_dock_widget("chromogen", "Virtual IHC")[1].panel
    yield made
    made.stop()


def show(panel: Any, region: tuple[int, int, int, int]) -> None:
    """Let the layer be seen there: the canvas of a test has no size of its own."""
    x, y, width, height = region
    layer = panel.layer.value
    finer = np.asarray(layer.downsample_factors[layer.data_level])[:2] if layer.multiscale else np.ones(2)
    layer.corner_pixels = np.array([(y, x), (y + height - finer[0], x + width - finer[1])]) // finer


def shows(field: Any) -> bool:
    """Whether a field would be seen: the window of a test is not."""
    return not field.native.isHidden()


def finished(panel: Any) -> Callable[[], bool]:
    return lambda: panel.worker is None


def test_the_manifest_names_what_is_there() -> None:
    from npe2 import PluginManager, PluginManifest

    manifest = PluginManifest.from_file(str(files("chromogen.plugins") / "napari.yaml"))
    manifest.validate_imports()
    manager = PluginManager()
    manager.register(manifest)
    assert manifest.name == "chromogen"
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Virtual IHC"]
    assert {sample.key for sample in manifest.contributions.sample_data} == {"he", "ihc"}
    (reader,) = manifest.contributions.readers
    assert {f"*{suffix}" for suffix in (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES, ".zarr")} == set(
        reader.filename_patterns
    )


def test_a_slide_is_layers_in_um(tmp_path: Path) -> None:
    from chromogen.plugins.layers import reader_of

    file = tmp_path / "where.ome.tif"
    facts = Facts(0.5, "nuclear", source_mpp=0.25, settings={"region": [80, 40, 2600, 2200]})
    write_ome_tiff(file, WherePixels((1300, 1100)), facts, compression="deflate")
    ((levels, kwargs, kind),) = reader_of(str(file))([str(file)])
    assert (kind, len(levels)) == ("image", 3)
    assert (kwargs["scale"], kwargs["units"]) == ((0.5, 0.5), ("um", "um"))
    assert kwargs["translate"] == (
        10.25,
        20.25,
    )  # (y, x) in um: the middle of the first pixel, from the H&E's corner
    assert kwargs["name"] == "where.ome.tif (virtual, research use only)"
    assert levels[0][401, 777].compute().tolist() == [777 & 255, 401 & 255, (777 >> 8) | (401 >> 8) << 4]


def test_the_view_is_stained_as_the_whole_slide_is(
    panel: Any, slide: Path, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "BLOCK_PX", 256)
    steps: list[tuple[int, int]] = []
    move = panel.move
    panel.move = lambda step: (steps.append(step), move(step))
    panel.stainer.value = "nuclear"
    panel.own_share.value, panel.share.value, panel.intensity.value = False, 0.5, 0.8
    show(panel, (200, 130, 500, 400))
    panel.said(panel.stain_view)
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    he, stained, confidence = panel.viewer.layers
    assert stained.name == "slide: nuclear (virtual, research use only)"
    assert steps == [(number, 4) for number in range(1, 5)]

    stainer = stainer_of_look(load_look("nuclear"), 0.5, intensity=0.8)
    out = tmp_path / "whole.ome.tif"
    stain_slide(SlideJob(SlideFile(slide), stainer), Output(out, "deflate"))
    down, right = ((np.asarray(stained.translate) - he.translate) / MPP).round(6)
    height, width = stained.data.shape[:2]
    assert (right, down, width, height) == (200, 130, 500, 400)
    with open_slide(out) as whole:
        assert np.array_equal(stained.data, whole.read_region((200, 130), (500, 400)))
    assert not confidence.visible
    assert -5 <= np.nanmin(confidence.data) < np.nanmax(confidence.data) <= 0
    corner = [np.asarray(layer.translate) - np.asarray(layer.scale) / 2 for layer in (stained, confidence)]
    assert np.allclose(*corner)
    assert confidence.scale[0] * confidence.data.shape[0] >= stained.scale[0] * height
    assert "research use only" in panel.status.value


def test_nuclei_are_labels_with_a_table(panel: Any, qtbot: Any) -> None:
    show(panel, (0, 200, 1024, 500))
    panel.said(panel.count_view)
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    labels = panel.viewer.layers["slide: nuclei"]
    assert labels.data.shape == (500, 1024)
    assert labels.translate[0] == pytest.approx((200 + 0.5) * MPP)
    assert set(labels.features["label"]) == set(np.unique(labels.data)) - {0}
    assert len(labels.features) > 20
    assert "nuclei" in panel.status.value
    assert "H-score" not in panel.status.value  # an H&E has none


def test_a_slide_is_stained_into_a_file(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    out = tmp_path / "stained.ome.tif"
    panel.stainer.value = "normalize"
    panel.stain_slide(out)
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    assert panel.viewer.layers[-1].name == "stained.ome.tif (virtual, research use only)"
    assert not (tmp_path / "stained.ome.tif.confidence.png").exists()  # this stainer does not say
    with open_slide(out) as made:
        assert made.size == SIZE


def test_cancelled_work_goes_on_later(
    panel: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chromogen.whole_slide import stain as stain_module

    monkeypatch.setattr(stain_module, "BLOCK_PX", 64)
    out = tmp_path / "stained.ome.tif"
    panel.stainer.value = "nuclear"
    move = panel.move
    panel.move = lambda step: (move(step), panel.stop())
    panel.stain_slide(out)
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    assert not out.exists()
    assert len(panel.viewer.layers) == 1
    assert panel.status.value == "Cancelled. Finished blocks are kept."
    assert list(tmp_path.glob("stained.ome.tif.chromogen*"))
    assert not panel.cancel.enabled
    panel.move = move
    panel.stain_slide(out)  # nothing of the first is at work any more
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    he, stained, confidence = panel.viewer.layers
    assert np.allclose(stained.translate, he.translate)
    assert confidence.data.shape == (48, 64)
    assert not confidence.visible


def test_a_panel_may_be_closed_while_work_runs(panel: Any, qtbot: Any) -> None:
    steps = iter(range(1000))
    worker_ended = []

    def work() -> Any:
        try:
            for step in steps:
                yield step, 1000
                time.sleep(0.01)
        finally:
            worker_ended.append(next(steps))

    panel.run(work(), lambda made: None)
    qtbot.waitUntil(lambda: next(steps) > 5, timeout=WAIT_MS)
    panel.container.native.deleteLater()
    qtbot.waitUntil(lambda: bool(worker_ended), timeout=WAIT_MS)
    assert worker_ended[0] < 1000


def test_an_ihc_of_ones_own(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    import chromogen

    ihc = tmp_path / "ihc.png"
    chromogen.write_image(ihc, chromogen.data.ihc(), mpp=0.5)
    panel.stainer.value = "from a file ..."
    panel.file.value = ihc
    show(panel, (0, 300, 300, 300))
    panel.said(panel.stain_view)
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    assert len(panel.viewer.layers) == 3
    assert panel.viewer.layers[1].data.shape == (300, 300, 3)


def test_errors_are_one_sentence(panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from chromogen.plugins import work

    panel.stainer.value = "from a file ..."
    panel.said(panel.stain_view)
    assert panel.status.value == "Choose an IHC image, or a model's file, first."
    panel.stainer.value = "nuclear"
    show(panel, (0, 0, *SIZE))
    monkeypatch.setattr(work, "MAX_VIEW_PX", 1000)
    panel.said(panel.stain_view)
    qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
    assert panel.status.value.startswith("Expected `view` to be at most 0.001 Mpx, got 1 Mpx; zoom in, or stain")
    bright = np.zeros((20, 30, 3), np.float32)
    panel.layer.value = panel.viewer.add_image(bright, rgb=True, name="floats")
    show(panel, (0, 0, 30, 20))
    panel.said(panel.count_view)
    assert panel.status.value == "This layer holds float32 numbers. Convert it to 8 bits (uint8), 0 to 255."
    panel.said(lambda: panel.stain_slide(Path("out.ome.tif")))
    assert panel.status.value.startswith("This layer has no file.")


def test_only_colour_pictures_can_be_chosen(panel: Any) -> None:
    panel.viewer.add_image(np.zeros((20, 30)), name="grey")
    panel.viewer.add_image(np.zeros((4, 20, 30, 3), np.uint8), rgb=True, name="a stack")
    assert [layer.name for layer in panel.layer.choices] == ["slide"]


def test_a_picture_of_unknown_pixel_size_is_asked_for_it(panel: Any, qtbot: Any, tmp_path: Path) -> None:
    """Of a file, and of a layer that another reader made: both become what the same slide becomes."""
    import chromogen

    he = panel.viewer.layers[0]
    pixels = np.asarray(he.data[0] if he.multiscale else he.data)
    chromogen.write_image(tmp_path / "he.png", pixels)
    assert not shows(panel.mpp)
    made = []
    for layer in (he, *panel.viewer.open(tmp_path / "he.png", plugin="chromogen"), pixels.copy()):
        shown = panel.viewer.add_image(layer, rgb=True) if isinstance(layer, np.ndarray) else layer
        panel.layer.value = shown
        assert shows(panel.mpp) == (shown is not he)
        show(panel, (100, 50, 300, 200))
        panel.said(panel.stain_view)
        qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
        stained = panel.viewer.layers[f"{shown.name}: epithelial (virtual, research use only)"]
        assert np.allclose(stained.scale, shown.scale)
        made.append(stained.data)
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


@pytest.mark.parametrize("moved", [{"scale": (2, 2)}, {"translate": (30, -7)}, {"rotate": 30}, {"affine": True}])
def test_results_lie_on_layers_that_were_moved(moved: dict[str, Any]) -> None:
    from napari.layers import Image

    from chromogen.plugins.places import Grid, placed

    if "affine" in moved:
        moved = {"affine": [[0, 1, 5], [-1.5, 0, 2], [0, 0, 1]], "scale": (0.25, 0.25)}
    layer = Image(np.zeros((400, 600, 3), np.uint8), rgb=True, **moved)
    on_it = Image(np.zeros((50, 50, 3), np.uint8), rgb=True, **placed(layer, Grid((64, 40), (4, 2))))
    for row, column in ((-0.5, -0.5), (0, 0), (49.5, 20)):  # (y, x), -0.5 is an edge
        lies = (40 + (row + 0.5) * 2 - 0.5, 64 + (column + 0.5) * 4 - 0.5)
        assert np.allclose(on_it.data_to_world((row, column)), layer.data_to_world(lies))


def test_pictures_of_others_are_left_to_other_readers(tmp_path: Path) -> None:
    from chromogen.plugins.layers import read_layers, reader_of

    for name in ("no.tif", "no.png", "no.svs"):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "no.zarr").mkdir()
    assert [reader_of(str(tmp_path / name)) for name in ("no.tif", "no.png", "no.zarr")] == [None] * 3
    assert reader_of(str(tmp_path / "no.svs")) is read_layers


def test_dials_are_those_of_the_stainer(panel: Any, model_file: Path) -> None:
    shown = {}
    for name in ("epithelial", "nuclear", "normalize"):
        panel.stainer.value = name
        shown[name] = (shows(panel.intensity), shows(panel.share))
    assert shown == {"epithelial": (True, False), "nuclear": (True, True), "normalize": (False, False)}
    panel.stainer.value = "from a file ..."
    panel.file.value = model_file
    assert (shows(panel.intensity), shows(panel.share)) == (True, False)  # the model gives shares


def test_a_view_is_stained_again_by_other_dials_as_if_it_were_the_first(panel: Any, qtbot: Any) -> None:
    made = []
    for intensity in (1.0, 0.5, 1.0):
        show(panel, (200, 130, 500, 400))
        panel.intensity.value = intensity
        panel.said(panel.stain_view)
        qtbot.waitUntil(finished(panel), timeout=WAIT_MS)
        made.append([layer.data for layer in panel.viewer.layers if VIRTUAL in layer.name][-1])
    assert np.array_equal(made[0], made[2])
    assert made[1].astype(int).sum() > made[0].astype(int).sum()


def test_choices_are_the_stainers_of_that_name(model_file: Path) -> None:
    """A model of pairs says *where* as well."""
    from chromogen.plugins.work import Choice

    for name in ("normalize", "nuclear", str(model_file)):
        made = Choice(name, share=0.5 if name == str(model_file) else None).load()
        assert made.identity == Stainer.from_pretrained(name).identity
    with pytest.raises(ValueError, match="Expected `stainer`"):
        Choice("nonsense").load()
