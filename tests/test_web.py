"""The page in a real browser: Debian's Chromium, driven by playwright. Screenshots go to a folder of that name."""

import csv
import io
import json
import os
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
import PIL.Image
import psutil
import pytest

from chromogen.app.server import PAGE
from chromogen.evaluation.tile import Tile
from chromogen.image import Image, read_image, read_provenance, write_image
from chromogen.provenance import NOTICE
from chromogen.regions.geojson import read_features
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from test_densities import IHC

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 120_000  # on a machine that others use
PICTURE = ".pane .canvas > .openseadragon-container > .openseadragon-canvas > canvas"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums on more of them round otherwise
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(not PAGE.is_dir(), reason="the page is not built: npm ci && npm run build in web/"),
]


class Server:
    """`chromogen view` as a process of its own, on slides of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "slides").mkdir(exist_ok=True)
        write_image(folder / "slides" / "ihc.png", IHC)
        write_image(folder / "slides" / "mirror.png", IHC[:, ::-1].copy())
        write_image(folder / "slides" / "small.png", IHC[:128, 300:428].copy())
        (folder / "slides" / "broken.svs").write_bytes(b"no slide")
        self.start()

    def start(self) -> None:
        command = [
            "-m",
            "chromogen",
            "view",
            "slides",
            "--port",
            "0",
            "--no-browser",
            "--json",
            "--results",
            "trials",
        ]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            env=ONE_THREAD,
        )
        assert self.process.stdout is not None
        self.address: str = json.loads(self.process.stdout.readline())["address"]

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("view"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=as_root)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A fresh page, on which nothing went wrong and no other host was asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((server.address, "blob:")) else wrong.append(asked.url),
    )
    page.goto(server.address)
    page.wait_for_selector("#slide-list .slide")
    yield page
    context.close()
    assert [line for line in wrong if "422" not in line] == []


def keep(page: Any, name: str) -> Image:
    """A screenshot, to be looked at, and its pixels."""
    folder = ROOT / "screenshots"
    folder.mkdir(exist_ok=True)
    data = page.screenshot(path=folder / f"{name}.png")
    return np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))


def show(page: Any, *names: str) -> None:
    page.click(f"#slide-list .slide:has-text('{names[0]}') .open")
    page.wait_for_function(
        "name => [...document.querySelectorAll('.pane-name')].map((one) => one.innerText).join() === name",
        arg=names[0],
    )
    page.wait_for_selector(PICTURE)
    for name in names[1:]:
        page.click(f"#slide-list .slide:has-text('{name}') .beside")
    page.locator(PICTURE).nth(len(names) - 1).wait_for()
    settle(page)


def tab(page: Any, name: str) -> None:
    """Show a tab of the tools."""
    if page.locator(f"#tab-{name}").get_attribute("aria-selected") != "true":
        page.click(f"#tab-{name}")


def overlay(page: Any, kind: str) -> None:
    tab(page, "Layers")
    page.select_option("#overlay", kind)


def choose_stains(page: Any, stains: str, pane: int = 0) -> None:
    """Choose the stains of a slide, behind its badge."""
    info = page.locator(".pane-info").nth(pane)
    info.locator("summary").click()
    info.locator("select").select_option(stains)
    info.locator("summary").click()


def settle(page: Any) -> None:
    page.wait_for_load_state("networkidle", timeout=PATIENCE_MS)
    page.wait_for_timeout(700)


def colour_at(page: Any, x: float, y: float, pane: int = 0) -> Any:
    """What is seen at a fraction of a pane's picture."""
    box = page.locator(".pane .canvas").nth(pane).bounding_box()
    shot = np.asarray(PIL.Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    column, row = round(left + x * side), round(top + y * side)
    return shot[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3).mean(axis=0)


def average(image: Image, x: float, y: float) -> Any:
    row, column = round(y * image.shape[0]), round(x * image.shape[1])
    return image[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3).mean(axis=0)


def test_a_slide_is_seen_in_its_colours(page: Any) -> None:
    assert page.inner_text("#notice").rstrip(".").lower() == NOTICE
    show(page, "ihc.png")
    for x, y in ((0.3, 0.4), (0.7, 0.6), (0.5, 0.9)):
        assert np.abs(colour_at(page, x, y) - average(IHC, x, y)).max() < 40
    assert page.inner_text("#scale-text").endswith("px")
    keep(page, "one")


def test_it_begins_with_a_picture_and_one_button_stains(page: Any, server: Server) -> None:
    page.wait_for_selector(PICTURE)
    show(page, "small.png")
    page.click("#stain")
    page.wait_for_selector(".layer.shown:not(.coming)")
    settle(page)
    keep(page, "one_button")
    (stain,) = page.evaluate("fetch('/api/jobs').then((answer) => answer.json())")
    made = server.folder / "trials" / stain["id"] / "result.png"
    assert (read_provenance(made) or {})["stainer"] == "nuclear"
    assert read_image(made).shape == (128, 128, 3)
    assert page.locator(".pane.is-virtual .badge.virtual").count() == 1


@pytest.mark.slow
def test_keys_move_and_a_link_leads_back(page: Any, server: Server) -> None:
    show(page, "ihc.png")
    before = page.inner_text("#zoom")
    for key in ("+", "+", "ArrowRight", "ArrowDown", "r", "o", "]"):
        page.keyboard.press(key)
        page.wait_for_timeout(500)
    settle(page)
    assert page.inner_text("#zoom") != before
    link, zoom = page.url, page.inner_text("#zoom")
    assert "r=15" in link
    assert "t=0.21" in link
    keep(page, "rotated_with_overlay")
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(PICTURE)
    settle(page)
    assert page.inner_text("#zoom") == zoom
    tab(page, "Layers")
    assert page.input_value("#overlay") == "dab"
    page.keyboard.press("0")
    settle(page)
    page.set_viewport_size({"width": 1600, "height": 800})
    page.mouse.move(640, 400)
    page.mouse.move(642, 402)
    assert page.inner_text("#where").startswith("x ")


@pytest.mark.slow
def test_two_slides_move_together(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    keep(page, "side_by_side")
    page.locator(".pane .canvas").first.hover()
    page.mouse.wheel(0, -600)
    settle(page)
    for x in (0.35, 0.65):
        first, second = colour_at(page, x, 0.5, 0), colour_at(page, 1 - x, 0.5, 1)
        assert np.abs(first - second).max() < 60, "a mirror image, looked at in the same place"


@pytest.mark.slow
def test_the_curtain_and_the_blink(page: Any) -> None:
    show(page, "ihc.png", "mirror.png")
    page.keyboard.press("c")
    page.fill("#curtain", "50")
    settle(page)
    keep(page, "curtain")
    for x, image in ((0.2, IHC), (0.8, IHC[:, ::-1])):
        assert np.abs(colour_at(page, x, 0.35) - average(image, x, 0.35)).max() < 40
    page.fill("#curtain", "0")
    assert np.abs(colour_at(page, 0.2, 0.35) - average(IHC[:, ::-1], 0.2, 0.35)).max() < 40
    page.keyboard.press("b")
    page.select_option("#blink-every", "0")
    settle(page)
    first = colour_at(page, 0.2, 0.35)
    page.keyboard.press("b")
    page.wait_for_timeout(200)
    assert np.abs(first - colour_at(page, 0.2, 0.35)).max() > 20
    page.keyboard.press("b")
    page.wait_for_timeout(200)
    assert np.abs(first - colour_at(page, 0.2, 0.35)).max() < 5


@pytest.mark.slow
def test_what_is_painted_is_what_python_finds(page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 801})  # an even canvas: pixels fall on pixels
    show(page, "ihc.png")
    page.keyboard.press("1")
    settle(page)
    plain = keep(page, "overlay_off").astype(int)
    overlay(page, "dab")
    page.fill("#opacity", "1")
    dab, tissue = separate_stains_od10(IHC, H_DAB)[..., 1], Tile(IHC, mpp=0.5).tissue
    box = page.locator(".pane .canvas").bounding_box()
    left, top = round(box["x"] + box["width"] / 2 - 256), round(box["y"] + box["height"] / 2 - 256)
    for threshold in (0.2, 0.5):
        page.fill("#threshold", str(threshold))
        settle(page)
        seen = keep(page, f"overlay_{threshold}").astype(int)
        changed = np.abs(seen - plain).max(axis=2)[top + 45 : top + 500, left : left + 512] > 24
        wanted = ((dab > threshold) & tissue)[45:500]
        shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        agreement = max((np.roll(changed, shift, (0, 1)) == wanted).mean() for shift in shifts)
        assert agreement > 0.94, "all but the edges, which are drawn between pixels"
        assert changed.mean() == pytest.approx(wanted.mean(), abs=0.03)


@pytest.mark.slow
def test_numbers_of_regions_are_pythons(page: Any, tmp_path: Path) -> None:
    show(page, "ihc.png", "mirror.png")
    page.keyboard.press("0")
    settle(page)
    drawn = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [512, 0], [512, 512], [0, 512], [0, 0]]]},
                "properties": {"name": "=whole"},
            }
        ],
    }
    (tmp_path / "drawn.geojson").write_text(json.dumps(drawn))
    tab(page, "Measure")
    page.set_input_files("#import", tmp_path / "drawn.geojson")
    page.wait_for_selector("#numbers td")
    keep(page, "numbers")
    with page.expect_download() as download:
        page.click("#export-csv")
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    dab = separate_stains_od10(IHC, H_DAB)[..., 1][Tile(IHC, mpp=0.5).tissue]
    assert [row["region"] for row in rows] == ["'=whole"] * 2, "no formula for a spreadsheet"
    for row in rows:
        assert float(row["positive_percent"]) == pytest.approx(100 * (dab > 0.2).mean(), abs=0.01)
        assert float(row["miod_od10"]) == pytest.approx(dab[dab > 0.2].mean(), abs=1e-4)
    with page.expect_download() as download:
        page.click("#export-geojson")
    (feature,) = json.loads(Path(download.value.path()).read_text())["features"]
    assert feature["geometry"] == drawn["features"][0]["geometry"]  # type: ignore[index]
    assert any(name.startswith("mirror.png: pixel_h_score") for name in feature["properties"]["measurements"])


