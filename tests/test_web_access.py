"""The page against axe-core's rules of WCAG 2.2 A and AA, in every state that one works in."""

import json
from pathlib import Path
from typing import Any

import pytest

from test_web import PATIENCE_MS, Server, browser, keep, pytestmark, server, settle, show

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
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (820, 1180)])
def test_it_is_accessible(browser: Any, server: Server, scheme: str, width: int, height: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not here: npm ci in web/")
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.address)
    page.wait_for_selector("#slide-list li")
    page.evaluate(AXE.read_text())

    def check(state: str) -> None:
        settle(page)
        keep(page, f"{state}_{scheme}_{width}")
        assert problems(page) == [], state
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state

    check("nothing_open")
    page.click("#slide-list li:has-text('broken.svs') .open")
    page.wait_for_selector("text=This does not open")
    check("broken")
    show(page, "ihc.png", "mirror.png")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    page.select_option("#overlay", "dab")
    check("numbers_and_overlay")
    page.keyboard.press("n")
    page.wait_for_selector("#nuclei-message p:has-text('in view')")
    check("nuclei")
    page.keyboard.press("n")
    page.keyboard.press("c")
    check("curtain")
    page.keyboard.press("b")
    check("blink")
    page.keyboard.press("s")
    show(page, "small.png")
    page.click("#try summary")
    page.click("#apply summary")
    page.click("#stain-view")
    page.wait_for_selector("#stains .trial[data-state='done']")
    page.locator("#stains .origin summary").first.click()
    page.locator("#stains button:has-text('Remove')").first.click()
    check("stained")
    page.click("#help-open")
    check("help")
    page.route("**/api/app", lambda route: route.fulfill(status=401, json={"detail": "the token is missing"}))
    page.reload()
    page.wait_for_selector("#login[open]")
    page.evaluate(AXE.read_text())
    check("token")
    page.close()
