"""Draw the picture of the napari plug-in: `xvfb-run python scripts/napari_picture.py docs/view/napari.jpg`.

It opens the demo's slide, stains a view by the look `nuclear`, and counts its nuclei, as a person would. Needs the
extra `napari` and a Qt.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
import PIL.Image
from qtpy.QtWidgets import QApplication

from chromogen.plugins.layers import sample_he

SIZE_PX = (1500, 900)
CENTRE_UM, ZOOM = (0, 800, 500), 2.4  # of the view that is drawn
WAIT_S = 120


def wait(until: Callable[[], bool], seconds: float) -> None:
    """Let the window work until something holds, or time is over."""
    began = time.monotonic()
    while not until() and time.monotonic() - began < seconds:
        QApplication.instance().processEvents()
        time.sleep(0.02)


def main() -> None:
    """Open, stain, count, draw."""
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE_PX)
    for levels, kwargs, _ in sample_he():
        viewer.add_image(levels, **{**kwargs, "name": "slide.svs"})
    _, container = viewer.window.add_plugin_dock_widget("chromogen", "Virtual IHC")
    panel = container.panel
    viewer.camera.center, viewer.camera.zoom = CENTRE_UM, ZOOM
    wait(lambda: False, 1)
    panel.stainer.value = "nuclear"
    panel.stain_view()
    wait(lambda: panel.worker is None, WAIT_S)
    panel.layer.value = viewer.layers[1]
    panel.count_view()
    wait(lambda: panel.worker is None, WAIT_S)
    wait(lambda: False, 1)
    picture = PIL.Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])
    picture.save(Path(sys.argv[1]), quality=80)
    viewer.close()


if __name__ == "__main__":
    main()
