"""In a real browser: what used to lead a user astray, one step after another."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import read_image
from synthetic_slides import write_pyramid
from test_densities import IHC
from test_web import Server, average, browser, colour_at, keep, page, pytestmark, settle, show

__all__ = ["browser", "page", "pytestmark"]  # fixtures, and the marks that skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With slides of one shape at one pixel size, one coarser, and one far larger than a view can be."""
    server = Server(tmp_path_factory.mktemp("view"))
    slides = server.folder / "slides"
    write_pyramid(slides / "fine.tif", IHC, mpp=(0.25, 0.25))
    write_pyramid(slides / "other.tif", IHC[:256, :256], mpp=(0.25, 0.25))
    write_pyramid(slides / "coarse.tif", IHC[::4, ::4], mpp=(1.0, 1.0))
    write_pyramid(slides / "large.tif", np.tile(IHC, (8, 8, 1)), mpp=(0.5, 0.5))
    yield server
    server.stop()


def names(page: Any) -> list[str]:
    return list(page.locator(".pane .pane-name").all_inner_texts())


def wait_for_address(page: Any, count: int) -> None:
    """Until the address names so many slides."""
    page.wait_for_function(
        "count => (new URLSearchParams(location.hash.slice(1)).get('s') ?? '').split(',').filter(Boolean).length"
        " === count",
        arg=count,
    )


