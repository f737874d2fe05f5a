"""Stainers applied in a real browser: to what is seen, and to whole slides in the background."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import read_image, read_provenance
from chromogen.provenance import NOTICE
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from test_densities import IHC
from test_stains import write_slide
from test_web import (  # noqa: F401
    PATIENCE_MS,
    PICTURE,
    Server,
    browser,
    children,
    choose_stains,
    keep,
    pytestmark,
    settle,
    show,
    tab,
    wait_for_state,
)

BLOCKS = 64  # of a slide that takes long enough to be stopped


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    write_slide(tmp_path / "slides" / "slide.tif", times=3)
    write_slide(tmp_path / "slides" / "large.tif", times=16)
    yield server
    server.stop()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.goto(server.address)
    page.wait_for_selector("#slide-list .slide")
    yield page
    page.close()
    expected = ("422", "ERR_CONNECTION_REFUSED", "failed to load")  # broken files, and a server that was killed
    assert [line for line in wrong if not any(words in line for words in expected)] == []


def begin(page: Any, slide: str, stainer: str = "color-transfer") -> None:
    show(page, slide)
    tab(page, "Stain")
    page.select_option("#stainer", stainer)


def whole_slide(page: Any) -> None:
    page.check("input[value=slide]")
    page.click("#stain")


def wait_for_block(page: Any) -> None:
    """Until a slide is under way; the cards of jobs are shown then."""
    page.wait_for_selector(".layer.coming:has-text('Block ')", timeout=180_000)
    page.click("#jobs-open")


def state(page: Any, wanted: str, timeout_s: float = 300) -> None:
    wait_for_state(page, wanted, timeout_s, "stain")


def results(server: Server, name: str) -> Path:
    (found,) = server.folder.glob(f"trials/*/{name}")
    return found


@pytest.mark.slow
def test_what_is_seen_is_stained_beside_it(page: Any, server: Server) -> None:
    begin(page, "small.png")
    page.click("#stain")
    page.wait_for_selector(".layer.shown")
    settle(page)
    keep(page, "stain_view")
    folder = results(server, "result.png").parent
    made = read_image(folder / "result.png")
    assert (read_image(folder / "region.png") == IHC[:128, 300:428]).all()
    assert (read_provenance(folder / "result.png") or {})["stainer"] == "color-transfer"
    page.click(".layer button:has-text('Beside')")
    page.locator(PICTURE).nth(1).wait_for()
    card = page.locator(".job").first
    shell, python = (card.locator("pre").nth(i).text_content() for i in (0, 1))
    assert "chromogen stain small.png --stainer color-transfer --mpp 0.5 --region 0,0,128,128 " in shell
    for program in (["-m", *shlex.split(shell)], ["-c", python]):
        subprocess.run([sys.executable, *program], cwd=server.folder / "slides", check=True, capture_output=True)
        (again,) = (server.folder / "slides").glob("small_*.ome.tif")
        with open_slide(again) as slide:
            assert (slide.read_region((0, 0), slide.size) == made).all()
        again.unlink()


@pytest.mark.slow
def test_a_slide_is_stained_to_its_end(page: Any, server: Server, tmp_path: Path) -> None:
    begin(page, "small.png")
    whole_slide(page)
    page.wait_for_selector("#stain-message:has-text('pixel size')")
    assert page.is_visible("#stain-mpp")
    begin(page, "slide.tif")
    assert not page.is_visible("#stain-mpp")
    whole_slide(page)
    state(page, "done")
    card = page.locator(".job").first
    assert "Done: 4 blocks" in card.inner_text()
    card.locator("summary").click()
    assert (
        "chromogen stain slide.tif --stainer color-transfer -o slide_color-transfer.ome.tif" in card.inner_text()
    )
    keep(page, "stain_slide_job")
    page.click("#jobs .main")
    page.wait_for_selector(".pane.is-virtual")
    result = page.locator("#slide-list .case:has-text('slide.tif') .slide:has-text('color-transfer')")
    assert result.locator(".badge").inner_text() == "VIRTUAL", "in the list, in the case of its slide"
    page.click(".layer button:has-text('Beside')")
    page.locator(PICTURE).nth(1).wait_for()
    settle(page)
    keep(page, "stain_slide_side_by_side")
    assert page.evaluate(
        "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('#tools'))"
    )
    with page.expect_download() as download:
        page.click(".layer >> text=Download")
    shutil.copy(download.value.path(), tmp_path / "kept.ome.tif")
    facts = read_facts(tmp_path / "kept.ome.tif")
    assert facts is not None
    assert (facts.stainer, facts.notice) == ("color-transfer", NOTICE)


@pytest.mark.slow
def test_a_slide_is_cancelled_and_goes_on(page: Any, server: Server) -> None:
    begin(page, "large.tif")
    whole_slide(page)
    wait_for_block(page)
    assert page.inner_text("#jobs-open").startswith("1 job ")
    keep(page, "stain_slide_running")
    page.click("#jobs button:has-text('Cancel')")
    state(page, "cancelled")
    until = time.monotonic() + 120
    while children(server) and time.monotonic() < until:
        time.sleep(0.1)
    assert children(server) == []
    keep(page, "stain_slide_cancelled")
    page.click("#jobs button:has-text('Resume')")
    state(page, "done")
    assert_went_on(server)


@pytest.mark.slow
def test_all_open_slides_are_stained_by_one_button_and_dials_act_on_all(page: Any, server: Server) -> None:
    show(page, "slide.tif", "large.tif")
    tab(page, "Stain")
    assert page.locator("#stain-all").count() == 0, "no H&E"
    for pane in (0, 1):
        choose_stains(page, "h-e", pane)
    page.keyboard.press("1")
    settle(page)
    page.select_option("#stainer", "nuclear")
    page.click("#stain-all")
    page.locator(".layer.shown:not(.coming)").nth(1).wait_for()
    titles = page.locator(".layers h3").all_inner_texts()
    assert titles == ["Virtual stains of slide.tif", "Virtual stains of large.tif"]
    page.fill("#dial-share", "0.5")
    page.locator(".layer-name:has-text('share 0.5')").nth(1).wait_for()
    page.wait_for_function("() => document.querySelectorAll('.layer').length === 2")
    settle(page)
    keep(page, "stain_all")
    jobs = page.evaluate("fetch('/api/jobs').then((answer) => answer.json())")
    assert len({job["slide"] for job in jobs}) == len(jobs) == 2
    assert {job["settings"] for job in jobs} == {"share 0.5"}
    assert page.locator(".pane.is-virtual").count() == 2


@pytest.mark.slow
def test_what_was_cancelled_is_removed(page: Any, server: Server) -> None:
    begin(page, "large.tif")
    whole_slide(page)
    wait_for_block(page)
    page.click("#jobs button:has-text('Cancel')")
    state(page, "cancelled", 60)
    assert list(server.folder.glob("trials/*/*.chromogen")), "finished blocks"
    page.wait_for_timeout(6000)  # until its process has ended
    page.click("#jobs button:has-text('Remove')")
    page.click("#jobs button:has-text('for good')")
    page.locator(".job").wait_for(state="detached")
    assert list(server.folder.glob("trials/*")) == []


@pytest.mark.slow
def test_a_slide_goes_on_after_the_server_was_killed(page: Any, server: Server) -> None:
    begin(page, "large.tif")
    whole_slide(page)
    page.wait_for_selector(".layer.coming:has-text('Block ')", timeout=180_000)
    workers = children(server)
    server.stop(signal.SIGKILL)
    for worker in workers:  # as when the machine goes down; else it works on until the next server ends it
        worker.kill()
    page.wait_for_selector("#lost")
    assert page.locator(".pane").count() == 1, "what is open stays open"
    page.click("#slide-list .slide:has-text('slide.tif') .open")
    page.wait_for_selector("#notice-over.problem:has-text('does not answer')")
    assert page.inner_text(".pane-name") == "large.tif"
    server.start()
    page.goto(server.address)
    state(page, "interrupted", 60)
    page.click("#jobs button:has-text('Resume')")
    state(page, "done")
    keep(page, "stain_slide_resumed")
    assert_went_on(server)


def assert_went_on(server: Server) -> None:
    """Some blocks were found, and all are there."""
    said = json.loads((results(server, "large_color-transfer.ome.tif").parent / ".said.txt").read_text())
    assert said["tiles"] == BLOCKS
    assert 0 < said["tiles_found"] < BLOCKS
    assert not list(server.folder.glob("trials/*/*.chromogen")), "the store is gone"


@pytest.mark.slow
def test_dials_act_on_what_was_stained_last(page: Any, server: Server) -> None:
    begin(page, "small.png", "nuclear")
    page.click("#stain")
    page.wait_for_selector(".layer.shown")
    page.fill("#dial-share", "0.6")
    page.wait_for_selector(".layer-name:has-text('share 0.6')")
    settle(page)
    keep(page, "dials")
    assert page.locator(".layer").count() == 1, "the new one takes the place of the old one"
    assert "--share 0.6" in page.locator(".job pre").first.text_content()
    said = read_provenance(results(server, "result.png")) or {}
    assert said["stainer"] == "nuclear"


@pytest.mark.slow
def test_dials_act_behind_the_curtain_and_the_place_stays(page: Any, server: Server) -> None:
    begin(page, "small.png", "nuclear")
    page.keyboard.press("+")
    settle(page)
    page.click("#stain")
    page.wait_for_selector(".layer.shown")
    zoom = page.inner_text("#zoom")
    page.locator(".layer button:has-text('Curtain')").first.click()
    page.locator(PICTURE).nth(1).wait_for()
    settle(page)
    assert page.inner_text("#zoom") == zoom
    assert page.get_attribute("#panes", "data-mode") == "curtain"
    assert page.locator(".pane.is-virtual").count() == 1, "the H&E shows its own colours"
    page.fill("#dial-share", "0.5")
    page.wait_for_selector(".layer-name:has-text('share 0.5')")
    settle(page)
    assert page.locator(".pane").count() == 2
    assert page.locator(".pane-message").count() == 0
    keep(page, "dials_behind_the_curtain")


@pytest.mark.slow
def test_a_dropped_exemplar_becomes_a_stainer_that_is_kept(page: Any, server: Server, data: Path) -> None:
    begin(page, "small.png")
    dropped = (data / "pairs" / "mist" / "ER_ihc.png").read_bytes()
    page.evaluate(
        """(bytes) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], 'my exemplar.png', { type: 'image/png' }));
            document.dispatchEvent(new DragEvent('drop', { dataTransfer: files }));
        }""",
        list(dropped),
    )
    page.wait_for_selector("#notice-over:has-text('my exemplar.png is kept')")
    keep(page, "exemplar")
    assert page.locator("#stainer option:checked").text_content().startswith("my-exemplar: ")
    page.click("#stain")
    page.wait_for_selector(".layer.shown:has-text('my-exemplar')")
    settle(page)
    keep(page, "exemplar_stained")
    page.reload()
    page.locator("#stainer option:has-text('my-exemplar')").wait_for(state="attached")
    page.wait_for_selector(".layer.shown:has-text('my-exemplar')")


@pytest.mark.slow
def test_one_tab_sees_what_another_asks_for(page: Any, browser: Any, server: Server) -> None:  # noqa: F811
    other = browser.new_page()
    other.goto(server.address)
    other.wait_for_selector("#slide-list .slide")
    begin(page, "small.png")
    page.click("#stain")
    page.wait_for_selector(".layer.shown")
    other.wait_for_selector(".job[data-state=done]", state="attached", timeout=60_000)
    other.close()


@pytest.mark.slow
def test_where_is_seen_and_followed_and_said(page: Any, server: Server) -> None:
    begin(page, "small.png", "nuclear")
    page.click("#draw-rectangle")
    box = page.locator(".pane").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 100, y - 100)
    page.mouse.down()
    page.mouse.move(x, y + 100, steps=3)
    page.mouse.up()
    page.select_option("#where-source", "regions")
    assert not page.is_visible("#dial-share"), "regions give shares"
    page.locator("#levels label:has-text('Region 1') input").fill("0.8")
    page.wait_for_selector("#notice-over", state="detached")
    before = keep(page, "where_before").astype(int)
    with page.expect_response("**/api/where-maps"):
        page.check("#where-map")
    page.wait_for_selector("#where-message", state="hidden")
    settle(page)
    changed = np.abs(keep(page, "where").astype(int) - before).max(axis=2) > 40
    overview = page.locator(".navigator").bounding_box()  # it shows the map as well
    changed[round(overview["y"]) :, round(overview["x"]) :] = False
    rows, columns = np.nonzero(changed[:, round(box["x"]) : round(box["x"] + box["width"])])
    assert columns.max() + box["x"] < x + 20, "on the region alone"
    assert rows.min() > y - 120
    page.click("#stain")
    page.wait_for_selector(
        ".layer.shown:has-text('Follows regions that a person drew (Region 1 80 %, elsewhere 0 %)')"
    )
    assert not page.is_checked("#where-map"), "the map does not hide the stain"
    folder = results(server, "result.png").parent
    assert (read_provenance(folder / "result.png") or {})["where"]["levels"] == {"Region 1": 0.8, "elsewhere": 0}
    page.check("#fill")
    page.wait_for_selector(".layer-name:has-text('filled')")
    settle(page)
    assert page.locator(".layer").count() == 1
    assert "--fill" in page.locator(".job pre").first.text_content()
