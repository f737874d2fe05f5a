"""Every way in that is not the user's own page is shut."""

from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from chromogen.app.server import create_app
from chromogen.app.view import guard as module
from chromogen.app.view.guard import Guard, cookie_name
from test_slide_catalog import picture

HERE = "http://127.0.0.1:8765"
OURS = cookie_name("box:8765")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    picture(tmp_path / "slides" / "a.png")
    return TestClient(create_app([tmp_path / "slides"], tmp_path / "results", page=tmp_path), base_url=HERE)


def get(client: TestClient, path: str = "/api/slides", **headers: str) -> httpx.Response:
    return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_users_own_requests_are_answered(client: TestClient) -> None:
    assert get(client).status_code == 200
    for host in ("localhost:8765", "127.0.0.1", "[::1]:8765"):
        assert get(client, host=host).status_code == 200
    assert get(client, origin=HERE, sec_fetch_site="same-origin").status_code == 200
    assert get(client, sec_fetch_site="none").status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "", "127.0.0.2",
     "user@127.0.0.1", "0.0.0.0:8765", "[::1", "127.0.0.1:8765@evil.example"],
)  # fmt: skip
def test_a_name_that_was_let_point_here_is_refused(client: TestClient, host: str) -> None:
    answer = get(client, host=host)
    assert answer.status_code == 421
    assert "a.png" not in answer.text


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8765.evil.example", "file://", "x"],
)
def test_another_origin_is_refused(client: TestClient, origin: str) -> None:
    assert get(client, origin=origin).status_code == 403
    assert client.post("/api/trials", json={}, headers={"origin": origin}).status_code == 403
    assert client.delete("/api/jobs/20260101-000000-abcdef", headers={"origin": origin}).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_cannot_embed_tiles(client: TestClient, site: str) -> None:
    slide = get(client).json()[0]["id"]
    path = f"/api/slides/{slide}/tiles/0/0/0.jpg"
    assert get(client, path).status_code == 200
    assert get(client, path, sec_fetch_site=site, sec_fetch_dest="image").status_code == 403
    assert (
        get(client, path, sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document").status_code
        == 403
    )


def test_a_link_to_the_page_may_be_followed(client: TestClient) -> None:
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert get(client, "/", **visit).status_code != 403
    assert get(client, "/", **{**visit, "sec_fetch_dest": "iframe"}).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_not_taken(client: TestClient, kind: str) -> None:
    answer = client.post("/api/trials", content=b"{}", headers={"content-type": kind})
    assert answer.status_code == 415


def test_without_a_body_none_must_be_of_a_type(client: TestClient) -> None:
    resume = "/api/jobs/20260101-000000-abcdef/resume"
    assert client.post(resume).status_code == 404
    assert client.post(resume, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post(resume, headers={"content-type": "application/x-www-form-urlencoded"}).status_code == 415
    assert client.post(resume, content=iter([b"x"])).status_code == 415, "a body without a length"


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PUT", "X"])
@pytest.mark.parametrize("page", [True, False])
def test_methods_that_are_none_are_told_which_are(tmp_path: Path, method: str, page: bool) -> None:
    if page:
        (tmp_path / "index.html").write_text("the page")
    client = TestClient(create_app([tmp_path], tmp_path / "results", page=tmp_path), base_url=HERE)
    for path, allowed in (("/api/trials", {"POST"}), ("/api/jobs/x", {"GET", "DELETE"})):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == allowed


def test_bodies_are_bounded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_JSON_BYTES", 100)
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 1000)
    assert client.post("/api/numbers", json={"on": "0" * 200}).status_code == 413
    octets = {"content-type": "application/octet-stream"}
    assert client.post("/api/exemplars", content=b"x" * 2000, headers=octets).status_code == 413
    wrong = {**octets, "content-length": "-5"}
    assert client.post("/api/exemplars", content=b"x" * 10, headers=wrong).status_code == 413


def test_a_body_without_a_length_ends_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 1000)
    taken = 0

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        while True:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
            taken += len(message["body"])
        await PlainTextResponse("done")({"type": "http", "method": "POST", "headers": []}, receive, send)

    def endless() -> Any:
        for _ in range(100):
            yield b"x" * 100

    client = TestClient(Guard(app, ["127.0.0.1"]), base_url=HERE)
    client.post("/", content=endless(), headers={"content-type": "application/octet-stream"})
    assert taken <= 1000


