"""The local web app: slides to look at, compare, measure and try stains on. `chromogen view` serves it."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.routing import Match, Mount

from chromogen.app.view.alignment_routes import alignment_routes
from chromogen.app.view.choices import MODEL_SUFFIXES
from chromogen.app.view.guard import LOGIN, METHODS, SAFE_METHODS, App, Guard, cookie_name
from chromogen.app.view.job_routes import job_routes
from chromogen.app.view.pictures import NoSuchTileError
from chromogen.app.view.placement import Alignments
from chromogen.app.view.processes import WorkerProcess
from chromogen.app.view.region_routes import region_routes
from chromogen.app.view.slide_catalog import SlideCatalog, UnknownSlideError
from chromogen.app.view.slide_nuclei import NucleusFinder
from chromogen.app.view.slide_routes import slide_routes, words_of
from chromogen.app.view.stain_routes import PRESET_NAMES, exemplar_routes, stain_routes
from chromogen.app.view.state import State, job_queue
from chromogen.app.view.work_queue import UnknownWorkError
from chromogen.provenance import NOTICE, __version__
from chromogen.regions.geojson import SUFFIXES as GEOJSON_SUFFIXES
from chromogen.style.recipes import DEFAULT_PRESET

PAGE = Path(__file__).resolve().parents[1] / "web" / "dist"
NO_PAGE = (
    "The page is not built: this installation was made without Node.js. Install Node.js 20 or newer, then "
    "install Chromogen again, or run `npm ci && npm run build` in its folder `web`. "
    "The API works without: /api/openapi.json."
)


class Refusal(BaseModel):
    """Why there is no answer: a sentence, or what is wrong with each of the values that were given."""

    detail: str | list[dict[str, Any]]


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "Refused: from elsewhere, not there, or not as it must be"},
    "5XX": {"model": Refusal, "description": "Failed: a file could not be read, or there is too little memory"},
}


class PageFacts(BaseModel):
    """What the page needs to know of the server."""

    version: str
    notice: str
    presets: tuple[str, ...]
    default_preset: str


class Login(BaseModel):
    """The token that was printed when the server started."""

    token: str


def create_app(
    roots: Sequence[Path],
    results: Path,
    *,
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "::1"),
    token: str | None = None,
    behind: str | None = None,
    labels: bool = False,
    page: Path = PAGE,
) -> App:
    """The app over the slides and images under `roots`; what is made lies below `results`, shown too.

    It answers only to the names `hosts`, and with a `token` only who knows it; `behind` is the address of a proxy
    in front of it. Raises: FileNotFoundError for a
    root that is not there.
    """
    worker = WorkerProcess()
    state = State(
        slides=SlideCatalog(roots),
        models=SlideCatalog(roots, (*MODEL_SUFFIXES, *GEOJSON_SUFFIXES)),
        jobs=job_queue(results),
        alignments=Alignments(SlideCatalog(roots, (".json",)), results / "transforms"),
        worker=worker,
        nuclei=NucleusFinder(worker),
        shows_labels=labels,
    )
    state.slides.add(results)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        state.close()

    app = FastAPI(
        title="Chromogen",
        version=__version__,
        summary=f"Slides, densities, numbers and trials ({NOTICE}).",
        docs_url=None,  # these load scripts from other hosts
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=life,
        responses=REFUSALS,
    )
    for routes in (slide_routes, region_routes, alignment_routes, exemplar_routes, stain_routes, job_routes):
        app.include_router(routes(state))
    _add_app_routes(app, token)
    _add_error_answers(app)
    if (page / "index.html").is_file():
        app.mount("/", StaticFiles(directory=page, html=True))
    else:
        app.add_api_route("/", lambda: Response(NO_PAGE, 503, media_type="text/plain"), include_in_schema=False)
    return Guard(app, hosts, token, behind)


def _add_app_routes(app: FastAPI, token: str | None) -> None:
    @app.get("/api/app", tags=["app"])
    async def about() -> PageFacts:
        """What the page needs to know of the server."""
        return PageFacts(version=__version__, notice=NOTICE, presets=PRESET_NAMES, default_preset=DEFAULT_PRESET)

    @app.post(LOGIN, tags=["app"], status_code=204)
    async def login(given: Login, request: Request) -> Response:
        """Give the token once; a cookie that no script can read keeps it."""
        if token is None or not hmac.compare_digest(given.token.encode(), token.encode()):
            return JSONResponse({"detail": "The token is wrong."}, 401)
        answer = Response(status_code=204)
        name = cookie_name(request.headers.get("host", ""))
        answer.set_cookie(name, token, httponly=True, samesite="strict", path="/")
        return answer


def _add_error_answers(app: FastAPI) -> None:
    statuses: dict[type[Exception], int] = {
        UnknownSlideError: 404,
        UnknownWorkError: 404,
        NoSuchTileError: 404,
        ValueError: 422,
        MemoryError: 507,
        OSError: 500,
    }
    for kind, status in statuses.items():
        app.add_exception_handler(kind, _answer_with(status))
    app.add_exception_handler(405, _wrong_method(app))


def _answer_with(status: int) -> Any:
    async def answer(_request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": words_of(error)}, status)

    return answer


def _wrong_method(app: FastAPI) -> Any:
    """Names all methods of an address: a router knows those of the first of its routes alone."""

    async def answer(request: Request, _error: Exception) -> Response:
        routes = [route for route in app.routes if not isinstance(route, Mount)]  # the page takes every address

        def is_taken(method: str) -> bool:
            scope = {**request.scope, "method": method}
            return any(route.matches(scope)[0] is Match.FULL for route in routes)

        allowed = [method for method in METHODS if is_taken(method)] or SAFE_METHODS
        return JSONResponse({"detail": "Method Not Allowed"}, 405, {"allow": ", ".join(allowed)})

    return answer