@pytest.mark.slow
def test_exported_regions_are_read_again_with_their_classes(page: Any, tmp_path: Path) -> None:
    show(page, "ihc.png")
    square = {"type": "Polygon", "coordinates": [[[0, 0], [99, 0], [99, 99], [0, 99]]]}
    classified = {"classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}}
    features = [
        {"type": "Feature", "geometry": None},
        {"type": "Feature", "geometry": square, "properties": classified},
    ]
    (tmp_path / "drawn.geojson").write_text(json.dumps(features), encoding="utf-8-sig")
    tab(page, "Measure")
    page.set_input_files("#import", tmp_path / "drawn.geojson")
    page.wait_for_selector("#numbers td")
    with page.expect_download() as download:
        page.click("#export-geojson")
    ((drawn,), left_out) = read_features(Path(download.value.path()).read_bytes())
    assert (drawn.path_class, drawn.color, left_out) == ("Tumor: Positive", (1, 2, 3), 0)


@pytest.mark.slow
def test_regions_are_drawn_where_the_mouse_is(page: Any) -> None:
    show(page, "ihc.png")
    page.keyboard.press("1")
    settle(page)
    box = page.locator(".pane .canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.keyboard.press("d")
    page.mouse.move(middle[0] - 100, middle[1] - 50)
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1] + 150, steps=4)
    page.mouse.up()
    page.keyboard.press("p")
    for dx, dy in ((-200, -200), (-100, -200), (-150, -100)):
        page.mouse.click(middle[0] + dx, middle[1] + dy)
    page.keyboard.press("Enter")
    tab(page, "Measure")
    page.locator("#numbers table").nth(1).wait_for()
    keep(page, "drawn")
    with page.expect_download() as download:
        page.click("#export-geojson")
    square, triangle = (
        f["geometry"]["coordinates"][0] for f in json.loads(Path(download.value.path()).read_text())["features"]
    )
    assert np.array(square[0]) == pytest.approx([156, 206], abs=1.5)
    assert np.array(square[2]) == pytest.approx([356, 406], abs=1.5)
    assert np.array(triangle[2]) == pytest.approx([106, 156], abs=1.5)


