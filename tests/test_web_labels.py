"""In a real browser: a virtual stain is labelled wherever it is seen, and in all that leaves the page."""

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from chromogen.app.view.pictures import PAPER
from chromogen.image import Image, read_image, read_provenance, write_image
from chromogen.provenance import NOTICE
from chromogen.staining.stainer import Stainer
from chromogen.stains.deconvolution import H_DAB, combine_stains
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from synthetic_slides import write_pyramid
from test_densities import IHC
from test_web import PICTURE, Server, browser, choose_stains, keep, overlay, page, pytestmark, settle, show, tab

__all__ = ["browser", "page", "pytestmark"]  # fixtures, and the marks that skip
LABEL = "VIRTUAL STAIN - not for diagnosis"
BAND = np.array([150, 20, 20])
DOUBT = "it shows neither eosin nor DAB"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On an H&E, a stain of it at another pixel size under another name, and a stylized picture."""
    server = Server(tmp_path_factory.mktemp("view"))
    slides = server.folder / "slides"
    he = write_pyramid(slides / "he.tif", IHC, mpp=(0.253, 0.253))
    with pytest.warns(UserWarning, match="looks like an IHC"):
        stain_slide(
            SlideJob(SlideFile(he), Stainer.from_pretrained("color-transfer")), Output(slides / "v.ome.tif")
        )
    (slides / "v.ome.tif").rename(slides / "patient.tif")
    write_image(slides / "made.png", IHC, {"notice": NOTICE})
    blue = np.random.default_rng(0).uniform(0, 1.5, (512, 512, 3)) * (1, 0, 0)
    write_image(slides / "blue.png", combine_stains(blue, H_DAB))
    yield server
    server.stop()


def canvas(page: Any, pane: int = 0) -> Image:
    """What a browser saves of a pane's picture."""
    data = page.locator(PICTURE).nth(pane).evaluate("canvas => canvas.toDataURL()")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB"))


def is_labelled(picture: Image) -> bool:
    """A band along the upper edge in a colour of its own, with words on it in every part of 300 px."""
    band = picture[2:20].astype(int)
    ground = np.abs(band - BAND).max(axis=2) < 12
    words = (band > 200).all(axis=2).any(axis=0)
    parts = [words[left : left + 300].any() for left in range(0, max(picture.shape[1] - 300, 1), 300)]
    return bool(ground.mean() > 0.5 and all(parts))


def badge(page: Any, pane: int = 0) -> str:
    signs = page.locator(".pane").nth(pane).locator(".pane-bar .badge.virtual")
    return str(signs.first.inner_text()) if signs.count() else ""


@pytest.mark.slow
def test_a_virtual_slide_is_labelled_in_every_layout(page: Any) -> None:
    show(page, "he.tif", "patient.tif")
    assert (badge(page, 0), badge(page, 1)) == ("", "VIRTUAL")
    assert (is_labelled(canvas(page, 0)), is_labelled(canvas(page, 1))) == (False, True)
    for key in ("c", "b", "s", "+", "r"):
        page.keyboard.press(key)
        settle(page)
        assert is_labelled(canvas(page, 1)), key
        keep(page, f"label_{key}")
    assert page.title().startswith("VIRTUAL STAIN")
    page.wait_for_function("() => location.hash.includes('virtual-stain-not-for-diagnosis')")
    page.reload()
    page.locator(PICTURE).nth(1).wait_for()
    settle(page)
    assert is_labelled(canvas(page, 1)), "by the link"


@pytest.mark.slow
@pytest.mark.parametrize("others", [["patient.tif"], ["patient.tif", "ihc.png"]])
def test_the_label_is_read_to_its_end_in_a_narrow_pane(page: Any, others: list[str]) -> None:
    show(page, "he.tif", *others)
    tab(page, "Stain")
    page.select_option("#stainer", "color-transfer")
    page.click("#stain")
    page.wait_for_selector(".pane.is-virtual .badge.virtual")
    settle(page)
    keep(page, f"label_of_{len(others) + 1}")
    seen = canvas(page)
    assert is_labelled(seen)
    assert (seen[4:18, -6:].max(axis=2) < 200).all(), "no letter is cut by the edge"
    pane, close = (page.locator(part).first.bounding_box() for part in (".pane", ".pane-bar button"))
    assert close["x"] + close["width"] <= pane["x"] + pane["width"], "what closes it lies in its pane"


@pytest.mark.slow
@pytest.mark.parametrize("percent", [4, 50, 96])
def test_the_label_is_seen_beside_any_curtain(page: Any, percent: int) -> None:
    show(page, "patient.tif", "he.tif")
    page.keyboard.press("c")
    page.fill("#curtain", str(percent))
    settle(page)
    box = page.locator(".pane .canvas").first.bounding_box()
    shot = keep(page, f"label_curtain_{percent}").astype(int)
    left, top, width = round(box["x"]), round(box["y"]), round(box["width"] * percent / 100)
    seen = shot[top + 2 : top + 20, left : left + max(width - 2, 1)]
    assert (np.abs(seen - BAND).max(axis=2) < 12).mean() > 0.4
    beside = shot[top + 2 : top + 20, left + width + 4 : left + width + 40]
    assert (np.abs(beside - BAND).max(axis=2) < 12).mean() < 0.1, "the H&E behind it is no virtual stain"


