"""In a real browser: what used to lead a user astray, one step after another."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import read_image, write_image
from synthetic_slides import write_pyramid
from test_densities import IHC
from test_web import (
    PICTURE,
    Server,
    average,
    browser,
    choose_stains,
    colour_at,
    keep,
    overlay,
    page,
    pytestmark,
    settle,
    show,
    tab,
)

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
    page.click("#slide-list .slide:has-text('broken.svs') .open")
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
    page.click("#slide-list .slide:has-text('mirror.png') .beside")
    wait_for_address(page, 2)
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('.pane').length === 1")
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
    page.click("#slide-list .slide:has-text('ihc.png') .open")
    page.click("#slide-list .slide:has-text('mirror.png') .open")
    page.wait_for_selector(".pane-name:text-is('mirror.png')")
    settle(page)
    assert names(page) == ["mirror.png"]


@pytest.mark.slow
@pytest.mark.parametrize("turns", [2, 6])
def test_linked_again_slides_stay_turned_and_moved(page: Any, turns: int) -> None:
    show(page, "ihc.png", "mirror.png")
    page.click("#linked")
    page.locator(".pane .canvas").nth(1).click()
    for _ in range(turns):
        page.keyboard.press("r")
        page.wait_for_timeout(150)
    settle(page)
    page.click("#linked")
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
    assert "where you placed it" in placed(page)


@pytest.mark.slow
def test_what_was_moved_by_hand_is_measured_and_compared_there(page: Any) -> None:
    show(page, "fine.tif", "other.tif")
    page.click("#linked")
    page.locator(".pane .canvas").nth(1).click()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    settle(page)
    with page.expect_response(lambda answer: answer.request.method == "PUT") as laid:
        page.click("#linked")
    affine = np.array(laid.value.json()["affine"])
    assert affine[:, :2] == pytest.approx(np.eye(2))
    assert np.hypot(*affine[:, 2]) > 50
    with page.expect_request(lambda request: "/differences/" in request.url) as differences:
        overlay(page, "kept")
    assert "&placed=1.0" in differences.value.url
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td:has-text('H-DAB') >> nth=1")
    with page.expect_download() as download:
        page.click("#export-csv")
    assert "where you placed it" in Path(download.value.path()).read_text()


def placed(page: Any, pane: int = 1) -> str:
    """How a slide lies on the first, as it says behind its badge."""
    info = page.locator(".pane-info").nth(pane)
    return str(info.locator(".pop").text_content())


@pytest.mark.slow
def test_slides_lie_by_pixel_size_also_once_the_first_is_closed(page: Any) -> None:
    show(page, "ihc.png", "fine.tif")
    page.click("#slide-list .slide:has-text('coarse.tif') .beside")
    page.locator(PICTURE).nth(2).wait_for()
    settle(page)
    assert "does not state a pixel size" in placed(page, 1)
    assert page.locator(".pane .guess").count() == 2
    page.locator(".pane .pane-bar button").first.click()
    page.locator(".pane-info .pop:has-text('by their pixel sizes')").wait_for(state="attached")
    assert page.locator(".pane .guess").count() == 0
    page.keyboard.press("0")
    settle(page)
    keep(page, "by_pixel_size")
    for x, y in ((0.3, 0.4), (0.7, 0.6)):
        assert np.abs(colour_at(page, x, y, 0) - average(IHC, x, y)).max() < 60
        assert np.abs(colour_at(page, x, y, 1) - average(IHC, x, y)).max() < 60


@pytest.mark.slow
def test_keys_are_the_pages_after_a_choice_by_mouse(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    tab(page, "Layers")
    box = page.locator("#overlay").bounding_box()
    page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    chosen = page.input_value("#overlay")
    assert chosen != "none"
    page.keyboard.press("c")
    assert page.get_attribute("#mode-curtain", "aria-pressed") == "true"
    assert page.input_value("#overlay") == chosen
    page.mouse.click(box["x"] + 20, box["y"] + box["height"] / 2)
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    assert page.get_attribute("#mode-side", "aria-pressed") == "true", "also where nothing else was chosen"
    assert page.input_value("#overlay") == chosen
    page.keyboard.press("Tab")
    page.focus("#overlay")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#overlay") != chosen, "whoever works by keys chooses by keys"


@pytest.mark.slow
def test_at_any_zoom_what_is_seen_is_stained(page: Any, server: Server) -> None:
    show(page, "large.tif")
    tab(page, "Stain")
    page.select_option("#stainer", "color-transfer")
    page.click("#stain")
    page.wait_for_selector(".layer.shown:not(.coming)", timeout=240_000)
    settle(page)
    keep(page, "stained_at_fit")
    made = page.evaluate("fetch('/api/jobs').then((answer) => answer.json())")[0]
    assert (made["location"], made["size"], made["is_slide"]) == ([0, 0], [4096, 4096], True)
    assert list(server.folder.glob("trials/*/*.ome.tif")), "a slide, since it is more than a view"
    page.keyboard.press("1")
    for _ in range(12):
        page.keyboard.press("+")
    settle(page)
    page.click("#stain")
    page.locator(".layer:not(.coming)").nth(1).wait_for(timeout=120_000)
    made = page.evaluate("fetch('/api/jobs').then((answer) => answer.json())")[0]
    assert min(made["size"]) >= 66, "a little more than what is seen"
    assert not made["is_slide"]


@pytest.mark.slow
def test_wrong_input_is_warned_of(page: Any, data: Path, server: Server) -> None:
    for kind in ("he", "ihc"):
        (server.folder / "slides" / f"real_{kind}.png").write_bytes(
            (data / "pairs" / "mist" / f"ER_{kind}.png").read_bytes()
        )
    page.click("#reload")
    show(page, "ihc.png")
    tab(page, "Stain")
    assert "looks like an IHC" in page.inner_text("#stain-doubt")
    show(page, "real_he.png")
    assert page.locator("#stain-doubt").count() == 0
    page.check("input[value=exemplar]")
    page.set_input_files("#upload", server.folder / "slides" / "real_he.png")
    page.wait_for_selector("#exemplar-doubt:has-text('looks like an H&E')")
    keep(page, "wrong_input")
    page.select_option("#exemplar", label="ihc.png")
    page.wait_for_function("() => document.querySelector('#exemplar-doubt').textContent === ''")


@pytest.mark.slow
def test_it_begins_with_the_first_he_and_what_belongs_to_it(browser: Any, data: Path, tmp_path: Path) -> None:
    server = Server(tmp_path)
    for number, kind in enumerate(("he", "ihc"), 14):
        source = data / "pairs" / "mist" / f"ER_{kind}.png"
        (tmp_path / "slides" / f"p7_{kind}.png").write_bytes(source.read_bytes())
        (tmp_path / "slides" / "sub").mkdir(exist_ok=True)
        write_image(tmp_path / "slides" / "sub" / f"{number}.png", read_image(source)[:400, :450].copy())
    try:
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.goto(server.address)
        page.locator(PICTURE).nth(1).wait_for()
        settle(page)
        keep(page, "begun")
        assert names(page) == ["p7_he.png", "p7_ihc.png"]
        assert page.inner_text("#case") == "p7"
        assert page.locator(".case:has(h3:text-is('p7')) .badge").all_inner_texts() == ["H&E", "IHC"]
        of_one_size = page.locator(".case:has(.slide:has-text('14.png')) .slide")
        assert [of_one_size.nth(at).locator(".name").inner_text() for at in (0, 1)] == ["14.png", "15.png"]
        page.close()
    finally:
        server.stop()


@pytest.mark.slow
def test_a_reload_keeps_regions_stains_alignment_and_curtain(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    page.click("#linked")
    page.locator(".pane .canvas").nth(1).click()
    page.keyboard.press("r")
    settle(page)
    page.click("#linked")
    choose_stains(page, "h-e", pane=1)
    tab(page, "Measure")
    page.keyboard.press("v")
    page.fill("#regions input", "tumour")
    page.keyboard.press("Tab")
    page.keyboard.press("c")
    page.fill("#curtain", "30")
    settle(page)
    page.reload()
    page.locator(PICTURE).nth(1).wait_for()
    settle(page)
    assert page.input_value("#regions input") == "tumour"
    assert page.input_value("#curtain") == "30"
    assert "where you placed it" in placed(page)
    assert page.input_value(".pane-info:nth-child(1) select >> nth=1") == "h-e"
    page.click("text=Clear")
    page.click("#undo")
    assert page.input_value("#regions input") == "tumour"


@pytest.mark.slow
def test_the_curtain_is_dragged_at_its_edge_and_no_slide_is_lost_behind_it(page: Any) -> None:
    show(page, "ihc.png", "mirror.png", "small.png", "fine.tif")
    page.keyboard.press("c")
    edge, panes = page.locator("#curtain-edge").bounding_box(), page.locator("#panes").bounding_box()
    page.mouse.move(edge["x"] + edge["width"] / 2, edge["y"] + 60)
    page.mouse.down()
    page.mouse.move(panes["x"] + 0.25 * panes["width"], edge["y"] + 60, steps=4)
    page.mouse.up()
    assert float(page.input_value("#curtain")) == pytest.approx(25, abs=1)
    for name in ("small.png", "fine.tif", "mirror.png"):
        page.select_option("#behind", label=name)
        seen = page.locator(".pane:not(.hidden) .pane-name").all_inner_texts()
        assert seen == ["ihc.png", name]


@pytest.mark.slow
def test_while_one_draws_the_wheel_zooms_and_a_double_click_is_one_corner(page: Any) -> None:
    show(page, "ihc.png")
    box = page.locator(".pane .canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = page.inner_text("#zoom")
    page.keyboard.press("p")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    settle(page)
    assert page.inner_text("#zoom") != before
    page.mouse.click(x - 100, y - 60)
    page.mouse.click(x + 100, y - 60)
    page.mouse.dblclick(x, y + 80)
    tab(page, "Measure")
    page.wait_for_selector("#numbers td")
    with page.expect_download() as download:
        page.click("#export-geojson")
    (feature,) = json.loads(Path(download.value.path()).read_text())["features"]
    assert len(feature["geometry"]["coordinates"][0]) == 4, "three corners, and the first again"


@pytest.mark.slow
def test_three_slides_at_1024_keep_their_names_and_390_does_not_overflow(page: Any) -> None:
    page.set_viewport_size({"width": 1024, "height": 768})
    show(page, "ihc.png", "mirror.png", "fine.tif")
    keep(page, "three_at_1024")
    bars = [page.locator(".pane-bar").nth(i).bounding_box() for i in range(3)]
    assert all(a["x"] + a["width"] <= b["x"] for a, b in pairwise(bars))
    for i in range(3):
        name = page.locator(".pane-name").nth(i)
        assert name.bounding_box()["width"] > 40
        assert page.locator(".pane-bar button").nth(i).is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)
    keep(page, "three_at_390")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
