"""The panel of the napari plug-in: choose a layer and a stainer, stain the view or the slide, count nuclei."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSlider,
    Label,
    ProgressBar,
    PushButton,
    SpinBox,
    create_widget,
)
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from napari.utils.colormaps import DirectLabelColormap

from chromogen.errors import short
from chromogen.image import Image as Pixels
from chromogen.plugins.layers import ABOUT, VIRTUAL, read_layers
from chromogen.plugins.work import (
    Choice,
    CountedNuclei,
    StainedRegion,
    Steps,
    count_nuclei,
    stain_region,
    stain_whole,
)
from chromogen.staining.stainer import STAINERS

if TYPE_CHECKING:
    import napari

OF_FILE = "from a file"
FILES = "*.png *.jpg *.tif *.tiff *.svs *.ndpi *.json *.safetensors *.onnx"
NUCLEUS = "#188c48"
COLORS = {True: "#ba3a18", False: "#2654bc", None: NUCLEUS}
MAX_FIELD_PX = 16_000_000  # pixels in which nuclei are counted at once


def stain_panel(napari_viewer: napari.viewer.Viewer) -> Container[Any]:
    """The panel as napari shows it."""
    return Panel(napari_viewer).container


class Panel:
    """The panel's fields, and the work that runs, if any."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self.viewer = viewer
        self.layer = create_widget(annotation=Image, label="H&E or IHC layer")
        self.stainer = ComboBox(label="Stainer", choices=[*STAINERS, OF_FILE], value=next(iter(STAINERS)))
        self.file = FileEdit(label="IHC or model", filter=FILES, visible=False)
        self.own_share = CheckBox(text="as many positive nuclei as in the IHC", value=True)
        self.share = FloatSlider(label="Positive nuclei", min=0, max=1, value=0.3, enabled=False)
        self.intensity = FloatSlider(label="DAB", min=0, max=2, value=1)
        self.counterstain = FloatSlider(label="Haematoxylin", min=0, max=2, value=1)
        self.seed = SpinBox(label="Chance", min=0, max=9999, value=0)
        self.stain = PushButton(text="Stain the view")
        self.whole = PushButton(text="Stain the slide ...")
        self.count = PushButton(text="Count nuclei in the view")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.progress = ProgressBar(min=0, max=1, value=0, visible=False)
        self.status = Label(value="Virtual stain, research use only, not for diagnosis.")
        self.worker: Any = None
        dials = [self.own_share, self.share, self.intensity, self.counterstain, self.seed]
        buttons = [self.stain, self.whole, self.count, self.cancel]
        fields = [self.layer, self.stainer, self.file, *dials, *buttons, self.progress, self.status]
        self.container: Container[Any] = Container(widgets=fields)
        self.status.native.setWordWrap(True)
        self.stainer.changed.connect(lambda name: setattr(self.file, "visible", name == OF_FILE))
        self.own_share.changed.connect(lambda own: setattr(self.share, "enabled", not own))
        self.stain.clicked.connect(lambda: self.said(self.stain_view))
        self.whole.clicked.connect(lambda: self.said(self.ask_for_file))
        self.count.clicked.connect(lambda: self.said(self.count_view))
        self.cancel.clicked.connect(self.stop)
        self.container.panel = self  # it lives as long as its fields

    def said(self, act: Callable[[], None]) -> None:
        """Act, and show an error as one sentence."""
        try:
            act()
        except (ValueError, OSError) as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Show what went wrong."""
        self.status.value = short(error, 400)

    def choice(self) -> Choice:
        """What the fields say. Raises: ValueError where a file is to be named."""
        named = str(self.file.value) if self.stainer.value == OF_FILE else self.stainer.value
        if self.stainer.value == OF_FILE and not Path(named).is_file():
            raise ValueError("Choose an IHC image, or a model's file, first.")
        share = None if self.own_share.value else self.share.value
        return Choice(named, share, self.intensity.value, self.counterstain.value, self.seed.value)

    def about(self) -> tuple[Image, dict[str, Any]]:
        """The chosen layer, and what its metadata say. Raises: ValueError without one of a slide."""
        layer = self.layer.value
        if layer is None:
            raise ValueError("Open an H&E first: File, Open, or a sample of Chromogen.")
        return layer, layer.metadata.get(ABOUT, {})

    def slide(self) -> tuple[Image, dict[str, Any]]:
        """The same of a layer that Chromogen read from a file."""
        layer, about = self.about()
        if "path" not in about:
            raise ValueError("This layer has no file. Open the H&E by File, Open, with Chromogen as its reader.")
        return layer, about

    def stain_view(self) -> None:
        """Stain what the viewer shows of the layer."""
        layer, about = self.slide()
        x, y, width, height = shown_of(layer)
        steps = stain_region(Path(about["path"]), about["mpp"], (x, y, width, height), self.choice())
        self.run(steps, lambda region: self.show_region(layer, region))

    def ask_for_file(self) -> None:
        """Ask for a file, and stain the whole slide into it."""
        from qtpy.QtWidgets import QFileDialog

        name, _ = QFileDialog.getSaveFileName(self.container.native, "Stained slide", "stained.ome.tif")
        if name:
            self.stain_slide(Path(name))

    def stain_slide(self, out: Path) -> None:
        """Stain the whole slide into a file, and open it."""
        _, about = self.slide()
        self.run(stain_whole(Path(about["path"]), about["mpp"], out, self.choice()), self.open)

    def count_view(self) -> None:
        """Find and score the nuclei of what the viewer shows of the layer."""
        layer, about = self.about()
        x, y, width, height = shown_of(layer)
        if width * height > MAX_FIELD_PX:
            raise ValueError(f"The view has {width * height / 1e6:.0f} Mpx. Zoom in to at most 16 Mpx.")
        pixels = pixels_of(layer, (x, y, width, height))
        stains = "h-dab" if about.get("notice") else "auto"
        steps = count_nuclei(pixels, float(layer.scale[-1]), stains)
        self.run(steps, lambda counted: self.show_nuclei(layer, (x, y), counted))

    def run(self, steps: Steps, show: Callable[[Any], None]) -> None:
        """Let work run in a thread, one at a time, until it returns what is shown, fails, or is cancelled."""
        if self.worker is not None:
            raise ValueError("Something is running. Cancel it, or wait.")
        worker = create_worker(lambda: (yield from steps), _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(self.move)
        worker.returned.connect(show)
        worker.errored.connect(self.fail)
        worker.aborted.connect(lambda: setattr(self.status, "value", "Cancelled. Finished blocks are kept."))
        worker.finished.connect(self.end)
        self.worker = worker
        self.status.value = "Looking at the tissue ..."
        self.progress.visible = self.cancel.enabled = True
        self.progress.value, self.progress.max = 0, 0
        worker.start()

    def move(self, step: tuple[int, int]) -> None:
        """Show how far it is."""
        done, of = step
        self.progress.max, self.progress.value = of, done
        self.status.value = f"Block {done} of {of}"

    def stop(self) -> None:
        """Ask the work to end after its block."""
        if self.worker is not None:
            self.worker.quit()
            self.status.value = "Ending after this block ..."

    def end(self) -> None:
        """Be ready for the next work."""
        self.worker = None
        self.progress.visible = self.cancel.enabled = False

    def show_region(self, layer: Image, region: StainedRegion) -> None:
        """Lay a stained region on its H&E, and how sure the stainer was, hidden, above it."""
        place = placed(layer, region.origin_um, region.mpp)
        name = f"{layer.name}: {region.stainer}"
        about = {"mpp": region.mpp, "notice": VIRTUAL}
        scale = (region.mpp, region.mpp)
        shown = {"scale": scale, "translate": place, "units": layer.units, "metadata": {ABOUT: about}}
        self.viewer.add_image(region.pixels, name=f"{name} ({VIRTUAL})", rgb=True, **shown)
        if region.confidence is not None:
            side = region.square_um
            middle = tuple(float(at) + (side - region.mpp) / 2 for at in place)
            look = {"colormap": "magma", "opacity": 0.5, "contrast_limits": (0, 1), "visible": False}
            where = {"scale": (side, side), "translate": middle, "units": layer.units}
            self.viewer.add_image(region.confidence, name=f"{name}, confidence", **look, **where)
        self.status.value = f"Stained by {region.stainer}. Virtual stain, research use only, not for diagnosis."

    def open(self, file: Path) -> None:
        """Show a stained slide."""
        for levels, kwargs, _ in read_layers(file):
            self.viewer.add_image(levels, **kwargs)
        self.status.value = f"{file.name} is finished. Virtual stain, research use only, not for diagnosis."

    def show_nuclei(self, layer: Image, at_px: tuple[int, int], counted: CountedNuclei) -> None:
        """Lay labels of nuclei on the layer, brown-red where positive, with their table, and say the scores."""
        features = {"index": counted.columns["label"], **counted.columns}
        pairs = zip(counted.columns["label"], counted.columns["positive"], strict=True)
        colors = {0: "transparent", None: NUCLEUS, **{label: COLORS[is_positive] for label, is_positive in pairs}}
        scale = np.asarray(layer.scale[-2:])
        labels: Labels = self.viewer.add_labels(
            counted.labels,
            name=f"{layer.name}: nuclei",
            scale=scale,
            translate=np.asarray(layer.translate[-2:]) + np.array(at_px[::-1]) * scale,
            units=layer.units,
            features=features,
            colormap=DirectLabelColormap(color_dict=colors),
        )
        labels.contour = 1
        virtual = " of a virtual stain" if layer.metadata.get(ABOUT, {}).get("notice") else ""
        self.status.value = f"{counted}{virtual}. Research use only."


def shown_of(layer: Image) -> tuple[int, int, int, int]:
    """x, y, width and height of what the viewer shows of a layer, in its finest pixels.

    Raises: ValueError where the viewer shows nothing of it.
    """
    finer = np.asarray(layer.downsample_factors[layer.data_level] if layer.multiscale else (1, 1))[:2]
    (top, left), (bottom, right) = np.asarray(layer.corner_pixels)[:, :2] * finer
    height, width = (layer.data[0] if layer.multiscale else layer.data).shape[:2]
    left, top, right, bottom = (
        max(0, left),
        max(0, top),
        min(width, right + finer[1]),
        min(height, bottom + finer[0]),
    )
    if right - left < 1 or bottom - top < 1:
        raise ValueError("The view shows nothing of this layer. Move to it, or press the home button.")
    return int(left), int(top), int(right - left), int(bottom - top)


def pixels_of(layer: Image, region: tuple[int, int, int, int]) -> Pixels:
    """The finest pixels of a region of a layer, uint8 (H, W, 3). Raises: ValueError for other layers."""
    x, y, width, height = region
    finest = layer.data[0] if layer.multiscale else layer.data
    if not layer.rgb:
        raise ValueError("Nuclei are found in colour images (RGB). Choose such a layer.")
    return np.ascontiguousarray(np.asarray(finest[y : y + height, x : x + width])[..., :3], np.uint8)


def placed(layer: Image, origin_um: tuple[float, float], mpp: float) -> tuple[float, float]:
    """Where pixels of `mpp` um, whose corner is at `origin_um` on a layer's slide, lie in the viewer, (y, x).

    napari places the middle of the first pixel.
    """
    down, right = np.asarray(layer.translate[-2:]) + (mpp - np.asarray(layer.scale[-2:])) / 2
    return float(down) + origin_um[1], float(right) + origin_um[0]
