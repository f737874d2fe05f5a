"""Pages of other sites, and names that are meant to be more, against the page in a real browser."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from chromogen.image import write_image
from test_web import Server, browser, pytestmark, server, settle

__all__ = ["browser", "pytestmark", "server"]  # fixtures, and the marks that skip
PINK = np.full((256, 256, 3), (225, 130, 175), np.uint8)


@pytest.fixture
def elsewhere() -> Iterator[Callable[[str], str]]:
    """A page of another site, with a script of its choice."""
    scripts: dict[str, str] = {}

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><title>evil</title><script>{scripts['now']}</script>".encode())

        def log_message(self, *_: object) -> None: ...

    site = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()

    def address(script: str) -> str:
        scripts["now"] = script
        return f"http://localhost:{site.server_address[1]}/"

    yield address
    site.shutdown()
    site.server_close()
    thread.join()


LOADED = """new Promise((done, fail) => {{
    const it = document.createElement('{tag}');
    it.onload = () => done('loaded');
    it.onerror = fail;
    it.src = '{source}';
    document.head.append(it);
}})"""
FRAMED = """new Promise((done, fail) => {{
    const it = document.createElement('iframe');
    it.onload = () => it.contentDocument?.title ? done('seen') : fail();
    it.src = '{source}';
    document.documentElement.append(it);
}})"""
FETCHED = "fetch('{source}', {options}).then(r => r.text()).then(t => t || Promise.reject('opaque'))"
ATTACKS = {
    "read": (FETCHED, "api/slides", "{}"),
    "read without asking": (FETCHED, "api/slides", "{mode: 'no-cors'}"),
    "read with cookies": (FETCHED, "api/slides", "{credentials: 'include'}"),
    "start a trial": (FETCHED, "api/trials", "{method: 'POST', mode: 'no-cors', body: '{}'}"),
    "embed a picture": (LOADED.replace("{tag}", "img"), "api/slides/{slide}/thumbnail.jpg", ""),
    "load as a script": (LOADED.replace("{tag}", "script"), "api/slides", ""),
    "frame the page": (FRAMED, "", ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_pages_of_other_sites_get_nothing(
    browser: Any, server: Server, elsewhere: Callable[[str], str], name: str
) -> None:
    slide = httpx.get(f"{server.address}api/slides").json()[0]["id"]
    code, path, options = ATTACKS[name]
    attack = code.format(source=server.address + path.replace("{slide}", slide), options=options)
    page = browser.new_page()
    page.goto(elsewhere(f"window.result = {attack}.then(x => 'GOT ' + x, () => 'refused')"))
    assert page.evaluate("window.result") == "refused"
    page.close()


@pytest.mark.slow
def test_a_name_of_a_slide_is_no_markup(browser: Any, tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        write_image(tmp_path / "slides" / "<img src=x onerror=window.hacked=1>.png", PINK)
        page = browser.new_page()
        page.goto(f"{server.address}#s=<script>window.hacked=1</script>&o=javascript:1&x=NaN")
        page.wait_for_selector("#slide-list .slide")
        page.click("#slide-list .slide:has-text('onerror') .open")
        settle(page)
        assert page.evaluate("window.hacked") is None
        page.close()
    finally:
        server.stop()
