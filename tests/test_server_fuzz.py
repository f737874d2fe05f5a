"""Every route of the server's OpenAPI with values that do not belong there: answered, never by a crash."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from chromogen.app.server import create_app
from chromogen.app.view.guard import cookie_name
from test_slide_catalog import picture

HERE = "http://127.0.0.1"
EACH = 6
METHODS = ("get", "post", "delete", "put", "patch")
# Nothing that would start a job: no region of a size that is taken, and no stainer's name.
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**9, 10**400, 0.5, 1e308, "", "x", "../../etc/passwd", "..%2f..", "\0", "é" * 2000),
    *(
        [],
        [[]],
        {},
        [0, 0],
        [10**9, 10**9],
        [-5, 7],
        {"type": "Polygon", "coordinates": [[[0, 0], [1e308, 0], [5, 5]]]},
    ),
    *([{"name": "r", "geometry": {"type": "Polygon", "coordinates": [[[1, 1]] * 4]}}], "h-dab", 32, 33),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    picture(tmp_path / "slides" / "a.png")
    return tmp_path


def serving(folder: Path, token: str | None = None) -> TestClient:
    app = create_app([folder / "slides"], folder / "results", token=token, page=folder)
    return TestClient(app, base_url=HERE, raise_server_exceptions=False)


def requests_of(schema: dict[str, Any], slide: str, rng: random.Random) -> Iterator[tuple[str, str, bytes | None]]:
    """Method, address and body, so many for each route; ids are often those of the slide that is there."""

    def value() -> Any:
        return slide if rng.random() < 0.4 else rng.choice(ODD)

    for path, methods in schema["paths"].items():
        for method in METHODS:
            for _ in range(EACH if method in methods else 1):
                place = re.sub(r"\{\w+\}", lambda _: _quoted(value()), path)
                query = "&".join(f"{name}={_quoted(value())}" for name in ("stains", "strength", "dab_amount"))
                names = _fields(schema, methods.get(method, {}))
                body = {name: value() for name in names if rng.random() < 0.9}
                text = json.dumps(rng.choice((body, body, body, value()))).encode() if method != "get" else None
                yield method, f"{place}?{query}" if rng.random() < 0.5 else place, text


def _quoted(value: Any) -> str:
    return re.sub(r"[^\w.%-]", lambda found: f"%{ord(found[0]) % 256:02x}", str(value)[:300]) or "x"


def _fields(schema: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {})
    name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
    return list(schema["components"]["schemas"].get(name, {}).get("properties", {}))


def test_nothing_crashes_it(folder: Path) -> None:
    rng, statuses = random.Random(0), []
    with serving(folder) as client:
        slide = client.get("/api/slides").json()[0]["id"]
        schema = client.get("/api/openapi.json").json()
        for method, address, body in requests_of(schema, slide, rng):
            answer = client.request(method, address, content=body, headers={"content-type": "application/json"})
            statuses.append(answer.status_code)
            assert answer.status_code < 500, (method, address, body, answer.text)
            assert "Traceback" not in answer.text
            assert str(folder) not in answer.text
        assert client.get(f"/api/slides/{slide}/thumbnail.jpg").status_code == 200
    assert len(statuses) > 150
    assert {200, 404, 405, 422} <= set(statuses)
    assert not [path for path in folder.iterdir() if path.name not in ("slides", "results")]


def test_without_the_token_nothing_is_told(folder: Path) -> None:
    rng = random.Random(1)
    with serving(folder) as client:
        schema = client.get("/api/openapi.json").json()
    with serving(folder, "secret") as client:
        for method, address, body in requests_of(schema, "0" * 16, rng):
            headers = {
                "content-type": "application/json",
                "cookie": f"{cookie_name(HERE.partition('//')[2])}={rng.choice(('', 'x', 'secre'))}",
            }
            answer = client.request(method, address, content=body, headers=headers)
            login = address.startswith("/api/login")
            assert answer.status_code in ({401, 404, 405, 422} if login else {401}), (method, address, answer.text)
