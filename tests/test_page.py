import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from chromogen.evaluation.blind import BlindCrop, CropSource
from chromogen.image import Image
from chromogen.page import Section, render
from chromogen.provenance import NOTICE


class Checker(HTMLParser):
    """Collects addresses, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "input", "br", "!doctype"}:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return checker


def test_a_page_is_whole_and_alone(content: Image) -> None:
    sections = [
        Section("Pictures & more", pictures=[(content, 'H&E "one"'), (content, "c")]),
        Section("Numbers", ["x & y"], notes=["a < b"], header=["what", "n"], rows=[["a<b", "1"]]),
    ]
    html = render("sections.html", "A <title>", sections=sections)
    assert all(address.startswith("data:image/png;base64,") for address in checked(html).addresses)
    assert len(checked(html).addresses) == 2
    assert NOTICE.capitalize() in html
    for escaped in ("<td>a&lt;b</td>", "<title>A &lt;title&gt;</title>", "<li>a &lt; b</li>", "<p>x &amp; y</p>"):
        assert escaped in html
    assert "http" not in html


def test_pictures_are_in_the_page_pixel_for_pixel(content: Image) -> None:
    import io

    from PIL import Image as Pillow

    html = render("sections.html", "", sections=[Section("", pictures=[(content, "H&E")])])
    data = re.search(r'base64,([^"]+)"', html)
    assert data
    with Pillow.open(io.BytesIO(base64.b64decode(data[1]))) as image:
        assert np.array_equal(np.asarray(image), content)


def test_choices_are_asked_and_can_be_saved(content: Image, tmp_path: Path) -> None:
    crop = BlindCrop("a<b", CropSource("real", "a", "a", tmp_path), (0, 0), content)
    asked = {"columns": ("crop", "answer"), "sheet": "x.csv", "kinds": ("real", "virtual")}
    html = render("blind.html", "Test", crops=[crop], side_px=64, mpp=0.5, **asked)
    assert all(address.startswith("data:image/png;base64,") for address in checked(html).addresses)
    assert html.count('type="radio" name="a&lt;b"') == 2
    assert 'data-columns="crop,answer" data-file="x.csv"' in html
    assert r"join('\r\n')" in html
