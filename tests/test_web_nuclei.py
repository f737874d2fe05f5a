"""Nuclei on the page, in a real browser: outlined on the picture, counted in words, by mouse and by key."""

from typing import Any

import numpy as np
import pytest

from test_web import browser, choose_stains, keep, page, pytestmark, server, settle, show, tab

__all__ = ["browser", "page", "pytestmark", "server"]  # fixtures, and the marks that skip


def drawn(page: Any) -> dict[str, int]:
    """How many outlines there are of each kind."""
    paths = page.evaluate(
        "[...document.querySelectorAll('.nuclei path')].map((p) => [p.getAttribute('class'), p.getAttribute('d')])"
    )
    return {kind.removeprefix("nucleus").strip(): d.count("M") for kind, d in paths}


def in_view(page: Any, more: str = "in view") -> str:
    tab(page, "Layers")
    page.wait_for_selector(f"#nuclei-message:has-text('{more}')")
    return str(page.inner_text("#nuclei-message"))


@pytest.mark.slow
def test_nuclei_are_outlined_where_they_are(page: Any) -> None:
    show(page, "ihc.png")
    page.wait_for_selector("#notice-over", state="detached")
    before = keep(page, "without_nuclei").astype(int)
    page.keyboard.press("n")
    words = in_view(page)
    assert page.is_checked("#nuclei")
    kinds = drawn(page)
    assert kinds.keys() == {"negative", "positive"}
    assert words.startswith(f"ihc.png: {sum(kinds.values())} nuclei in view")
    share = 100 * kinds["positive"] / sum(kinds.values())
    assert f"{share:.1f} % positive (DAB above" in words
    changed = np.abs(keep(page, "nuclei").astype(int) - before).max(axis=2) > 60
    box = page.locator(".pane .canvas").bounding_box()
    rows, columns = np.nonzero(changed[:, round(box["x"]) : round(box["x"] + box["width"])])
    assert len(rows) > 2000
    side = min(box["width"], box["height"])
    left = (box["width"] - side) / 2
    assert left - 9 < columns.min() < columns.max() < left + side + 9, "outlines lie on the picture"
    page.uncheck("#nuclei")
    assert drawn(page) == {}
    assert page.inner_text("#nuclei-message") == ""


@pytest.mark.slow
def test_they_follow_the_view_and_the_stains(page: Any) -> None:
    show(page, "ihc.png")
    tab(page, "Layers")
    page.check("#nuclei")
    whole = in_view(page)
    page.keyboard.press("+")
    page.keyboard.press("+")
    settle(page)
    page.wait_for_function(f"() => document.querySelector('#nuclei-message').innerText !== {whole!r}")
    part = in_view(page)
    assert int(part.split()[1]) < int(whole.split()[1])
    threshold = [words.split("positive")[1].split(")")[0] for words in (part, whole)]
    assert threshold[0] == threshold[1], "one threshold for the slide"
    choose_stains(page, "h-e")
    page.wait_for_function("() => document.querySelectorAll('.nuclei path[class=nucleus]').length === 1")
    assert set(drawn(page)) == {""}
    assert "positive" not in in_view(page)


@pytest.mark.slow
def test_from_too_far_it_says_what_to_do(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    page.keyboard.press("n")
    tab(page, "Layers")
    page.wait_for_selector("#nuclei-message p:nth-child(2)")
    for _ in range(5):
        page.keyboard.press("-")
    settle(page)
    assert "ihc.png: zoom in to 1 µm/px or closer to see nuclei." in in_view(page, "zoom in")
    assert drawn(page) == {}


@pytest.mark.slow
def test_regions_have_the_nuclei_that_are_outlined(page: Any) -> None:
    show(page, "ihc.png")
    page.keyboard.press("n")
    words = in_view(page)
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    row = page.inner_text("#numbers tr:has(th:text-is('nuclei'))")
    assert row.split()[-1] == words.split()[1]
    share = page.inner_text("#numbers tr:has-text('% of nuclei positive') td")
    assert f"{share.split()[0]} % positive" in words