@pytest.mark.slow
def test_a_difference_from_a_virtual_stain_is_labelled(page: Any) -> None:
    show(page, "he.tif", "patient.tif")
    overlay(page, "kept")
    settle(page)
    assert badge(page) == "from VIRTUAL"
    assert is_labelled(canvas(page))
    page.select_option("#overlay", "hematoxylin")
    settle(page)
    assert badge(page) == ""
    assert not is_labelled(canvas(page)), "an overlay of the slide alone"
    page.locator(".pane .pane-bar button").nth(1).click()
    overlay(page, "kept")
    assert badge(page) == ""


@pytest.mark.slow
def test_lists_and_thumbnails_are_labelled(page: Any, server: Server) -> None:
    tab(page, "Stain")
    page.check("input[value=exemplar]")
    for name, labelled in (("patient.tif", True), ("made.png", True), ("he.tif", False), ("ihc.png", False)):
        row = page.locator(f"#slide-list .slide:has-text('{name}')")
        row.locator(".badge").wait_for()
        assert row.locator(".badge.virtual").count() == labelled
        address = row.locator("img").get_attribute("src")
        data = page.request.get(f"{server.address}{address.lstrip('/')}").body()
        lowest = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))[-4:].astype(int)
        assert (np.abs(lowest - PAPER).max(axis=2) < 40).any() == labelled
        offered = page.locator(f"#exemplar option:has-text('{name}')")
        words = offered.text_content() if offered.count() else ""  # an H&E is no exemplar
        assert ("virtual stain" in words) == labelled


@pytest.mark.slow
def test_a_stained_view_laid_over_its_slide_is_labelled(page: Any, tmp_path: Path) -> None:
    show(page, "he.tif")
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    assert not is_labelled(canvas(page))
    tab(page, "Stain")
    page.select_option("#stainer", "color-transfer")
    page.click("#stain")
    page.wait_for_selector(".pane.is-virtual")
    settle(page)
    keep(page, "label_layer")
    assert badge(page) == "VIRTUAL"
    assert is_labelled(canvas(page))
    assert has_hatched_border(canvas(page))
    assert page.inner_text(".layer .badge") == "VIRTUAL"
    page.wait_for_function("() => location.hash.includes('virtual-stain-not-for-diagnosis')")
    tab(page, "Measure")
    page.wait_for_selector("#numbers .note:has-text('not of the virtual stain')")
    page.wait_for_selector("#numbers th .badge.virtual")
    assert rows(page)[1]["virtual_stain"] == "color-transfer", "the layer is measured beside its slide"
    for _ in range(2):
        page.keyboard.press("+")
    settle(page)
    assert is_labelled(canvas(page)), "also where its border is out of sight"
    with page.expect_download() as download:
        page.click("#snapshot")
    assert download.value.suggested_filename.startswith("virtual-stain-")
    download.value.save_as(tmp_path / "seen.png")
    assert is_labelled(read_image(tmp_path / "seen.png"))
    tab(page, "Layers")
    with page.expect_download() as download:
        page.click("text=With label")
    assert "virtual" in download.value.suggested_filename
    download.value.save_as(tmp_path / "kept.png")
    kept = read_image(tmp_path / "kept.png")
    assert (np.abs(kept[-3:].astype(int) - PAPER).max(axis=2) < 5).mean() > 0.9
    assert (read_provenance(tmp_path / "kept.png") or {})["notice"] == NOTICE
    page.click(".layer .eye")
    page.wait_for_selector(".pane.is-virtual", state="detached")
    settle(page)
    assert badge(page) == ""
    assert not is_labelled(canvas(page))
    page.click(".layer .eye")
    page.wait_for_selector(".pane.is-virtual")
    show(page, "ihc.png")
    show(page, "he.tif")
    page.wait_for_selector(".pane.is-virtual")
    settle(page)
    assert is_labelled(canvas(page)), "a layer stays shown with its slide"


def has_hatched_border(picture: Image) -> bool:
    """Red and white by turns along the left edge of the picture, below the band."""
    strip = picture[40:-40].astype(int)
    red = np.abs(strip - BAND).max(axis=2) < 30
    column = int(red.sum(axis=0).argmax())
    turns = np.abs(np.diff(red[:, column].astype(int))).sum()
    return bool(turns > 20)


def exported(page: Any, kind: str) -> tuple[str, str]:
    """The name and text of what a button gives."""
    page.locator(f"#export-{kind}:enabled").wait_for()
    with page.expect_download() as download:
        page.click(f"#export-{kind}")
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def rows(page: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(exported(page, "csv")[1].splitlines()))


