"""In a real browser: serial sections brought together by landmarks, by registration and by hand, and kept."""

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import write_image
from chromogen.registration.transform import read_transform
from test_densities import IHC
from test_web import PICTURE, Server, browser, keep, overlay, page, pytestmark, settle, show, tab

__all__ = ["browser", "page", "pytestmark"]  # fixtures, and the marks that skip

LANDMARKS = [(60, 60), (440, 100), (250, 430), (100, 330), (400, 380)]
Place = tuple[float, float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("view"))
    turned = np.full((560, 560, 3), 255, np.uint8)
    turned[20:532, 30:542] = IHC.transpose(1, 0, 2)  # mirrored: (x, y) lies at (y + 30, x + 20)
    write_image(server.folder / "slides" / "over.png", turned)
    yield server
    server.stop()


def there(page: Any, pane: int, place: Place) -> Place:
    """Where a place of a slide is in the window."""
    x, y = page.evaluate(
        """([pane, x, y]) => {
            const element = document.querySelectorAll('.pane')[pane];
            const { a, b, c, d, e, f } = element.querySelector('.nuclei g').transform.baseVal.consolidate().matrix;
            const { left, top } = element.getBoundingClientRect();
            return [left + a * x + c * y + e, top + b * x + d * y + f];
        }""",
        [pane, *place],
    )
    return x, y


def click_pair(page: Any, here: Place, on_other: Place) -> None:
    for pane, place in enumerate((here, on_other)):
        page.mouse.click(*there(page, pane, place))
        page.wait_for_timeout(400)
    settle(page)


def numbers(page: Any) -> list[str]:
    return list(page.locator("#landmarks li span").all_inner_texts())


@pytest.mark.slow
def test_landmarks_lay_a_mirrored_slide_and_a_wrong_one_is_named(page: Any, server: Server) -> None:
    show(page, "ihc.png", "over.png")
    page.click("#fit")
    settle(page)
    tab(page, "Align")
    assert "guess" in page.inner_text("#lies")
    page.click("#place-landmarks")
    for x, y in LANDMARKS:
        click_pair(page, (x, y), (y + 30, x + 20))
    assert "where you placed it" in page.inner_text("#lies")
    assert all(float(words.split()[0]) < 2 for words in numbers(page))
    assert page.locator("#landmarks .doubtful").count() == 0
    click_pair(page, (300, 200), (200 + 30, 100))
    assert page.inner_text("#landmarks .doubtful b") == "6"
    assert "Landmark 6 lies further off" in page.inner_text("#landmarks-message")
    keep(page, "landmarks")
    for _ in range(2):
        page.locator("#landmarks li").nth(5).locator("button").click()
    page.wait_for_selector("#landmarks li >> nth=5", state="detached")
    page.keyboard.press("Escape")
    settle(page)
    for place in LANDMARKS:
        ours, theirs = there(page, 0, place), there(page, 1, (place[1] + 30, place[0] + 20))
        left = [page.locator(".pane").nth(pane).bounding_box()["x"] for pane in (0, 1)]
        assert theirs[0] - left[1] == pytest.approx(ours[0] - left[0], abs=2)
        assert theirs[1] == pytest.approx(ours[1], abs=2)
    page.reload()
    page.locator(PICTURE).nth(1).wait_for()
    settle(page)
    assert len(numbers(page)) == len(LANDMARKS)
    assert "where you placed it" in page.inner_text("#lies")
    case = page.locator(".case:has(.slide:has-text('over.png'))")
    assert case.locator(".slide").count() == 2, "a transform joins both"
    assert "ihc.png" in case.inner_text()
    with page.expect_download() as download:
        page.click("#transform-file")
    transform = read_transform(Path(download.value.path()))
    names = {transform.source.size_px: transform.forward_px, transform.target.size_px: transform.backward_px}
    moved = names[512, 512](np.array([[100.0, 200.0]]))
    assert moved == pytest.approx(np.array([[230.0, 120.0]]), abs=2)
    page.keyboard.press("r")
    page.keyboard.press("c")
    settle(page)
    keep(page, "mirrored_and_turned")


@pytest.mark.slow
def test_what_lies_on_each_other_is_compared_and_measured_there(page: Any, server: Server) -> None:
    show(page, "ihc.png", "over.png")
    tab(page, "Align")
    assert "where you placed it" in page.inner_text("#lies"), "the test before laid it"
    overlay(page, "kept")
    settle(page)
    red = keep(page, "mirrored_kept").astype(int)
    box = page.locator(".pane .canvas").first.bounding_box()
    part = red[
        round(box["y"]) + 100 : round(box["y"] + box["height"]) - 100, round(box["x"]) + 30 : round(box["x"]) + 200
    ]
    assert ((part[..., 0] - part[..., 1]) > 120).mean() < 0.02, "structure is kept"
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    with page.expect_download() as download:
        page.click("#export-csv")
    with Path(download.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    shares = [float(row["positive_percent"]) for row in rows]
    assert shares[0] > 5
    assert all(one == pytest.approx(other, rel=0.05) for one, other in pairwise(shares))


@pytest.mark.slow
def test_registered_by_a_button_and_forgotten(page: Any) -> None:
    show(page, "ihc.png", "small.png")
    tab(page, "Align")
    before = page.inner_text("#lies")
    page.click("#register")
    page.wait_for_selector("#registering progress")
    page.wait_for_selector("#lies:has-text('by registration')")
    page.wait_for_selector("#registering", state="detached")
    with page.expect_download() as download:
        page.click("#transform-file")
    assert json.loads(Path(download.value.path()).read_text())["quality"]["residual_um"] < 5
    for _ in range(2):
        page.locator("#panel button:has-text('Remove')").last.click()
    page.wait_for_function("before => document.querySelector('#lies').innerText === before", arg=before)


@pytest.mark.slow
def test_a_slide_is_turned_over(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    page.click("#fit")
    settle(page)
    tab(page, "Align")
    with page.expect_response(lambda answer: answer.request.method == "PUT") as laid:
        page.click("#turn-over")
    settle(page)
    affine = np.array(laid.value.json()["affine"])
    assert affine == pytest.approx(np.array([[-1, 0, 512], [0, 1, 0]]), abs=1.5)
    shot = keep(page, "turned_over").astype(int)
    boxes = [page.locator(".pane .canvas").nth(pane).bounding_box() for pane in (0, 1)]
    parts = [
        shot[
            round(box["y"]) + 200 : round(box["y"]) + 400,
            round(box["x"] + box["width"] / 2) - 100 : round(box["x"] + box["width"] / 2) + 100,
        ]
        for box in boxes
    ]
    assert np.abs(parts[0] - parts[1]).mean() < 12, "both look alike now"
