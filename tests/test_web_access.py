"""The page against axe-core's rules of WCAG 2.2 A and AA, in every state that one works in."""

import json
from pathlib import Path
from typing import Any

import pytest

from test_web import PATIENCE_MS, PICTURE, Server, browser, keep, overlay, pytestmark, server, settle, show, tab

__all__ = ["browser", "pytestmark", "server"]  # fixtures, and the marks that skip
AXE = Path(__file__).resolve().parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def problems(page: Any) -> list[Any]:
    """What axe finds wrong; it must have looked at something."""
    found = page.evaluate(f"axe.run({{runOnly: {json.dumps(TAGS)}}})")
    assert len(found["passes"]) > 10
    return [(v["id"], v["help"], [node["target"] for node in v["nodes"]]) for v in found["violations"]]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_it_is_accessible(browser: Any, server: Server, scheme: str, width: int, height: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not here: npm ci in web/")
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.address)
    page.wait_for_selector(PICTURE)
    page.evaluate(AXE.read_text())
    narrow = width < 900

    def check(state: str) -> None:
        settle(page)
        keep(page, f"{state}_{scheme}_{width}")
        assert problems(page) == [], state
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state

    def show_slides() -> None:
        if not page.is_visible("#slide-list"):
            page.click("#slides-toggle")

    def show_tab(name: str) -> None:
        if not page.is_visible("#tools"):
            page.click("#tools-toggle")
        tab(page, name)

    check("begun")
    page.click(".pane-bar button")
    show_slides()
    page.click("#slide-list .slide:has-text('broken.svs') .open")
    page.wait_for_selector("text=This does not open")
    check("broken")
    show(page, "ihc.png", "mirror.png")
    show_tab("Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    check("numbers")
    show_tab("Layers")
    overlay(page, "dab")
    page.keyboard.press("n")
    page.wait_for_selector("#nuclei-message p:has-text('in view')")
    check("layers")
    page.keyboard.press("n")
    page.keyboard.press("c")
    check("curtain")
    page.keyboard.press("f")
    check("fade")
    page.keyboard.press("s")
    show_tab("Align")
    page.click("#place-landmarks")
    if narrow:
        page.click("#tools-toggle")
    for x, y in ((0.5, 0.4), (0.4, 0.5), (0.5, 0.6)):
        for pane in (0, 1):
            box = page.locator(".pane .canvas").nth(pane).bounding_box()
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
            page.wait_for_timeout(300)
    show_tab("Align")
    page.wait_for_selector("#transform-file")
    check("aligned")
    page.click("#place-landmarks")
    show_slides()
    show(page, "small.png")
    show_tab("Stain")
    page.check("input[value=exemplar]")
    page.click("#try summary")
    check("exemplar")
    page.check("input[value=quick]")
    page.select_option("#stainer", "nuclear")
    page.check("#where-map")
    page.wait_for_selector(".legend.where")
    settle(page)  # it is asked for once things are quiet
    page.wait_for_selector("#where-message", state="hidden")
    check("where")
    page.check("input[value=exemplar]")
    page.select_option("#stainer", "color-transfer")
    page.click("#stain")
    page.wait_for_selector(".layer.shown" if not narrow else ".pane.is-virtual")
    check("stained")
    page.click("#jobs-open")
    page.locator(".job .origin summary").first.click()
    page.locator(".job button:has-text('Remove')").first.click()
    check("jobs")
    page.click("#jobs .main")
    page.click("#help-open")
    check("help")
    page.route("**/api/app", lambda route: route.fulfill(status=401, json={"detail": "the token is missing"}))
    page.reload()
    page.wait_for_selector("#login[open]")
    page.evaluate(AXE.read_text())
    check("token")
    page.close()
