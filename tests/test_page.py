import base64
import re
from html.parser import HTMLParser

import numpy as np

from chromogen import page
from chromogen.image import Image
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
    html = page.page(
        "A <title>",
        page.section(
            "Pictures", page.row(page.picture(content, 'H&E "one"'), page.curtain(content, content, "c"))
        ),
        page.section("Numbers", page.table(["what", "n"], [["a<b", "1"]]), page.paragraph("x & y")),
        page.command("chromogen stylize <he>"),
    )
    assert all(address.startswith("data:image/png;base64,") for address in checked(html).addresses)
    assert NOTICE.capitalize() in html
    assert "a&lt;b" in html
    assert "<title>A &lt;title&gt;</title>" in html
    assert "http" not in html


def test_pictures_are_in_the_page_pixel_for_pixel(content: Image) -> None:
    import io

    from PIL import Image as Pillow

    data = re.search(r'base64,([^"]+)"', page.picture(content, "H&E"))
    assert data
    with Pillow.open(io.BytesIO(base64.b64decode(data[1]))) as image:
        assert np.array_equal(np.asarray(image), content)


def test_plots_stand_in_the_page_as_they_are() -> None:
    assert "<svg></svg>" in page.plot("<svg></svg>", "losses")


def test_bullets_escape_what_they_list() -> None:
    assert page.bullets(["a < b"]) == "<ul><li>a &lt; b</li></ul>"


def test_choices_are_asked_and_can_be_saved(content: Image) -> None:
    html = page.page(
        "Test",
        page.grid(page.choice(content, "a<b", ("real", "virtual"))),
        page.save_choices(("crop", "answer"), "x.csv"),
    )
    assert all(address.startswith("data:image/png;base64,") for address in checked(html).addresses)
    assert html.count('type="radio" name="a&lt;b"') == 2
    assert 'data-columns="crop,answer" data-file="x.csv"' in html
    assert r"join('\r\n')" in html