@pytest.mark.slow
def test_closing_the_last_slide_leads_back_to_the_choice(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    for _ in range(2):
        page.locator(".pane .pane-bar button").first.click()
    assert page.inner_text("#empty h2") == "Choose a slide"
    assert page.is_visible("#empty")
    wait_for_address(page, 0)
    page.click("#slide-list li:has-text('broken.svs') .open")
    page.wait_for_selector("text=This does not open")
    show(page, "ihc.png")
    page.locator(".pane .pane-bar button").click()
    assert page.inner_text("#empty h2") == "Choose a slide"
    keep(page, "closed")


@pytest.mark.slow
def test_back_leads_to_the_slides_before(page: Any) -> None:
    show(page, "ihc.png")
    wait_for_address(page, 1)
    page.keyboard.press("+")
    settle(page)
    page.click("#slide-list li:has-text('mirror.png') .beside")
    wait_for_address(page, 2)
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('.pane').length === 1")
    settle(page)
    assert names(page) == ["ihc.png"]
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('.pane').length === 0")
    assert page.inner_text("#empty h2") == "Choose a slide"
    page.go_forward()
    page.wait_for_selector(".pane .canvas canvas")
    settle(page)
    assert names(page) == ["ihc.png"]
    page.go_forward()
    page.wait_for_function("() => document.querySelectorAll('.pane').length === 2")


@pytest.mark.slow
def test_of_two_slides_asked_for_at_once_the_last_is_shown(page: Any) -> None:
    page.route(
        re.compile("/api/slides/[0-9a-f]{16}$"),
        lambda route: (page.wait_for_timeout(300), route.continue_()),
    )
    page.click("#slide-list li:has-text('ihc.png') .open")
    page.click("#slide-list li:has-text('mirror.png') .open")
    page.wait_for_selector(".pane .canvas canvas")
    settle(page)
    assert names(page) == ["mirror.png"]


@pytest.mark.slow
@pytest.mark.parametrize("turns", [2, 6])
def test_linked_again_slides_stay_turned_and_moved(page: Any, turns: int) -> None:
    show(page, "ihc.png", "mirror.png")
    page.uncheck("#linked")
    page.locator(".pane .canvas").nth(1).click()
    for _ in range(turns):
        page.keyboard.press("r")
        page.wait_for_timeout(150)
    settle(page)
    page.check("#linked")
    settle(page)
    turned = keep(page, "relinked").astype(int)
    page.locator(".pane .canvas").first.click()
    for key in ("ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        settle(page)
    again = keep(page, "relinked_and_moved").astype(int)
    box = page.locator(".pane .canvas").nth(1).bounding_box()
    part = np.s_[
        round(box["y"]) + 60 : round(box["y"] + box["height"]) - 60,
        round(box["x"]) + 5 : round(box["x"] + box["width"]) - 5,
    ]
    assert np.abs(turned[part] - again[part]).mean() < 4, "as before the link"
    assert "where you moved it" in page.inner_text("#linked-by")
    page.select_option("#overlay", "kept")
    assert "cannot be compared" in page.inner_text("#overlay-hint")


@pytest.mark.slow
def test_what_was_moved_by_hand_is_measured_and_compared_there(page: Any) -> None:
    show(page, "fine.tif", "other.tif")
    page.uncheck("#linked")
    page.locator(".pane .canvas").nth(1).click()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    settle(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.check("#linked")
    page.select_option("#overlay", "kept")
    settle(page)
    differences = [url for url in asked if "/differences/" in url]
    assert differences
    assert all(re.search(r"&offset=\d", url) for url in differences)
    offset = [float(side) for side in re.findall(r"offset=(-?[\d.]+)", differences[0])]
    with page.expect_request(
        lambda request: (
            "/api/numbers" in request.url
            and len(request.post_data_json["slides"]) == 1
            and request.post_data_json["on"] in request.post_data_json["slides"]
            and request.post_data_json["on"] != first_slide(page)
        )
    ) as numbers:
        page.keyboard.press("v")
    there = np.array(numbers.value.post_data_json["regions"][0]["geometry"]["coordinates"][0])
    page.wait_for_selector("#numbers td")
    with page.expect_download() as download:
        page.click("#export-geojson")
    drawn = np.array(
        json.loads(Path(download.value.path()).read_text())["features"][0]["geometry"]["coordinates"][0]
    )
    assert there - drawn == pytest.approx(np.broadcast_to(offset, drawn.shape), abs=0.1)


def first_slide(page: Any) -> str:
    return str(page.locator("#slide-list li:has-text('fine.tif')").get_attribute("data-id"))


@pytest.mark.slow
def test_slides_lie_by_pixel_size_also_once_the_first_is_closed(page: Any) -> None:
    show(page, "ihc.png", "fine.tif")
    page.click("#slide-list li:has-text('coarse.tif') .beside")
    page.locator(".pane .canvas canvas").nth(2).wait_for()
    page.locator("#linked-by:has-text('does not state a pixel size')").wait_for()
    assert page.locator(".pane .guess").nth(1).is_visible()
    page.locator(".pane .pane-bar button").first.click()
    page.locator("#linked-by:has-text('coarse.tif lies on the first by their pixel sizes')").wait_for()
    assert not page.locator(".pane .guess").nth(1).is_visible()
    page.keyboard.press("0")
    settle(page)
    keep(page, "by_pixel_size")
    for x, y in ((0.3, 0.4), (0.7, 0.6)):
        assert np.abs(colour_at(page, x, y, 0) - average(IHC, x, y)).max() < 60
        assert np.abs(colour_at(page, x, y, 1) - average(IHC, x, y)).max() < 60


@pytest.mark.slow
def test_keys_are_the_pages_after_a_choice_by_mouse(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    box = page.locator("#overlay").bounding_box()
    page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    chosen = page.input_value("#overlay")
    assert chosen != "none"
    page.keyboard.press("c")
    assert page.is_checked("input[name=mode][value=curtain]")
    assert page.input_value("#overlay") == chosen
    page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2)
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    assert page.is_checked("input[name=mode][value=side]"), "also where nothing else was chosen"
    assert page.input_value("#overlay") == chosen
    page.keyboard.press("Tab")
    page.focus("#overlay")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#overlay") != chosen, "whoever works by keys chooses by keys"


@pytest.mark.slow
def test_at_fit_the_middle_of_a_large_slide_is_stained(page: Any, server: Server) -> None:
    show(page, "large.tif")
    page.click("#apply summary")
    page.select_option("#stainer", "color-transfer")
    page.click("#stain-view")
    page.wait_for_selector("#stains .trial[data-state='done']", timeout=120_000)
    settle(page)
    keep(page, "stained_at_fit")
    assert "the middle of what you see" in page.inner_text("#stain-message")
    made = page.evaluate("fetch('/api/stains').then((answer) => answer.json())")[0]
    assert made["size"] == [2046, 2046]
    assert made["location"] == [1025, 1025]
    assert read_image(next(server.folder.glob("trials/*/result.png"))).shape == (2046, 2046, 3)
    page.keyboard.press("1")
    for _ in range(12):
        page.keyboard.press("+")
    settle(page)
    page.click("#stain-view")
    page.locator("#stains .trial").nth(1).wait_for(timeout=120_000)
    made = page.evaluate("fetch('/api/stains').then((answer) => answer.json())")[0]
    assert min(made["size"]) >= 66, "a little more than what is seen"


@pytest.mark.slow
def test_wrong_input_is_warned_of(page: Any, data: Path, server: Server) -> None:
    for kind in ("he", "ihc"):
        (server.folder / "slides" / f"real_{kind}.png").write_bytes(
            (data / "pairs" / "mist" / f"ER_{kind}.png").read_bytes()
        )
    page.click("#reload")
    show(page, "ihc.png")
    page.click("#apply summary")
    page.click("#try summary")
    assert "looks like an IHC" in page.inner_text("#stain-doubt")
    assert "looks like an IHC" in page.inner_text("#try-doubt")
    show(page, "real_he.png")
    assert page.inner_text("#stain-doubt") == ""
    page.select_option("#exemplar", label="real_he.png")
    page.wait_for_selector("#exemplar-doubt:has-text('looks like an H&E')")
    keep(page, "wrong_input")
    page.select_option("#exemplar", label="ihc.png")
    page.wait_for_function("() => document.querySelector('#exemplar-doubt').textContent === ''")
    page.set_input_files("#upload", server.folder / "slides" / "real_he.png")
    page.wait_for_selector("#exemplar-doubt:has-text('looks like an H&E')")