def test_every_answer_has_safe_headers(client: TestClient) -> None:
    for answer in (get(client), get(client, "/"), get(client, "/nothing"), get(client, host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy, "no other host is ever contacted"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


@pytest.fixture
def guarded(tmp_path: Path) -> TestClient:
    picture(tmp_path / "slides" / "a.png")
    app = create_app([tmp_path / "slides"], tmp_path / "results", hosts=["box"], token="right", page=tmp_path)  # noqa: S106
    return TestClient(app, base_url="http://box:8765")


def test_without_the_token_nothing_is_told(guarded: TestClient) -> None:
    for path in ("/api/slides", "/api/app", "/api/openapi.json", "/api/jobs"):
        assert get(guarded, path).status_code == 401
    for cookie in (f"{OURS}=wrong", f"{OURS}=", "x=right", f"{OURS}=right2", f"{OURS}=r", OURS, "=;;"):
        assert get(guarded, cookie=cookie).status_code == 401
    assert get(guarded, "/api/slides?token=right").status_code == 401, "a token in an address would be logged"
    assert guarded.post("/api/login", json={"token": "wrong"}).status_code == 401
    assert get(guarded, host="127.0.0.1").status_code == 421


def test_the_token_opens_and_no_script_can_read_it(guarded: TestClient) -> None:
    answer = guarded.post("/api/login", json={"token": "right"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert get(guarded).status_code == 200


# What other programs on the host set, on whatever port: each alone made a strict parser drop all cookies.
FOREIGN = {
    "a JSON value": '_ga={"a": [1, 2], "b": "c, d"}',
    "an odd name": "a[b]/{c}@d=1; (x)=y",
    "a name that is none": "=; =nameless; justtext; ; ;;",
    "quotes": 'q="a b"; open="; single=\'x',
    "no ASCII": "sprache=Größe 漢字; ключ=1",
    "equals signs": "base64=YWJj==; a==b",
    "reserved words": "path=/; expires=Thu, 01 Jan 1970; HttpOnly; $Version=1; domain=box",
    "blanks": "   x  =   y   ;\t",
    "our name, wrong, before": "chromogen_token_8765=wrong",
    "our name with another port": "chromogen_token_9999=wrong; chromogen_token=wrong",
    "our name in a value": 'x=chromogen_token_8765=wrong; y="chromogen_token_8765=wrong"',
    "very many": "; ".join(f"c{number}={'x' * 40}" for number in range(3000)),
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_cookies_of_other_programs_lock_nobody_out_and_let_nobody_in(guarded: TestClient, foreign: str) -> None:
    for cookie in (f"{foreign}; {OURS}=right", f"{OURS}=right; {foreign}", f'{OURS}="right";{foreign}'):
        assert guarded.get("/api/slides", headers=[(b"cookie", cookie.encode())]).status_code == 200
    for cookie in (foreign, f"{foreign}; x=right; {OURS}=wrong", f"{foreign}; {OURS.upper()}=right"):
        assert guarded.get("/api/slides", headers=[(b"cookie", cookie.encode())]).status_code == 401


def test_cookies_may_come_in_several_headers(guarded: TestClient) -> None:
    headers = [(b"cookie", f"{OURS}=right".encode()), (b"cookie", b"x=y")]
    assert guarded.get("/api/slides", headers=headers).status_code == 200


def test_two_servers_on_one_host_keep_their_cookies_apart(guarded: TestClient) -> None:
    """As through two tunnels: browsers send both cookies to both."""
    cookies = {}
    for port in (8765, 9000):
        answer = guarded.post("/api/login", json={"token": "right"}, headers={"host": f"box:{port}"})
        cookies[answer.headers["set-cookie"].partition("=")[0]] = port
    assert sorted(cookies) == [cookie_name("box:8765"), cookie_name("box:9000")]
    both = f"{OURS}=right; {cookie_name('box:9000')}=of the other"
    assert get(guarded, cookie=both).status_code == 200
    assert get(guarded, cookie=both, host="box:9000").status_code == 401


def test_other_protocols_are_refused(client: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/slides"):
        pytest.fail("a socket was opened")


def test_behind_a_proxy_its_address_is_the_servers_own(tmp_path: Path) -> None:
    app = create_app([tmp_path], tmp_path / "results", hosts=["127.0.0.1"], behind="https://slides.example")
    for base_url in ("https://slides.example", "http://127.0.0.1"):  # whether the proxy passes its name on or not
        client = TestClient(app, base_url=base_url)
        own = {"origin": "https://slides.example"}
        assert client.post("/api/trials", json={}, headers=own).status_code == 422, (
            "refused for what it says alone"
        )
        for origin in ("https://evil.example", "http://slides.example.evil", "https://slides.example:8443"):
            assert client.post("/api/trials", json={}, headers={"origin": origin}).status_code == 403
    assert TestClient(app, base_url="https://other.example").get("/api/slides").status_code == 421
