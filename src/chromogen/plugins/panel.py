"""The panel of the napari plug-in: choose a layer and a stainer, stain the view or the slide, count nuclei."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import napari
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSlider,
    FloatSpinBox,
    Label,
    ProgressBar,
    PushButton,
    SpinBox,
)
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from napari.utils.colormaps import Colormap, DirectLabelColormap

from chromogen.errors import short
from chromogen.models import LOOKS
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.plugins.layers import ABOUT, VIRTUAL, read_layers
from chromogen.plugins.places import Grid, field_of, is_picture, mpp_of, placed, shown_of, source_of
from chromogen.plugins.work import (
    Choice,
    Confidence,
    CountedNuclei,
    StainedRegion,
    StainedSlide,
    Steps,
    count_nuclei,
    ended_by,
    stain_region,
    stain_whole,
)
from chromogen.provenance import NOTICE
from chromogen.staining.confidence import COLORS as CONFIDENCE_COLORS
from chromogen.staining.confidence import DECADES
from chromogen.staining.stainer import STAINERS

if TYPE_CHECKING:
    from napari.layers import Layer

OF_FILE = "from a file ..."
STAINS = [name for name in STAINERS if name != "identity"]
FILES = "*.png *.jpg *.tif *.tiff *.svs *.ndpi *.json *.safetensors *.onnx"
RESEARCH = f"{NOTICE[0].upper()}{NOTICE[1:]}."
POSITIVE, NEGATIVE, NUCLEUS = "#ba3a18", "#2654bc", "#188c48"
COLORS = {True: POSITIVE, False: NEGATIVE, None: NUCLEUS}


def stain_panel() -> Container[Any]:
    """The panel of the viewer that napari shows. Raises: RuntimeError without a viewer."""
    viewer = napari.current_viewer()
    if viewer is None:
        raise RuntimeError("There is no viewer. Open napari first.")
    return Panel(viewer).container


class Panel:
    """The panel's fields, and the work that runs, if any."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.layer = ComboBox(label="Layer", choices=lambda _: list(filter(is_picture, viewer.layers)))
        self.mpp = FloatSpinBox(label="Pixel size, um", min=0.05, max=4, step=0.05, value=ASSUMED_MPP)
        self.stainer = ComboBox(label="Stainer", choices=[*STAINS, OF_FILE], value=LOOKS[0])
        self.file = FileEdit(label="IHC or model", filter=FILES)
        self.own_share = CheckBox(text="as many positive nuclei as in the IHC", value=True)
        self.share = FloatSlider(label="Positive nuclei", min=0, max=1, value=0.3, enabled=False)
        self.intensity = FloatSlider(label="DAB", min=0, max=2, value=1)
        self.counterstain = FloatSlider(label="Haematoxylin", min=0, max=2, value=1)
        self.seed = SpinBox(label="Seed", min=0, max=9999, value=0)
        self.stain = PushButton(text="Stain the view")
        self.whole = PushButton(text="Stain the slide ...")
        self.count = PushButton(text="Count nuclei in the view")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.progress = ProgressBar(min=0, max=1, value=0)
        self.status = Label(value=RESEARCH)
        self.worker: Any = None
        self.stopped = Event()
        dials = [self.own_share, self.share, self.intensity, self.counterstain, self.seed]
        buttons = [self.stain, self.whole, self.count, self.cancel]
        fields = [self.layer, self.mpp, self.stainer, self.file, *dials, *buttons, self.progress, self.status]
        self.container: Container[Any] = Container(widgets=fields)
        self.progress.visible = False
        self._connect()
        self.container.panel = self  # it lives as long as its fields

    def _connect(self) -> None:
        self.status.native.setWordWrap(True)
        for field in (self.layer, self.stainer, self.file):
            field.changed.connect(self.show_fields)
        self.own_share.changed.connect(lambda own: setattr(self.share, "enabled", not own))
        self.stain.clicked.connect(lambda: self.said(self.stain_view))
        self.whole.clicked.connect(lambda: self.said(self.ask_for_file))
        self.count.clicked.connect(lambda: self.said(self.count_view))
        self.cancel.clicked.connect(self.stop)
        self.container.native.destroyed.connect(self.leave)
        self.show_fields()

    def show_fields(self) -> None:
        """Show the fields that the layer and the stainer need, and no others."""
        layer = self.layer.value
        self.mpp.visible = layer is not None and mpp_of(layer) is None
        is_of_file = self.stainer.value == OF_FILE
        self.file.visible = is_of_file
        choice = Choice(str(self.file.value) if is_of_file else self.stainer.value)
        has_dials, has_share = _dials_of(choice)
        for field in (self.intensity, self.counterstain, self.seed):
            field.visible = has_dials
        self.own_share.visible = self.share.visible = has_share

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
        is_of_file = self.stainer.value == OF_FILE
        if is_of_file and not Path(self.file.value).is_file():
            raise ValueError("Choose an IHC image, or a model's file, first.")
        named = str(self.file.value) if is_of_file else self.stainer.value
        share = None if self.own_share.value else self.share.value
        return Choice(named, share, self.intensity.value, self.counterstain.value, self.seed.value)

    def picture(self) -> tuple[Image, float]:
        """The chosen layer, and its pixel size in um. Raises: ValueError without a layer."""
        layer = self.layer.value
        if layer is None:
            raise ValueError("Open an H&E first: File, Open, or a sample of Chromogen.")
        return layer, mpp_of(layer) or self.mpp.value

    def stain_view(self) -> None:
        """Stain what the viewer shows of the layer."""
        layer, mpp = self.picture()
        steps = stain_region(source_of(layer), mpp, shown_of(layer), self.choice())
        self.run(steps, lambda region: self.show_region(layer, region))

    def ask_for_file(self) -> None:
        """Ask for a file, and stain the whole slide into it."""
        from qtpy.QtWidgets import QFileDialog

        kinds = "Slides (*.ome.tif *.ome.zarr)"
        name, _ = QFileDialog.getSaveFileName(self.container.native, "Stained slide", "stained.ome.tif", kinds)
        if name:
            self.stain_slide(Path(name))

    def stain_slide(self, out: Path) -> None:
        """Stain the whole slide into a file, and open it. Raises: ValueError for a layer without a file."""
        layer, mpp = self.picture()
        source = layer.metadata.get(ABOUT, {}).get("path")
        if source is None:
            raise ValueError("This layer has no file. Open the H&E by File, Open, with Chromogen as its reader.")
        steps = stain_whole(Path(source), mpp, out, self.choice())
        self.run(steps, lambda stained: self.show_slide(layer, stained))

    def count_view(self) -> None:
        """Find and score the nuclei of what the viewer shows of the layer."""
        layer, mpp = self.picture()
        region = shown_of(layer)
        stains = "h-dab" if _is_virtual(layer) else "auto"
        steps = count_nuclei(field_of(layer, region), mpp, stains)
        self.run(steps, lambda counted: self.show_nuclei(layer, Grid(region[:2]), counted))

    def run(self, steps: Steps, show: Callable[[Any], None]) -> None:
        """Let work run in a thread, one at a time, until it returns what is shown, fails, or is cancelled."""
        if self.worker is not None:
            raise ValueError("Something is running. Cancel it, or wait.")
        self.stopped.clear()
        work = ended_by(self.stopped, steps)
        worker = create_worker(lambda: (yield from work), _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(self.move)
        worker.returned.connect(lambda made: self.show(made, show))
        worker.errored.connect(self.fail)
        worker.finished.connect(self.end)
        self.worker = worker
        self.status.value = "Looking at the tissue ..."
        self.cancel.enabled = self.progress.visible = True
        self.progress.max = self.progress.value = 0
        worker.start()

    def show(self, made: Any, show: Callable[[Any], None]) -> None:
        """Show what work made; None where it was cancelled."""
        if made is None:
            self.status.value = "Cancelled. Finished blocks are kept."
        else:
            self.said(lambda: show(made))

    def move(self, step: tuple[int, int]) -> None:
        """Show how far it is."""
        done, of = step
        self.progress.max, self.progress.value = of, done
        if not self.stopped.is_set():
            self.status.value = f"{done} of {of} blocks"

    def stop(self) -> None:
        """Ask the work to end after its block."""
        if self.worker is not None:
            self.stopped.set()
            self.status.value = "Ending after this block ..."

    def leave(self) -> None:
        """End the work, of which nothing can be shown any more."""
        self.stopped.set()
        if self.worker is not None:
            for signal in (self.worker.yielded, self.worker.returned, self.worker.errored, self.worker.finished):
                signal.disconnect()
            self.worker = None

    def end(self) -> None:
        """Be ready for the next work."""
        self.worker = None
        self.progress.visible = self.cancel.enabled = False

    def show_region(self, layer: Image, region: StainedRegion) -> None:
        """Lay a stained region on its H&E, and how sure the stainer was, hidden, above it."""
        name = f"{layer.name}: {region.stainer}"
        about = {ABOUT: {"mpp": region.mpp, "notice": NOTICE}}
        place = placed(layer, region.grid)
        self.viewer.add_image(region.pixels, name=f"{name} ({VIRTUAL})", rgb=True, metadata=about, **place)
        self.show_confidence(layer, name, region.confidence)
        doubt = f" In doubt: {region.doubt}." if region.doubt else ""
        self.status.value = f"Stained by {region.stainer}.{doubt} {RESEARCH}"

    def show_slide(self, layer: Image, stained: StainedSlide) -> None:
        """Lay a stained slide on its H&E, and how sure the stainer was, hidden, above it."""
        place = placed(layer, stained.grid)
        for levels, kwargs, _ in read_layers(stained.file):
            self.viewer.add_image(levels, **{**kwargs, **place})
        self.show_confidence(layer, stained.file.name, stained.confidence)
        self.status.value = f"{stained.file.name} is finished. {RESEARCH}"

    def show_confidence(self, layer: Image, name: str, sure: Confidence | None) -> None:
        """Add how sure a stainer was, hidden, where it says so: violet is unlike the IHC, yellow alike."""
        if sure is None:
            return
        colors = Colormap(CONFIDENCE_COLORS / 255, name="confidence")
        look = {"colormap": colors, "opacity": 0.6, "contrast_limits": (-DECADES, 0), "visible": False}
        title = f"{name}, confidence (log10)"
        self.viewer.add_image(sure.log10, name=title, **look, **placed(layer, sure.grid))

    def show_nuclei(self, layer: Image, grid: Grid, counted: CountedNuclei) -> None:
        """Lay labels of nuclei on the layer, brown-red where positive, with their table, and say the scores."""
        features = {"index": counted.columns["label"], **counted.columns}
        pairs = zip(counted.columns["label"], counted.columns["positive"], strict=True)
        colors = {0: "transparent", None: NUCLEUS, **{label: COLORS[is_positive] for label, is_positive in pairs}}
        labels: Labels = self.viewer.add_labels(
            counted.labels,
            name=f"{layer.name}: nuclei",
            features=features,
            colormap=DirectLabelColormap(color_dict=colors),
            **placed(layer, grid),
        )
        labels.contour = 1
        whose = "Of a virtual stain, research use only: " if _is_virtual(layer) else ""
        self.status.value = f"{whose}{counted}"


def _is_virtual(layer: Layer) -> bool:
    return bool(layer.metadata.get(ABOUT, {}).get("notice"))


def _dials_of(choice: Choice) -> tuple[bool, bool]:
    """Whether a choice has dials, and a share; a file that cannot be read has none."""
    try:
        return choice.has_dials, choice.has_share
    except (ValueError, OSError):
        return False, False