def wait_for_state(page: Any, state: str, timeout_s: float = 300, kind: str = "trial") -> None:
    """Until there is a job in a state; its card is shown then."""
    card = f".job[data-kind='{kind}'][data-state='{state}']"
    page.wait_for_selector(card, state="attached", timeout=1000 * timeout_s)
    if not page.is_visible("#jobs"):
        page.click("#jobs-open")


def try_stain(page: Any, steps: int) -> None:
    show(page, "small.png")
    tab(page, "Stain")
    page.check("input[value=exemplar]")
    page.click("#try summary")
    page.select_option("#preset", "fast")
    page.fill("#steps", str(steps))
    page.click("#try-start")


@pytest.mark.slow
def test_a_stain_is_tried_to_its_end(page: Any, server: Server, tmp_path: Path) -> None:
    try_stain(page, 6)
    wait_for_state(page, "done")
    settle(page)
    keep(page, "tried")
    card = page.locator(".job").first
    assert "steps in" in card.inner_text()
    assert card.locator("polyline").count() == 1
    told = "chromogen stylize region.png exemplar.png -o result.png --preset fast --steps 6"
    assert told in card.locator(".origin pre").first.text_content()
    page.click("#jobs .main")
    layer = page.locator(".layer.shown").first
    made = downloaded(page, layer, tmp_path / "result.png")
    assert (read_provenance(tmp_path / "result.png") or {})["notice"] == NOTICE
    layer.locator("label:has-text('DAB amount') input").fill("2")
    page.wait_for_selector(".origin pre:has-text('dab_amount=2')", state="attached")
    settle(page)
    told = card.locator(".origin pre")
    again = made_again(server, tmp_path, shell=told.nth(0).text_content(), python=told.nth(1).text_content())
    assert [int(np.abs(one.astype(int) - made).max()) for one in again] == [0, 0]
    more = downloaded(page, layer, tmp_path / "more.png")
    assert (read_image(tmp_path / "python" / "adjusted.png") == more).all()
    assert not (more == made).all()
    layer.locator("button:has-text('Beside')").click()
    page.locator(PICTURE).nth(1).wait_for()
    settle(page)
    keep(page, "tried_side_by_side")