@pytest.mark.slow
def test_numbers_say_what_they_are_of(page: Any) -> None:
    show(page, "he.tif", "patient.tif", "blue.png")
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    keep(page, "label_numbers")
    assert page.locator("#numbers th .badge.virtual").count() == 1
    notes = page.locator("#numbers .note").all_inner_texts()
    assert f"patient.tif: {LABEL}. Its numbers measure what the stainer painted." in notes
    assert f"blue.png: not sure of its stains: {DOUBT}. Choose them behind its badge." in notes
    assert any(note.startswith("blue.png: lies on the first slide by a guess") for note in notes)
    assert exported(page, "csv")[0] == "regions-virtual-stain.csv"
    he, virtual, ihc = rows(page)
    assert [row["virtual_stain"] for row in (he, virtual, ihc)] == ["", "color-transfer", ""]
    assert [row["notice"] for row in (he, virtual, ihc)] == ["", LABEL, ""]
    assert virtual["placed"] == "where its file says that it was made"
    assert "guess" in ihc["placed"]
    assert ["assumed" in row["pixel_size"] for row in (he, virtual, ihc)] == [False, False, True]
    assert (ihc["stains"], ihc["stains_by"], ihc["stains_doubt"]) == ("h-dab", "recognised, not sure", DOUBT)
    name, text = exported(page, "geojson")
    assert name == "regions-virtual-stain.geojson"
    found = json.loads(text)
    (feature,) = found["features"]
    assert any(key.startswith("patient.tif (VIRTUAL STAIN): ") for key in feature["properties"]["measurements"])
    assert not any(key.startswith("patient.tif: ") for key in feature["properties"]["measurements"])
    assert feature["properties"]["metadata"]["patient.tif (VIRTUAL STAIN): notice"] == LABEL
    assert feature["properties"]["metadata"]["blue.png: stains_doubt"] == DOUBT
    assert [slide["virtual_stain"] for slide in found["chromogen"]["slides"]] == ["", "color-transfer", ""]


@pytest.mark.slow
def test_another_choice_of_stains_is_measured_anew(page: Any) -> None:
    show(page, "blue.png")
    assert page.inner_text(".pane-bar .doubt") == "not sure"
    tab(page, "Layers")
    assert DOUBT in page.inner_text("#stains-doubt")
    keep(page, "stains_doubt")
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    before = rows(page)[0]
    held: list[Any] = []
    page.route("**/api/numbers", lambda route: held.append(route))
    with page.expect_request("**/api/numbers"):
        choose_stains(page, "h-e")
    assert page.locator("#numbers td").count() == 0, "no number under another choice"
    assert page.is_disabled("#export-csv")
    assert page.is_disabled("#export-geojson")
    for route in held:
        route.continue_()
    page.unroute("**/api/numbers")
    page.wait_for_selector("#numbers td")
    after = rows(page)[0]
    assert (after["stains"], after["stains_by"]) == ("h-e", "chosen by the user")
    assert (before["stains"], before["stains_by"]) == ("h-dab", "recognised, not sure")
    assert before["mean_od10"] != after["mean_od10"]
    assert (after["positive_percent"], page.locator(".pane-bar .doubt").count()) == ("", 0)
    page.keyboard.press("]")
    assert page.locator("#numbers td").count() == 0, "no number under another threshold"
    page.wait_for_selector("#numbers th:has-text('% above 0.21')")
    assert rows(page)[0]["threshold_od10"] == "0.21"


@pytest.mark.slow
def test_one_region_that_cannot_be_measured_takes_no_others_away(page: Any, tmp_path: Path) -> None:
    show(page, "ihc.png")
    square = [[[0, 0], [50, 0], [50, 50], [0, 0]]]
    places = {"good": square, "far": [[[x + 9000, y] for x, y in square[0]]]}
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": at}, "properties": {"name": name}}
        for name, at in places.items()
    ]
    (tmp_path / "two.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    tab(page, "Measure")
    page.set_input_files("#import", tmp_path / "two.geojson")
    page.locator("#numbers table").nth(1).wait_for()
    keep(page, "one_bad_region")
    good, far = page.locator("#numbers .measured").all_inner_texts()
    first, second = rows(page)
    assert float(first["positive_percent"]) > 0
    assert f"{float(first['positive_percent']):.1f}" in good
    why = second["why"]
    assert "draw it on the slide" in why
    assert why.rstrip(".") in far
    assert (second["positive_percent"], first["region"], second["region"]) == ("", "good", "far")
    metadata = [f["properties"]["metadata"] for f in json.loads(exported(page, "geojson")[1])["features"]]
    assert [one.get("ihc.png: why", "") for one in metadata] == [first["why"], why]


@pytest.mark.slow
def test_one_slide_that_cannot_be_measured_takes_no_others_away(page: Any, server: Server) -> None:
    write_image(server.folder / "slides" / "goes.png", IHC)
    page.reload()
    page.wait_for_selector("#slide-list .slide:has-text('goes.png')")
    show(page, "ihc.png", "goes.png")
    (server.folder / "slides" / "goes.png").unlink()
    tab(page, "Measure")
    page.keyboard.press("v")
    page.wait_for_selector("#numbers td")
    ihc, gone = rows(page)
    assert float(ihc["positive_percent"]) > 0
    assert "no such slide" in gone["why"]
