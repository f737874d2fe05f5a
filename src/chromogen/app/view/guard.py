"""Who may ask the web app what: hosts, origins, the token, and the headers of every answer.

A page of another site must not read slides through the user's browser: not by a name that it lets point to this
machine (DNS rebinding: the Host is checked), not by requests across sites (Origin and Sec-Fetch-Site are checked,
and no answer may be embedded elsewhere), not by a form (only JSON and images are taken).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "chromogen_token"
LOGIN = "/api/login"
SAFE_METHODS = ("GET", "HEAD")
BODY_METHODS = ("POST", "PUT", "PATCH")
METHODS = (*SAFE_METHODS, *BODY_METHODS, "DELETE")
BODY_HEADERS = ("content-type", "transfer-encoding")
IMAGE_TYPES = ("image/png", "image/jpeg", "image/tiff", "application/octet-stream")
TAKEN_TYPES = ("application/json", *IMAGE_TYPES)
MAX_BODY_BYTES = 60_000_000
MAX_JSON_BYTES = 10_000_000

# The viewer's library looks for a style element of its own making; an empty one tells it that it is there.
EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
HEADERS: tuple[tuple[str, str], ...] = (
    (
        "content-security-policy",
        f"default-src 'none'; script-src 'self'; style-src 'self' {EMPTY}; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
)


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Stands before an ASGI app; `hosts` are the names it may be called by, `token` what others must know.

    `behind` is the address of a proxy in front of it, `https://slides.example`: pages from there are its own.
    """

    def __init__(
        self, app: App, hosts: Sequence[str], token: str | None = None, behind: str | None = None
    ) -> None:
        self._app, self._token, self._behind = app, token, urlsplit(behind or "")
        self._hosts = frozenset([*hosts, *([self._behind.hostname] if self._behind.hostname else [])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with bounded body and safe headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["type"] != "http":  # no WebSockets here
            await send({"type": "websocket.close", "code": 1008})
        elif why := self._refusal(scope, headers):
            await _refuse(_with_headers(send), *why)
        elif scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, _without_body(_with_headers(send)))
        else:
            await self._app(scope, _bounded(receive, _most_bytes(headers)), _with_headers(send))

    def _refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        if len(hosts) != 1 or _name_of(headers.get("host", "")) not in self._hosts:
            return 421, "this address is not one of this server's names"
        origin = headers.get("origin")
        is_foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        is_elsewhere = origin is not None and not self._same(origin, headers["host"])
        if is_elsewhere or (is_foreign and not _is_visit(scope, headers)):
            return 403, "the request comes from another site"
        return self._body_refusal(scope, headers) or self._token_refusal(scope, headers)

    def _same(self, origin: str, host: str) -> bool:
        parts = urlsplit(origin)
        if self._behind.netloc and (parts.scheme, parts.netloc.lower()) == self._behind[:2]:
            return True
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()

    def _body_refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        if scope["method"] not in BODY_METHODS or not _has_body(headers):
            return None
        if _content_type(headers) not in TAKEN_TYPES:
            return 415, f"a body must be one of {', '.join(TAKEN_TYPES)}"
        length = headers.get("content-length", "0")
        most = _most_bytes(headers)
        if not length.isdigit() or int(length) > most:
            return 413, f"a body may have {most:,} bytes"
        return None

    def _token_refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        path: str = scope["path"]
        if self._token is None or not path.startswith("/api/") or path == LOGIN:
            return None  # the page itself holds no secret, and asks for the token
        given = tokens_in(
            (value for name, value in scope["headers"] if name.lower() == b"cookie"), headers["host"]
        )
        if not any(hmac.compare_digest(token, self._token.encode()) for token in given):
            return 401, "the token is missing or wrong; open the address that was printed when the server started"
        return None


def cookie_name(host: str) -> str:
    """The cookie of a server, by its Host header: browsers send one host's cookies to all of its ports.

    >>> cookie_name("localhost:8765"), cookie_name("[::1]:80"), cookie_name("box")
    ('chromogen_token_8765', 'chromogen_token_80', 'chromogen_token_80')
    """
    port = host.rpartition("]")[2].partition(":")[2]
    return f"{COOKIE}_{port if port.isascii() and port.isdecimal() else 80}"


def tokens_in(cookies: Iterable[bytes], host: str) -> list[bytes]:
    """All tokens for a host in Cookie headers, whatever cookies of other programs stand beside them.

    A strict parser drops all of them for one odd name or value. Here each pair between semicolons counts alone, as
    in browsers (RFC 6265, 5.4); of several cookies of our name any may be the right one.
    """
    wanted = cookie_name(host).encode()
    pairs = (pair.partition(b"=") for header in cookies for pair in header.split(b";"))
    return [value.strip().strip(b'"') for name, _, value in pairs if name.strip() == wanted]


def _name_of(host: str) -> str:
    """The name in a Host header, without its port; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
    except ValueError:
        return ""


def _is_visit(scope: Scope, headers: MutableMapping[str, str]) -> bool:
    """Whether someone follows a link to the page itself, which is no secret and cannot be framed."""
    if scope["path"].startswith("/api/") or scope["method"] not in SAFE_METHODS:
        return False
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _has_body(headers: MutableMapping[str, str]) -> bool:
    """Whether a body comes with it, or is said to; a form without fields says so by its type."""
    return headers.get("content-length", "0") != "0" or not headers.keys().isdisjoint(BODY_HEADERS)


def _content_type(headers: MutableMapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _most_bytes(headers: MutableMapping[str, str]) -> int:
    """Of a body of this type."""
    return MAX_JSON_BYTES if _content_type(headers) == "application/json" else MAX_BODY_BYTES


def _with_headers(send: Send) -> Send:
    async def send_safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name, value) for name, value in message.get("headers", []) if name.lower() != b"server"]
            message["headers"] = own + [(name.encode(), value.encode()) for name, value in HEADERS]
        await send(message)

    return send_safely


def _without_body(send: Send) -> Send:
    """What answers HEAD: as to GET, but for the body."""

    async def send_head(message: Message) -> None:
        await send(message if message["type"] == "http.response.start" else {**message, "body": b""})

    return send_head


def _bounded(receive: Receive, most_bytes: int) -> Receive:
    """A body that ends, as if the client had gone, when it becomes longer than it may."""
    taken = 0

    async def receive_some() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= most_bytes else {"type": "http.disconnect"}

    return receive_some


async def _refuse(send: Send, status: int, why: str) -> None:
    body = f'{{"detail": "Refused: {why}."}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