def downloaded(page: Any, layer: Any, path: Path) -> Image:
    """What a layer's Download gives."""
    with page.expect_download() as download:
        layer.locator("text=Download").click()
    shutil.copy(download.value.path(), path)
    return read_image(path)


def made_again(server: Server, folder: Path, **told: str) -> list[Image]:
    """The pictures that a trial's command line and Python, as the page shows them, make of what went in."""
    results = server.folder.glob("trials/*/result.png")
    (trial,) = (made for made in results if (made.parent / "exemplar.png").is_file())
    for way, text in told.items():
        (folder / way).mkdir()
        for name in ("region.png", "exemplar.png"):
            shutil.copy(trial.parent / name, folder / way / name)
        program = ["-c", text] if way == "python" else ["-m", *shlex.split(text)]
        subprocess.run(
            [sys.executable, *program], cwd=folder / way, env=ONE_THREAD, check=True, capture_output=True
        )
    return [read_image(folder / way / "result.png") for way in told]


def children(server: Server) -> list[psutil.Process]:
    """The processes of its trials and slides."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in found if child.is_running() and "--trace" in child.cmdline()]


@pytest.mark.slow
def test_a_trial_is_cancelled(page: Any, server: Server) -> None:
    try_stain(page, 2000)
    wait_for_state(page, "running")
    page.locator(".job").first.locator("button:has-text('Cancel')").click()
    wait_for_state(page, "cancelled")
    until = time.monotonic() + 120
    while children(server) and time.monotonic() < until:
        time.sleep(0.1)
    assert children(server) == []
    keep(page, "cancelled")


@pytest.mark.slow
def test_a_trial_goes_on_after_the_server_was_killed(browser: Any, tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        page = browser.new_page()
        page.goto(server.address)
        try_stain(page, 40)
        wait_for_state(page, "running")
        server.stop(signal.SIGKILL)
        server.start()
        page.goto(server.address)
        wait_for_state(page, "interrupted", 30)
        page.locator(".job button:has-text('Resume')").click()
        wait_for_state(page, "done")
        page.close()
    finally:
        server.stop()


@pytest.mark.slow
def test_an_empty_folder_and_an_empty_pane_say_why(browser: Any, tmp_path: Path) -> None:
    folder, view = tmp_path / "slides", "-m chromogen view --port 0 --no-browser --json --results ../trials"
    folder.mkdir()
    command = [sys.executable, *view.split()]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=ONE_THREAD) as process:
        try:
            assert process.stdout is not None
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(json.loads(process.stdout.readline())["address"])
            page.wait_for_selector("text=There are no slides here")
            for name, image in (("ihc.png", IHC), ("strip.png", IHC[:96, :200].copy())):
                write_image(folder / name, image)
            page.click("#reload")
            page.wait_for_selector("#slide-list .slide")
            assert "Choose a slide" in page.inner_text("#empty")
            show(page, "ihc.png", "strip.png")
            page.locator(".pane-info summary").nth(1).click()
            assert "by a guess: pixel on pixel" in page.locator(".pane-info .pop").nth(1).inner_text()
            outside = page.locator(".pane-message:has-text('This slide ends')")
            assert outside.count() == 0
            page.click("#one-to-one")
            for _ in range(12):
                page.keyboard.press("ArrowRight")
            outside.wait_for()
            keep(page, "outside")
            page.click("#fit")
            outside.wait_for(state="detached")
            page.close()
        finally:
            process.terminate()


def test_what_does_not_open_is_explained(page: Any) -> None:
    show(page, "ihc.png")
    page.click("#slide-list .slide:has-text('broken.svs') .open")
    assert "broken.svs" in page.inner_text("#notice-over.problem")
    assert page.inner_text(".pane-name") == "ihc.png", "what is open stays open"
    page.click(".pane-bar button")
    page.click("#slide-list .slide:has-text('broken.svs') .open")
    page.wait_for_selector("text=This does not open")
    assert "broken.svs" in page.inner_text("#empty")
    keep(page, "broken")
    page.fill("#find", "nothing like it")
    assert page.inner_text("#slides-message") == "No slide of that name."
