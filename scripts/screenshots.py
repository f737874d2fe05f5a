"""Make the pictures of the page in docs/how-to/viewer.md, of the demo slide (CC0), in a headless Chromium.

python scripts/screenshots.py [--out docs/view]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from chromogen.data import demo_slide
from chromogen.image import read_image, write_image
from serving import Serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 300_000
MAX_BYTES = 300_000
QUALITIES = (85, 75, 65, 50)
TIMES_CLOSER = 3  # steps of zoom from the whole slide
LANDMARKS = [(800, 1500), (1500, 1600), (900, 2600), (1720, 1240), (1330, 900), (1420, 1900)]
WRONG_PX = (260, 150)  # by which the last is off
COPY_PX = (2967, 2220)  # of the slide turned by 90 degrees
PLACE_IN_WINDOW = """([pane, x, y]) => {
    const element = document.querySelectorAll('.pane')[pane];
    const { a, b, c, d, e, f } = element.querySelector('.nuclei g').transform.baseVal.consolidate().matrix;
    const { left, top } = element.getBoundingClientRect();
    return [left + a * x + c * y + e, top + b * x + d * y + f];
}"""
ROOT = Path(__file__).resolve().parents[1]


class Screen:
    """The page in a browser, and where its pictures go."""

    def __init__(self, page: Any, out: Path) -> None:
        self.page, self.out = page, out

    def rest(self) -> None:
        """Until nothing more is loaded, and what faded has faded."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(1000)

    def keep(self, name: str) -> None:
        """Write NAME.jpg, as good as MAX_BYTES allow."""
        self.rest()
        for quality in QUALITIES:
            data = self.page.screenshot(type="jpeg", quality=quality)
            if len(data) <= MAX_BYTES:
                break
        (self.out / f"{name}.jpg").write_bytes(data)
        print(f"{self.out / name}.jpg: {len(data) / 1000:.0f} kB")

    def show(self, selector: str) -> None:
        """Scroll the tools to a part of them."""
        self.page.locator(selector).first.evaluate("(part) => part.scrollIntoView({block: 'start'})")

    def there(self, pane: int, place: tuple[float, float]) -> tuple[float, float]:
        """Where a place of a slide, in its level-0 pixels, is in the window."""
        x, y = self.page.evaluate(PLACE_IN_WINDOW, [pane, *place])
        return x, y

    def drag(self, left: float, top: float, right: float, bottom: float) -> None:
        """Draw with the mouse, in parts of the picture's width and height."""
        box = self.page.locator(".pane").first.bounding_box()
        mouse = self.page.mouse
        mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
        mouse.down()
        mouse.move(box["x"] + right * box["width"], box["y"] + bottom * box["height"], steps=5)
        mouse.up()


def take(screen: Screen) -> None:
    """Walk through the page: open, say where, stain, look at layers, measure."""
    page = screen.page
    page.wait_for_selector(".pane .canvas canvas")
    screen.keep("open")
    for _ in range(TIMES_CLOSER):
        page.keyboard.press("+")
    page.select_option("#stainer", "nuclear")
    page.check("#where-map")
    page.wait_for_selector(".legend.where")
    page.wait_for_selector("#where-message:empty", state="attached")
    screen.rest()
    page.wait_for_selector("#where-message:empty", state="attached")
    screen.keep("where")
    page.click("#stain")
    page.wait_for_selector(".layer.shown")
    page.fill("#dial-share", "0.3")
    page.wait_for_selector(".layer-name:has-text('share 0.3')")
    screen.show("#stain")
    screen.keep("stain")
    page.click("#tab-Layers")
    page.check(".layer .check input")
    page.check("#nuclei")
    page.wait_for_selector("#nuclei-message p:has-text('in view')")
    screen.keep("layers")
    page.uncheck("#nuclei")
    page.uncheck(".layer .check input")
    page.click("#tab-Measure")
    page.click("#draw-rectangle")
    screen.drag(0.52, 0.12, 0.75, 0.55)
    page.wait_for_selector("#numbers td")
    screen.keep("measure")
    page.click("#clear-regions")
    page.click("#tab-Layers")
    page.click(".layer .eye")
    align(screen)


def align(screen: Screen) -> None:
    """Lay the turned copy of the slide on it by landmarks, the last of which is wrong."""
    page = screen.page
    page.click(".slide:has-text('skin_HE.svs') .open")
    page.click(".slide:has-text('skin_copy') .beside")
    page.locator(".pane .canvas canvas").nth(1).wait_for()
    page.click("#fit")
    page.click("#tab-Align")
    page.click("#place-landmarks")
    screen.rest()
    for number, (x, y) in enumerate(LANDMARKS, 1):
        off = WRONG_PX if number == len(LANDMARKS) else (0, 0)
        for pane, place in enumerate(((x, y), (COPY_PX[0] - y + off[0], x + off[1]))):
            page.mouse.click(*screen.there(pane, place))
            page.wait_for_timeout(800)
        screen.rest()
    screen.keep("align")


def main() -> None:
    """Make all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "view")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 800), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--dark", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        slides = Path(folder) / "slides"
        slides.mkdir()
        shutil.copy(demo_slide(), slides / "skin_HE.svs")
        write_image(slides / "skin_copy.png", np.rot90(read_image(demo_slide()), -1).copy(), mpp=0.499)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=as_root)
        width, height = asked.size
        scheme: Any = "dark" if asked.dark else "light"
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE_MS)
        server = Serving([slides], Path(folder) / "results", Path(folder))
        page.goto(server.address)
        take(Screen(page, asked.out))
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
