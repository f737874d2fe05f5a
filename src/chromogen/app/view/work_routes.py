"""The web app's answers about work of any kind: which there is, how far it is, stopping it and going on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import APIRouter, HTTPException, Path, Response

from chromogen.app.view.slide_routes import Renderer
from chromogen.app.view.virtual import labelled
from chromogen.app.view.work_queue import Queued, Work, WorkQueue
from chromogen.image import Image, encode_image

WorkId = Annotated[str, Path(pattern="^[0-9]{8}-[0-9]{6}-[0-9a-f]{6}$")]
FRESH = {"cache-control": "no-store"}
W = TypeVar("W", bound=Work)


class Told(Work, Protocol):
    """Work that says how to make the same again, in its folder."""

    @property
    def shell_line(self) -> str:
        """As a command line."""

    @property
    def python_lines(self) -> str:
        """In Python."""


def work_json(queued: Queued[Any], hidden: Collection[str] = ()) -> dict[str, Any]:
    """What a browser may know of a piece of work: what was asked but for `hidden`, its state, how to make it."""
    work: Told = queued.work
    asked = {name: value for name, value in asdict(queued.work).items() if name not in hidden}
    told = {"command": work.shell_line, "python": work.python_lines}
    return {**asked, "state": queued.state, "error": queued.error, **told}


def add_work_routes(
    routes: APIRouter,
    path: str,
    renderer: Renderer,
    works: WorkQueue[W],
    show: Callable[[Queued[W]], dict[str, Any]],
    progress_in: Callable[[FilePath], Any],
) -> None:
    """List, follow, cancel, remove and resume, below /api/PATH; `progress_in` a folder gives a dataclass."""

    @routes.get(f"/{path}")
    async def list_all() -> list[dict[str, Any]]:
        """All that was asked, the newest first."""
        return await renderer.run(lambda: [show(queued) for queued in works.all()])  # type: ignore[no-any-return]

    @routes.get(f"/{path}/{{work_id}}")
    async def follow(work_id: WorkId) -> dict[str, Any]:
        """How far it is."""
        progress = await renderer.run(lambda: progress_in(works.folder_of(work_id)))
        return {**show(works.find(work_id)), **asdict(progress)}

    @routes.delete(f"/{path}/{{work_id}}")
    async def cancel(work_id: WorkId) -> dict[str, Any]:
        """Stop what waits or runs; what is finished of it is kept."""
        return show(await renderer.run(lambda: works.cancel(work_id)))

    @routes.post(f"/{path}/{{work_id}}/remove", status_code=204)
    async def remove(work_id: WorkId) -> None:
        """Remove what has ended, with its result or its finished blocks."""
        await renderer.run(lambda: works.remove(work_id))

    @routes.post(f"/{path}/{{work_id}}/resume")
    async def resume(work_id: WorkId) -> dict[str, Any]:
        """Go on with what was stopped."""
        return show(works.resume(work_id))


async def picture_at(renderer: Renderer, path: Callable[[], FilePath]) -> Response:
    """The PNG at a path, found in a thread; 404 where there is none yet."""
    try:
        data = await renderer.run(lambda: path().read_bytes())
    except FileNotFoundError as error:
        raise HTTPException(404, "There is no such picture yet.") from error
    return Response(data, media_type="image/png", headers=FRESH)


def labelled_png(picture: Image, facts: Mapping[str, object], name: str) -> Response:
    """A virtual stain, uint8 (H, W, 3), as a PNG to be kept, with its label and provenance."""
    data = encode_image(labelled(picture), ".png", {**facts, "labelled": True})
    disposition = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="image/png", headers=FRESH | disposition)
