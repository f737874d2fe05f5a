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

import pytest

from chromogen.image import read_image, read_provenance
from chromogen.provenance import NOTICE
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.stainer_file import write_model
from test_densities import IHC
from test_kinds import model
from test_stains import write_slide
from test_web import PATIENCE_MS, Server, browser, children, keep, pytestmark, settle, show  # noqa: F401

BLOCKS = 36  # of a slide that takes long enough to be stopped


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    write_slide(tmp_path / "slides" / "slide.tif", times=3)
    write_slide(tmp_path / "slides" / "large.tif", times=12)
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
    page.wait_for_selector("#slide-list li")
    yield page
    page.close()
    assert [line for line in wrong if "422" not in line and "ERR_CONNECTION_REFUSED" not in line] == []


def begin(page: Any, slide: str, stainer: str = "color-transfer") -> None:
    show(page, slide)
    if page.locator("#apply").get_attribute("open") is None:
        page.click("#apply summary")
    page.select_option("#stainer", stainer)


def wait_for_state(page: Any, state: str, timeout_s: float = 300) -> None:
    page.wait_for_selector(f"#stains .trial[data-state='{state}']", timeout=1000 * timeout_s)


def results(server: Server, name: str) -> Path:
    (found,) = server.folder.glob(f"trials/*/{name}")
    return found


@pytest.mark.slow
def test_what_is_seen_is_stained_beside_it(page: Any, server: Server) -> None:
    begin(page, "small.png")
    page.click("#stain-view")
    wait_for_state(page, "done", 60)
    settle(page)
    keep(page, "stain_view")
    folder = results(server, "result.png").parent
    made = read_image(folder / "result.png")
    assert (read_image(folder / "region.png") == IHC[:128, 300:428]).all()
    assert (read_provenance(folder / "result.png") or {})["stainer"] == "color-transfer"
    card = page.locator("#stains .trial").first
    card.locator("button:has-text('Side by side')").click()
    page.locator(".pane .canvas canvas").nth(1).wait_for()
    shell, python = (card.locator("pre").nth(i).text_content() for i in (0, 1))
    assert "chromogen stain small.png --stainer color-transfer --slide-mpp 0.5 --region 0,0,128,128 " in shell
    for program in (["-m", *shlex.split(shell)], ["-c", python]):
        subprocess.run([sys.executable, *program], cwd=server.folder / "slides", check=True, capture_output=True)
        (again,) = (server.folder / "slides").glob("small_*.ome.tif")
        with open_slide(again) as slide:
            assert (slide.read_region((0, 0), slide.size) == made).all()
        again.unlink()


@pytest.mark.slow
def test_a_slide_is_stained_to_its_end(page: Any, server: Server, tmp_path: Path) -> None:
    begin(page, "small.png")
    page.click("#stain-slide")
    page.wait_for_selector("#stain-message:has-text('pixel size')")
    assert page.is_visible("#stain-mpp")
    begin(page, "slide.tif")
    assert not page.is_visible("#stain-mpp")
    page.click("#stain-slide")
    wait_for_state(page, "done")
    card = page.locator("#stains .trial").first
    assert "Done: 4 blocks" in card.inner_text()
    card.locator("button:has-text('Side by side')").click()
    page.locator(".pane .canvas canvas").nth(1).wait_for()
    settle(page)
    card.locator("summary").click()
    keep(page, "stain_slide_side_by_side")
    assert (
        "chromogen stain slide.tif --stainer color-transfer -o slide_color-transfer.ome.tif" in card.inner_text()
    )
    assert page.evaluate(
        "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('#tools'))"
    )
    with page.expect_download() as download:
        card.locator("text=Download").click()
    shutil.copy(download.value.path(), tmp_path / "kept.ome.tif")
    facts = read_facts(tmp_path / "kept.ome.tif")
    assert facts is not None
    assert (facts.stainer, facts.notice) == ("color-transfer", NOTICE)


@pytest.mark.slow
def test_a_slide_is_cancelled_and_goes_on(page: Any, server: Server) -> None:
    begin(page, "large.tif")
    page.click("#stain-slide")
    page.wait_for_selector("#stains .trial-state:has-text('Block ')", timeout=180_000)
    keep(page, "stain_slide_running")
    page.click("#stains button:has-text('Cancel')")
    wait_for_state(page, "cancelled")
    until = time.monotonic() + 120
    while children(server) and time.monotonic() < until:
        time.sleep(0.1)
    assert children(server) == []
    keep(page, "stain_slide_cancelled")
    page.click("#stains button:has-text('Resume')")
    wait_for_state(page, "done")
    assert_went_on(server)


@pytest.mark.slow
def test_what_was_cancelled_is_removed(page: Any, server: Server) -> None:
    begin(page, "large.tif")
    page.click("#stain-slide")
    page.wait_for_selector("#stains .trial-state:has-text('Block ')", timeout=180_000)
    page.click("#stains button:has-text('Cancel')")
    wait_for_state(page, "cancelled", 60)
    assert list(server.folder.glob("trials/*/*.chromogen")), "finished blocks"
    page.wait_for_timeout(6000)  # until its process has ended
    page.click("#stains button:has-text('Remove')")
    page.click("#stains button:has-text('for good')")
    page.locator("#stains .trial").wait_for(state="detached")
    assert list(server.folder.glob("trials/*")) == []


@pytest.mark.slow
def test_a_blend_of_markers_of_a_model_in_the_folder(page: Any, server: Server) -> None:
    write_model(server.folder / "slides" / "markers.safetensors", model("stain, markers"))
    page.reload()
    page.wait_for_selector("#slide-list li")
    show(page, "small.png")
    page.click("#apply summary")
    value = page.locator("#stainer option:has-text('markers.safetensors')").get_attribute("value")
    page.select_option("#stainer", value)
    page.locator("#marker-shares label:has-text('Ki67') input").fill("100")
    keep(page, "stain_blend")
    page.click("#stain-view")
    wait_for_state(page, "done", 60)
    said = read_provenance(results(server, "result.png")) or {}
    assert said["stainer"] == "test (ER 0.5, Ki67 0.5)"
    page.locator("#marker-shares label:has-text('Ki67') input").fill("0")
    page.locator("#marker-shares label:text-matches('^ER ') input").fill("0")
    page.click("#stain-view")
    page.wait_for_selector("#stain-message:has-text('at least one marker')")


@pytest.mark.slow
def test_a_slide_goes_on_after_the_server_was_killed(page: Any, server: Server) -> None:
    begin(page, "large.tif")
    page.click("#stain-slide")
    page.wait_for_selector("#stains .trial-state:has-text('Block ')", timeout=180_000)
    workers = children(server)
    server.stop(signal.SIGKILL)
    for worker in workers:  # as when the machine goes down; else it works on until the next server ends it
        worker.kill()
    server.start()
    page.goto(server.address)
    wait_for_state(page, "interrupted", 60)
    page.click("#stains button:has-text('Resume')")
    wait_for_state(page, "done")
    keep(page, "stain_slide_resumed")
    assert_went_on(server)


def assert_went_on(server: Server) -> None:
    """Some blocks were found, and all are there."""
    said = json.loads((results(server, "large_color-transfer.ome.tif").parent / ".said.txt").read_text())
    assert said["tiles"] == BLOCKS
    assert 0 < said["tiles_found"] < BLOCKS
    assert not list(server.folder.glob("trials/*/*.chromogen")), "the store is gone"
